"""A session stays bound while storages, keys and secrets change."""

from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, KeyRing, MemoryStorage, SessionCookie
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.testing import ManualClock
from tests.device.browser import Browser
from tests.device.conftest import SECRET, BrowserOf, make_app
from tests.engine.suspending import RacyStorage

OLD, NEW = KeyRing.new_key(), KeyRing.new_key()
SECRET_2 = "another-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


async def logged_in(browser_of: BrowserOf, storage: KeyedStorage, clock: ManualClock, **options: Any) -> Browser:
    browser = await browser_of(make_app(storage, **options))
    await browser.post("/login?login=ada&set=cart")
    clock.advance(3600)
    return browser


async def goes_on(owner: Browser, browser_of: BrowserOf, storage: KeyedStorage, **options: Any) -> None:
    """Check that *owner* refreshes at another app, with and without the session cookie, and that a thief cannot."""
    owner.client = (await browser_of(make_app(storage, **options))).client
    for bare in (False, True):
        owner.closed()
        assert (await owner.copied().get("/")).status == 401
        assert (await owner.refresh(owner.session, bare=bare)).status == 200
        assert (await owner.get("/?renew=")).json == {"owner": "ada", "state": "bound", "data": {"cart": True}}


@pytest.mark.parametrize("kind", [MemoryStorage, RacyStorage, FileSystemStorage])
async def test_on_every_kind_of_storage(browser_of: BrowserOf, clock: ManualClock, kind: Any, tmp_path: Path) -> None:
    storage = kind(*([tmp_path / "sessions"] if kind is FileSystemStorage else []), clock=clock)
    owner = await logged_in(browser_of, storage, clock)

    await goes_on(owner, browser_of, storage)


async def test_through_a_move_to_another_storage_and_after_it(browser_of: BrowserOf, clock: ManualClock) -> None:
    old, new = MemoryStorage(clock=clock), MemoryStorage(clock=clock)
    owner = await logged_in(browser_of, old, clock)

    await goes_on(owner, browser_of, MigratingStorage(new, old))
    await goes_on(owner, browser_of, MigratingStorage(new, old))
    await goes_on(owner, browser_of, new)


async def test_a_login_during_a_move_is_bound(browser_of: BrowserOf, clock: ManualClock) -> None:
    old, new = MemoryStorage(clock=clock), RacyStorage(clock=clock)
    owner = await logged_in(browser_of, MigratingStorage(new, old), clock)

    await goes_on(owner, browser_of, MigratingStorage(new, old))
    await goes_on(owner, browser_of, new)


async def test_encrypted_and_through_a_change_of_the_key(
    browser_of: BrowserOf, clock: ManualClock, tmp_path: Path
) -> None:
    owner = await logged_in(browser_of, FileSystemStorage(tmp_path / "s", clock=clock), clock)

    for ring in (KeyRing(OLD), KeyRing(OLD, NEW), KeyRing(NEW, OLD), KeyRing(NEW)):
        await goes_on(owner, browser_of, FileSystemStorage(tmp_path / "s", clock=clock, encryption=ring))


async def test_a_key_that_is_missing_in_one_process_is_no_reason_to_forget(
    browser_of: BrowserOf, clock: ManualClock, tmp_path: Path
) -> None:
    owner = await logged_in(browser_of, FileSystemStorage(tmp_path / "s", clock=clock, encryption=KeyRing(OLD)), clock)
    here = owner.client
    lacking = FileSystemStorage(tmp_path / "s", clock=clock, encryption=KeyRing(NEW))
    owner.client = (await browser_of(make_app(lacking))).client
    owner.closed()

    for bare in (False, True):
        assert (await owner.refresh(owner.session, bare=bare)).status == 503

    owner.client = here
    assert (await owner.get("/")).json["state"] == "bound"


@pytest.mark.parametrize("ring", [False, True])
async def test_through_a_change_of_the_secret(browser_of: BrowserOf, clock: ManualClock, ring: bool) -> None:
    storage = MemoryStorage(clock=clock)
    old, new = (OLD, NEW) if ring else (SECRET, SECRET_2)

    def cookie(*secrets: str) -> SessionCookie:
        return SessionCookie("__Host-session", secure=True, secrets=KeyRing(*secrets) if ring else secrets)

    owner = await logged_in(browser_of, storage, clock, cookie=cookie(old))

    await goes_on(owner, browser_of, storage, cookie=cookie(new, old))
    owner.client = (await browser_of(make_app(storage, cookie=cookie(new)))).client
    owner.closed()
    assert (await owner.get("/")).json["state"] == "bound"  # found by its cookie, which the new secret has signed


@pytest.mark.parametrize("bare", [False, True])
async def test_through_another_name_of_the_session_cookie(
    browser_of: BrowserOf, clock: ManualClock, bare: bool
) -> None:
    storage = MemoryStorage(clock=clock)
    owner = await browser_of(make_app(storage, cookie=SessionCookie("session", secure=True, secrets=SECRET)))
    await owner.post("/login?login=ada")
    clock.advance(60)
    cookie = SessionCookie("__Host-session", secure=True, secrets=SECRET, old_names=["session"])
    owner.client = (await browser_of(make_app(storage, cookie=cookie))).client

    before = dict(owner.cookies)
    assert (await owner.get("/")).json["state"] == "bound"  # the bound cookie of before still counts
    owner.cookies = before  # so that the session is found by its old cookie, or by nothing but its identifier
    owner.closed()
    assert (await owner.refresh(owner.session, bare=bare)).status == 200


async def test_with_another_secret_the_session_is_not_found_and_forgotten(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    storage = MemoryStorage(clock=clock)
    owner = await logged_in(browser_of, storage, clock)
    cookie = SessionCookie("__Host-session", secure=True, secrets=SECRET_2)
    owner.client = (await browser_of(make_app(storage, cookie=cookie))).client
    owner.closed()

    assert (await owner.get("/")).json["owner"] is None
    assert owner.bound == {}
