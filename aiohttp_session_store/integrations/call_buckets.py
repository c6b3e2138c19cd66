"""How finely calls to a storage are measured, in all metrics."""

__all__ = ["BUCKETS"]

#: Upper ends in seconds: from a storage in memory to the longest that a call takes before a proxy gives up.
BUCKETS: tuple[float, ...] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
