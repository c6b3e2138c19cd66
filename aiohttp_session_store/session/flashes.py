"""Flash messages: which ones this request can read, which ones it has used up, and which ones it leaves."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from ..record.changes import Flash
from ..record.values import freeze, thaw


class Flashes:
    """The flashes that earlier requests left for this one, and those that it leaves for the next."""

    __slots__ = ("_added", "_base", "_handed", "_used", "readable")

    def __init__(self, given: Sequence[Flash], *, use_up: bool) -> None:
        """Start from what earlier requests left.

        Args:
            given: The flashes of the record.
            use_up: Whether a save removes them; False for a record that is only read.
        """
        self.readable: dict[str, Any] = {flash.key: flash.value for flash in given}
        self._base = self.readable
        self._handed: dict[str, Any] = {}
        self._used: frozenset[str] = frozenset([flash.id for flash in given]) if use_up and given else _NONE
        self._added: tuple[Flash, ...] = ()

    # --- reading

    def value(self, key: str) -> Any:
        """Return the flash of *key*; the same list or dict each time.

        Raises:
            KeyError: There is none.
        """
        value = self.readable[key]
        if type(value) is list or type(value) is dict:
            if key not in self._handed:
                self._handed[key] = thaw(value)
            value = self._handed[key]
        return value

    def keys_beneath(self, data: dict[str, Any]) -> Iterator[str]:
        """Return the keys that are not hidden by *data* of the same name."""
        return (key for key in self.readable if key not in data)

    def hide(self, key: str) -> None:
        """Make the flash of *key* unreadable, if there is one."""
        if key in self.readable:
            self.readable = {name: value for name, value in self.readable.items() if name != key}

    def hide_all(self) -> None:
        """Make all flashes unreadable."""
        self.readable = {}

    # --- for the next request

    def add(self, key: str, value: Any) -> None:
        """Leave *value* for the next request.

        Raises:
            TypeError: *value* cannot be stored.
        """
        self._added = (*self._added, Flash(secrets.token_urlsafe(6), key, freeze(value, key)))

    def spare(self) -> None:
        """Have the next save leave what was given to whoever comes next."""
        self._used = _NONE

    # --- saving

    @property
    def added(self) -> tuple[Flash, ...]:
        """What this request leaves and no save has taken yet."""
        return self._added

    @property
    def used(self) -> frozenset[str]:
        """The ids of the flashes that the next save removes."""
        return self._used

    def taken(self) -> None:
        """Forget what a save has taken: what was used up and what was added."""
        self._used = _NONE
        self._added = ()

    def put_back_used(self, used: frozenset[str]) -> None:
        """Have the next save remove *used* after all: the one that took them failed."""
        self._used |= used

    def put_back_added(self, added: tuple[Flash, ...]) -> None:
        """Return what a failed save had taken, beneath what was added since."""
        self._added = (*added, *self._added)

    def rebase(self) -> None:
        """Go on from here: a later :meth:`discard` leaves what was hidden so far hidden."""
        self._base = self.readable

    def discard(self) -> None:
        """Go back to the flashes as loaded or last saved; lists and dicts that were handed out are let go."""
        self.readable = self._base
        self._handed = {}
        self._added = ()

    def forget(self) -> None:
        """Forget everything: the session was destroyed."""
        self._base = {}
        self._used = _NONE
        self.discard()


_NONE: frozenset[str] = frozenset()
