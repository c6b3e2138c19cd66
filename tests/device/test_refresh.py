"""A browser that proves that it has the key gets a new bound cookie; nobody else does, and nothing ends the session."""

import asyncio
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.device.browser import Browser, DeviceKey
from tests.device.conftest import BrowserOf, LosingStorage, make_app
from tests.engine.suspending import RacyStorage
from tests.web.storages import CountingStorage, GatedStorage

REFRESH = "/device-session/refresh"


async def proved(browser: Browser, proof: str | None, *, identifier: str | None = None, bare: bool = False) -> Any:
    """Send a refresh with *proof*, and return the answer."""
    headers = {"Sec_Secure_Session_Id": browser.session.id if identifier is None else identifier}
    if proof is not None:
        headers["Secure_Session_Response"] = proof
    return await browser.send("POST", REFRESH, bare=bare, **headers)


async def test_without_a_proof_there_is_a_challenge_and_with_it_a_cookie(owner: Browser) -> None:
    owner.closed()
    session = owner.session

    asked = await proved(owner, None)
    assert asked.status == 403
    assert asked.headers["Secure-Session-Challenge"] == f'"{asked.challenge}";id="{session.id}"'
    assert "Set-Cookie" not in asked.headers
    answer = await proved(owner, session.key.proof(asked.challenge))

    assert answer.status == 200
    assert answer.json["session_identifier"] == session.id
    assert owner.cookies["__Host-bound"]
    assert (await owner.get("/")).json["state"] == "bound"


async def test_a_challenge_that_was_sent_ahead_saves_a_request(owner: Browser) -> None:
    owner.closed()
    owner.log.clear()

    await owner.get("/")
    owner.closed()
    await owner.get("/")

    assert owner.log == [(f"POST {REFRESH}", 200), ("GET /", 200)] * 2


async def test_a_challenge_that_is_too_old_costs_one_request_more(owner: Browser, clock: ManualClock) -> None:
    owner.closed()
    clock.advance(1200)
    owner.log.clear()

    await owner.get("/")

    assert owner.log == [(f"POST {REFRESH}", 403), (f"POST {REFRESH}", 200), ("GET /", 200)]


async def test_a_refresh_costs_one_write_and_a_request_no_call_more(owner: Browser, storage: CountingStorage) -> None:
    storage.take_calls()
    await owner.refresh(owner.session)
    assert storage.take_calls() == ["fetch", "replace"]

    await owner.get("/")
    assert storage.take_calls() == ["fetch"]
    await owner.get("/untouched")
    assert storage.take_calls() == []
    await proved(owner, None)
    assert storage.take_calls() == ["fetch"]


async def test_without_the_session_cookie_the_identifier_leads_to_the_session(owner: Browser) -> None:
    """So it is if a page of another site has led to the refresh."""
    others = [Browser(owner.client) for _ in range(3)]
    for other in others:
        await other.post("/login?login=ada")
    cookies = dict(owner.cookies)
    for _ in range(3):
        assert (await owner.get("/?renew=")).status == 200
        owner.closed()
        assert (await owner.refresh(owner.session, bare=True)).status == 200

        assert (await owner.get("/")).json["owner"] == "ada"
    assert owner.cookies["__Host-session"] != cookies["__Host-session"]


# --- a challenge is taken once


async def test_the_same_proof_again_after_a_lost_answer_is_asked_to_sign_again(owner: Browser) -> None:
    session = owner.session
    assert session.challenge is not None
    proof = session.key.proof(session.challenge)
    assert (await proved(owner, proof)).status == 200
    owner.closed()

    for _ in range(2):
        again = await proved(owner, proof)
        assert again.status == 403
        assert "Set-Cookie" not in again.headers

    assert (await proved(owner, session.key.proof(again.challenge))).status == 200


@pytest.mark.parametrize("bare", [False, True])
async def test_of_the_same_proof_many_times_at_once_one_counts(browser_of: BrowserOf, bare: bool) -> None:
    browser = await browser_of(make_app(RacyStorage()))
    await browser.post("/login?login=ada")
    session = browser.session
    assert session.challenge is not None
    proof = session.key.proof(session.challenge)

    answers = await asyncio.gather(*(proved(browser, proof, bare=bare) for _ in range(10)))

    assert sorted(answer.status for answer in answers) == [200] + [403] * 9
    assert sum("Set-Cookie" in answer.headers for answer in answers) == 1
    assert len({answer.challenge for answer in answers}) <= 2  # two may be made in two seconds


# --- a bad proof never ends the session


async def bad_proofs(owner: Browser) -> dict[str, str | None]:
    """Return proofs of the owner's session that prove nothing, by what is wrong about them."""
    key, other = owner.session.key, Browser(owner.client)
    await other.post("/login?login=ada")
    good = owner.session.challenge
    assert good is not None
    return {
        "none": None,
        "no token": "x",
        "another key": DeviceKey().proof(good),
        "a forged jwk": DeviceKey().proof(good, registers=True),
        "alg none": key.proof(good, header={"alg": "none"}),
        "alg none without a signature": key.proof(good, header={"alg": "none"}).rpartition(".")[0] + ".",
        "RS256 under an EC key": key.proof(good, header={"alg": "RS256"}),
        "no challenge": key.proof(None),
        "a challenge of nobody": key.proof("x"),
        "the challenge of another session": key.proof(other.session.challenge),
        "the challenge of the login": key.proof(owner.offer()[1]),
        "the bound cookie": key.proof(owner.cookies["__Host-bound"]),
        "the identifier": key.proof(owner.session.id),
    }


async def test_every_bad_proof_is_asked_to_sign_again_and_the_owner_goes_on(owner: Browser) -> None:
    thief = owner.copied()
    thief.bound = dict(owner.bound)
    for name, proof in (await bad_proofs(owner)).items():
        for _ in range(6):  # Chromium gives up after five
            answer = await proved(thief, proof)
            assert answer.status == 403, name
            assert answer.challenge
            assert "Set-Cookie" not in answer.headers
    owner.closed()

    answer = await owner.get("/")

    assert (answer.status, answer.json["state"]) == (200, "bound")
    assert len(owner.bound) == 1


async def test_a_proof_for_another_origin_is_asked_to_sign_again(owner: Browser) -> None:
    session = owner.session
    assert session.challenge is not None
    owner.host = "evil.example"

    answer = await proved(owner, session.key.proof(session.challenge))

    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("bare", [False, True])
async def test_an_identifier_of_nobody_is_forgotten_by_the_browser(owner: Browser, bare: bool) -> None:
    known = owner.session.id
    text, _, signature = known.rpartition(".")
    for identifier in ("", "x", '"', text, f"{text}.{signature[::-1]}", known + "x", "x" * 4000, "0" * 64 + ".line"):
        assert (await proved(owner, None, identifier=identifier, bare=bare)).status == 401, identifier


async def test_an_identifier_of_nobody_costs_no_look_into_the_index(owner: Browser, storage: CountingStorage) -> None:
    storage.take_calls()

    await proved(owner, None, identifier="0" * 64 + ".line.signature", bare=True)

    assert storage.take_calls() == []


async def test_another_sessions_identifier_wants_that_sessions_key(owner: Browser) -> None:
    """A visitor who is logged in, and has a key, is nobody to the session of another visitor."""
    other = Browser(owner.client)
    await other.post("/login?login=eve")
    session, challenge = owner.session, other.session.challenge
    assert challenge is not None

    answer = await proved(other, other.session.key.proof(challenge), identifier=session.id)
    assert answer.status == 403
    answer = await proved(other, other.session.key.proof(answer.challenge), identifier=session.id)

    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers
    owner.closed()
    assert (await owner.get("/")).json == {"owner": "ada", "state": "bound", "data": {}}


async def test_an_identifier_in_quotes_is_taken(owner: Browser) -> None:
    """The draft says that the header is a structured string; Chromium sends it raw."""
    assert (await proved(owner, None, identifier=f'"{owner.session.id}"')).status == 403


async def test_a_session_that_is_full_is_bound_and_refreshed_as_well(browser_of: BrowserOf, clock: ManualClock) -> None:
    """Each refresh may make the note longer.  An error would lock the visitor out."""
    storage = MemoryStorage(clock=clock)
    owner = await browser_of(make_app(storage))
    answer = await owner.send("POST", "/login?login=ada&set=cart")
    owner.offered = answer.headers["Secure-Session-Registration"]
    storage.max_session_size = 10

    assert (await owner.register(DeviceKey())).status == 200
    for _ in range(12):
        assert (await owner.refresh(owner.session)).status == 200

    clock.advance(60)
    assert (await owner.get("/?clear=")).json == {"owner": "ada", "state": "bound", "data": {}}
    assert (await owner.get("/?set=more")).status == 500  # of what a handler puts in, it is full


# --- endings


@pytest.mark.parametrize("how", ["/?logout=", "/?end=ada", "/?new=&set=a", "/login?login=ada", "/login?login=eve"])
@pytest.mark.parametrize("bare", [False, True])
async def test_after_an_ending_the_server_refuses_at_once_and_the_browser_forgets(
    owner: Browser, how: str, bare: bool
) -> None:
    session, before = owner.session, dict(owner.cookies)
    owner.supports = False
    assert (await owner.post(how)).status == 200

    answer = await owner.refresh(session, bare=bare)
    assert answer.status == 401
    assert owner.bound == {}
    owner.cookies = before
    assert (await owner.send("GET", "/")).json["owner"] is None


async def test_one_device_too_many_is_refused_and_forgotten(browser_of: BrowserOf, clock: ManualClock) -> None:
    first = await browser_of(make_app(CountingStorage(clock=clock, max_sessions_per_owner=1)))
    await first.post("/login?login=ada")
    second = Browser(first.client)
    await second.post("/login?login=ada")

    assert (await first.get("/")).json["owner"] is None
    assert (await first.refresh(first.session)).status == 401
    second.closed()
    assert (await second.get("/")).json["state"] == "bound"


async def test_a_second_login_in_the_same_browser_is_bound_to_a_key_of_its_own(
    owner: Browser, clock: ManualClock
) -> None:
    (first,) = owner.bound.values()
    await owner.post("/login?login=ada")
    assert len(owner.bound) == 2
    clock.advance(3600)
    owner.closed()

    assert (await owner.get("/")).json["state"] == "bound"

    assert owner.session.id != first.id


async def test_a_logout_beats_a_refresh_that_is_under_way(browser_of: BrowserOf, clock: ManualClock) -> None:
    storage = GatedStorage(clock=clock)
    owner = await browser_of(make_app(storage))
    await owner.post("/login?login=ada")
    session, cookies = owner.session, dict(owner.cookies)
    assert session.challenge is not None
    gate = storage.shut("replace")

    refreshing = asyncio.create_task(proved(owner, session.key.proof(session.challenge)))
    await storage.reached["replace"].wait()
    storage.gates.clear()
    assert await storage.end_sessions("ada") == 1
    gate.set()

    assert (await refreshing).status == 401
    owner.cookies = cookies
    assert (await owner.send("GET", "/")).json["owner"] is None


# --- a storage that is away


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("verbs", [(), ("replace",), ("fetch",)])
async def test_a_storage_that_is_away_is_no_reason_to_forget(
    browser_of: BrowserOf, clock: ManualClock, verbs: tuple[Any, ...], bare: bool
) -> None:
    storage = FailingStorage(clock=clock)
    owner = await browser_of(make_app(storage))
    await owner.post("/login?login=ada")
    owner.closed()

    with storage.failing(*verbs):
        assert (await owner.refresh(owner.session, bare=bare)).status == 503
    assert len(owner.bound) == 1

    assert (await owner.get("/")).json["state"] == "bound"


async def test_a_write_whose_answer_is_lost_is_no_reason_to_forget(browser_of: BrowserOf, clock: ManualClock) -> None:
    storage = LosingStorage(clock=clock)
    owner = await browser_of(make_app(storage))
    await owner.post("/login?login=ada")
    owner.closed()
    storage.lost = True

    assert (await owner.refresh(owner.session)).status == 503

    assert (await owner.get("/")).json["state"] == "bound"
