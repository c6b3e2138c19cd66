"""The session cookie: its settings, and the Cookie and Set-Cookie headers that carry it."""

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import ConfigurationError, SessionUsageError
from ..record.key_ring import KeyRing
from ..record.size import COOKIE_LIMIT
from ..session.old_names import explains_old_arguments
from ..tracebacks import hides_settings
from .cookie_rules import MAX_AGE, check_parts, check_prefixes, checked_old_names
from .cookie_signature import SENT_LENGTH, SIGNATURE_LENGTH, VERIFIED_KEPT, CookieSignature, Opened, checked_secrets
from .request_headers import pattern_for, values_in

__all__ = ["SessionCookie"]

# A browser sends several cookies of one name if other paths or an old domain set them. No honest browser sends more.
# Only what a session is looked for in is bounded by these. An ending is for all of them: a hostile host beside ours can
# set many cookies, and the visitor must not stay logged in by one of them.
MAX_LIVE_TRIES = 4
MAX_SIGNATURE_TRIES = 16


class _Storage(Protocol):
    @property
    def kind(self) -> str: ...

    def default_secrets(self) -> Sequence[str] | None: ...


class SessionCookie:
    """The name of the session cookie, and how browsers are to treat it.

    The value of the cookie is always signed (HMAC-SHA256 by itsdangerous), so a forged value never reaches the storage.
    """

    @hides_settings
    @explains_old_arguments
    def __init__(
        self,
        name: str = "session",
        *,
        secrets: str | bytes | Sequence[str | bytes] | KeyRing | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        httponly: bool = True,
        samesite: str | None = "Lax",
        partitioned: bool = False,
        persistent: bool = False,
        salt: str = "",
        old_names: Sequence[str] = (),
    ) -> None:
        """Check the settings against the rules that browsers silently apply.

        Args:
            name: In production, ``"__Host-session"`` with ``secure=True`` is best, because no other host can set such a
                cookie.
            secrets: The secrets for signing the cookie, newest first (the reverse of itsdangerous).  The first one
                signs, and all of them verify.  Each must have at least 32 characters; ``secrets.token_urlsafe(32)``
                makes a good one.  A :class:`KeyRing` gives a secret for each of its keys.  None uses the storage's
                own secret, if it has one.
            path: The browser sends the cookie only to this path and to paths below it.
            domain: The domain whose subdomains get the cookie, too.  None for this host only.
            secure: Whether the browser sends the cookie over HTTPS only.  None for "only if the request came over
                HTTPS", directly or through a proxy that says so.
            httponly: Whether scripts cannot read the cookie.  False gives a warning.
            samesite: ``"Lax"``, ``"Strict"``, ``"None"`` (which needs ``secure=True``), or None to leave it out.
            partitioned: Whether browsers keep a separate cookie for each top-level site (CHIPS).  Needs
                ``secure=True``.
            persistent: Whether the cookie outlives the browser session for all visitors, also without
                ``login(remember=...)``.  Browsers then keep it for the lifetime of our session.  They keep no cookie
                for more than 400 days, so if our session can last longer, it is sent again after each 40 days.
            salt: Keeps apart the cookies of two apps that have the same secret and the same cookie name.  Another salt
                makes all cookies invalid that were sent before.
            old_names: Names that the cookie had before.  A cookie of such a name still opens its session.  It is then
                sent again under *name*, and the old one is cleared, which takes the same path and domain.

        Raises:
            ConfigurationError: Browsers would drop such a cookie, a secret is weak, or a setting makes no sense.

        References:
            RFC 6265bis, sections 4.1 and 5.6; OWASP ASVS 5.0, 3.3.
        """
        self.name = name
        self.path = path
        self.domain = domain
        self.secure = secure
        self.httponly = httponly
        self.samesite: str | None = samesite.capitalize() if isinstance(samesite, str) else samesite
        self.partitioned = partitioned
        self.persistent = persistent
        self.salt = salt
        self._secrets = None if secrets is None else checked_secrets(secrets)
        check_parts(self)
        check_prefixes(self, name)
        self.old_names: tuple[str, ...] = checked_old_names(self, old_names)
        if not httponly:
            warnings.warn("httponly=False lets any script on the page steal the session", UserWarning, stacklevel=4)
        #: Bytes available for an unsealed value, so that name and value stay within what browsers keep.
        self.value_limit: int = COOKIE_LIMIT - len(name) - SIGNATURE_LENGTH - (SENT_LENGTH if persistent else 0)
        self._patterns = [pattern_for(one) for one in self.names]
        self._tails = {https: self._tail(https=https) for https in (False, True)}
        self._signatures: Sequence[CookieSignature] = ()  # in the order of the names

    def __repr__(self) -> str:
        """Show the name, never the secrets."""
        return f"<SessionCookie {self.name}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the old names."""
        return (self.name, *self.old_names)

    # --- sealing

    def bind(self, storage: _Storage) -> "SessionCookie":
        """Return a copy of this cookie that can sign and verify for *storage*.

        Raises:
            ConfigurationError: Neither this cookie nor the storage has secrets.
        """
        secrets = self._secrets
        if secrets is None:
            own = storage.default_secrets()
            if own is None:
                raise ConfigurationError(
                    f"{type(storage).__name__} has no secret of its own: pass SessionCookie(secrets=...). Make one with"
                    ' python -c "import secrets; print(secrets.token_urlsafe(32))" and keep it out of the code'
                )
            secrets = checked_secrets(own)
        bound = object.__new__(SessionCookie)
        bound.__dict__.update(self.__dict__)
        bound._secrets = secrets
        kept = VERIFIED_KEPT if storage.kind == "id" else VERIFIED_KEPT // 16  # others hold whole records
        end = f" {self.salt}" if self.salt else ""  # no name has a space
        bound._signatures = [
            CookieSignature(name, secrets, f"aiohttp_session_store.{storage.kind}.{name}{end}", kept)
            for name in self.names
        ]
        return bound

    def seal(self, value: str) -> str:
        """Return *value*, which a storage's ``save`` returned, with its signature.

        Args:
            value: The cookie value, without a signature.

        Raises:
            SessionUsageError: The cookie is not bound to a storage.
        """
        return self._bound()[0].seal(value)

    def open(self, sealed: str) -> str | None:
        """Return the value that was sealed, for a storage's ``read``, or None if the signature is not ours.

        A cookie of an old name does not open.

        Args:
            sealed: What the browser sent, without the name.

        Raises:
            SessionUsageError: The cookie is not bound to a storage.
        """
        opened = self._bound()[0].open(sealed)
        return None if opened is None else opened.value

    def _bound(self) -> Sequence[CookieSignature]:
        if not self._signatures:
            raise SessionUsageError("call cookie.bind(storage) first: the signature depends on the kind of storage")
        return self._signatures

    def signature(self, purpose: str, kept: int = VERIFIED_KEPT) -> CookieSignature:
        """Return what signs and verifies other texts with the secrets of this cookie, each *purpose* with its own keys.

        Args:
            purpose: What the texts are for.
            kept: How many verified texts are remembered.

        Raises:
            SessionUsageError: The cookie is not bound to a storage.
        """
        self._bound()
        salt = f"aiohttp_session_store {purpose} {self.salt}"  # the name of the cookie may change: see old_names
        return CookieSignature(self.name, self._secrets or (), salt, kept)

    # --- headers

    def candidates(
        self, headers: Sequence[str], *, every: bool = False, refused: Callable[[], object] | None = None
    ) -> list[Opened]:
        """Return the values in the given Cookie headers that have our signature, at most four.

        Those of the cookie's present name come first.

        Args:
            headers: The Cookie headers.
            every: Return all of them, however many there are.
            refused: Called for each value that was looked at and has not our signature.
        """
        found: list[Opened] = []
        tries, most = (None, None) if every else (MAX_SIGNATURE_TRIES, MAX_LIVE_TRIES)
        for pattern, signature in zip(self._patterns, self._bound(), strict=True):
            for sealed in values_in(headers, pattern)[:tries]:
                opened = signature.open(sealed)
                if opened is not None:
                    found.append(opened)
                    if len(found) == most:
                        return found
                elif refused is not None:
                    refused()
        return found

    def is_due(self, cookie: Opened, now: int, left: int | None, kept: int | None = None) -> bool:
        """Return whether the browser should get a cookie once more, although its session is unchanged.

        This is the case if it has an old name or the signature of an older secret, or if it is persistent, a tenth of
        the time has passed for which browsers keep it, and they would now keep it for longer.

        Args:
            cookie: As it came.
            now: Whole Unix seconds.
            left: Seconds until the lifetime of its session ends, or None if it has no lifetime.
            kept: Seconds for which browsers should keep it, or None for the longest that they do.  Without this and
                without ``persistent``, they keep it until they are closed.
        """
        if cookie.stale or cookie.name != self.name:
            return True
        if kept is None and not self.persistent:
            return False
        kept = MAX_AGE if kept is None else min(kept, MAX_AGE)
        if cookie.sent is None:  # browsers keep it to the end of its session; otherwise it would say when it was sent
            return left is None or left > kept
        return now - cookie.sent >= kept // 10 and (left is None or now + left > cookie.sent + kept)

    def header(
        self,
        value: str,
        *,
        https: bool,
        max_age: int | None = None,
        now: int | None = None,
        kept: int | None = None,
    ) -> str:
        """Return the Set-Cookie header that sends *value* to the browser.

        Args:
            value: The unsealed value.  ``""`` clears the cookie.
            https: Whether the request came over HTTPS.  Only used if ``secure`` is None.
            max_age: Seconds for which browsers should keep a persistent cookie.  None if the cookie is not persistent.
            now: Whole Unix seconds.  A cookie that browsers keep for a shorter time than it should be says when it was
                sent.  None leaves that out.
            kept: The most seconds for which they should keep it now.  None for the longest that they do, 400 days.
        """
        if not value:
            return self.clearing(self.name, https=https)
        age, sent = "", None
        if max_age is not None:
            most = MAX_AGE if kept is None else min(kept, MAX_AGE)
            age, sent = f"; Max-Age={min(max_age, most)}", now if max_age > most else None
        return f"{self.name}={self._bound()[0].seal(value, sent)}{age}{self._tails[https]}"

    def clearing(self, name: str, *, https: bool) -> str:
        """Return the Set-Cookie header that clears the cookie *name*, which is this one's or an old one.

        Args:
            name: One of ``names``.
            https: See :meth:`header`.
        """
        return f"{name}=; Max-Age=0{self._tails[https]}"

    def is_secure(self, *, https: bool) -> bool:
        """Return whether the cookie gets the Secure attribute.

        Args:
            https: Whether the request came over HTTPS.
        """
        return https if self.secure is None else self.secure

    def replaces(self, other: "SessionCookie") -> bool:
        """Return whether one of this cookie and *other* takes the place of the other one in a browser, or clears it.

        They have the same path, and a name of one of them is a name of the other one.
        """
        return self.path.rstrip("/") == other.path.rstrip("/") and not set(self.names).isdisjoint(other.names)

    def _tail(self, *, https: bool) -> str:
        parts = [f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.is_secure(https=https):
            parts.append("Secure")
        if self.httponly:
            parts.append("HttpOnly")
        if self.samesite is not None:
            parts.append(f"SameSite={self.samesite}")
        if self.partitioned:
            parts.append("Partitioned")
        return "".join(f"; {part}" for part in parts)
