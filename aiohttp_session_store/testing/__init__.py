"""Helpers for testing apps that use sessions, and storages that somebody else writes.

:class:`ManualClock` needs nothing; :class:`StorageContract` needs pytest and pytest-asyncio, and is imported when asked
for.
"""

from typing import TYPE_CHECKING, Any

from .clock import ManualClock

if TYPE_CHECKING:
    from .contract import StorageContract

__all__ = ["ManualClock", "StorageContract"]


def __getattr__(name: str) -> Any:
    """Import the contract when it is first asked for: the clock must not need pytest."""
    if name == "StorageContract":
        from .contract import StorageContract  # noqa: PLC0415  see above

        return StorageContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
