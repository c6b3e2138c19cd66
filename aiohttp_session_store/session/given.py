"""What a handler was given for a key of its session, to find out later what it has changed inside."""

from collections.abc import Sequence
from typing import Any

from ..record.changes import Edit
from ..record.json_encoders import dumps
from ..record.merge_inside import merge_inside
from ..record.values import freeze, note_elements, thaw

__all__ = ["Given"]


class Given:
    """A list, dict or set of the session's data that a handler holds and may change.

    Attributes:
        frozen: The value as it was given, in the frozen form.
        elements: The elements of its lists as the handler holds them; see :class:`~..record.changes.Edit`.
        converted: Whether it was made from what is stored, and is another value.  A change inside is then no change
            inside the stored one.
    """

    __slots__ = ("converted", "elements", "frozen")

    def __init__(self, frozen: Any, elements: dict[int, Sequence[Any]], *, converted: bool = False) -> None:
        """Remember what was given.

        Args:
            frozen: The value in the frozen form.
            elements: See the attribute.
            converted: See the attribute.
        """
        self.frozen: Any = frozen
        self.elements: dict[int, Sequence[Any]] = elements
        self.converted: bool = converted

    @classmethod
    def now(cls, frozen: Any, value: Any) -> "Given":
        """Remember *value*, whose frozen form is *frozen*, as it is now."""
        elements: dict[int, Sequence[Any]] = {}
        note_elements(frozen, value, elements)
        return cls(frozen, elements)

    def left(self, key: str, value: Any) -> Any | None:
        """Return what the handler has made of it, in the frozen form; None for no change.

        Args:
            key: Its key, for the error.
            value: What the handler holds.

        Raises:
            TypeError: It has put something there that cannot be stored.
        """
        frozen = freeze(value, key)
        return None if dumps(frozen) == dumps(self.frozen) else frozen

    def edit(self, after: "Given") -> Edit:
        """Return the change inside it that has led to *after*."""
        elements = {**self.elements, **after.elements} if self.elements else after.elements
        return Edit(self.frozen, after.frozen, elements)

    def merged(self, left: Any, value: Any, newest: Any) -> Any | None:
        """Return *newest* with the change inside it, thawed; None if nobody else has changed it.

        Args:
            left: What the handler has made of it, in the frozen form.
            value: What the handler holds.
            newest: What is stored now, in the frozen form.
        """
        if dumps(self.frozen) == dumps(newest):
            return None
        return thaw(merge_inside(self.edit(Given.now(left, value)), newest))
