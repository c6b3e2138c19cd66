"""A login is bound to the first key that signs its challenge, and to no other."""

import asyncio
import json
import re
from typing import Any

import pytest

from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.device.browser import Browser, DeviceKey, b64
from tests.device.conftest import BrowserOf, LosingStorage, make_app
from tests.engine.suspending import RacyStorage
from tests.web.storages import CountingStorage


async def offered(browser: Browser) -> Browser:
    """Log in with a browser that does not register by itself."""
    answer = await browser.send("POST", "/login?login=ada")
    browser.offered = answer.headers["Secure-Session-Registration"]
    return browser


async def test_a_login_asks_for_a_key_and_the_answer_is_what_chromium_expects(browser: Browser) -> None:
    await offered(browser)
    path, challenge = browser.offer()
    assert path == "/device-session/register"

    answer = await browser.register(DeviceKey())

    assert answer.status == 200
    identifier = answer.json["session_identifier"]
    assert answer.json == {
        "session_identifier": identifier,
        "refresh_url": "/device-session/refresh",
        "scope": {"origin": "https://shop.example", "include_site": False, "scope_specification": []},
        "credentials": [
            {"type": "cookie", "name": "__Host-bound", "attributes": "Path=/; Secure; HttpOnly; SameSite=Lax"}
        ],
        "allowed_refresh_initiators": ["*"],
    }
    line = answer.headers["Set-Cookie"]
    assert re.fullmatch(r"__Host-bound=[\w.-]+; Max-Age=570; Path=/; Secure; HttpOnly; SameSite=Lax", line)
    assert re.fullmatch(rf'"[\w.-]+";id="{identifier}"', answer.headers["Secure-Session-Challenge"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert challenge not in answer.headers["Secure-Session-Challenge"]


async def test_a_session_is_pending_then_bound_and_without_a_login_or_a_key_unsupported(
    browser: Browser, clock: ManualClock
) -> None:
    assert (await browser.get("/?set=a")).json["state"] == "unsupported"
    await offered(browser)
    assert (await browser.send("GET", "/")).json["state"] == "pending"
    clock.advance(299)
    assert (await browser.send("GET", "/")).json["state"] == "pending"
    clock.advance(1)
    assert (await browser.send("GET", "/")).json["state"] == "unsupported"

    assert (await browser.post("/login?login=ada")).json["state"] == "pending"
    assert (await browser.get("/")).json["state"] == "bound"


async def test_a_browser_that_does_not_know_it_works_as_before(browser: Browser, clock: ManualClock) -> None:
    browser.supports = False
    await browser.post("/login?login=ada")

    for _ in range(3):
        clock.advance(3600)
        assert (await browser.get("/")).json == {"owner": "ada", "state": "unsupported", "data": {}}


async def test_over_plain_http_no_key_is_asked_for(browser: Browser) -> None:
    async with browser.client.post("/login?login=ada", headers={"Host": "shop.example"}) as response:
        assert response.status == 200
        assert "Secure-Session-Registration" not in response.headers


# --- once


@pytest.mark.parametrize("times", [2, 8])
async def test_of_parallel_registrations_with_different_keys_one_is_bound(browser_of: BrowserOf, times: int) -> None:
    browser = await offered(await browser_of(make_app(RacyStorage())))
    keys = [DeviceKey() for _ in range(times)]
    path, challenge = browser.offer()

    answers = await asyncio.gather(
        *(browser.send("POST", path, Secure_Session_Response=key.proof(challenge, registers=True)) for key in keys)
    )

    assert sorted(answer.status for answer in answers) == [200] + [400] * (times - 1)
    assert sum("Set-Cookie" in answer.headers for answer in answers) == 1


async def test_a_second_key_never_replaces_the_first(owner: Browser) -> None:
    path, challenge = owner.offer()
    other = DeviceKey()

    for signed in (challenge, owner.session.challenge):
        answer = await owner.send("POST", path, Secure_Session_Response=other.proof(signed, registers=True))
        assert (answer.status, answer.json) == (400, {"error": "the login is bound to another key"})
        assert "Set-Cookie" not in answer.headers

    owner.closed()
    assert (await owner.get("/")).json["state"] == "bound"


async def test_the_same_proof_again_after_a_lost_answer_gets_the_same_session(
    browser: Browser, storage: CountingStorage, clock: ManualClock
) -> None:
    """Chromium does not sign again at a registration, so a 403 would leave it without the session."""
    await offered(browser)
    path, challenge = browser.offer()
    key = DeviceKey()
    proof = key.proof(challenge, registers=True)
    first = await browser.send("POST", path, Secure_Session_Response=proof)
    browser.closed()
    storage.take_calls()

    again = await browser.send("POST", path, Secure_Session_Response=proof)

    assert (again.status, again.json) == (200, first.json)
    assert storage.take_calls() == ["fetch"]
    clock.advance(60)
    assert (await browser.get("/")).json["state"] == "bound"


async def test_the_proof_of_the_registration_is_worth_nothing_after_the_first_refresh(owner: Browser) -> None:
    path, challenge = owner.offer()
    key = owner.session.key
    proof = key.proof(challenge, registers=True)
    await owner.refresh(owner.session)
    owner.closed()

    again = await owner.send("POST", path, Secure_Session_Response=proof)

    assert again.status == 403
    assert "Set-Cookie" not in again.headers
    answer = await owner.send("POST", path, Secure_Session_Response=key.proof(again.challenge, registers=True))
    assert answer.status == 200


async def test_the_proof_of_the_registration_is_worth_nothing_after_five_minutes(
    owner: Browser, clock: ManualClock
) -> None:
    path, challenge = owner.offer()
    clock.advance(240)

    again = await owner.send("POST", path, Secure_Session_Response=owner.session.key.proof(challenge, registers=True))

    assert again.status == 403


async def test_the_same_proof_many_times_at_once_gets_one_session(browser_of: BrowserOf) -> None:
    browser = await offered(await browser_of(make_app(RacyStorage())))
    path, challenge = browser.offer()
    proof = DeviceKey().proof(challenge, registers=True)

    answers = await asyncio.gather(*(browser.send("POST", path, Secure_Session_Response=proof) for _ in range(6)))

    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.json["session_identifier"] for answer in answers}) == 1


async def test_a_registration_whose_write_is_not_answered_is_found_to_be_stored(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    storage = LosingStorage(clock=clock)
    browser = await offered(await browser_of(make_app(storage)))
    storage.lost = True

    assert (await browser.register(DeviceKey())).status == 200

    clock.advance(60)
    browser.closed()
    assert (await browser.get("/")).json["state"] == "bound"


async def test_a_registration_while_the_storage_is_away_binds_nothing(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    storage = FailingStorage(clock=clock)
    browser = await offered(await browser_of(make_app(storage)))
    with storage.failing():
        assert (await browser.register(DeviceKey())).status == 503

    clock.advance(3600)
    assert (await browser.get("/")).json == {"owner": "ada", "state": "unsupported", "data": {}}


# --- only for the challenge of this login


async def test_the_challenge_of_another_login_binds_that_one_and_not_the_one_of_the_cookie(browser: Browser) -> None:
    other = await offered(Browser(browser.client))
    await offered(browser)
    browser.offered = other.offered

    assert (await browser.register(DeviceKey())).status == 200

    browser.closed()
    assert (await browser.send("GET", "/")).json["state"] == "pending"
    assert (await other.send("GET", "/")).json["state"] == "bound"


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_registration_without_the_session_cookie_is_found_by_its_challenge(
    browser: Browser, storage: CountingStorage, clock: ManualClock, renewed: bool
) -> None:
    """So it is if a page of another site has led to the login, as with OAuth: the browser sends no Lax cookies then."""
    await offered(browser)
    if renewed:
        await browser.send("GET", "/?renew=True")
    path, challenge = browser.offer()
    key = DeviceKey()
    storage.take_calls()

    proof = key.proof(challenge, registers=True)
    first = await browser.send("POST", path, bare=True, Secure_Session_Response=proof)

    assert first.status == 200
    assert sum(call == "replace" for call in storage.take_calls()) == 1
    clock.advance(60)
    assert (await browser.send("GET", "/")).json["state"] == "bound"
    again = await browser.send("POST", path, bare=True, Secure_Session_Response=proof)
    assert (again.status, again.json) == (200, first.json)  # the answer was lost
    other = await browser.send(
        "POST", path, bare=True, Secure_Session_Response=DeviceKey().proof(challenge, registers=True)
    )
    assert other.status == 400


async def test_a_registration_without_the_session_cookie_survives_a_storage_that_is_away(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    storage = FailingStorage(clock=clock)
    browser = await offered(await browser_of(make_app(storage)))
    path, challenge = browser.offer()
    proof = DeviceKey().proof(challenge, registers=True)

    with storage.failing():
        assert (await browser.send("POST", path, bare=True, Secure_Session_Response=proof)).status == 503

    assert (await browser.send("POST", path, bare=True, Secure_Session_Response=proof)).status == 200


async def test_the_challenge_of_the_login_before_binds_nothing(browser: Browser) -> None:
    await offered(browser)
    before = browser.offered
    await offered(browser)
    browser.offered = before

    assert (await browser.register(DeviceKey())).status == 401
    assert (await browser.send("GET", "/")).json["state"] == "pending"


async def test_a_challenge_that_is_too_old_binds_nothing(browser: Browser, clock: ManualClock) -> None:
    await offered(browser)
    clock.advance(300)

    assert (await browser.register(DeviceKey())).status == 400
    assert (await browser.get("/")).json["state"] == "unsupported"


async def test_a_proof_for_another_origin_binds_nothing(browser: Browser) -> None:
    """The apps of two hosts may have the same secrets and the same storage."""
    await offered(browser)
    browser.host = "evil.example"

    assert (await browser.register(DeviceKey())).status == 400


async def test_the_cookie_alone_does_not_register_a_key(browser: Browser) -> None:
    """A thief of the cookie of an unbound session has no challenge, and cannot make one."""
    await offered(browser)
    path, challenge = browser.offer()
    text, _, signature = challenge.rpartition(".")
    forged = ["", "x", text, f"{text}.{signature[::-1]}", f"{text[:-1]}x.{signature}", challenge + "x", "1" * 4000]

    for one in forged:
        answer = await browser.send("POST", path, Secure_Session_Response=DeviceKey().proof(one, registers=True))
        assert answer.status == 400, one
    assert (await browser.send("GET", "/")).json["state"] == "pending"


async def test_without_a_login_there_is_nothing_to_bind(browser: Browser) -> None:
    await offered(browser)
    path, challenge = browser.offer()
    anonymous = Browser(browser.client)
    proof = DeviceKey().proof("x", registers=True)
    assert (await anonymous.send("POST", path, Secure_Session_Response=proof)).status == 401
    await anonymous.get("/?set=a")
    assert (await anonymous.send("POST", path, Secure_Session_Response=proof)).status == 401
    proof = DeviceKey().proof(challenge, registers=True)
    await browser.send("POST", "/?logout=")
    for bare in (False, True):
        assert (await browser.send("POST", path, bare=bare, Secure_Session_Response=proof)).status == 401


# --- only for a proof that is right

KEY = DeviceKey()
WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "alg none": {"alg": "none"},
    "alg missing": {"alg": None},
    "HS256": {"alg": "HS256"},
    "RS256 under an EC key": {"alg": "RS256"},
    "ES384": {"alg": "ES384"},
    "lower case": {"alg": "es256"},
    "list": {"alg": ["ES256"]},
    "another type": {"typ": "JWT"},
    "critical": {"crit": ["b64"], "b64": False},
    "no key": {"jwk": None},
    "forged key": {"jwk": DeviceKey().jwk},
    "RSA key": {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
    "another curve": {"jwk": KEY.jwk | {"crv": "P-384"}},
    "not on the curve": {"jwk": KEY.jwk | {"y": b64(b"\1" * 32)}},
    "zero": {"jwk": KEY.jwk | {"x": b64(bytes(32)), "y": b64(bytes(32))}},
    "beyond the field": {"jwk": KEY.jwk | {"x": b64(b"\xff" * 32)}},
    "short coordinate": {"jwk": KEY.jwk | {"x": KEY.jwk["x"][:-1]}},
    "coordinate is a number": {"jwk": KEY.jwk | {"x": 5}},
    "key is a list": {"jwk": [KEY.jwk]},
}


@pytest.mark.parametrize("name", WRONG_HEADERS)
async def test_a_proof_of_another_kind_binds_nothing(browser: Browser, name: str) -> None:
    await offered(browser)

    answer = await browser.register(KEY, header=WRONG_HEADERS[name])

    assert answer.status == 400
    assert (await browser.send("GET", "/")).json["state"] == "pending"
    assert (await browser.register(KEY)).status == 200


async def test_a_proof_with_an_empty_or_a_wrong_signature_binds_nothing(browser: Browser) -> None:
    await offered(browser)
    path, challenge = browser.offer()
    head, body, signature = KEY.proof(challenge, registers=True).split(".")
    none = b64(json.dumps({"alg": "none", "typ": "dbsc+jwt", "jwk": KEY.jwk}).encode())
    for proof in (
        "",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{none}.{body}.",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}.{b64(json.dumps({'jti': challenge, 'x': 1}).encode())}.{signature}",
        f'"{head}.{body}.{signature}',
    ):
        assert (await browser.send("POST", path, Secure_Session_Response=proof)).status == 400, proof


@pytest.mark.parametrize("claim", [None, 5, [], {}, True])
async def test_a_challenge_that_is_no_text_binds_nothing(browser: Browser, claim: Any) -> None:
    await offered(browser)

    assert (await browser.register(KEY, claims={"jti": claim})).status == 400


async def test_a_proof_in_quotes_and_with_more_claims_is_taken(browser: Browser) -> None:
    """The draft says that the header is a structured string; Chromium sends it raw."""
    await offered(browser)
    path, challenge = browser.offer()
    proof = KEY.proof(challenge, registers=True, claims={"authorization": "code", "iat": 1})

    assert (await browser.send("POST", path, Secure_Session_Response=f'"{proof}"')).status == 200


async def test_a_registration_costs_one_write(browser: Browser, storage: CountingStorage) -> None:
    await offered(browser)
    storage.take_calls()

    await browser.register(DeviceKey())

    assert storage.take_calls() == ["fetch", "replace"]
