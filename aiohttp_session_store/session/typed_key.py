"""Keys that know the type of their value."""

from types import UnionType
from typing import Any, Generic, TypeVar, get_origin

from ..errors import ConfigurationError
from ..record.values import check_key

__all__ = ["SessionKey"]

T = TypeVar("T")


class SessionKey(Generic[T]):
    """The name of a session's key, and the type of what is stored under it.

    ``USER_ID = SessionKey("user_id", int)``; then ``session[USER_ID]`` is an ``int`` to type checkers, and is proved to
    be one when it is read and when it is written.  ``session["user_id"]`` goes on working.
    """

    __slots__ = ("_plain", "name", "value_type")

    def __init__(self, name: str, value_type: type[T]) -> None:
        """Make a key, best at the top of a module.

        Args:
            name: What the key is called in the session.
            value_type: A class; of ``list[int]`` and the like only that it is a list is proved at run time.

        Raises:
            ConfigurationError: *name* cannot be a session's key, or *value_type* is no class.
        """
        try:
            check_key(name)
        except TypeError as error:
            raise ConfigurationError(str(error)) from None
        plain: Any = get_origin(value_type) or value_type
        if not isinstance(plain, type) or plain is UnionType:
            raise ConfigurationError(f"the type of session key {name!r} is a class, not {value_type!r}")
        self.name: str = name
        self.value_type: type[T] = value_type
        self._plain = plain

    def __repr__(self) -> str:
        """Show name and type."""
        return f"SessionKey({self.name!r}, {self._plain.__name__})"

    def proved(self, value: Any) -> T:
        """Return *value*, which is of the type.

        Exactly so: a bool is no int here, nor a datetime a date.  An int is taken for a float, as type checkers do.

        Raises:
            TypeError: It is of another one.
        """
        kind = value.__class__
        if kind is self._plain or (self._plain is float and kind is int):
            return value  # type: ignore[no-any-return]
        raise TypeError(f"session[{self.name!r}] is of type {kind.__name__}, and {self!r} says {self._plain.__name__}")


def name_of(key: "str | SessionKey[Any]") -> str:
    """Return what *key* is called in the session."""
    return key.name if isinstance(key, SessionKey) else key
