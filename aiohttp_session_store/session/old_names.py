"""What the names of aiohttp-session are called here, for the errors of those who use them."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NoReturn, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Attributes of a session.
ATTRIBUTES = {
    "invalidate": "call session.logout()",
    "created": "use session.created_at, the time at which the session began",
    "identity": "use session.key in logs, session.owner for the account; session.id is a secret",
    "empty": "write `not session`",
    "max_age": "pass idle_timeout and lifetime to the storage, or remember to session.login()",
    "set_new_identity": "call session.login(owner), or session.regenerate_id(True)",
}

_OF_COOKIES = "write setup(app, storage, cookie=SessionCookie({}))"
#: Keyword arguments of a storage.
OPTIONS = {
    "cookie_name": _OF_COOKIES.format('"the name"'),
    "max_age": "pass idle_timeout and lifetime to the storage, and SessionCookie(persistent=True) to setup()",
    **{name: _OF_COOKIES.format(f"{name}=...") for name in ("domain", "path", "secure", "httponly", "samesite")},
    "encoder": "pass codec",
    "decoder": "pass codec",
    "key_factory": "leave it out: an id is 256 random bits",
    "secret_key": _OF_COOKIES.format("secrets=..."),
}

#: Names in the package.
NAMES = {
    "session_middleware": "call setup(app, storage)",
    "SimpleCookieStorage": "use CookieStorage, or MemoryStorage in tests",
    "AbstractStorage": "derive from KeyedStorage",
    "SessionData": "only the storage knows the form of a record",
    "SESSION_KEY": "call get_session(request)",
    "STORAGE_KEY": "call get_storage(request)",
    "EncryptedCookieStorage": "use FileSystemStorage or CookieStorage, and EncryptedCookieReader for the old cookies",
    "NaClCookieStorage": "use FileSystemStorage or CookieStorage",
    "RedisStorage": "import it from aiohttp_session_store.storages.redis",
    "redis_storage": "import aiohttp_session_store.storages.redis",
    "cookie_storage": "use FileSystemStorage or CookieStorage, and EncryptedCookieReader for the old cookies",
    "MemcachedStorage": "use RedisStorage, PostgresStorage or FileSystemStorage",
}


def explained(name: str, instead: str) -> str:
    """Return the message of an error about the old *name*."""
    return f"{name!r} is a name of aiohttp-session. Here, {instead}: see docs/migrating.md"


def refuse_unknown(function: str, names: Iterable[str]) -> None:
    """Refuse keyword arguments that *function* does not have, as Python does, and explain those of aiohttp-session.

    Raises:
        TypeError: There is one.
    """
    for name in names:
        raise TypeError(
            explained(name, OPTIONS[name])
            if name in OPTIONS
            else f"{function}() got an unexpected keyword argument {name!r}"
        )


def explains_old_arguments(function: F) -> F:
    """Explain keyword arguments of aiohttp-session that *function* does not have.  Type checkers see no difference."""
    known = inspect.signature(function).parameters.keys()

    @wraps(function)
    def explaining(*args: Any, **kwargs: Any) -> Any:
        refuse_unknown(function.__name__, [name for name in kwargs.keys() - known if name in OPTIONS])
        return function(*args, **kwargs)

    explained_one: Any = explaining
    return explained_one  # type: ignore[no-any-return]  # it takes what *function* takes


class OldAttribute:
    """An attribute that sessions of aiohttp-session had: reading or setting it says what to use instead."""

    def __init__(self, name: str) -> None:
        """Stand for *name*."""
        self._name = name

    def __get__(self, session: object, kind: type | None = None) -> NoReturn:
        """Raise.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(explained(self._name, ATTRIBUTES[self._name]), name=self._name)

    def __set__(self, session: object, value: Any) -> None:
        """Raise; see :meth:`__get__`."""
        self.__get__(session)
