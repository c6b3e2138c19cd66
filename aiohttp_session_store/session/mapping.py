"""The session as a mapping: what can be read, set and removed by key."""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self, TypeVar, overload

from ..record.sums import add, checked_step
from ..tracebacks import hide_locals
from .state import SessionState
from .typed_key import SessionKey, name_of, step_of

T = TypeVar("T")
D = TypeVar("D")

_NOTHING: Any = object()


# The keys that were warned of in this process.
_warned: set[str] = set()


def _typed(state: SessionState, key: SessionKey[T]) -> T:
    """Return the value of *key* in its type; see :meth:`.SessionKey.read`."""
    value = state.log.value(key.name)
    try:
        read = key.read(value)
    except KeyError as error:
        if repr(key) not in _warned and state.warn is not None:
            _warned.add(repr(key))
            state.warn(error.args[0])
        raise
    if read is not value:
        state.log.hand_out(key.name, read)
    return read


def _missing(state: SessionState, key: Any, found: KeyError | None = None) -> KeyError:
    """Return the error for *key*, which cannot be read: *found* if that is about a value of another type."""
    if found is not None and key.__class__ is SessionKey and key.name in state.log:
        return found
    if state.replaces is not None:
        return KeyError(f"new_session() has emptied the session: read {name_of(key)!r} before that call, to keep it")
    return KeyError(f"the session has no {name_of(key)!r}; where a key may be missing, use session.get()")


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
            KeyError: The session has neither, or the value is not of the type that the :class:`SessionKey` expects and
                cannot be converted to it.
        """
        state = self._state
        try:
            return _typed(state, key) if key.__class__ is SessionKey else state.log.value(key)
        except KeyError as error:
            hide_locals(error)
            raise _missing(state, key, error) from None

    def __contains__(self, key: object) -> bool:
        """Return whether *key* can be read."""
        state = self._state
        if key.__class__ is not SessionKey:
            return key in state.log
        try:
            _typed(state, key)
        except KeyError:
            return False
        return True

    @overload
    def get(self, key: SessionKey[T]) -> T | None: ...
    @overload
    def get(self, key: SessionKey[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, default: Any = None) -> Any: ...
    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default*; see :meth:`__getitem__`.

        Args:
            key: A string or a :class:`SessionKey`.
            default: What to return if the session does not have *key*.  Default: None.
        """
        state = self._state
        try:
            return _typed(state, key) if key.__class__ is SessionKey else state.log.value(key)
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that can be read."""
        return self._state.log.keys()

    def __reversed__(self) -> Iterator[str]:
        """Iterate over the keys that can be read, from the last one to the first."""
        return reversed(list(self))

    def __len__(self) -> int:
        """Return how many keys can be read."""
        return len(self._state.log)

    def has(self, key: str | SessionKey[Any]) -> bool:
        """Return whether *key* can be read.

        Args:
            key: A string or a :class:`SessionKey`.
        """
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
        try:
            state.check_writable()
            if key.__class__ is SessionKey:
                value, key = key.proved(value), key.name
            state.log.assign(key, value)
        except Exception as error:
            hide_locals(error)
            raise

    def __delitem__(self, key: str | SessionKey[Any]) -> None:
        """Unset *key*, whatever its value is, and hide a flash of that name.

        Raises:
            KeyError: The session has neither.
            SessionUsageError: The session was destroyed, or it is too late for a change.
        """
        state = self._state
        state.check_writable()
        name = name_of(key)
        if name not in state.log:
            raise _missing(state, name)
        state.log.remove(name)

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

        Args:
            key: A string or a :class:`SessionKey`.
            default: What to return if the session does not have *key*.  Without it, a KeyError is raised.

        Raises:
            KeyError: The session has no such key, or not of the type that the :class:`SessionKey` expects, and there is
                no *default*.
            SessionUsageError: The session was destroyed, or it is too late for a change.
        """
        state = self._state
        state.check_writable()
        try:
            value = _typed(state, key) if key.__class__ is SessionKey else state.log.value(key)
        except KeyError as error:
            if default is _NOTHING:
                hide_locals(error)
                raise _missing(state, key, error) from None
            return default
        state.log.remove(name_of(key))
        return value

    def popitem(self) -> tuple[str, Any]:
        """Unset the last key, as ``dict`` does, and return the key and its value.

        Raises:
            KeyError: The session is empty.
            SessionUsageError: The session was destroyed, or it is too late for a change.
        """
        self._state.check_writable()
        key = next(reversed(self), None)
        if key is None:
            raise KeyError("the session is empty")
        return key, self.pop(key)

    @overload
    def setdefault(self, key: SessionKey[T], default: T) -> T: ...
    @overload
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*.  If there is none, set *key* to *default* first; see :meth:`__setitem__`.

        If another request sets *key* at the same time, its value is kept.  What is changed inside the list, dict or set
        that this method returns is merged with it.  So parallel requests can all do
        ``session.setdefault("cart", []).append(item)``.

        Args:
            key: A string or a :class:`SessionKey`.
            default: The value to set if the session does not have *key*.  Default: None.
        """
        try:
            return self[key]
        except KeyError:
            pass
        state = self._state
        try:
            state.check_writable()
            if key.__class__ is SessionKey:
                state.log.set_default(key.name, key.proved(default))
            else:
                state.log.set_default(key, default)
        except Exception as error:
            hide_locals(error)
            raise
        return self[key]

    @overload
    def increment(self, key: SessionKey[int], by: int = 1) -> int: ...
    @overload
    def increment(self, key: SessionKey[Decimal], by: int | Decimal = 1) -> Decimal: ...
    @overload
    def increment(self, key: str, by: int = 1) -> Any: ...
    @overload
    def increment(self, key: str, by: Decimal) -> Decimal: ...
    def increment(self, key: Any, by: int | Decimal = 1) -> Any:
        """Add *by* to the number of *key*, and return the sum as this request sees it.

        The save adds *by* to the newest number.  So increments of parallel requests add up, in one process or many.
        ``session[key] += 1`` is an assignment instead, and the last one wins.  A missing key counts as 0.

        Args:
            key: A key whose value is an int or a Decimal.
            by: An int or a finite Decimal, which may be negative.

        Raises:
            SessionUsageError: The session was destroyed, or it is too late for a change.
            TypeError: The value or *by* is neither an int nor a Decimal, or the sum is beyond 64 bits or has more than
                1,000 digits.  If only the save finds this out, because another request has changed the value, it raises
                :class:`SessionConflictError`.
        """
        state = self._state
        try:
            state.check_writable()
            step = checked_step(by)
            if key.__class__ is SessionKey:
                step, value = step_of(key, step), 0
                if key.name in state.log.data:
                    with suppress(KeyError):  # it is of another type, and the error says so
                        _typed(state, key)
                    value = state.log.value(key.name)
                key.proved(add(key.name, value, step))
            return state.log.increment(name_of(key), step)
        except Exception as error:
            hide_locals(error)
            raise

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Set several keys, as ``dict`` does; see :meth:`__setitem__`.

        Args:
            args: A mapping, or pairs of keys and values.
            kwargs: More keys with their values.
        """
        try:
            super().update(*args, **kwargs)
        except Exception as error:
            hide_locals(error)
            raise

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # as dict: |= keeps the object, and | makes a dict
        """Update the session from *other*, as ``dict`` does."""
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Return a dict of the session's keys and those of *other*, which win.  The session is not changed."""
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Return a dict of the keys of *other* and the session's, which win.  The session is not changed."""
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def copy(self) -> dict[str, Any]:
        """Return a dict of the keys that can be read.  As with ``dict``, lists and dicts inside are not copied."""
        return dict(self)

    def __reduce_ex__(self, protocol: object) -> Any:
        """Refuse to be copied by :mod:`copy` or pickled, because only one object can save the session.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a session cannot be pickled or copied by the copy module; use dict(session), or"
            " copy.deepcopy(dict(session))"
        )

    @overload
    def set(self, key: SessionKey[T], value: T | None) -> None: ...
    @overload
    def set(self, key: str, value: Any) -> None: ...
    def set(self, key: Any, value: Any) -> None:
        """Set *key*, or unset it if *value* is None.  In contrast, ``session[key] = None`` stores None.

        Args:
            key: A string or a :class:`SessionKey`.
            value: Anything that a session can hold; None unsets the key.
        """
        try:
            if value is None:
                self.unset(key)
            else:
                self[key] = value
        except Exception as error:
            hide_locals(error)
            raise

    def unset(self, key: str | SessionKey[Any]) -> None:
        """Unset *key*, if it is there.

        Args:
            key: A string or a :class:`SessionKey`.
        """
        state = self._state
        state.check_writable()
        name = name_of(key)
        if name in state.log:
            state.log.remove(name)

    def clear(self) -> None:
        """Remove all keys, including those that other requests add until this session is saved.

        The session itself continues to exist.  Values that this request gave to :meth:`flash` stay, because they belong
        to the next request.
        """
        state = self._state
        state.check_writable()
        state.log.clear()
