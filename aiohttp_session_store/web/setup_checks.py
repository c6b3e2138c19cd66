"""Whether ``setup`` was called with the right arguments and in time, and whether two apps can be served together."""

import inspect
import os
from collections.abc import Coroutine
from fnmatch import fnmatchcase

from aiohttp import web

from ..engine.observing import Observer
from ..errors import ConfigurationError
from .app_sessions import APP, AppSessions
from .cookie_settings import SessionCookie

_ONE_BOUND_COOKIE = (
    "two apps bind their sessions to devices with the same bound cookie, so they would refuse each other's visitors:"
    " give each bind_devices() a cookie_name of its own"
)
# What the first request would miss at the latest.
_CALLS = ("now", "default_secrets", "read", "save", "start", "aclose")


def check_setup(app: object, storage: object, cookie: object, owner_of: object, observer: object = None) -> None:
    """Refuse arguments of ``setup`` that cannot work, and a call that comes too late.

    No message repeats an argument, because it may be a URL with a password, or a secret.

    Raises:
        ConfigurationError: The message says what to write instead.
    """
    if not isinstance(app, web.Application):
        if isinstance(storage, web.Application):
            raise ConfigurationError("the first two arguments of setup() are swapped: write setup(app, storage)")
        raise ConfigurationError(f"the first argument of setup() must be a web.Application, not {_kind(app)}")
    if APP in app:
        raise ConfigurationError("this app has sessions already: call setup() once")
    if app.pre_frozen or app.on_startup.frozen:
        raise ConfigurationError(
            "setup() comes too late, because the app has started or was added to another app. Call it where the app is"
            " made, before add_subapp(), and not in on_startup or cleanup_ctx. A storage connects when the app starts:"
            " RedisStorage.from_url(url) and PostgresStorage.from_dsn(dsn), for example, can be made before"
        )
    _check_storage(storage)
    if cookie is not None and not isinstance(cookie, SessionCookie):
        instead = 'SessionCookie("sid")' if isinstance(cookie, str) else "SessionCookie(...)"
        raise ConfigurationError(f"cookie must be a SessionCookie, not {_kind(cookie)}: write cookie={instead}")
    if owner_of is not None and (not callable(owner_of) or inspect.iscoroutinefunction(owner_of)):
        raise ConfigurationError(
            f"owner_of must be a plain function, not {_kind(owner_of)}: write, for example,"
            ' owner_of=lambda session: session.get("user_id")'
        )
    if observer is not None:
        _check_observer(observer)


def _check_observer(observer: object) -> None:
    if not isinstance(observer, Observer):
        raise ConfigurationError(
            f"observer must be an Observer, not {_kind(observer)}: derive a class from it, and pass an object of it"
        )
    for hook in (observer.on_event, observer.on_call):
        if inspect.iscoroutinefunction(hook):
            raise ConfigurationError(
                f"{hook.__name__} of the observer must be a plain function, not an async one: nothing waits for it"
            )


def _check_storage(storage: object) -> None:
    if isinstance(storage, type):
        raise ConfigurationError(f"setup() takes a storage, not the class {storage.__name__}: call the class")
    if isinstance(storage, str | os.PathLike):
        raise ConfigurationError(
            f"setup() takes a storage, not {_kind(storage)}: for a directory, write FileSystemStorage(directory); for a"
            " URL, RedisStorage.from_url(url) or PostgresStorage.from_dsn(url)"
        )
    if not isinstance(getattr(storage, "kind", None), str):
        raise ConfigurationError(
            f"setup() takes a storage such as MemoryStorage() or FileSystemStorage(directory), not {_kind(storage)}"
        )
    if getattr(storage, "timeouts", None) is None:
        raise ConfigurationError(
            f"the storage {type(storage).__name__} has no timeouts: its __init__ must call super().__init__(**options)"
        )
    missing = [name for name in _CALLS if not callable(getattr(storage, name, None))]
    if missing:
        raise ConfigurationError(f"the storage {type(storage).__name__} has no method {missing[0]}()")


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.iscoroutinefunction(value):
        return "an async function"
    if isinstance(value, Coroutine):
        value.close()  # nobody else will await it
        return "a coroutine"
    return "None" if value is None else f"a value of type {type(value).__name__}"


def check_cookie_names(app: web.Application) -> None:
    """Refuse a sub-app that would overwrite the cookie of an app around it, and note how the apps stand together."""
    sessions = app[APP]
    hosts, within = _hosts_of(_outermost_app_around(app)), _hosts_of(app)
    sessions.beside = [other[APP] for other in hosts if other is not app and APP in other]
    for beside in hosts.keys() - within.keys():
        other = beside.get(APP)
        if other is None or not (_share_a_bound_cookie(sessions, other) or _exclude_each_other(sessions, other)):
            continue
        if not any(_meet(sessions, one, other, two) for one in hosts[app] for two in hosts[beside]):
            continue
        if not _exclude_each_other(sessions, other):
            raise ConfigurationError(_ONE_BOUND_COOKIE)
        raise ConfigurationError(
            f"two sub-apps both use a session cookie {_named(sessions, other)!r}, but do not share their sessions, so"
            " they would log each other's visitors out. Give each setup() a cookie with a name or path of its own, or"
            " call setup() on the app around them to share the session"
        )
    for inner in within:
        if inner is app or APP not in inner:
            continue
        inner[APP].nested = True
        if _share_a_bound_cookie(sessions, inner[APP]):
            raise ConfigurationError(_ONE_BOUND_COOKIE)
        if _named(sessions, inner[APP]):
            raise ConfigurationError(
                f"the app and a sub-app both use a session cookie {_named(sessions, inner[APP])!r}, so they would"
                " overwrite each other's cookie. Give the sub-app's setup() a cookie with another name, also among its"
                " old_names, or remove that setup() to share the session"
            )


def _named(one: AppSessions, other: AppSessions) -> str:
    """Return a name that the cookies of both have or had before, or ""."""
    return next((name for name in one.cookie.names if name in other.cookie.names), "")


def _share_a_bound_cookie(one: AppSessions, other: AppSessions) -> bool:
    """Return whether two apps with sessions of their own decide by one cookie, which can be that of one of them."""
    if one.guard is None or other.guard is None or one.guard.cookie_name != other.guard.cookie_name:
        return False
    return not one.cookie.replaces(other.cookie) or _exclude_each_other(one, other)


def _exclude_each_other(one: AppSessions, other: AppSessions) -> bool:
    """Return whether a browser can keep only one of two cookies, and neither app can use the other's."""
    if not one.cookie.replaces(other.cookie):
        return False
    return one.storage is not other.storage or one.cookie.open(other.cookie.seal("probe")) is None


def _meet(one: AppSessions, host: str, other: AppSessions, other_host: str) -> bool:
    """Return whether a browser keeps two cookies for the same domain.

    A cookie without a domain is kept for the host that sent it (RFC 6265, section 5.3).  A star is any host.
    """
    domain, other_domain = ((one.cookie.domain or host).lower(), (other.cookie.domain or other_host).lower())
    return fnmatchcase(domain, other_domain) or fnmatchcase(other_domain, domain)


def _hosts_of(app: web.Application, host: str = "*") -> dict[web.Application, set[str]]:
    """Return the hosts of *app*, which is mounted on *host*, and those of the apps within it (``add_domain``)."""
    hosts = {app: {host}}
    for resource in app.router.resources():
        info = resource.get_info()
        inner, rule = info.get("app"), info.get("rule")
        if isinstance(inner, web.Application):
            domain = host if rule is None else rule.get_info().get("domain", host)
            for deeper, found in _hosts_of(inner, domain.partition(":")[0]).items():  # cookies know no ports
                hosts.setdefault(deeper, set()).update(found)
    return hosts


def _outermost_app_around(app: web.Application) -> web.Application:
    """Return the app that is starting, of which *app* may be a part.

    aiohttp gives a sub-app no way to the app around it.  While they start, that app is on the call stack.
    """
    outermost, frame = app, inspect.currentframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, web.Application) and outermost in value._subapps:  # noqa: SLF001  no public access
                outermost = value
        frame = frame.f_back
    return outermost
