"""Logins that are bound to a device, in a real Chromium.

The bound cookie lives for ten minutes.  The tests do not wait for its end: they remove it from the browser, and move
the clock of the server.  All is asserted on the server, because no page sees the requests of the protocol.
"""

import asyncio
import base64
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Browser, BrowserContext, BrowserType, Page

from aiohttp_session_store import SessionCookie, get_session, setup
from aiohttp_session_store.device import bind_devices, device_state
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.servers.certificates import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

REGISTER, REFRESH = "POST /device-session/register", "POST /device-session/refresh"
# Both are needed, in one flag: the last --enable-features on the command line wins.
FEATURES = "DeviceBoundSessions:RefreshQuota/false,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"
PATIENCE = 30.0

FETCH = "url => fetch(url).then(response => response.text())"
POST = "url => fetch(url, {method: 'POST'}).then(response => response.text())"
SOCKET = """() => new Promise((done, failed) => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    socket.onmessage = message => done(message.data);
    socket.onerror = () => failed(new Error("refused"));
})"""


@dataclass
class Site:
    """A server, and what it was asked.

    Attributes:
        log: Method and path of each request with the status of its answer, favicons left out.
        headers: The headers of the requests, in the same order.
        loses: Drops the connection in place of the next answer to this method and path.
    """

    url: str = ""
    spki: str = ""
    clock: ManualClock = field(default_factory=lambda: ManualClock(time.time()))
    log: list[tuple[str, int]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    loses: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.storage = FailingStorage(clock=self.clock)

    def note(self, request: web.Request, status: int) -> None:
        if request.path != "/favicon.ico":
            self.log.append((f"{request.method} {request.path}", status))
            self.headers.append(request.headers)
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds, which is looked at after each request."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def forget(self) -> None:
        self.log.clear()
        self.headers.clear()

    @property
    def arguments(self) -> list[str]:
        """The arguments of a Chromium that trusts the server, as registrations need it, and has keys in software."""
        return [*ARGUMENTS, f"--ignore-certificate-errors-spki-list={self.spki}", f"--enable-features={FEATURES}"]


async def page(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.Response(
        text=f"<!doctype html><title>page</title><p>{session.owner} {device_state(request)}</p>"
        "<form method=post action=/change><button>change</button></form>",
        content_type="text/html",
    )


async def data(request: web.Request) -> web.Response:
    return web.Response(text=f"{(await get_session(request)).owner} {device_state(request)}")


async def login_form(request: web.Request) -> web.Response:
    await get_session(request)
    return web.Response(text="<form method=post><button>log in</button></form>", content_type="text/html")


async def login(request: web.Request) -> web.Response:
    (await get_session(request)).login("ada", remember=86400)
    raise web.HTTPSeeOther("/")


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response(text="bye", headers={"Clear-Site-Data": '"storage"'} if "clear" in request.query else {})


async def change(request: web.Request) -> web.Response:
    (await get_session(request))["changed"] = True
    raise web.HTTPSeeOther("/")


async def socket(request: web.Request) -> web.WebSocketResponse:
    said = f"{(await get_session(request)).owner} {device_state(request)}"
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(said)
    await socket.close()
    return socket


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    site = Site()
    pair = Authority(tmp_path_factory.mktemp("certificates")).issue("localhost")
    key = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    site.spki = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    @web.middleware
    async def noting(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as raised:
            site.note(request, raised.status)
            raise
        if site.loses == f"{request.method} {request.path}":
            site.loses = ""
            assert request.transport is not None
            request.transport.close()
            site.note(request, 0)
        else:
            site.note(request, response.status)
        return response

    app = web.Application()
    app.add_routes(
        [
            web.get("/", page),
            web.get("/data", data),
            web.post("/data", data),
            web.get("/login", login_form),
            web.post("/login", login),
            web.get("/callback", login),
            web.post("/logout", logout),
            web.post("/change", change),
            web.get("/ws", socket),
        ]
    )
    setup(app, site.storage, cookie=SessionCookie("__Host-session", secure=True))
    bind_devices(app, exclude=["/favicon.ico"])
    app.middlewares.insert(0, noting)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    site.url = f"https://localhost:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bound_browser(chromium: BrowserType, site: Site) -> AsyncIterator[Browser]:
    browser = await chromium.launch(executable_path=CHROMIUM, headless=True, args=site.arguments)
    first = await browser.new_context(base_url=site.url)
    try:
        await log_in(await first.new_page(), site)
    except TimeoutError:
        pytest.skip(f"this Chromium ({browser.version}) registers no key: it may be built without it")
    await first.close()
    yield browser
    await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def owner(bound_browser: Browser, site: Site) -> AsyncIterator[BrowserContext]:
    """A profile that has logged in a minute ago, and is bound; with one tab."""
    context = await bound_browser.new_context(base_url=site.url)
    context.set_default_timeout(PATIENCE * 1000)
    await log_in(await context.new_page(), site)
    site.clock.advance(60)
    site.forget()
    yield context
    await context.close()


async def log_in(tab: Page, site: Site) -> None:
    """Log in by the form, and wait until the browser has registered its key."""
    site.forget()
    await tab.goto(f"{site.url}/login")
    await tab.get_by_role("button").click()
    await site.until(lambda: (REGISTER, 200) in site.log)
    async with asyncio.timeout(PATIENCE):
        while not any(cookie["name"] == "__Host-bound" for cookie in await tab.context.cookies(site.url)):
            await asyncio.sleep(0.02)  # the answer is on its way to the cookie jar


async def end_of_bound_cookie(context: BrowserContext, site: Site) -> None:
    """Let the bound cookie end, in the browser and on the server."""
    await context.clear_cookies(name="__Host-bound")
    site.clock.advance(600)
    site.forget()


async def shown(tab: Page) -> str:
    return await tab.locator("p").first.inner_text()


async def test_the_exchange_of_a_login_and_a_refresh(bound_browser: Browser, site: Site) -> None:
    context = await bound_browser.new_context(base_url=site.url)
    tab = await context.new_page()
    await log_in(tab, site)

    assert sorted(site.log) == sorted([("GET /login", 200), ("POST /login", 303), ("GET /", 200), (REGISTER, 200)])
    registration = site.headers[site.log.index((REGISTER, 200))]
    assert registration["Sec-Fetch-Site"] == "same-origin"
    assert registration["Secure-Session-Response"].count(".") == 2
    assert "__Host-session=" in registration["Cookie"]
    assert "Sec-Secure-Session-Id" not in registration

    await end_of_bound_cookie(context, site)
    await tab.goto("/")
    assert site.log == [(REFRESH, 200), ("GET /", 200)]
    refresh = site.headers[0]
    assert not refresh["Sec-Secure-Session-Id"].startswith('"')
    assert refresh["Secure-Session-Response"].count(".") == 2  # the challenge had been sent ahead

    await end_of_bound_cookie(context, site)
    site.clock.advance(1200)
    await tab.goto("/")
    assert site.log == [(REFRESH, 403), (REFRESH, 200), ("GET /", 200)]
    await context.close()


async def test_pages_fetch_post_and_websocket_go_on_past_the_end_of_the_bound_cookie(
    owner: BrowserContext, site: Site
) -> None:
    (tab,) = owner.pages
    for _ in range(2):
        await end_of_bound_cookie(owner, site)
        await tab.goto("/")
        assert await shown(tab) == "ada bound"
        await end_of_bound_cookie(owner, site)
        assert await tab.evaluate(FETCH, "/data") == "ada bound"
        await end_of_bound_cookie(owner, site)
        assert await tab.evaluate(POST, "/data") == "ada bound"
        await end_of_bound_cookie(owner, site)
        assert await tab.evaluate(SOCKET) == "ada bound"
        await end_of_bound_cookie(owner, site)
        await tab.get_by_role("button").click()
        await site.until(lambda: ("GET /", 200) in site.log)
        assert ("POST /change", 303) in site.log
        await end_of_bound_cookie(owner, site)
        await tab.reload()
        assert await shown(tab) == "ada bound"


@pytest.mark.long
async def test_two_tabs_at_once_go_on(owner: BrowserContext, site: Site) -> None:
    tabs = [owner.pages[0], await owner.new_page()]
    for _ in range(3):
        await end_of_bound_cookie(owner, site)

        await asyncio.gather(*(tab.goto("/") for tab in tabs))

        assert [await shown(tab) for tab in tabs] == ["ada bound"] * 2
        answers = await asyncio.gather(*(tab.evaluate(FETCH, "/data") for tab in tabs for _ in range(5)))
        assert set(answers) == {"ada bound"}


@pytest.mark.long
async def test_a_link_from_another_site_leads_to_a_refresh(owner: BrowserContext, site: Site) -> None:
    """Such a refresh comes without the session cookie, and the session is found by its identifier."""
    await end_of_bound_cookie(owner, site)
    tab = await owner.new_page()
    await tab.goto(f"data:text/html,<a href='{site.url}/'>go</a>")

    await tab.get_by_role("link").click()
    await tab.wait_for_url(f"{site.url}/")

    assert await shown(tab) == "ada bound"
    assert site.log == [(REFRESH, 200), ("GET /", 200)]
    assert "__Host-session" not in site.headers[0].get("Cookie", "")


@pytest.mark.long
async def test_a_login_that_another_site_leads_to_is_bound(bound_browser: Browser, site: Site) -> None:
    """An OAuth callback, for example.  Such a registration comes without the session cookie."""
    context = await bound_browser.new_context(base_url=site.url)
    tab = await context.new_page()
    site.forget()
    await tab.goto(f"data:text/html,<a href='{site.url}/callback'>go</a>")

    await tab.get_by_role("link").click()
    await site.until(lambda: any(asked == REGISTER for asked, _ in site.log))

    assert (REGISTER, 200) in site.log
    registration = site.headers[site.log.index((REGISTER, 200))]
    assert "__Host-session" not in registration.get("Cookie", "")
    await context.close()


@pytest.mark.long
async def test_a_bound_cookie_that_no_longer_counts_is_refused_once(owner: BrowserContext, site: Site) -> None:
    """The browser would go on sending it, and would not refresh, if the refusal did not clear it."""
    tab = await owner.new_page()
    site.clock.advance(600)  # that of the browser stays
    site.forget()

    answer = await tab.goto("/")
    assert answer is not None
    assert answer.status == 401
    await tab.goto("/")

    assert await shown(tab) == "ada bound"
    assert site.log[0] == ("GET /", 401)
    assert site.log[-2:] == [(REFRESH, 200), ("GET /", 200)]


@pytest.mark.long
async def test_cookies_copied_into_another_profile_are_soon_refused_there_and_there_only(
    bound_browser: Browser, owner: BrowserContext, site: Site
) -> None:
    thief = await bound_browser.new_context(base_url=site.url)
    copied: Any = await owner.cookies(site.url)
    await thief.add_cookies(copied)
    tab = await thief.new_page()
    await tab.goto("/")
    assert await shown(tab) == "ada bound"

    await end_of_bound_cookie(owner, site)
    answer = await tab.goto("/")
    assert answer is not None
    assert answer.status == 401
    assert await tab.evaluate("() => fetch('/data').then(response => response.status)") == 401
    await tab.reload()
    await tab.get_by_role("link", name="Log in").click()
    await tab.wait_for_url("**/login")

    assert all(REFRESH not in asked for asked, _ in site.log)
    (own,) = owner.pages
    await own.goto("/")
    assert await shown(own) == "ada bound"
    await thief.close()


@pytest.mark.long
async def test_who_has_lost_the_key_logs_in_again_and_is_bound_again(
    bound_browser: Browser, owner: BrowserContext, site: Site
) -> None:
    lost = await bound_browser.new_context(base_url=site.url)
    copied: Any = await owner.cookies(site.url)
    await lost.add_cookies(copied)
    await end_of_bound_cookie(lost, site)
    tab = await lost.new_page()
    answer = await tab.goto("/")
    assert answer is not None
    assert answer.status == 401

    await log_in(tab, site)

    await end_of_bound_cookie(lost, site)
    await tab.goto("/")
    assert await shown(tab) == "ada bound"
    await lost.close()


@pytest.mark.long
async def test_a_second_login_in_the_same_browser_goes_on_with_its_own_key(owner: BrowserContext, site: Site) -> None:
    (tab,) = owner.pages
    await log_in(tab, site)
    for _ in range(2):
        await end_of_bound_cookie(owner, site)
        await tab.goto("/")
        assert await shown(tab) == "ada bound"

    assert (REFRESH, 401) not in site.log  # the old session was forgotten the first time


@pytest.mark.long
async def test_a_lost_answer_to_a_refresh_logs_nobody_out(owner: BrowserContext, site: Site) -> None:
    (tab,) = owner.pages
    await end_of_bound_cookie(owner, site)
    site.loses = REFRESH

    await tab.goto("/")
    await site.until(lambda: (REFRESH, 0) in site.log)
    await tab.goto("/")

    assert await shown(tab) == "ada bound"
    assert (REFRESH, 200) in site.log


@pytest.mark.long
async def test_a_lost_answer_to_a_registration_leads_to_a_bound_session(bound_browser: Browser, site: Site) -> None:
    """Chromium sends a request again if it was the first one to fail on a connection that had been open before."""
    context = await bound_browser.new_context(base_url=site.url)
    tab = await context.new_page()
    await tab.goto("/login")
    await tab.evaluate("() => Promise.all(Array.from({length: 6}, () => fetch('/data')))")  # they stay open
    site.loses = REGISTER
    await log_in(tab, site)
    sent = [headers["Secure-Session-Response"] for headers in site.headers if "Secure-Session-Response" in headers]
    assert len(sent) == 2
    assert sent[0] == sent[1]

    await end_of_bound_cookie(context, site)
    await tab.goto("/")

    assert await shown(tab) == "ada bound"
    await context.close()


@pytest.mark.long
async def test_a_storage_that_is_away_logs_nobody_out(owner: BrowserContext, site: Site) -> None:
    (tab,) = owner.pages
    await end_of_bound_cookie(owner, site)
    with site.storage.failing():
        answer = await tab.goto("/")
        assert answer is not None
        assert answer.status == 503
    assert (REFRESH, 503) in site.log
    site.forget()

    await tab.goto("/")

    assert await shown(tab) == "ada bound"


@pytest.mark.long
@pytest.mark.parametrize("clear", ["?clear", ""])
async def test_after_a_logout_the_browser_forgets(owner: BrowserContext, site: Site, clear: str) -> None:
    """At once if the response clears the site's data, or else at the next refresh."""
    (tab,) = owner.pages
    await tab.goto("/")
    assert await tab.evaluate(POST, f"/logout{clear}") == "bye"
    for _ in range(2):
        await end_of_bound_cookie(owner, site)
        await tab.goto("/")
        assert await shown(tab) == "None unsupported"
        if clear:
            break

    assert site.log == [("GET /", 200)]


@pytest.mark.long
async def test_a_session_that_was_ended_elsewhere_is_forgotten(owner: BrowserContext, site: Site) -> None:
    (tab,) = owner.pages
    await site.storage.end_sessions("ada")

    await tab.goto("/")
    assert await shown(tab) == "None unsupported"
    await end_of_bound_cookie(owner, site)
    await tab.goto("/")
    assert site.log == [(REFRESH, 401), ("GET /", 200)]
    await end_of_bound_cookie(owner, site)
    await tab.goto("/")
    assert site.log == [("GET /", 200)]


@pytest.mark.long
async def test_a_browser_that_was_restarted_goes_on(
    bound_browser: Browser, chromium: BrowserType, site: Site, tmp_path: Path
) -> None:
    async def started(stack: AsyncExitStack) -> BrowserContext:
        context = await chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=site.arguments, base_url=site.url
        )
        stack.push_async_callback(context.close)
        return context

    async with AsyncExitStack() as stack:
        context = await started(stack)
        await log_in(context.pages[0], site)
    site.clock.advance(3600)
    async with AsyncExitStack() as stack:
        context = await started(stack)
        await context.clear_cookies(name="__Host-bound")
        site.forget()
        (tab,) = context.pages
        await tab.goto("/")

        assert await shown(tab) == "ada bound"
        assert (REFRESH, 200) in site.log
