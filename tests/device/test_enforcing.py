"""A bound session without its bound cookie is refused; the owner and browsers that know nothing of it are not."""

import logging
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, web

from aiohttp_session_store import MemoryStorage, Observer, SessionCookie, SessionEvent, get_session, protect_from_csrf
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.device.browser import Browser, DeviceKey
from tests.device.conftest import LIFETIME, SECRET, BrowserOf, make_app, untouched
from tests.web.storages import CountingStorage

OTHER = "another-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
PAGE = "text/html,application/xhtml+xml"


async def test_copied_cookies_are_worth_nothing_once_the_bound_cookie_has_ended_and_the_owner_goes_on(
    owner: Browser, clock: ManualClock
) -> None:
    """The fixture logs in a minute ago: that cookie has 540 seconds left."""
    thief = owner.copied()
    clock.advance(LIFETIME - 61)
    assert (await thief.get("/")).json["owner"] == "ada"

    clock.advance(1)
    for _ in range(3):
        assert (await thief.get("/")).status == 401
        assert (await thief.post("/?set=stolen")).status == 401
        assert (await thief.post("/?logout=")).status == 401
        assert (await thief.post("/?end=ada")).status == 401

    owner.closed()
    assert (await owner.get("/")).json == {"owner": "ada", "state": "bound", "data": {}}


async def test_a_thief_who_renews_the_id_still_needs_the_key(owner: Browser, clock: ManualClock) -> None:
    thief = owner.copied()
    assert (await thief.get("/?renew=True")).json["state"] == "bound"
    clock.advance(LIFETIME)

    assert (await thief.get("/")).status == 401


@pytest.mark.parametrize("step", ["set=a", "clear=", "renew=", "renew=True", "confirm="])
async def test_nothing_that_a_handler_does_to_a_session_unbinds_it(
    owner: Browser, clock: ManualClock, step: str
) -> None:
    assert (await owner.post(f"/?{step}")).json["state"] == "bound"
    clock.advance(LIFETIME)

    assert (await owner.copied().get("/")).status == 401
    owner.closed()
    assert (await owner.get("/")).json["state"] == "bound"


async def test_an_old_id_in_its_grace_is_bound_as_well(browser: Browser, clock: ManualClock) -> None:
    """What the old id may read is from before the binding."""
    answer = await browser.send("POST", "/login?login=ada")
    browser.offered = answer.headers["Secure-Session-Registration"]
    old = browser.copied()
    await browser.get("/?renew=")
    assert (await browser.register(DeviceKey())).status == 200
    clock.advance(40)  # the rotation grace is 60 seconds

    assert (await old.get("/")).status == 401
    assert (await browser.get("/")).status == 200


@pytest.mark.parametrize("cookie", ["", "x", "1.x", "9999999999.AAAAAAAAAAAAAAAAAAAAAA.signature"])
async def test_a_bound_cookie_that_is_not_ours_is_no_proof(owner: Browser, cookie: str) -> None:
    thief = owner.copied()
    thief.cookies["__Host-bound"] = cookie

    assert (await thief.get("/")).status == 401


async def test_the_bound_cookie_of_another_session_is_no_proof(owner: Browser) -> None:
    for name in ("eve", "ada"):  # also not that of another login of the same account
        other = Browser(owner.client)
        await other.post(f"/login?login={name}")
        thief = owner.copied()
        thief.cookies["__Host-bound"] = other.cookies["__Host-bound"]

        assert (await thief.get("/")).status == 401


@pytest.mark.parametrize("made", ["challenge", "id", "offer", "session"])
async def test_other_texts_that_we_signed_are_no_bound_cookie(owner: Browser, made: str) -> None:
    thief = owner.copied()
    texts: dict[str, Any] = {
        "challenge": owner.session.challenge,
        "id": owner.session.id,
        "offer": owner.offer()[1],
        "session": owner.cookies["__Host-session"],
    }
    thief.cookies["__Host-bound"] = texts[made]

    assert (await thief.get("/")).status == 401


async def test_what_left_the_browser_before_the_first_bound_cookie_came_is_not_refused(
    browser: Browser, clock: ManualClock
) -> None:
    await browser.post("/login?login=ada")
    late = browser.copied()
    late.closed()

    clock.advance(29)
    assert (await late.get("/")).status == 200
    clock.advance(1)
    assert (await late.get("/")).status == 401


# --- what is answered


async def test_a_page_is_answered_with_a_page_that_leads_to_the_login(owner: Browser) -> None:
    thief = owner.copied()
    thief.closed()

    answer = await thief.get("/", Accept=PAGE, Sec_Fetch_Dest="document")

    assert answer.status == 401
    assert '<a href="/login">Log in</a>' in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Cookie"
    assert "Set-Cookie" not in answer.headers  # the owner's browser, without its key for a moment, stays logged in
    assert "ada" not in answer.text


@pytest.mark.parametrize("why", ["set forward", "another secret", "another session", "damaged"])
async def test_a_bound_cookie_that_does_not_count_is_cleared_so_that_the_browser_refreshes(
    browser_of: BrowserOf, clock: ManualClock, why: str
) -> None:
    """Otherwise the browser would send it for ten minutes, and the owner would be refused for as long."""
    storage = MemoryStorage(clock=clock)
    owner = await browser_of(make_app(storage))
    await owner.post("/login?login=ada")
    clock.advance(60)
    if why == "set forward":
        clock.advance(3600)
    elif why == "another secret":
        later = await browser_of(make_app(storage, cookie=SessionCookie("__Host-session", secure=True, secrets=OTHER)))
        bound = owner.cookies["__Host-bound"]
        await later.post("/login?login=ada")
        clock.advance(60)
        owner = later
        owner.cookies["__Host-bound"] = bound
    elif why == "another session":
        other = Browser(owner.client)
        await other.post("/login?login=eve")
        owner.cookies["__Host-bound"] = other.cookies["__Host-bound"]
    else:
        owner.cookies["__Host-bound"] += "x"

    refused = await owner.get("/", Accept=PAGE)
    assert refused.status == 401
    assert refused.headers.getall("Set-Cookie") == ["__Host-bound=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"]

    assert (await owner.get("/")).json["state"] == "bound"


async def test_data_is_answered_with_a_line_of_text(owner: Browser) -> None:
    thief = owner.copied()
    thief.closed()

    answer = await thief.get("/", Accept="*/*", Sec_Fetch_Dest="empty")

    assert answer.status == 401
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_the_login_page_is_never_refused_and_a_new_login_works_and_ends_nothing(
    owner: Browser, clock: ManualClock
) -> None:
    thief = owner.copied()
    thief.closed()

    answer = await thief.get("/login")
    assert (answer.status, answer.json["owner"]) == (200, None)
    assert "Set-Cookie" not in answer.headers
    answer = await thief.post("/login?login=eve")
    assert answer.json["owner"] == "eve"
    assert (await thief.get("/")).json["owner"] == "eve"
    assert (await thief.post("/login?logout=")).status == 200

    clock.advance(LIFETIME)
    owner.closed()
    assert (await owner.get("/")).json == {"owner": "ada", "state": "bound", "data": {}}


@pytest.mark.parametrize("how", ["/?logout=", "/login?logout=", "/?login=eve", "/?renew=True", "/?new=&set=a"])
@pytest.mark.parametrize("first", ["own", "stolen"])
async def test_a_stolen_cookie_beside_a_cookie_of_the_thiefs_own_ends_nothing(
    owner: Browser, clock: ManualClock, how: str, first: str
) -> None:
    """A logout ends all sessions that the browser has cookies of, but not those that it cannot prove."""
    eve = Browser(owner.client)
    await eve.post("/login?login=eve")
    clock.advance(LIFETIME)
    eve.closed()
    await eve.get("/")
    sessions = [eve.cookies["__Host-session"], owner.cookies["__Host-session"]]
    one, other = sessions if first == "own" else sessions[::-1]
    cookies = f"__Host-session={one}; __Host-session={other}; __Host-bound={eve.cookies['__Host-bound']}"
    async with eve.client.post(how, headers={"Cookie": cookies, "Host": owner.host}) as response:
        assert response.status in (200, 401)

    owner.closed()
    assert (await owner.get("/")).json["owner"] == "ada"


@pytest.mark.parametrize("path", ["/", "/?renew=True", "/?logout="])
async def test_a_cookie_without_its_proof_does_not_bar_the_way_to_the_next_one(
    owner: Browser, clock: ManualClock, path: str
) -> None:
    """Otherwise the visitor is told to log in again and again: by a cookie of another path, or one that a host planted.

    The browser has one bound cookie for both.
    """
    other = Browser(owner.client)
    await other.post("/login?login=eve")
    clock.advance(60)
    owner.closed()
    await owner.get("/")
    first, second = other.cookies["__Host-session"], owner.cookies["__Host-session"]
    cookies = f"__Host-session={first}; __Host-session={second}; __Host-bound={owner.cookies['__Host-bound']}"

    async with owner.client.get(path, headers={"Cookie": cookies, "Host": owner.host}) as response:
        assert response.status == 200
        assert (await response.json())["owner"] == (None if "logout" in path else "ada")

    assert (await other.get("/")).json["owner"] == "eve"
    both_barred = f"__Host-session={first}; __Host-session={second}"
    async with owner.client.get("/", headers={"Cookie": both_barred, "Host": owner.host}) as response:
        assert response.status == 401


async def test_a_clock_that_is_set_back_does_not_lengthen_the_first_seconds(owner: Browser, clock: ManualClock) -> None:
    clock.advance(-3600)
    thief = owner.copied()
    thief.closed()

    assert (await thief.get("/")).status == 401
    assert (await owner.get("/")).status == 200


async def test_a_logout_still_ends_a_second_session_that_is_not_bound(owner: Browser) -> None:
    twin = Browser(owner.client, supports=False)
    await twin.post("/login?login=ada")
    sessions = [f"__Host-session={one.cookies['__Host-session']}" for one in (owner, twin)]
    cookies = "; ".join([*sessions, f"__Host-bound={owner.cookies['__Host-bound']}"])

    async with owner.client.post("/?logout=", headers={"Cookie": cookies, "Host": owner.host}) as response:
        assert response.status == 200

    assert (await twin.get("/")).json["owner"] is None


async def test_a_logout_on_the_login_page_without_the_proof_ends_nothing(owner: Browser) -> None:
    thief = owner.copied()
    thief.closed()

    for steps in ("logout=", "end=", "new=&set=a", "renew=True", "clear="):
        await thief.copied().post(f"/login?{steps}")

    owner.closed()
    assert (await owner.get("/")).json["owner"] == "ada"


async def test_the_login_page_may_be_elsewhere(browser_of: BrowserOf, clock: ManualClock) -> None:
    app = make_app(MemoryStorage(clock=clock), login_paths=["/", "/callback"])
    owner = await browser_of(app)
    await owner.post("/?login=ada")
    clock.advance(60)
    thief = owner.copied()
    thief.closed()

    assert (await thief.get("/")).status == 200
    answer = await thief.get("/login", Accept=PAGE)
    assert '<a href="/">Log in</a>' in answer.text


async def test_a_websocket_without_the_proof_is_refused(browser_of: BrowserOf, clock: ManualClock) -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        session, socket = await get_session(request), web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"{session.owner}")
        await socket.close()
        return socket

    app = make_app(MemoryStorage(clock=clock))
    app.router.add_get("/ws", socket)
    owner = await browser_of(app)
    await owner.post("/login?login=ada")
    clock.advance(60)

    cookies = "; ".join(f"{name}={value}" for name, value in owner.cookies.items())
    async with owner.client.ws_connect("/ws", headers={"Cookie": cookies}) as opened:
        assert await opened.receive_str() == "ada"
    owner.closed()
    cookies = "; ".join(f"{name}={value}" for name, value in owner.cookies.items())
    with pytest.raises(WSServerHandshakeError, match="401"):
        await owner.client.ws_connect("/ws", headers={"Cookie": cookies})


async def test_a_middleware_that_loads_every_session_does_not_stop_a_refresh(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    """A 401 there would let the browser forget the session."""

    @web.middleware
    async def loads(request: web.Request, handler: Any) -> web.StreamResponse:
        await get_session(request)
        response: web.StreamResponse = await handler(request)
        return response

    app = make_app(MemoryStorage(clock=clock))
    app.middlewares.append(loads)
    owner = await browser_of(app)
    await owner.post("/login?login=ada")
    clock.advance(3600)
    owner.closed()

    assert (await owner.get("/")).json["state"] == "bound"


@pytest.mark.parametrize("site", ["cross-site", "same-origin"])
async def test_protection_from_other_sites_lets_the_endpoints_pass(
    browser_of: BrowserOf, clock: ManualClock, site: str
) -> None:
    """A 403 without a challenge would let the browser forget the session, and the proof is proof enough."""
    app = make_app(MemoryStorage(clock=clock))
    protect_from_csrf(app)
    owner = await browser_of(app)
    await owner.post("/login?login=ada")
    session = owner.session
    assert session.challenge is not None
    proof = session.key.proof(session.challenge)

    answer = await owner.send(
        "POST",
        session.refresh_path,
        Sec_Fetch_Site=site,
        Sec_Secure_Session_Id=session.id,
        Secure_Session_Response=proof,
    )

    assert answer.status == 200
    assert (await owner.send("POST", "/", Sec_Fetch_Site="cross-site")).status == 403


# --- observing first


class Recorder(Observer):
    def __init__(self) -> None:
        self.events: list[SessionEvent] = []

    def on_event(self, event: SessionEvent) -> None:
        if event.kind == "refused":
            self.events.append(event)


@pytest.mark.parametrize("enforce", [True, False])
async def test_the_observer_hears_of_each_request_without_the_proof_and_of_no_other(
    browser_of: BrowserOf, clock: ManualClock, enforce: bool
) -> None:
    recorder = Recorder()
    owner = await browser_of(make_app(MemoryStorage(clock=clock), observer=recorder, enforce=enforce))
    await owner.post("/login?login=ada")
    clock.advance(600)
    thief = owner.copied()
    owner.closed()
    await owner.get("/")
    assert recorder.events == []

    for path in ("/", "/", "/login"):
        assert (await thief.get(path)).status == (401 if enforce and path == "/" else 200)

    key = key_of(owner.cookies["__Host-session"].partition(".")[0])
    assert recorder.events == [SessionEvent("refused", key, "ada", "device")] * 3


async def test_without_enforcement_it_is_only_reported(
    browser_of: BrowserOf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    owner = await browser_of(make_app(MemoryStorage(clock=clock), enforce=False))
    await owner.post("/login?login=ada")
    clock.advance(60)
    thief = owner.copied()
    thief.closed()
    caplog.set_level(logging.INFO, "aiohttp_session_store")

    assert (await thief.get("/")).json == {"owner": "ada", "state": "bound", "data": {}}

    (record,) = caplog.records
    assert "came without the proof of its device" in record.getMessage()
    assert owner.cookies["__Host-session"] not in record.getMessage()


# --- other settings


async def test_two_apps_of_one_host_have_bound_cookies_of_their_own(browser_of: BrowserOf, clock: ManualClock) -> None:
    """They share the secret, and perhaps the storage."""
    storage = CountingStorage(clock=clock)
    names = ("__Host-bound", "__Host-other")
    first, second = [await browser_of(make_app(storage, cookie_name=name)) for name in names]
    await first.post("/login?login=ada")
    clock.advance(60)
    thief = Browser(second.client, dict(first.cookies), supports=False)
    thief.cookies["__Host-other"] = thief.cookies["__Host-bound"]

    assert (await thief.get("/")).status == 401


@pytest.mark.parametrize(("samesite", "told"), [("None", "None"), ("Lax", "Lax"), ("Strict", "Lax"), (None, "Lax")])
async def test_the_bound_cookie_goes_wherever_the_session_cookie_goes(
    browser_of: BrowserOf, samesite: str | None, told: str
) -> None:
    """Otherwise a request from another site, which is to have its session, comes without the proof."""
    cookie = SessionCookie("__Host-session", secure=True, secrets=SECRET, samesite=samesite)
    browser = await browser_of(make_app(MemoryStorage(), cookie=cookie))
    await browser.post("/login?login=ada")

    answer = await browser.refresh(browser.session)

    attributes = answer.json["credentials"][0]["attributes"]
    assert attributes == f"Path=/; Secure; HttpOnly; SameSite={told}"
    assert answer.headers["Set-Cookie"].endswith(f"; Max-Age=570; {attributes}")


async def test_excluded_paths_are_told_to_the_browser(browser_of: BrowserOf, clock: ManualClock) -> None:
    app = make_app(MemoryStorage(clock=clock), exclude=["/static", "/favicon.ico"])
    browser = await browser_of(app)
    await browser.post("/login?login=ada")

    answer = await browser.refresh(browser.session)

    assert answer.json["scope"]["scope_specification"] == [
        {"type": "exclude", "domain": "*", "path": "/static"},
        {"type": "exclude", "domain": "*", "path": "/favicon.ico"},
    ]


async def test_paths_of_other_characters_are_told_as_browsers_send_them(
    browser_of: BrowserOf, clock: ManualClock
) -> None:
    """A browser that reads another text in the header registers no key, and says nothing."""

    @web.middleware
    async def loads(request: web.Request, handler: Any) -> web.StreamResponse:
        await get_session(request)
        response: web.StreamResponse = await handler(request)
        return response

    app = make_app(MemoryStorage(clock=clock), path="/gerät 1", exclude=["/größe"], login_paths=["/zugang für"])
    app.router.add_get("/zugang für", untouched)
    app.middlewares.append(loads)
    browser = await browser_of(app)
    await browser.post("/login?login=ada")

    assert browser.offer()[0] == "/ger%C3%A4t%201/register"
    clock.advance(60)
    browser.closed()
    answer = await browser.refresh(browser.session)
    assert (answer.status, answer.json["refresh_url"]) == (200, "/ger%C3%A4t%201/refresh")
    assert answer.json["scope"]["scope_specification"][0]["path"] == "/gr%C3%B6%C3%9Fe"
    thief = browser.copied()
    thief.closed()
    assert (await thief.get("/zugang für")).status == 200


async def test_a_sub_app_has_endpoints_under_its_prefix(browser_of: BrowserOf, clock: ManualClock) -> None:
    inner = make_app(
        MemoryStorage(clock=clock),
        cookie=SessionCookie("__Host-session", secure=True, secrets=SECRET),
        login_paths=["/shop/login"],
    )
    app = web.Application()
    app.add_subapp("/shop", inner)
    browser = await browser_of(app)
    await browser.post("/shop/login?login=ada")
    assert browser.session.refresh_path == "/shop/device-session/refresh"
    clock.advance(3600)
    browser.closed()

    assert (await browser.get("/shop/")).json["state"] == "bound"
    thief = browser.copied()
    thief.closed()
    assert (await thief.get("/shop/")).status == 401
    assert (await thief.get("/shop/login")).status == 200
