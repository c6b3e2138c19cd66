"""Helpers for testing apps that use sessions, and for testing storages of your own.

:class:`ManualClock`, :class:`FailingStorage`, :func:`edit_session` and :func:`session_for` need nothing beyond the
library.
:class:`StorageContract` needs pytest and pytest-asyncio, and is imported only when it is asked for.  :mod:`.fixtures`
has fixtures for pytest.
"""

from typing import TYPE_CHECKING, Any

from .client import edit_session
from .clock import ManualClock
from .failing import FailingStorage
from .mocked import session_for

if TYPE_CHECKING:
    from .contract import StorageContract

__all__ = ["FailingStorage", "ManualClock", "StorageContract", "edit_session", "session_for"]


def __getattr__(name: str) -> Any:
    """Import the contract when it is first asked for, because the rest must not need pytest."""
    if name == "StorageContract":
        from .contract import StorageContract  # noqa: PLC0415  see above

        return StorageContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
