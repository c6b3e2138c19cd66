"""What ``setup`` puts on an app."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web

from ..engine.observing import Observing
from ..engine.outage_log import OutageLog
from ..engine.watching import Watching
from ..session.session import Session, state_of
from ..storages.base import SessionStorage
from .adoption import Adopter
from .cookie_rules import MAX_AGE
from .cookie_settings import SessionCookie
from .guarding import Guard
from .secure_watch import SecureWatch

_logger = logging.getLogger("aiohttp_session_store")


@dataclass(slots=True, eq=False)
class AppSessions:
    """What ``setup`` puts on an app: the storage, the cookie, and the warnings that were already given.

    Attributes:
        nested: Whether an app around this one has sessions, too.  None until the app has started.
        beside: The sessions of all other apps that are served together with this one.  Empty until the app has started.
        outermost: Whether this app's session middleware is its first one.
        owner_of: Returns the owner of a session from before ``login`` was used, or None.
        adopter: Takes over sessions of another library for visitors who have none of ours, or None.
        observing: Tells observers what happens, also in other apps with the same storage.
        outages: Logs what fails because the storage fails.
        guard: May refuse sessions and is told of logins, or None.
        secure_watch: Notices that browsers drop the Secure cookie.
        watch_interval: Seconds between two looks at all sessions that are watched.
        watching: What watches sessions, once one is to be watched.
        closing: Closes WebSockets whose session has ended.
        answered: The sessions of requests whose handlers have finished, by the writer of the response.  A middleware
            outside of the app may have cloned the request and replaced the response.  Neither of them leads to the
            session then, but both still have the same writer.
    """

    storage: SessionStorage
    cookie: SessionCookie
    nested: bool | None = None
    beside: "Sequence[AppSessions]" = field(default=(), repr=False)
    outermost: bool = False
    owner_of: "Callable[[Session], str | None] | None" = None
    adopter: Adopter | None = None
    observing: Observing = field(default_factory=Observing)
    outages: OutageLog = field(default_factory=OutageLog)
    guard: Guard | None = None
    secure_watch: SecureWatch = field(default_factory=SecureWatch)
    warned: set[str] = field(default_factory=set)
    watch_interval: float = 15
    watching: Watching | None = None
    closing: "set[asyncio.Task[None]]" = field(default_factory=set)
    answered: "WeakKeyDictionary[Any, Any]" = field(default_factory=WeakKeyDictionary)

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        """Log *message* as a warning, once for each *topic*."""
        if topic not in self.warned:
            self.warned.add(topic)
            _logger.warning(message, *args)

    async def stop_watching(self) -> None:
        """Stop watching sessions, because the app stops."""
        if self.watching is not None:
            await self.watching.stop()
        closing = [task for task in self.closing if task.get_loop() is asyncio.get_running_loop()]
        for task in closing:
            task.cancel()
        if closing:
            await asyncio.wait(closing)

    def seconds_left(self, session: Session) -> int | None:
        """Return the seconds until the end of the lifetime of *session*, or None if it has none."""
        lifetime = self.storage.timeouts.lifetime_of(state_of(session).head)
        return None if lifetime is None else session.created_at + lifetime - self.storage.now()

    def seconds_kept(self, session: Session) -> int | None:
        """Return for how many seconds browsers should keep the cookie, or None if until they are closed.

        A session that is to be remembered has a cookie that is kept as long as the session lives without being used.
        """
        head = state_of(session).head
        if head is not None and head.remember is not None:
            return self.storage.timeouts.idle_of(head)
        return MAX_AGE if self.cookie.persistent else None


#: At module level, because aiohttp names a key after the module that makes it. It cannot do so in a thread.
APP = web.AppKey("aiohttp_session_store", AppSessions)
