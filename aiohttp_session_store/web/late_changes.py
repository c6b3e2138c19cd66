"""Saying so, in development, if a list in a session is changed when the session is saved and nobody will store it."""

import asyncio
import logging

from ..session.change_log import ChangeLog

_logger = logging.getLogger("aiohttp_session_store")

# Seconds after which a list is looked at again. Background tasks that somebody tries out while developing end sooner.
_LATER = 10


class LateChanges:
    """Compares the lists, dicts and sets of a saved session with what was stored, some time later.

    An assignment to a session whose request is over raises an error.  A list does not know that it belongs to a
    session, so a change inside it cannot.
    """

    def __init__(self, log: ChangeLog, key: str) -> None:
        """Watch what *log* has handed out, of the session with this *key*."""
        self._log, self._key = log, key

    def look(self) -> None:
        """Log a warning for each value that was changed since the session was saved."""
        for key in list(self._log.given):
            try:
                changed = self._log.has_changed(key)
            except (TypeError, RuntimeError):  # it holds what cannot be stored, or is being changed right now
                changed = True
            if changed:
                del self._log.given[key]
                _logger.warning(
                    "session %s: a value inside session[%r] was changed after the session was saved, as by a background"
                    " task: the change is lost. This is noticed in debug mode only",
                    self._key,
                    key,
                )

    def __del__(self) -> None:
        """Look when nobody has the session any more."""
        self.look()


def watch_late_changes(log: ChangeLog, key: str) -> LateChanges | None:
    """Watch a session that was just saved, if the event loop is in debug mode (``python -X dev``).

    Returns:
        What has to be kept as long as anybody has the session, or None.
    """
    loop = asyncio.get_running_loop()
    if not log.given or not loop.get_debug():
        return None
    late = LateChanges(log, key)
    loop.call_later(_LATER, late.look)
    return late
