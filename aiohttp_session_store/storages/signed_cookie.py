"""Sessions in the signed cookie itself: nothing is stored on the server, nothing merged, and nothing can be revoked.

Without a key ring, a cookie is signed but not encrypted: anyone who holds it can read it.  With one, nobody can.  In
both cases a copy of it stays valid until it expires.
Parallel requests overwrite each other, and a logout only clears the browser that asked for it.
"""

import binascii
import logging
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import ClassVar, NoReturn, Unpack

from ..engine.observing import COOKIE_CONTENT, RECORD_EXPIRED, Observing, why_unreadable
from ..engine.record_cache import RecordCache
from ..engine.telling import owner_of, tell_all_ended, tell_left, tell_saved
from ..errors import SessionCommittedError, SessionTooLargeError, SessionUsageError
from ..record.changes import Changes
from ..record.encryption import COOKIE, UnopenedRecordError, decrypt, encrypt, is_encrypted
from ..record.format import LOGOUT, NewerRecordError, Record, Stored
from ..record.head import Head, checked_owner
from ..record.key_ring import checked_ring
from ..record.merge import merge, same_content
from ..record.session_id import key_of
from ..record.size import COOKIE_LIMIT, largest_keys
from ..record.timeouts import Timeouts
from ..session.change_log import ChangeLog
from ..session.session import Session, state_of
from ..session.state import Place, Refused, SessionState
from ..tracebacks import hide_locals
from .base import DEFAULT_IDLE_TIMEOUT, DEFAULT_LIFETIME, StorageOptions, check_options, is_first

__all__ = ["CookieStorage"]

_logger = logging.getLogger("aiohttp_session_store")

_ENDLESS = 10**11  # Unix seconds, in the year 5138


class CookieStorage:
    """Keeps the record in the cookie value.  Only for small sessions that need no real logout.

    Without ``encryption``, the visitor can read what is in the session.
    """

    kind: ClassVar[str] = "data"

    def __init__(
        self,
        **options: Unpack[StorageOptions],
    ) -> None:
        """Check the settings.

        Args:
            options: See :class:`StorageOptions`.

        Raises:
            ConfigurationError: A time is not positive, both limits are None, or the codec is not a valid one.
        """
        check_options(self, options, StorageOptions)
        self.timeouts: Timeouts = Timeouts.build(
            options.get("idle_timeout", DEFAULT_IDLE_TIMEOUT), options.get("lifetime", DEFAULT_LIFETIME)
        )
        self.observing: Observing = Observing()
        self._clock = options.get("clock", time.time)
        self._warned = False
        self._records = RecordCache(options.get("codec"))
        self._ring = checked_ring(options.get("encryption"))
        self._warned_keys: set[str] = set()
        # Records are shared and never changed. 256 of the largest cookies take 1 MB, and about 10 MB decoded.
        self._decode = lru_cache(256)(self._decoded)

    def now(self) -> int:
        """Return the time in whole Unix seconds."""
        return int(self._clock())

    def default_secrets(self) -> Sequence[str] | None:
        """Return None: a secret that the storage makes up would log everybody out at the next start."""
        return None

    async def refresh(self, session: Session) -> None:
        """Do nothing: there is no newer record than the one that the browser sent."""

    def lock(self, key: str) -> NoReturn:
        """Refuse.

        Raises:
            SessionUsageError: Always.
        """
        raise SessionUsageError(
            "exclusive_session cannot work with CookieStorage: the data is in the browser, which sends the same cookie"
            " with parallel requests. Use a storage on the server"
        )

    async def sessions_of(self, owner: str) -> NoReturn:
        """Refuse.

        Raises:
            SessionUsageError: Always.
        """
        raise _no_index("sessions_of")

    async def end_sessions(self, owner: str, *, keep: Session | None = None) -> NoReturn:
        """Refuse; see :meth:`sessions_of`."""
        raise _no_index("end_sessions")

    async def end_session(self, owner: str, key: str) -> NoReturn:
        """Refuse; see :meth:`sessions_of`."""
        raise _no_index("end_session")

    async def adopt(self, session: Session, owner: str) -> None:
        """See :meth:`SessionStorage.adopt`.  The cookie is sent again with the owner in it."""
        state = state_of(session)
        state.head = Head(checked_owner(owner), state.created_at, secrets.token_urlsafe(6), 0)
        state.renew_at = 0

    async def start(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""

    async def read(self, cookie_value: str | None) -> Session:
        """See :meth:`SessionStorage.read`.  The cookie value is the record."""
        loaded = self._decode(cookie_value) if cookie_value else None
        now = self.now()
        refused = Refused(loaded) if isinstance(loaded, str) else None
        if loaded is not None and not isinstance(loaded, str):
            session_id, stored, record = loaded
            expires_at, renew_at = self.timeouts.limits(record, stored.expires_at)
            if now < expires_at:
                state = SessionState(
                    ChangeLog(record.data, record.flashes),
                    created_at=record.created_at,
                    expires_at=expires_at,
                    session_id=session_id,
                    place=Place("", stored, record, expires_at, renew_at),
                    now=self.now,
                )
                state.renew_at, state.head, state.warn = renew_at, record.head, _logger.warning
                return self._session(state)
            refused = Refused(RECORD_EXPIRED, key_of(session_id), owner_of(record))
            if self.observing.observers:
                self.observing.tell_end(key_of(session_id), record.head, self.timeouts.passed(record, expires_at))
        expires_at = self.timeouts.expiry(now, now)
        state = SessionState(ChangeLog({}), created_at=now, expires_at=expires_at, now=self.now)
        if refused is not None:
            state.refused = refused
        return self._session(state)

    def _session(self, state: SessionState) -> Session:
        state.on_server = False
        return Session(state)

    async def save(self, session: Session) -> str | None:
        """See :meth:`SessionStorage.save`.

        Raises:
            SessionCommittedError: The headers were sent already, so no new cookie can be sent.
            SessionTooLargeError: The cookie would exceed what browsers keep.
            TypeError: A value cannot be stored.
        """
        state = state_of(session)
        if state.destroyed:
            pending = state.destroy_pending
            if pending:
                tell_all_ended(self.observing, state, LOGOUT)
            state.mark_destroyed()
            state.logged_out = None
            return "" if pending else None
        if state.headers_sent:  # housekeeping waits for the next request
            if state.log.dirty:  # inside a list or dict that was handed out; other changes are refused at the call
                raise SessionCommittedError(
                    "a list or dict in the session was changed after the headers were sent, and CookieStorage"
                    " can never store that. Make the change before prepare()"
                )
            return None
        try:
            changes = state.log.take()
            try:
                return self._save(state, changes)
            except Exception:
                state.log.put_back(changes)
                raise
        except Exception as error:
            hide_locals(error)
            raise

    def _save(self, state: SessionState, changes: Changes) -> str | None:
        now = self.now()
        place = state.place
        before = Record(state.created_at, now, self.timeouts.idle, {}) if place is None else place.record
        head, rotation = state.head, state.rotation
        if state.login is not None:
            head = state.login.head()
        elif rotation is not None and rotation.confirmed_at is not None and head is not None:
            head = replace(head, confirmed_at=rotation.confirmed_at)
        if rotation is not None and rotation.renew_lifetime and head is not None and state.login is None:
            head = head.renewed(now - before.created_at)
        record = merge(before._replace(head=head), [changes], now, None)
        if rotation is not None and rotation.renew_lifetime:
            record = record._replace(created_at=now)
        if place is None:
            if not record.data and not record.flashes and head is None:
                ended = state.replaces is not None or state.logged_out is not None
                tell_left(self.observing, state)
                state.replaces = state.logged_out = None
                return "" if ended else None
        elif (
            rotation is None
            and head is before.head
            and (not changes or same_content(self._records.encode(record, ""), place.stored.data))
            and not self.timeouts.renewal_due(self._without_end(before), place.stored.expires_at, now)
        ):
            return None
        record = self._without_end(record)._replace(idle_timeout=self.timeouts.idle_of(record.head))
        data, expires_at = self._records.encode(record, ""), self.timeouts.expiry(now, record.created_at, record.head)
        value = self._encode(state.id, expires_at, data)
        if len(value) > state.cookie_limit:
            raise _too_large(len(value) - state.cookie_limit, record)
        if rotation is not None and rotation.delete_old and not self._warned:
            self._warned = True
            _logger.warning(
                "regenerate_id(True) with CookieStorage cannot revoke the old cookie: a copy of it works until it"
                " expires. Use a storage on the server if logins must be safe against that"
            )
        if self.observing.observers:
            tell_saved(self.observing, state, before.head, record.head)
        state.rotation = state.login = state.replaces = state.logged_out = None
        state.head = record.head
        state.place = Place("", Stored(data, b"", expires_at), record, expires_at, inf)
        state.created_at, state.expires_at = record.created_at, expires_at
        state.log.rebase(record.data)
        return value

    def _without_end(self, record: Record) -> Record:
        """Return *record* with a head that never ends the session by itself: there is no index that could forget it."""
        return record if record.head is None else record._replace(head=replace(record.head, until=_ENDLESS))

    def _decoded(self, cookie_value: str) -> tuple[str, Stored, Record] | str:
        """Return what a cookie value holds, or why it cannot be read.

        We signed the value, but perhaps long ago, or with a newer version.
        """
        try:
            text = self._opened(urlsafe_b64decode(cookie_value.encode("ascii") + b"=" * (-len(cookie_value) % 4)))
            head, _, data = text.partition(b"\n")
            expires_at, _, session_id = head.partition(b" ")
            record = self._records.decode(data, "")
            if not isinstance(record, Record):
                return COOKIE_CONTENT
            return session_id.decode("ascii"), Stored(data, b"", int(expires_at)), record
        except UnopenedRecordError as error:
            if is_first(error.about, self._warned_keys):
                _logger.error("a signed cookie, and perhaps others, cannot be read: %s", error)
            return why_unreadable(error)
        except (ValueError, binascii.Error) as error:
            _logger.debug("a signed cookie does not hold a session: %s", type(error).__name__)
            return why_unreadable(error) if isinstance(error, NewerRecordError) else COOKIE_CONTENT

    def _encode(self, session_id: str, expires_at: int, data: bytes) -> str:
        text = b"%d %b\n%b" % (expires_at, session_id.encode(), data)
        if self._ring is not None and not self._ring.decrypt_only:
            text = encrypt(text, self._ring, "", COOKIE)
        return urlsafe_b64encode(text).rstrip(b"=").decode()

    def _opened(self, text: bytes) -> bytes:
        if is_encrypted(text):
            return decrypt(text, self._ring, "", COOKIE)
        if self._ring is not None and not self._ring.accept_plain:
            raise UnopenedRecordError("it is not encrypted, and the KeyRing has accept_plain=False", "plain cookies")
        return text


def _too_large(excess: int, record: Record) -> SessionTooLargeError:
    size = COOKIE_LIMIT + excess
    largest = ", ".join(f"{key!r} ({size} bytes)" for key, size in largest_keys(record.data))
    return SessionTooLargeError(
        f"the session's cookie would take {size} bytes of name and value, but browsers keep at most {COOKIE_LIMIT}."
        f" Largest keys: {largest}. Store less, or use a storage on the server",
        size=size,
        limit=COOKIE_LIMIT,
    )


def _no_index(call: str) -> SessionUsageError:
    return SessionUsageError(
        f"{call}() cannot work with CookieStorage: the sessions are in the browsers, where nobody can list or end them."
        " Use a storage on the server"
    )
