"""The keys of encryption: how they are written, and what is derived from them.

A key is written as its name and 32 random bytes in base64, such as ``2026-11:3q2+7w...``.  Records say by name which
key opens them, so keys can be replaced while the application runs.
"""

import base64
import binascii
import os
import re
import secrets
from typing import Any

from ..errors import ConfigurationError
from ..tracebacks import hides_settings
from .settings import check_flag

__all__ = ["KeyRing"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_BYTES = 32


class KeyRing:
    """Keys that encrypt sessions, the newest first.  The first one encrypts, and all of them decrypt.

    Give it to a storage as ``encryption=``.  It can also sign cookies, with a key derived for that: ``secrets=``.
    """

    @hides_settings
    def __init__(self, *keys: str, decrypt_only: bool = False, accept_plain: bool = True) -> None:
        """Check the keys.

        Args:
            keys: The newest first.  Each one is a name of up to 32 letters, digits, ``.``, ``_`` and ``-``, a colon,
                and 32 random bytes in base64, as :meth:`new_key` makes them.
            decrypt_only: Read encrypted records, but write plain ones.  For the step before encryption is turned on,
                while there are still processes that know no key.
            accept_plain: Whether records that are not encrypted are read.  With False they are left in place and read
                as no session.

        Raises:
            ConfigurationError: There is no key, or one is not well formed, or two have the same name; the package
                ``cryptography`` is not installed; a flag is no bool; or the ring would refuse what it writes.  No
                message shows a key.
        """
        try:
            from . import cipher  # noqa: PLC0415  apps without encryption need no cryptography, nor the time to load it
        except ImportError as error:
            needed = "a KeyRing needs cryptography: pip install 'cryptography>=44'"
            raise ConfigurationError(needed) from error
        self._cipher = cipher
        if not keys:
            raise ConfigurationError("a KeyRing needs a key: make one with KeyRing.new_key()")
        self.decrypt_only: bool = check_flag("decrypt_only", decrypt_only)
        self.accept_plain: bool = check_flag("accept_plain", accept_plain)
        if decrypt_only and not accept_plain:
            raise ConfigurationError(
                "a KeyRing with decrypt_only=True writes records that are not encrypted, and with accept_plain=False it"
                " would not read them again: set one of the two"
            )
        self._keys: dict[str, bytes] = {}
        for number, key in enumerate(keys, 1):
            name, material = _parsed(key, number)
            if name in self._keys:
                raise ConfigurationError(f"two keys of the ring are named {name!r}: every key needs a name of its own")
            if material in self._keys.values():
                raise ConfigurationError(f"the key {name!r} is in the ring twice, under two names")
            self._keys[name] = material

    @staticmethod
    def new_key() -> str:
        """Return a new random key with a random name.  Keep it as you keep a password."""
        return f"{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}"

    @classmethod
    @hides_settings
    def from_env(cls, name: str, *, decrypt_only: bool = False, accept_plain: bool = True) -> "KeyRing":
        """Read the keys from the environment variable *name*: separated by commas, the newest first.

        Args:
            name: The name of the variable, such as ``"SESSION_KEYS"``.
            decrypt_only: As in :class:`KeyRing`.
            accept_plain: As in :class:`KeyRing`.

        Raises:
            ConfigurationError: The variable is not set or empty, or as in :class:`KeyRing`.
        """
        keys = [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]
        if not keys:
            raise ConfigurationError(f"the environment variable {name} has no keys: make one with KeyRing.new_key()")
        return cls(*keys, decrypt_only=decrypt_only, accept_plain=accept_plain)

    @staticmethod
    def joined(first: "KeyRing | None", second: "KeyRing | None") -> "KeyRing | None":
        """Return a ring that writes as *first* does, and reads what either of them reads; None is no encryption.

        Raises:
            ConfigurationError: They have different keys of one name.
        """
        rings = [ring for ring in (first, second) if ring is not None]
        if not rings:
            return None
        joined = object.__new__(KeyRing)
        joined._cipher = rings[0]._cipher  # noqa: SLF001
        joined.decrypt_only = first is None or first.decrypt_only
        joined.accept_plain = len(rings) == 1 or any(ring.accept_plain for ring in rings)
        joined._keys = {}
        for ring in rings:
            for name, material in ring._keys.items():  # noqa: SLF001  a ring's own class
                if joined._keys.setdefault(name, material) != material:
                    raise ConfigurationError(f"the two storages have different keys of the name {name!r}")
        return joined

    def __repr__(self) -> str:
        """Show the names of the keys, and no key."""
        flags = {"decrypt_only=True": self.decrypt_only, "accept_plain=False": not self.accept_plain}
        return f"<KeyRing {', '.join([*self._keys, *(flag for flag, is_set in flags.items() if is_set)])}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys, the newest first."""
        return tuple(self._keys)

    @property
    def secrets(self) -> list[str]:
        """A secret for signing cookies for each key, the newest first, derived from it."""
        return [self._cipher.derived(key, b"cookie signature").hex() for key in self._keys.values()]

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """Encrypt *plain* under the first key.

        Args:
            plain: What to encrypt.
            about: What has to be given to :meth:`open` as well, so that the result cannot be put to another place.
        """
        return self._cipher.seal(next(iter(self._keys.values())), plain, about)

    def open(self, name: str, sealed: bytes, about: bytes) -> bytes:
        """Return what :meth:`seal` was given.

        Raises:
            KeyError: The ring has no key of that name.
            ValueError: It does not open.
        """
        return self._cipher.open_sealed(self._keys[name], sealed, about)


def _parsed(key: Any, number: int) -> tuple[str, bytes]:
    if not isinstance(key, str):
        raise ConfigurationError(f"key {number} of the ring is a string, as KeyRing.new_key() returns it")
    name, colon, encoded = key.strip().partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"key {number} of the ring does not begin with a name and a colon: a name has up to 32 letters, digits,"
            " '.', '_' and '-'"
        )
    try:
        material = base64.b64decode(encoded.translate(_STANDARD) + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"the key {name!r} is not in base64: make one with KeyRing.new_key()") from None
    if len(material) != _BYTES:
        raise ConfigurationError(
            f"the key {name!r} has {len(material)} bytes instead of {_BYTES}: use KeyRing.new_key()"
        )
    if len(set(material)) == 1:
        raise ConfigurationError(f"the key {name!r} is one byte repeated: make one with KeyRing.new_key()")
    return name, material


_STANDARD = str.maketrans("-_", "+/")


def checked_ring(ring: Any) -> KeyRing | None:
    """Return *ring* if it is one or None.

    Raises:
        ConfigurationError: It is something else.
    """
    if ring is not None and not isinstance(ring, KeyRing):
        hint = 'write encryption=KeyRing.from_env("SESSION_KEYS")'
        raise ConfigurationError(f"encryption is a KeyRing or None, not {type(ring).__name__}: {hint}")
    return ring
