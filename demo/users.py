"""The demo's users.  Passwords are hashed by argon2-cffi, in a thread: hashing is slow on purpose."""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

# The login page shows these.
PASSWORDS = {"ada": "analytical-engine", "grace": "found-a-moth", "radia": "spanning-tree"}

_hasher = PasswordHasher()
_hashes = {name: _hasher.hash(password) for name, password in PASSWORDS.items()}
# Verified if the name is unknown, so that the response time does not reveal which names exist.
_nobody = _hasher.hash(secrets.token_urlsafe())


async def check_password(name: str, password: str) -> bool:
    """Return whether *password* is the password of *name*."""
    return await asyncio.to_thread(_verify, _hashes.get(name, _nobody), password)


def _verify(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except VerificationError:
        return False
