"""Texts that only we can make: the bound cookie, challenges and identifiers.

Each one says when it was made or ends, and has a hash of what it is about.  All is signed with the secrets of the
session cookie, under keys of its own, so that nothing has to be stored to check it.
"""

import base64
import hashlib
import re
from collections.abc import Sequence

from ..record.head import Head, owner_key
from ..web.cookie_settings import SessionCookie
from ..web.request_headers import has_value, pattern_for, values_in
from .binding import Binding

# How long a challenge can be answered, in seconds. The browser answers within a second, but a challenge that was sent
# ahead waits for the end of the bound cookie; one that is too old costs a request more.
REGISTRATION_WINDOW = 300
# A cookie that leaves the browser just before it ends must not come too late. So the browser drops it earlier.
EARLIER = 30
_TRIES = 4
_FEW = 64  # verified texts that are remembered: each comes once in ten minutes
_REGISTRATION = re.compile(r"([0-9a-f]{64})\.([A-Za-z0-9_-]{1,32})\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})", re.ASCII)
_TIMED = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22})", re.ASCII)
_TURN = re.compile(r"([0-9]{1,12})\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})", re.ASCII)
_IDENTIFIER = re.compile(r"([0-9a-f]{64})\.([A-Za-z0-9_-]{1,32})", re.ASCII)


class Tokens:
    """Makes and checks these texts for one app."""

    def __init__(self, cookie: SessionCookie, name: str, cookie_lifetime: int) -> None:
        """Derive the keys.

        Args:
            cookie: The session cookie, bound to its storage.
            name: The name of the bound cookie.
            cookie_lifetime: Seconds for which a bound cookie counts.
        """
        self._bound = cookie.signature(f"bound {name}")
        self._registration = cookie.signature(f"registration {name}", _FEW)
        self._refresh = cookie.signature(f"refresh {name}", _FEW)
        self._identifier = cookie.signature(f"device {name}", _FEW)
        self._pattern = pattern_for(name)
        self.name = name
        # Where the session cookie goes, the bound cookie has to go as well.
        self._samesite = "None" if cookie.samesite == "None" else "Lax"
        self._lifetime = cookie_lifetime

    # --- the bound cookie

    @property
    def attributes(self) -> str:
        """The attributes of the bound cookie, as the browser is told them: without Max-Age."""
        return f"Path=/; Secure; HttpOnly; SameSite={self._samesite}"

    def set_cookie(self, head: Head, binding: Binding, now: int) -> str:
        """Return the Set-Cookie header of a bound cookie that is made now."""
        value = self._bound.seal(f"{now + self._lifetime}.{_about(head, binding.key)}")
        return f"{self.name}={value}; Max-Age={self._lifetime - EARLIER}; {self.attributes}"

    def clearing(self, cookies: Sequence[str]) -> str | None:
        """Return the Set-Cookie header that clears the bound cookie, or None if none is in the Cookie headers."""
        return f"{self.name}=; Max-Age=0; {self.attributes}" if has_value(cookies, self.name) else None

    def is_proved(self, cookies: Sequence[str], head: Head, binding: Binding, now: int) -> bool:
        """Return whether one of the Cookie headers has a bound cookie of this login and device that has not ended."""
        for value in values_in(cookies, self._pattern)[:_TRIES]:
            opened = self._bound.open(value)
            said = None if opened is None else _TIMED.fullmatch(opened.value)
            if said is not None and now < int(said[1]) and said[2] == _about(head, binding.key):
                return True
        return False

    # --- challenges

    def registration_challenge(self, head: Head, origin: str, now: int) -> str:
        """Return the challenge of a login.  It says where the login is found."""
        return self._registration.seal(f"{owner_key(head.owner)}.{head.line}.{now}.{_about(head, origin)}")

    def login_asked(self, challenge: str) -> tuple[str, str] | None:
        """Return the index of the owner and the line of the login that *challenge* was made for, or None."""
        said = self._asked(challenge)
        return None if said is None else (said[1], said[2])

    def _asked(self, challenge: str) -> re.Match[str] | None:
        opened = self._registration.open(challenge)
        return None if opened is None else _REGISTRATION.fullmatch(opened.value)

    def answers_login(self, challenge: str, head: Head, origin: str, now: int) -> bool:
        """Return whether *challenge* is that of this login, and not too old."""
        said = self._asked(challenge)
        return said is not None and said[4] == _about(head, origin) and now < int(said[3]) + REGISTRATION_WINDOW

    def challenge(self, head: Head, binding: Binding, origin: str, now: int) -> str:
        """Return the challenge of the next refresh."""
        return self._refresh.seal(f"{binding.turn}.{now}.{_about(head, binding.key, origin)}")

    def answers_turn(self, challenge: str, head: Head, binding: Binding, origin: str, now: int) -> bool:
        """Return whether *challenge* is the one that is to be answered now: nobody took it, and it is not too old."""
        opened = self._refresh.open(challenge)
        said = None if opened is None else _TURN.fullmatch(opened.value)
        if said is None or said[3] != _about(head, binding.key, origin):
            return False
        return int(said[1]) == binding.turn and now < int(said[2]) + 2 * self._lifetime

    # --- identifiers

    def identifier(self, head: Head) -> str:
        """Return what the browser is to call the session of this login.  It says where the login is found."""
        return self._identifier.seal(f"{owner_key(head.owner)}.{head.line}")

    def login_in(self, identifier: str) -> tuple[str, str] | None:
        """Return the index of the owner and the line of the login that *identifier* names, or None."""
        opened = self._identifier.open(identifier)
        said = None if opened is None else _IDENTIFIER.fullmatch(opened.value)
        return None if said is None else (said[1], said[2])


def _about(head: Head, *parts: str) -> str:
    """Return a hash of a login and of *parts*, each with its length, so that no two lists have the same text."""
    # A Host header may have bytes that are no UTF-8, which aiohttp passes on as surrogates.
    text = "".join(f"{len(part)} {part}" for part in (head.owner, head.line, *parts))
    return (
        base64.urlsafe_b64encode(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:16])
        .decode("ascii")
        .rstrip("=")
    )
