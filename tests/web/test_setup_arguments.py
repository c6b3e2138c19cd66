"""setup() with arguments that cannot work: a ConfigurationError that says what to write instead."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import ConfigurationError, KeyedStorage, MemoryStorage, SessionCookie, setup
from aiohttp_session_store.web.middleware import sessions_of

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


async def owner(_: object) -> str:
    return "ada"


class Forgetful(MemoryStorage):
    """Does not call ``super().__init__()``."""

    def __init__(self) -> None:
        self.something = 1


class Partial:
    """A storage without a part that the first request would miss."""

    kind = "id"
    timeouts = MemoryStorage().timeouts

    def now(self) -> int:
        return 0


def refusal(app: Any, storage: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        setup(app, storage, **options)
    return str(caught.value)


@pytest.mark.parametrize("storage", ["var/sessions", Path("var/sessions"), "redis://:lovelace@host/0"])
def test_a_path_or_url_is_no_storage(storage: object) -> None:
    message = refusal(web.Application(), storage)

    assert "FileSystemStorage(directory)" in message
    assert "RedisStorage.from_url(url)" in message
    assert "lovelace" not in message


@pytest.mark.parametrize("storage", [MemoryStorage, KeyedStorage, dict])
def test_a_class_is_no_storage(storage: type) -> None:
    assert refusal(web.Application(), storage) == (
        f"setup() takes a storage, not the class {storage.__name__}: call the class"
    )


@pytest.mark.parametrize("storage", [None, 5, {}, [], object(), SessionCookie(), MemoryStorage.read, lambda: None])
def test_anything_else_is_no_storage(storage: object) -> None:
    assert "setup() takes a storage such as MemoryStorage()" in refusal(web.Application(), storage)


async def test_a_storage_that_was_not_awaited_is_no_storage() -> None:
    async def make() -> MemoryStorage:
        return MemoryStorage()

    assert refusal(web.Application(), make()).endswith("not a coroutine")


def test_a_storage_whose_base_was_not_initialised_is_refused() -> None:
    message = refusal(web.Application(), Forgetful())

    assert message == "the storage Forgetful has no timeouts: its __init__ must call super().__init__(**options)"


def test_a_storage_without_a_method_is_refused() -> None:
    assert refusal(web.Application(), Partial()) == "the storage Partial has no method default_secrets()"


def test_swapped_arguments_are_called_so() -> None:
    assert refusal(MemoryStorage(), web.Application()) == (
        "the first two arguments of setup() are swapped: write setup(app, storage)"
    )


@pytest.mark.parametrize("app", [None, "app", web.Application, object(), web.RouteTableDef()])
def test_anything_else_is_no_app(app: object) -> None:
    message = refusal(app, MemoryStorage())
    assert re.match(r"the first argument of setup\(\) must be a web\.Application, not ", message)


def test_a_name_is_no_cookie() -> None:
    message = refusal(web.Application(), MemoryStorage(), cookie="sid")
    assert message == 'cookie must be a SessionCookie, not a value of type str: write cookie=SessionCookie("sid")'


@pytest.mark.parametrize("cookie", [SessionCookie, 5, True, {}, SECRET, SECRET.encode(), [SECRET]])
def test_anything_else_is_no_cookie(cookie: object) -> None:
    message = refusal(web.Application(), MemoryStorage(), cookie=cookie)

    assert re.match(r"cookie must be a SessionCookie, not .*: write cookie=SessionCookie\(", message)
    assert SECRET not in message


@pytest.mark.parametrize("owner_of", ["user_id", 5, owner])
def test_an_owner_of_that_is_no_plain_function_is_refused(owner_of: object) -> None:
    message = refusal(web.Application(), MemoryStorage(), owner_of=owner_of)
    assert re.match(r"owner_of must be a plain function, not .*lambda session", message)


async def test_a_running_app_is_refused() -> None:
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()

    assert "where the app is made" in refusal(app, MemoryStorage())
    await runner.cleanup()


async def test_setup_in_a_startup_hook_is_refused() -> None:
    app, told = web.Application(), []

    async def late(app: web.Application) -> None:
        told.append(refusal(app, MemoryStorage()))

    app.on_startup.append(late)
    runner = web.AppRunner(app)
    await runner.setup()

    assert "where the app is made" in told[0]
    await runner.cleanup()


@pytest.mark.parametrize("wrong", [{"storage": "x"}, {"cookie": "sid"}, {"owner_of": "x"}])
def test_a_refused_setup_leaves_the_app_unchanged(wrong: dict[str, Any]) -> None:
    app = web.Application()
    refusal(app, **({"storage": MemoryStorage()} | wrong))

    assert not app.middlewares
    setup(app, MemoryStorage())
    assert sessions_of(app).cookie.name == "session"
