"""Which servers a test run uses."""

import os


def wheels_only() -> bool:
    """Return whether only the servers in Python packages may be used: ``make test SERVERS=wheels``.

    Raises:
        ValueError: ``SERVERS`` has an unknown value.
    """
    servers = os.environ.get("SERVERS", "")
    if servers not in ("", "wheels"):
        raise ValueError(f"SERVERS must be 'wheels' or empty (use installed servers), not {servers!r}")
    return servers == "wheels"
