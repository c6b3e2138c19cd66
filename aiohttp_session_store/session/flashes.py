"""Flash messages: those that this request can read, those that it has used up, and those that it leaves."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from ..record.changes import Flash
from ..record.values import freeze, thaw


class Flashes:
    """The flashes that earlier requests left for this one, and those that it leaves for the next."""

    __slots__ = ("_added", "_base", "_handed", "_used", "readable")

    def __init__(self, given: Sequence[Flash], *, use_up: bool) -> None:
        """Start from the flashes that earlier requests left.

        Args:
            given: The flashes of the record.
            use_up: Whether a save removes them.  False for a record that is only read.
        """
        self.readable: dict[str, Any] = {flash.key: flash.value for flash in given}
        self._base = self.readable
        self._handed: dict[str, Any] = {}
        self._used: frozenset[str] = frozenset([flash.id for flash in given]) if use_up and given else _NONE
        self._added: tuple[Flash, ...] = ()

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
        self._added = (*self._added, Flash(secrets.token_urlsafe(6), key, freeze(value, key)))

    def spare(self) -> None:
        """Keep the flashes of the record at the next save, so that the next request can read them, too."""
        self._used = _NONE

    # --- saving

    @property
    def added(self) -> tuple[Flash, ...]:
        """The flashes that this request leaves and that no save has taken yet."""
        return self._added

    @property
    def used(self) -> frozenset[str]:
        """The ids of the flashes that the next save removes."""
        return self._used

    def taken(self) -> None:
        """Forget the flashes that a save has taken, both the used and the added ones."""
        self._used = _NONE
        self._added = ()

    def put_back_used(self, used: frozenset[str]) -> None:
        """Let the next save remove the flashes *used*, because the save that took them failed."""
        self._used |= used

    def put_back_added(self, added: tuple[Flash, ...]) -> None:
        """Put back the flashes *added*, which a failed save had taken, before those that were added since."""
        self._added = (*added, *self._added)

    def rebase(self) -> None:
        """Let a later :meth:`discard` go back to this point: what is hidden now stays hidden."""
        self._base = self.readable

    def discard(self) -> None:
        """Go back to the flashes as loaded or last saved, and detach lists and dicts that were handed out."""
        self.readable = self._base
        self._handed = {}
        self._added = ()

    def forget(self) -> None:
        """Forget everything, because the session was destroyed."""
        self._base = {}
        self._used = _NONE
        self.discard()


_NONE: frozenset[str] = frozenset()
