"""Registrations, refreshes, renewals and logouts of one login at once, with four real workers on one storage."""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from aiohttp_session_store import KeyedStorage, SessionCookie
from aiohttp_session_store.device.binding import NOTE
from aiohttp_session_store.session.session import state_of
from tests.device.browser import Browser, DeviceKey
from tests.processes.conftest import Service
from tests.processes.worker import SECRET, make_storage

ROUNDS = 4

# What devices add is done by the engine, the same on each storage: notes (tests/engine/test_notes.py) and renewals.
pytestmark = pytest.mark.parametrize(
    "place", ["files", *(pytest.param(one, marks=pytest.mark.long) for one in ("redis", "postgres"))], indirect=True
)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that opens a connection for every request, which any of the workers may accept."""
    async with aiohttp.ClientSession(
        service.url,
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=None),
    ) as client:
        yield client


@pytest.fixture
async def storage(service: Service) -> AsyncIterator[KeyedStorage]:
    storage = make_storage(service.place)
    await storage.start()
    yield storage
    await storage.aclose()


async def offered(client: Any) -> tuple[Browser, str]:
    """Return a browser that has logged in and not registered yet, and the owner."""
    browser, owner = Browser(client, supports=False), secrets.token_hex(8)
    answer = await browser.get(f"/enter?owner={owner}")
    browser.offered = answer.headers["Secure-Session-Registration"]
    return browser, owner


async def bound(client: Any, storage: KeyedStorage) -> tuple[Browser, str]:
    """Return a browser that is bound for so long that no request without a proof may be late any more."""
    browser, owner = await offered(client)
    assert (await browser.register(DeviceKey())).status == 200
    secrets_ = None if storage.default_secrets() else SECRET
    session_id = SessionCookie(secrets=secrets_).bind(storage).open(browser.cookies["session"])
    place = state_of(await storage.read(session_id)).place
    assert place is not None

    def long_ago(note: str | None) -> str | None:
        return None if note is None else json.dumps({**json.loads(note), "bound_at": 0})

    assert await storage.note(place, NOTE, long_ago) is not None
    return browser, owner


async def test_of_parallel_registrations_one_key_is_bound(client: Any) -> None:
    for _ in range(ROUNDS):
        browser, _ = await offered(client)
        path, challenge = browser.offer()
        keys = [DeviceKey() for _ in range(8)]
        proofs = [key.proof(challenge, registers=True) for key in keys]

        answers = await asyncio.gather(*(browser.send("POST", path, Secure_Session_Response=one) for one in proofs))

        assert sorted(answer.status for answer in answers) == [200] + [400] * 7
        assert (await browser.get("/mine")).json["device"] == "bound"


async def test_of_one_proof_sent_many_times_amid_renewals_one_counts_and_the_owner_goes_on(
    client: Any, storage: KeyedStorage
) -> None:
    random.seed(8)
    for _ in range(ROUNDS):
        owner, name = await bound(client, storage)
        thief = owner.copied()
        thief.closed()
        session = owner.session
        assert session.challenge is not None
        refresh = {"Sec_Secure_Session_Id": session.id, "Secure_Session_Response": session.key.proof(session.challenge)}

        refreshes = [owner.send("POST", session.refresh_path, bare=bare, **refresh) for bare in (True, False) * 4]
        renewals = [owner.send("GET", f"/renew?pause={random.uniform(0, 0.01)}") for _ in range(2)]
        answers = await asyncio.gather(*refreshes, *renewals)

        statuses = [answer.status for answer in answers[: len(refreshes)]]
        assert sorted(statuses) == [200] + [403] * 7
        session.challenge = None
        owner.closed()
        assert (await owner.get("/mine")).json["device"] == "bound"
        assert (await owner.get("/mine")).json["owner"] == name
        assert (await thief.get("/mine")).status == 401


async def test_a_logout_that_was_answered_is_final_for_every_refresh(client: Any, storage: KeyedStorage) -> None:
    for _ in range(ROUNDS):
        owner, name = await bound(client, storage)
        session, before = owner.session, dict(owner.cookies)

        async def ended(name: str = name) -> None:
            assert (await Browser(client).get(f"/end?owner={name}")).json == {"ended": 1}

        answers = await asyncio.gather(*(owner.copied().refresh(session) for _ in range(3)), ended())
        assert {answer.status for answer in answers[:3] if answer is not None} <= {200, 401, 403}

        owner.cookies = before
        for bare in (True, False):
            assert (await owner.refresh(session, bare=bare)).status == 401
        assert (await owner.get("/mine")).json["owner"] is None
