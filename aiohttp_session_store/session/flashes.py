"""Flash messages: those that this request can read, those that it has used up, and those that it leaves."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from ..record.changes import Flash
from ..record.values import freeze, thaw


class Flashes:
    """The flashes that earlier requests left for this one, and those that it leaves for the next.

    Attributes:
        readable: What this request can read, by key.
        used: The ids of the flashes that the next save removes.
        added: What this request leaves, and no save has taken yet.
    """

    __slots__ = ("_base", "_handed", "added", "readable", "used")

    def __init__(self, given: Sequence[Flash], *, use_up: bool) -> None:
        """Start from the flashes that earlier requests left.

        Args:
            given: The flashes of the record.
            use_up: Whether a save removes them.  False for a record that is only read.
        """
        self.readable: dict[str, Any] = {flash.key: flash.value for flash in given}
        self._base = self.readable
        self._handed: dict[str, Any] = {}
        self.used: frozenset[str] = frozenset([flash.id for flash in given]) if use_up and given else _NONE
        self.added: tuple[Flash, ...] = ()

    # --- reading

    def value(self, key: str) -> Any:
        """Return the flash of *key*.  A list or dict is the same object each time.

        Raises:
            KeyError: There is no such flash.
        """
        value = self.readable[key]
        if type(value) is list or type(value) is dict:
            if key not in self._handed:
                self._handed[key] = thaw(value)
            value = self._handed[key]
        return value

    def keys_beneath(self, data: dict[str, Any]) -> Iterator[str]:
        """Return the keys of the flashes that are not hidden by the same key in *data*."""
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
        self.added = (*self.added, Flash(secrets.token_urlsafe(6), key, freeze(value, key)))

    def spare(self) -> None:
        """Keep the flashes of the record at the next save, so that the next request can read them, too."""
        self.used = _NONE

    # --- saving

    def taken(self) -> None:
        """Forget the flashes that a save has taken, both the used and the added ones."""
        self.used = _NONE
        self.added = ()

    def put_back_used(self, used: frozenset[str]) -> None:
        """Let the next save remove the flashes *used*, because the save that took them failed."""
        self.used |= used

    def put_back_added(self, added: tuple[Flash, ...]) -> None:
        """Put back the flashes *added*, which a failed save had taken, before those that were added since."""
        self.added = (*added, *self.added)

    def rebase(self) -> None:
        """Let a later :meth:`discard` go back to this point: what is hidden now stays hidden."""
        self._base = self.readable

    def discard(self) -> None:
        """Go back to the flashes as loaded or last saved, and detach lists and dicts that were handed out."""
        self.readable = self._base
        self._handed = {}
        self.added = ()

    def forget(self) -> None:
        """Forget everything, because the session was destroyed."""
        self._base = {}
        self.used = _NONE
        self.discard()


_NONE: frozenset[str] = frozenset()
