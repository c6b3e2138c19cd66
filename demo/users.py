"""The demo's users.  Passwords are hashed by argon2-cffi, in a thread: hashing is slow on purpose."""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

# The login page shows these. A password that was changed is forgotten when the demo ends.
PASSWORDS: dict[str, str | None] = {"ada": "analytical-engine", "grace": "found-a-moth", "radia": "spanning-tree"}
SHORTEST_PASSWORD = 8

_hasher = PasswordHasher()
_hashes = {name: _hasher.hash(password) for name, password in PASSWORDS.items() if password is not None}
_numbers = dict.fromkeys(PASSWORDS, 1)
# Verified if the name is unknown, so that the response time does not reveal which names exist.
_nobody = _hasher.hash(secrets.token_urlsafe())


async def check_password(name: str, password: str) -> int | None:
    """Return the number of the password of *name* if it is *password*, or None."""
    number = password_number(name)  # before it is checked: it may be changed meanwhile
    return number if await asyncio.to_thread(_verify, _hashes.get(name, _nobody), password) else None


async def change_password(name: str, password: str) -> int:
    """Give *name* another password, and return its number."""
    _hashes[name] = await asyncio.to_thread(_hasher.hash, password)
    PASSWORDS[name] = None
    _numbers[name] += 1
    return _numbers[name]


def password_number(name: str) -> int:
    """Return which password *name* has: one more after each change.  A session keeps the number that it began with."""
    return _numbers.get(name, 0)


def _verify(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except VerificationError:
        return False
