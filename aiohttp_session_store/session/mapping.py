"""The session as a mapping: what can be read, set and removed by key."""

from collections.abc import Iterator, MutableMapping
from typing import Any, Self, TypeVar, overload

from .state import SessionState
from .typed_key import SessionKey, name_of

T = TypeVar("T")
D = TypeVar("D")

_NOTHING: Any = object()


class SessionMapping(MutableMapping[str, Any]):
    """The half of :class:`~.session.Session` that is a mapping."""

    __slots__ = ("_state",)

    _state: SessionState

    # --- reading

    @overload
    def __getitem__(self, key: SessionKey[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """Return the value of *key*, or of a flash of that name.

        Raises:
            KeyError: The session has neither.
            TypeError: The stored value is not of the type that the :class:`SessionKey` expects.
        """
        if key.__class__ is SessionKey:
            return key.proved(self._state.log.value(key.name))
        return self._state.log.value(key)

    def __contains__(self, key: object) -> bool:
        """Return whether *key* can be read."""
        return (key.name if isinstance(key, SessionKey) else key) in self._state.log

    @overload
    def get(self, key: SessionKey[T]) -> T | None: ...
    @overload
    def get(self, key: SessionKey[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, default: Any = None) -> Any: ...
    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default*; see :meth:`__getitem__`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that can be read."""
        return self._state.log.keys()

    def __len__(self) -> int:
        """Return how many keys can be read."""
        return len(self._state.log)

    def has(self, key: str | SessionKey[Any]) -> bool:
        """Return whether *key* can be read."""
        return key in self

    # --- changing

    @overload
    def __setitem__(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None:
        """Set *key*.  An assignment always counts as a change.

        Raises:
            SessionUsageError: The session was destroyed, or it is too late for a change (see the subclasses).
            TypeError: *key* is neither a string nor a :class:`SessionKey`, *value* is not of the key's type, or a part
                of *value* cannot be stored.
        """
        state = self._state
        state.check_writable()
        if key.__class__ is SessionKey:
            value, key = key.proved(value), key.name
        state.log.assign(key, value)

    def __delitem__(self, key: str | SessionKey[Any]) -> None:
        """Unset *key*, and hide a flash of that name.

        Raises:
            KeyError: The session has neither.
            SessionUsageError: The session was destroyed, or it is too late for a change.
        """
        state = self._state
        state.check_writable()
        state.log.remove(name_of(key))

    @overload
    def pop(self, key: SessionKey[T]) -> T: ...
    @overload
    def pop(self, key: SessionKey[T], default: D) -> T | D: ...
    @overload
    def pop(self, key: str) -> Any: ...
    @overload
    def pop(self, key: str, default: Any) -> Any: ...
    def pop(self, key: Any, default: Any = _NOTHING) -> Any:
        """Unset *key* and return its value, or return *default* if there is none.

        Raises:
            KeyError: The session has no such key, and there is no *default*.
            SessionUsageError: The session was destroyed, or it is too late for a change.
            TypeError: The stored value is not of the type that the :class:`SessionKey` expects.
        """
        self._state.check_writable()
        try:
            value = self[key]
        except KeyError:
            if default is _NOTHING:
                raise
            return default
        del self[key]
        return value

    @overload
    def setdefault(self, key: SessionKey[T], default: T) -> T: ...
    @overload
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*.  If there is none, set *key* to *default* first; see :meth:`__setitem__`."""
        try:
            return self[key]
        except KeyError:
            self[key] = default
            return self[key]

    def __ior__(self, other: Any) -> Self:
        """Update the session from *other*, as ``dict`` does."""
        self.update(other)
        return self

    @overload
    def set(self, key: SessionKey[T], value: T | None) -> None: ...
    @overload
    def set(self, key: str, value: Any) -> None: ...
    def set(self, key: Any, value: Any) -> None:
        """Set *key*, or unset it if *value* is None.  In contrast, ``session[key] = None`` stores None."""
        if value is None:
            self.unset(key)
        else:
            self[key] = value

    def unset(self, key: str | SessionKey[Any]) -> None:
        """Unset *key*, if it is there."""
        self._state.check_writable()
        if key in self:
            del self[key]

    def clear(self) -> None:
        """Remove all keys, including those that other requests add until this session is saved.

        The session itself continues to exist.  Values that this request gave to :meth:`flash` stay, because they belong
        to the next request.
        """
        state = self._state
        state.check_writable()
        state.log.clear()
