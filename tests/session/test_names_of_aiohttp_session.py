"""Who uses a name of aiohttp-session is told what it is called here, and type checkers still see the mistake."""

import subprocess
import sys
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp_session import cookie_storage, redis_storage

import aiohttp_session_store
from aiohttp_session_store import CookieStorage, FileSystemStorage, MemoryStorage, Session, SessionCookie, setup
from aiohttp_session_store.session.old_names import ATTRIBUTES, NAMES, OPTIONS
from tests.session.conftest import Load
from tests.web.storages import SECRET

OURS = {name for name in dir(Session) if not name.startswith("_")} - ATTRIBUTES.keys()
THEIRS = {name for name in dir(aiohttp_session.Session) if not name.startswith("_")}


def keywords_of(*functions: Any) -> set[str]:
    return {
        name
        for function in functions
        for name, one in signature(function).parameters.items()
        if one.kind is Parameter.KEYWORD_ONLY
    }


def test_every_attribute_of_their_session_is_ours_or_explained() -> None:
    assert ATTRIBUTES.keys() == THEIRS - OURS


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
async def test_an_old_attribute_of_a_session_says_what_to_use(name: str, load: Load) -> None:
    session: Any = await load()
    explained = rf"'{name}' is a name of aiohttp-session\. Here, .*: see docs/migrating\.md"

    with pytest.raises(AttributeError, match=explained):
        getattr(session, name)
    with pytest.raises(AttributeError, match=explained):
        setattr(session, name, 5)
    assert not hasattr(session, name)
    assert dict(session) == {"user": 5}


async def test_a_typing_mistake_is_an_ordinary_error(load: Load) -> None:
    session: Any = await load()

    with pytest.raises(AttributeError, match="has no attribute 'inwalidate'"):
        _ = session.inwalidate
    with pytest.raises(TypeError, match="unexpected keyword argument 'kookie_name'"):
        MemoryStorage(kookie_name="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'kookie_name'"):
        SessionCookie(kookie_name="x")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="has no attribute 'SimplCookieStorage'"):
        _ = aiohttp_session_store.SimplCookieStorage  # type: ignore[attr-defined]


def test_every_option_of_their_storages_is_explained() -> None:
    theirs = keywords_of(aiohttp_session.SimpleCookieStorage, cookie_storage.EncryptedCookieStorage)

    assert theirs | keywords_of(redis_storage.RedisStorage) <= OPTIONS.keys()


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_old_option_of_a_storage_says_where_it_is_now(name: str, tmp_path: Path) -> None:
    options: Any = {name: "x"}
    for storage in (MemoryStorage, CookieStorage, lambda **options: FileSystemStorage(tmp_path, **options)):
        with pytest.raises(TypeError, match=rf"'{name}' is a name of aiohttp-session\. Here, .* docs/migrating\.md"):
            storage(**options)


def test_an_old_option_of_setup_or_of_the_cookie_is_explained() -> None:
    app = web.Application()

    with pytest.raises(TypeError, match=r"SessionCookie\(\"the name\"\)"):
        setup(app, MemoryStorage(), cookie_name="sid")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'max_age' is a name of aiohttp-session"):
        SessionCookie("sid", max_age=5)  # type: ignore[call-arg]
    assert not app.middlewares
    assert SessionCookie("sid", domain="example.org", path="/x", secure=True, httponly=True, samesite="Strict")
    setup(app, MemoryStorage(), cookie=SessionCookie(secrets=SECRET))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_importing_an_old_name_says_what_to_use(name: str) -> None:
    with pytest.raises(ImportError, match=rf"'{name}' is a name of aiohttp-session\. Here, .* docs/migrating\.md"):
        exec(f"from aiohttp_session_store import {name}")


def test_every_public_name_of_their_package_is_ours_or_explained() -> None:
    theirs = {
        name
        for name, value in vars(aiohttp_session).items()
        if name.isupper() or (getattr(value, "__module__", "") == "aiohttp_session" and not name.startswith("_"))
    }

    assert theirs - set(aiohttp_session_store.__all__) <= NAMES.keys()


def test_a_type_checker_still_reports_old_names(tmp_path: Path) -> None:
    mistakes = tmp_path / "mistakes.py"
    mistakes.write_text(
        "from aiohttp_session_store import MemoryStorage, Session, SessionCookie, setup, session_middleware\n"
        "def handler(session: Session) -> None:\n"
        "    session.invalidate()\n"
        "    session.max_age = 5\n"
        "MemoryStorage(max_age=5)\n"
        "SessionCookie(max_age=5)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(mistakes)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert [line.split(":")[1] for line in finished.stdout.splitlines() if "error" in line] == [
        *("1", "3", "4", "5", "6")
    ]
