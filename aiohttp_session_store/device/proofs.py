"""Reading the proof that a browser sends: a JSON Web Token, signed by the key of the device with ES256.

This is not a JWT library.  It knows one algorithm and the two claims of the protocol, and refuses all else before a key
is loaded.

References:
    RFC 7515 (JWS); RFC 7518, section 3.4 (ES256); RFC 8725, section 3 (what goes wrong with tokens).
"""

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

# A proof of Chromium has about 500 characters.
_LONGEST = 4096
_COMPACT = re.compile(r'("?)([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})\1', re.ASCII)
_SIZE = 32  # bytes of a number of P-256
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_ALGORITHM = "ES256"
_TYPE = "dbsc+jwt"


class BadProofError(ValueError):
    """Raised for a header that is no proof, or one whose signature is not that of the key."""


class Proof(NamedTuple):
    """A proof whose signature is right.

    Attributes:
        challenge: What was signed.  It still has to be checked whether it is ours.
        key: The public key that made the signature, in the form of :class:`~.binding.Binding`.
    """

    challenge: str
    key: str


def read_proof(header: str, key: str | None = None) -> Proof:
    """Return what *header* proves.

    Args:
        header: The header ``Secure-Session-Response``, with or without quotes.
        key: The key of the device, or None at its registration, when the proof brings the key.

    Raises:
        BadProofError: It proves nothing.
    """
    compact = None if len(header) > _LONGEST else _COMPACT.fullmatch(header.strip())
    if compact is None:
        raise BadProofError("it is no signed token")
    _, head, body, signature = compact.groups()
    fields, claims = _object(head), _object(body)
    if fields.get("alg") != _ALGORITHM or fields.get("typ") != _TYPE or "crit" in fields:
        raise BadProofError("it is of another kind, or signed by another algorithm")
    if key is None or "jwk" in fields:
        given = _key_in(fields.get("jwk"))
        if key is not None and given != key:
            raise BadProofError("it brings another key")
        key = given
    challenge = claims.get("jti")
    if type(challenge) is not str:
        raise BadProofError("it has no challenge")
    _verify(key, f"{head}.{body}".encode("ascii"), _bytes(signature))
    return Proof(challenge, key)


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        raise BadProofError("it is no JSON") from None
    if type(found) is not dict:
        raise BadProofError("it is no JSON object")
    return found


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise BadProofError("it is not in base64") from None


def _key_in(jwk: Any) -> str:
    if type(jwk) is not dict or jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise BadProofError("it has no key of P-256")
    both = b""
    for name in ("x", "y"):
        number = jwk.get(name)
        if type(number) is not str or not _COORDINATE.fullmatch(number):
            raise BadProofError("its key has no coordinates")
        both += _bytes(number)
    return base64.b64encode(both).decode("ascii")


def _verify(key: str, signed: bytes, signature: bytes) -> None:
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + base64.b64decode(key))
        numbers = (int.from_bytes(signature[:_SIZE], "big"), int.from_bytes(signature[_SIZE:], "big"))
        public.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        raise BadProofError("its signature is wrong, or its key is not on the curve") from None
