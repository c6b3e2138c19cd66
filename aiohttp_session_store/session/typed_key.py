"""Keys that know the type of their value."""

from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from inspect import iscoroutinefunction
from typing import Any, Generic, TypeVar, get_origin

from ..errors import ConfigurationError
from ..record.kinds import KINDS, advice, base_of, type_name
from ..record.values import check_key, freeze

__all__ = ["SessionKey"]

T = TypeVar("T")


class SessionKey(Generic[T]):
    """The name of a session key, and the type of the value stored under it.

    After ``USER_ID = SessionKey("user_id", int)``, ``session[USER_ID]`` is an ``int`` to type checkers.  The type is
    also checked at run time, whenever the value is read or written.  ``session["user_id"]`` still works.

    If you change the type of a key, sessions from before the change still hold values of the old type.  Such a value
    reads as missing: for ``in``, ``get``, ``pop``, ``setdefault`` and ``session[key]`` alike.  A warning is logged once
    for the key.  A *converter* makes a value of the new type from the old one instead.
    """

    __slots__ = ("_converter", "_plain", "name", "value_type")

    def __init__(self, name: str, value_type: type[T], *, converter: Callable[[Any], T] | None = None) -> None:
        """Make a key, preferably at the top of a module.

        Args:
            name: The name of the key in the session.
            value_type: A type that a session can hold, or a ``TypedDict``.  For ``list[int]``, a ``TypedDict`` and the
                like, only ``list`` or ``dict`` is checked at run time.
            converter: Called when the key is read and the stored value is not of *value_type*.  It gets a copy of that
                value and returns the value to use.  The session does not count as changed, so the old value stays
                stored until the handler assigns or changes the new one.  If the converter raises an exception or
                returns a value of another type, the key reads as missing.  None means that it always does.

        Raises:
            ConfigurationError: *name* cannot be a session key, a session cannot hold values of *value_type*, or
                *converter* cannot be called or is async.
        """
        try:
            self.name: str = check_key(name)
        except TypeError as error:
            raise ConfigurationError(str(error)) from None
        self.value_type: type[T] = value_type
        self._plain = _stored_type(name, value_type)
        if converter is not None and (not callable(converter) or iscoroutinefunction(converter)):
            raise ConfigurationError(
                f"the converter of session key {name!r} must be a function of one argument, and not async"
            )
        self._converter = converter

    def __init_subclass__(cls) -> None:
        """Refuse a subclass: a session would not know its objects for keys, because the fast way compares classes.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("SessionKey cannot have subclasses; write a function that returns a SessionKey")

    def __repr__(self) -> str:
        """Show the name and the type."""
        return f"SessionKey({self.name!r}, {self._plain.__name__})"

    def proved(self, value: Any) -> T:
        """Return *value* if it is of the key's type.

        A bool is not accepted as an int, nor a datetime as a date.  An int is accepted as a float, as type checkers do.
        A value of a subclass is accepted if it is stored as the key's type.

        Raises:
            TypeError: *value* is of another type.
        """
        if self._accepts(value.__class__):
            return value  # type: ignore[no-any-return]
        raise TypeError(self._mismatch(value))

    def read(self, value: Any) -> T:
        """Return *value*, which a session holds under the key's name, or what the converter makes of it.

        Raises:
            KeyError: *value* is of another type and cannot be converted.
        """
        if value.__class__ is self._plain or self._accepts(value.__class__):
            return value  # type: ignore[no-any-return]
        reason = "has no converter"
        if self._converter is not None:
            try:
                converted: Any = self._converter(deepcopy(value))
            except Exception as error:  # noqa: BLE001  old data must not fail each request, whatever the converter does
                reason = f"has a converter that raised {type(error).__name__}"
            else:
                if self._can_hold(converted):
                    return converted  # type: ignore[no-any-return]
                reason = f"has a converter that returned a {type_name(type(converted))} that it cannot hold"
        raise KeyError(f"{self._mismatch(value)}; it reads as missing, because the key {reason}")

    def _can_hold(self, value: Any) -> bool:
        try:
            freeze(self.proved(value), self.name)
        except TypeError:
            return False
        return True

    def _mismatch(self, value: Any) -> str:
        wrong, right = type_name(value.__class__), type_name(self._plain)
        return f"session[{self.name!r}] is of type {wrong}, but {self!r} expects {right}"

    def _accepts(self, kind: Any) -> bool:
        base: Any = base_of(kind)
        return base is self._plain or (base is int and self._plain is float)


def _stored_type(name: str, value_type: Any) -> type:
    """Return the type that values of *value_type* have at run time.

    Raises:
        ConfigurationError: A session cannot hold values of *value_type*, or would give back values of another type.
    """
    while hasattr(value_type, "__supertype__"):  # a NewType
        value_type = value_type.__supertype__
    plain: Any = get_origin(value_type) or value_type
    if not isinstance(plain, type):
        raise ConfigurationError(f"the type of session key {name!r} must be a class, not {value_type!r}")
    if hasattr(plain, "__required_keys__"):  # a TypedDict, also that of typing_extensions
        return dict
    base: Any = base_of(plain)
    if base is None or not issubclass(base, plain):
        raise ConfigurationError(
            f"the type of session key {name!r} must be {KINDS}, or a TypedDict: {_why_not(plain, value_type)}"
        )
    return base  # type: ignore[no-any-return]


def _why_not(plain: type, value_type: Any) -> str:
    if plain.__name__ in ("UnionType", "Union"):
        return f"{value_type} is a union; where a value can be missing, use get()"
    return advice(plain)


def name_of(key: "str | SessionKey[Any]") -> str:
    """Return the name of *key* in the session."""
    return key.name if isinstance(key, SessionKey) else key


def step_of(key: SessionKey[Any], by: int | Decimal) -> int | Decimal:
    """Return *by* as it is added to the value of *key*: where that is a Decimal, an int becomes one."""
    return Decimal(by) if key._plain is Decimal else by  # noqa: SLF001  its own module
