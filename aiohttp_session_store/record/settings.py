"""Checks of a developer's settings.  Each message names the setting and says what it has to be."""

from ..errors import ConfigurationError


def check_flag(name: str, value: object) -> bool:
    """Return *value* if it is a bool.

    Anything else is refused, because Python would take the string ``"false"`` for true.

    Raises:
        ConfigurationError: It is none.  The message calls it *name*.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{name} must be True or False, not of type {type(value).__name__}. Compare a string first:"
            f' {name}=(text == "true")'
        )
    return value


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return *value* if it is a whole number.

    Raises:
        ConfigurationError: It is none, or smaller than *least*.  The message calls it *name*.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number, at least {least}, not {value!r}")
    return value


def number_of_seconds(name: str, value: object, least: float) -> float:
    """Return *value* if it is a finite number.

    Raises:
        ConfigurationError: It is none, or smaller than *least*.  The message calls it *name*.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ConfigurationError(f"{name} must be a number of seconds, at least {least:g}, not {value!r}")
    return float(value)
