"""Which servers a test run is to use."""

import os


def wheels_only() -> bool:
    """Whether only the servers that Python packages carry are to be used: ``make test SERVERS=wheels``.

    Raises:
        ValueError: ``SERVERS`` has a value that means nothing.
    """
    servers = os.environ.get("SERVERS", "")
    if servers not in ("", "wheels"):
        raise ValueError(f"SERVERS is 'wheels', or empty for what is installed, not {servers!r}")
    return servers == "wheels"
