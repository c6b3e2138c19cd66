"""The signature of the session cookie: no value that we did not sign reaches a storage."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from itsdangerous import BadSignature, Signer

from ..errors import ConfigurationError
from ..record.size import COOKIE_LIMIT

# A secret this long, if random, is beyond guessing (OWASP ASVS 5.0, 11.2.3 asks for 128 bits).
MIN_SECRET = 32
# About 2 MB of cookies with ids in them. A hit saves about 15 us of HMAC in a busy server.
VERIFIED_KEPT = 4096
SIGNATURE_LENGTH: int = len(".") + 43  # SHA-256 in base64 without padding


@dataclass(frozen=True, slots=True)
class Opened:
    """A cookie value whose signature is ours; *stale* if only an older secret made it."""

    value: str
    stale: bool


class CookieSignature:
    """Signs cookie values and checks signatures (HMAC-SHA256 by itsdangerous)."""

    def __init__(self, secrets: Sequence[str | bytes], salt: str, kept: int = VERIFIED_KEPT) -> None:
        """Prepare.

        Args:
            secrets: Newest first: the first signs, all verify.
            salt: Tells signatures of different purposes apart.
            kept: How many verified values are remembered.
        """
        self._signers = [_Signer(secret, salt) for secret in secrets]
        # A forgery raises and is therefore never kept.
        self._verify: Callable[[str], Opened] = lru_cache(kept)(self._verified)

    def seal(self, value: str) -> str:
        """Return *value* with its signature."""
        return self._signers[0].sign(value).decode("ascii")

    def open(self, sealed: str) -> Opened | None:
        """Return what was sealed, or None if the signature is not ours."""
        if len(sealed) > COOKIE_LIMIT or not sealed.isascii():
            return None
        try:
            return self._verify(sealed)
        except BadSignature:
            return None

    def _verified(self, sealed: str) -> Opened:
        *others, oldest = self._signers
        for signer in others:
            try:
                return Opened(signer.unsign(sealed).decode("ascii"), signer is not others[0])
            except BadSignature:
                continue
        return Opened(oldest.unsign(sealed).decode("ascii"), bool(others))


class _Signer(Signer):
    """Derives its key once; itsdangerous would do so at every call, and documents this method as one to override."""

    def __init__(self, secret: str | bytes, salt: str) -> None:
        super().__init__(secret, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
        self._derived = super().derive_key()

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self._derived


def checked_secrets(secrets: str | bytes | Sequence[str | bytes]) -> list[str | bytes]:
    """Return *secrets* as a list, newest first, or refuse them.

    Raises:
        ConfigurationError: There is none, or one is too weak.
    """
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
