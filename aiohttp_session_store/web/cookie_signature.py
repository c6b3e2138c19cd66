"""The signature of the session cookie.  A value that we did not sign never reaches a storage."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import want_bytes

from ..errors import ConfigurationError
from ..record.key_ring import KeyRing
from ..record.size import COOKIE_LIMIT

# A random secret of this length cannot be guessed (OWASP ASVS 5.0, 11.2.3 asks for 128 bits).
MIN_SECRET = 32
# About 2 MB of cookies that hold ids. A hit saves about 15 us of HMAC in a busy server.
VERIFIED_KEPT = 4096
SIGNATURE_LENGTH: int = len(".") + 43  # SHA-256 in base64 without padding


# Behind the value, if it matters when the cookie was sent. A value that happens to end like this gets an empty time.
_SENT = re.compile(r"(.*)\.\.([0-9]{0,11})", re.ASCII | re.DOTALL)
SENT_LENGTH: int = len("..") + 11


@dataclass(frozen=True, slots=True)
class Opened:
    """A cookie value whose signature is ours.

    Attributes:
        value: The unsealed value.
        name: The name of the cookie.
        stale: An older secret made the signature.
        sent: When the cookie was sent, in whole Unix seconds, or None if it does not say.
    """

    value: str = field(repr=False)
    name: str
    stale: bool
    sent: int | None


class CookieSignature:
    """Signs cookie values and checks signatures (HMAC-SHA256 by itsdangerous)."""

    def __init__(self, name: str, secrets: Sequence[str | bytes], salt: str, kept: int = VERIFIED_KEPT) -> None:
        """Derive the signing keys from the secrets.

        Args:
            name: The name of the cookie.
            secrets: Newest first.  The first one signs, and all of them verify.
            salt: Keeps signatures of different purposes apart.
            kept: How many verified values are remembered.
        """
        self._name = name
        self._signers = [_Signer(secret, salt) for secret in secrets]
        # A forged value raises an exception and is therefore never remembered.
        self._verify: Callable[[str], Opened] = lru_cache(kept)(self._verified)

    def seal(self, value: str, sent: int | None = None) -> str:
        """Return *value* with its signature, and with the time when it was *sent* unless that is None."""
        if sent is not None:
            value = f"{value}..{sent}"
        elif _SENT.fullmatch(value):
            value += ".."
        return self._signers[0].sign(value).decode("ascii")

    def open(self, sealed: str) -> Opened | None:
        """Return the value that was sealed, or None if the signature is not ours."""
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
                return self._opened(signer.unsign(sealed), stale=signer is not others[0])
            except BadSignature:
                continue
        return self._opened(oldest.unsign(sealed), stale=bool(others))

    def _opened(self, signed: bytes, *, stale: bool) -> Opened:
        value = signed.decode("ascii")
        timed = _SENT.fullmatch(value)
        if timed is None:
            return Opened(value, self._name, stale, None)
        return Opened(timed[1], self._name, stale, int(timed[2]) if timed[2] else None)


class _Signer(Signer):
    """A signer that derives its key once.

    itsdangerous would derive it at every call.  It documents ``derive_key`` as a method to override.
    """

    def __init__(self, secret: str | bytes, salt: str) -> None:
        super().__init__(secret, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
        self._derived = super().derive_key()

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self._derived

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        """Accept the very text that :meth:`sign` writes.  Decoding it first would accept other texts as well."""
        return hmac.compare_digest(self.get_signature(value), want_bytes(sig))


def checked_secrets(secrets: str | bytes | Sequence[str | bytes] | KeyRing) -> list[str | bytes]:
    """Check *secrets*, and return them as a list, newest first.

    Raises:
        ConfigurationError: There is no secret, or one has the wrong type or is too weak.
    """
    given: list[str | bytes]
    if isinstance(secrets, KeyRing):
        given = [*secrets.secrets]
    elif isinstance(secrets, str | bytes):
        given = [secrets]
    elif isinstance(secrets, Iterable):
        given = list(secrets)
    else:
        raise ConfigurationError(f"a secret is a str or bytes, or a list of these, not a {type(secrets).__name__}")
    if not given:
        raise ConfigurationError("secrets is empty: at least one secret is needed to sign the cookie")
    for secret in given:
        if not isinstance(secret, str | bytes):
            raise ConfigurationError(f"a secret is a str or bytes, not a {type(secret).__name__}")
        if len(secret) < MIN_SECRET or len(set(secret)) == 1:
            raise ConfigurationError(
                f"a secret must have at least {MIN_SECRET} characters that are not all the same, and one of the given"
                ' secrets has not. Make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
    return given
