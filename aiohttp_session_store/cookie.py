"""The session cookie: its name and attributes, the rules that browsers hold them to, and its signature."""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from itsdangerous import BadSignature, Signer

from .cookie_header import pattern_for, values_in
from .errors import ConfigurationError, SessionUsageError
from .state import COOKIE_LIMIT

__all__ = ["SessionCookie"]

# RFC 6265bis, section 5.5: browsers cap a cookie's age at 400 days.
MAX_AGE = 400 * 24 * 60 * 60
# A secret this long, if random, is beyond guessing (OWASP ASVS 5.0, 11.2.3 asks for 128 bits).
MIN_SECRET = 32
# Several cookies of one name come from other paths or an old domain; nobody honest has more.
MAX_LIVE_TRIES = 4
MAX_SIGNATURE_TRIES = 16
# About 2 MB of cookies with ids in them. A hit saves about 15 us of HMAC in a busy server.
VERIFIED_KEPT = 4096
_SIGNATURE = len(".") + 43  # SHA-256 in base64 without padding

# RFC 6265bis, section 4.1.1: a name is an RFC 9110 token; attribute values hold no control character and no semicolon.
# Section 5.6: browsers leave out an attribute of more than 1024 bytes, and send the cookie elsewhere.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_ATTRIBUTE = re.compile(r"[ -:<-~]{1,1024}", re.ASCII)


class _Storage(Protocol):
    @property
    def kind(self) -> str: ...

    def default_secrets(self) -> Sequence[str] | None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A cookie value whose signature is ours; *stale* if only an older secret made it."""

    value: str
    stale: bool


class _Signer(Signer):
    """Derives its key once: itsdangerous does so at every call, and lets a subclass say otherwise."""

    def __init__(self, secret: str | bytes, salt: str) -> None:
        super().__init__(secret, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
        self._derived = super().derive_key()

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self._derived


class SessionCookie:
    """What the session cookie is called and how browsers are to treat it.

    Its value is always signed (HMAC-SHA256 by itsdangerous), so that a forged one never reaches the storage.
    """

    def __init__(
        self,
        name: str = "session",
        *,
        secrets: str | bytes | Sequence[str | bytes] | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        httponly: bool = True,
        samesite: str | None = "Lax",
        partitioned: bool = False,
        persistent: bool = False,
    ) -> None:
        """Prove the settings against the rules that browsers apply in silence.

        Args:
            name: In production best ``"__Host-session"``, with ``secure=True``: then no other host can set it.
            secrets: What signs the cookie, newest first (the reverse of itsdangerous): the first signs, all verify.
                Each has 32 characters at least; ``secrets.token_urlsafe(32)`` makes a good one.
                None takes the storage's own, where it has one.
            path: Below which the browser sends the cookie.
            domain: Whose subdomains get the cookie too; None for this host alone.
            secure: Whether it travels over HTTPS only; None for "whenever the request came over HTTPS", directly or
                through a proxy that says so.
            httponly: Whether scripts cannot read it; False warns.
            samesite: ``"Lax"``, ``"Strict"``, ``"None"`` (which needs ``secure=True``), or None to leave it out.
            partitioned: A jar of its own for each top-level site (CHIPS); needs ``secure=True``.
            persistent: Whether it outlives the browser session, for the lifetime of ours, 400 days at most.

        Raises:
            ConfigurationError: Browsers would drop such a cookie, or a secret is weak.

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
        self._secrets = None if secrets is None else _checked_secrets(secrets)
        self._check_parts()
        self._check_rules()
        if not httponly:
            warnings.warn("httponly=False lets any script on the page steal the session", UserWarning, stacklevel=2)
        #: How many bytes of unsealed value fit, so that name and value stay within what browsers keep.
        self.value_limit: int = COOKIE_LIMIT - len(name) - _SIGNATURE
        self._pattern = pattern_for(name)
        self._tails = {https: self._tail(https=https) for https in (False, True)}
        self._sign: Callable[[str], str] | None = None
        self._verify: Callable[[str], Opened] | None = None

    def __repr__(self) -> str:
        """Show the name, never the secrets."""
        return f"<SessionCookie {self.name}>"

    # --- sealing

    def bind(self, storage: _Storage) -> "SessionCookie":
        """Return this cookie, able to sign and verify for *storage*.

        Raises:
            ConfigurationError: There are no secrets, neither here nor from the storage.
        """
        secrets = self._secrets
        if secrets is None:
            own = storage.default_secrets()
            if own is None:
                raise ConfigurationError(
                    f"{type(storage).__name__} has no secret of its own: pass SessionCookie(secrets=...). Make one with"
                    ' python -c "import secrets; print(secrets.token_urlsafe(32))" and keep it out of the code'
                )
            secrets = _checked_secrets(own)
        bound = object.__new__(SessionCookie)
        bound.__dict__.update(self.__dict__)
        salt = f"aiohttp_session_store.{storage.kind}.{self.name}"
        signers = [_Signer(secret, salt) for secret in secrets]

        def verify(sealed: str) -> Opened:
            for signer in signers[:-1]:
                try:
                    return Opened(signer.unsign(sealed).decode("ascii"), signer is not signers[0])
                except BadSignature:
                    continue
            return Opened(signers[-1].unsign(sealed).decode("ascii"), len(signers) > 1)

        bound._sign = lambda value: signers[0].sign(value).decode("ascii")
        # A forgery raises and is therefore never kept.
        bound._verify = lru_cache(VERIFIED_KEPT if storage.kind == "id" else VERIFIED_KEPT // 16)(verify)
        return bound

    def seal(self, value: str) -> str:
        """Return *value*, which a storage's ``save`` gave, with its signature.

        Raises:
            SessionUsageError: The cookie is not bound to a storage.
        """
        if self._sign is None:
            raise SessionUsageError("call cookie.bind(storage) first: the signature depends on the kind of storage")
        return self._sign(value)

    def open(self, sealed: str) -> str | None:
        """Return what was sealed, for a storage's ``read``, or None if the signature is not ours.

        Raises:
            SessionUsageError: The cookie is not bound to a storage.
        """
        opened = self._open(sealed)
        return None if opened is None else opened.value

    def _open(self, sealed: str) -> Opened | None:
        if self._verify is None:
            raise SessionUsageError("call cookie.bind(storage) first: the signature depends on the kind of storage")
        if len(sealed) > COOKIE_LIMIT or not sealed.isascii():
            return None
        try:
            return self._verify(sealed)
        except BadSignature:
            return None

    # --- headers

    def candidates(self, headers: Iterable[str]) -> list[Opened]:
        """Return what our signature stands under in the given Cookie headers, four values at most."""
        found = []
        for sealed in values_in(headers, self._pattern)[:MAX_SIGNATURE_TRIES]:
            opened = self._open(sealed)
            if opened is not None:
                found.append(opened)
                if len(found) == MAX_LIVE_TRIES:
                    break
        return found

    def header(self, value: str, *, https: bool, max_age: int | None = None) -> str:
        """Return the Set-Cookie header that hands *value*, unsealed, to the browser, or with ``""`` clears the cookie.

        Args:
            https: Whether the request came over HTTPS; counts where ``secure`` is None.
            max_age: Seconds to keep it where the cookie is persistent.
        """
        if not value:
            return f"{self.name}=; Max-Age=0{self._tails[https]}"
        age = "" if max_age is None else f"; Max-Age={min(max_age, MAX_AGE)}"
        return f"{self.name}={self.seal(value)}{age}{self._tails[https]}"

    def is_secure(self, *, https: bool) -> bool:
        """Whether the cookie carries the Secure attribute on a request that came so."""
        return https if self.secure is None else self.secure

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

    # --- rules

    def _check_parts(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"a cookie name is made of ASCII letters, digits and !#$%&'*+.^_`|~-, not {self.name!r}"
            )
        if not isinstance(self.path, str) or not self.path.startswith("/") or not _ATTRIBUTE.fullmatch(self.path):
            raise ConfigurationError(
                f"a cookie path starts with / and has up to 1024 characters, no ; or control one, not {self.path!r}"
            )
        if self.domain is not None and (not isinstance(self.domain, str) or not _ATTRIBUTE.fullmatch(self.domain)):
            raise ConfigurationError(f"a cookie domain is a host name of up to 1024 characters, not {self.domain!r}")
        if self.samesite not in ("Lax", "Strict", "None", None):
            raise ConfigurationError(f'samesite is "Lax", "Strict", "None" or None, not {self.samesite!r}')

    def _check_rules(self) -> None:
        name = self.name.lower()  # browsers compare prefixes without regard to case
        if name.startswith(("__secure-", "__host-", "__http-")) and self.secure is not True:
            raise ConfigurationError(f"browsers drop a cookie named {self.name} without Secure: pass secure=True")
        if name.startswith(("__http-", "__host-http-")) and not self.httponly:
            raise ConfigurationError(f"browsers drop a cookie named {self.name} without HttpOnly: pass httponly=True")
        if name.startswith("__host-") and (self.path != "/" or self.domain is not None):
            raise ConfigurationError(f'browsers drop a cookie named {self.name} unless path is "/" and domain None')
        if self.samesite == "None" and self.secure is not True:
            raise ConfigurationError('browsers drop a cookie with samesite="None" without Secure: pass secure=True')
        if self.partitioned and self.secure is not True:
            raise ConfigurationError("browsers drop a partitioned cookie without Secure: pass secure=True")


def _checked_secrets(secrets: str | bytes | Sequence[str | bytes]) -> list[str | bytes]:
    given: list[str | bytes]
    if isinstance(secrets, str | bytes):
        given = [secrets]
    elif isinstance(secrets, Iterable):
        given = list(secrets)
    else:
        raise ConfigurationError(f"a secret is a str or bytes, alone or in a list, not a {type(secrets).__name__}")
    if not given:
        raise ConfigurationError("secrets is empty: nothing could be signed")
    for secret in given:
        if not isinstance(secret, str | bytes):
            raise ConfigurationError(f"a secret is a str or bytes, not a {type(secret).__name__}")
        if len(secret) < MIN_SECRET or len(set(secret)) == 1:
            raise ConfigurationError(
                f"a secret has {MIN_SECRET} characters or more, and not all the same; one of those given has not."
                ' Make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
    return given
