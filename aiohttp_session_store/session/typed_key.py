"""Keys that know the type of their value."""

from types import UnionType
from typing import Any, Generic, TypeVar, get_origin

from ..errors import ConfigurationError
from ..record.values import check_key

__all__ = ["SessionKey"]

T = TypeVar("T")


class SessionKey(Generic[T]):
    """The name of a session key, and the type of the value stored under it.

    After ``USER_ID = SessionKey("user_id", int)``, ``session[USER_ID]`` is an ``int`` to type checkers.  The type is
    also checked at run time, whenever the value is read or written.  ``session["user_id"]`` still works.
    """

    __slots__ = ("_plain", "name", "value_type")

    def __init__(self, name: str, value_type: type[T]) -> None:
        """Make a key, preferably at the top of a module.

        Args:
            name: The name of the key in the session.
            value_type: A class.  For ``list[int]`` and the like, only ``list`` is checked at run time.

        Raises:
            ConfigurationError: *name* cannot be a session key, or *value_type* is not a class.
        """
        try:
            check_key(name)
        except TypeError as error:
            raise ConfigurationError(str(error)) from None
        plain: Any = get_origin(value_type) or value_type
        if not isinstance(plain, type) or plain is UnionType:
            raise ConfigurationError(f"the type of session key {name!r} must be a class, not {value_type!r}")
        self.name: str = name
        self.value_type: type[T] = value_type
        self._plain = plain

    def __repr__(self) -> str:
        """Show the name and the type."""
        return f"SessionKey({self.name!r}, {self._plain.__name__})"

    def proved(self, value: Any) -> T:
        """Return *value* if it is exactly of the key's type.

        A bool is not accepted as an int, nor a datetime as a date.  An int is accepted as a float, as type checkers do.

        Raises:
            TypeError: *value* is of another type.
        """
        kind = value.__class__
        if kind is self._plain or (self._plain is float and kind is int):
            return value  # type: ignore[no-any-return]
        raise TypeError(
            f"session[{self.name!r}] is of type {kind.__name__}, but {self!r} expects {self._plain.__name__}"
        )


def name_of(key: "str | SessionKey[Any]") -> str:
    """Return the name of *key* in the session."""
    return key.name if isinstance(key, SessionKey) else key
