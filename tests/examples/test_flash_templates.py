"""Flash messages in all templates of aiohttp-jinja2: docs/examples/flash_templates.py."""

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import Session, get_session
from docs.examples.flash_templates import make_app
from tests.examples.running import JINJA_WARNING
from tests.web.storages import CountingStorage
from tests.web.visits import Client, visit, without_jar

pytestmark = pytest.mark.filterwarnings(JINJA_WARNING)

HTML = "text/html,application/xhtml+xml"
BOUGHT = '<p class="notice" role="status">You have bought: a loom</p>'


async def ignore_session(_: web.Request) -> web.Response:
    return web.json_response({})


async def flash_and_show(request: web.Request) -> web.Response:
    """Flash a message, and render a page in the same request."""
    session: Session = await get_session(request)
    session.flash("notice", "You have bought: a loom")
    raise web.HTTPNotFound


async def flash_both(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.flash("notice", "well")
    session.flash("error", "badly")
    return web.Response()


@pytest.fixture
def storage() -> CountingStorage:
    return CountingStorage()


@pytest.fixture
async def client(storage: CountingStorage, aiohttp_client: AiohttpClient) -> Client:
    app = make_app(storage)
    app.add_routes([web.get("/poll", ignore_session), web.get("/late", flash_and_show), web.get("/both", flash_both)])
    return await without_jar(aiohttp_client, app)


async def buy(client: Client, what: str = "a loom") -> str:
    """Flash a message, and return the cookie of its session."""
    async with client.post("/buy", data={"what": what}, allow_redirects=False) as response:
        assert response.status == 303
        cookie: str = response.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
        return cookie


async def test_the_next_page_shows_the_message_and_later_pages_do_not(client: Client) -> None:
    cookie = await buy(client)

    pages = [(await visit(client, "/", cookie)).text for _ in range(2)]

    assert [BOUGHT in page for page in pages] == [True, False]


async def test_a_not_found_page_shows_the_message_as_well(client: Client) -> None:
    cookie = await buy(client)

    page = await visit(client, "/nowhere", cookie, Accept=HTML)

    assert page.status == 404
    assert BOUGHT in page.text
    assert BOUGHT not in (await visit(client, "/", cookie)).text


async def test_the_message_is_escaped(client: Client) -> None:
    cookie = await buy(client, "<script>")

    assert "You have bought: &lt;script&gt;" in (await visit(client, "/", cookie)).text


async def test_errors_come_before_notices_and_each_has_its_css_class(client: Client) -> None:
    cookie = (await visit(client, "/both")).cookie

    page = (await visit(client, "/", cookie)).text

    assert page.index('<p class="error" role="status">badly') < page.index('<p class="notice" role="status">well')


async def test_an_empty_form_flashes_an_error(client: Client) -> None:
    cookie = await buy(client, "  ")

    assert '<p class="error" role="status">What was it that you wanted?</p>' in (await visit(client, "/", cookie)).text


async def test_the_request_that_flashes_a_message_does_not_show_it(client: Client) -> None:
    cookie = await buy(client, "nothing yet")
    await visit(client, "/", cookie)

    page = await visit(client, "/late", cookie, Accept=HTML)

    assert BOUGHT not in page.text
    assert BOUGHT in (await visit(client, "/", cookie)).text


@pytest.mark.parametrize("path", ["/about", "/poll", "/picture.png"])
async def test_a_response_without_messages_costs_nothing_and_uses_up_no_flash(
    client: Client, storage: CountingStorage, path: str
) -> None:
    cookie = await buy(client)
    storage.take_calls()

    answer = await visit(client, path, cookie, Accept="image/png")

    assert storage.take_calls() == []
    assert "Vary" not in answer.headers
    assert "Cache-Control" not in answer.headers
    assert BOUGHT in (await visit(client, "/", cookie)).text


async def test_a_visitor_without_a_cookie_costs_nothing_and_gets_no_cookie(
    client: Client, storage: CountingStorage
) -> None:
    page = await visit(client, "/")

    assert page.set_cookie is None
    assert storage.take_calls() == []


async def test_a_page_costs_one_read_and_also_a_write_if_it_shows_a_message(
    client: Client, storage: CountingStorage
) -> None:
    cookie = await buy(client)
    storage.take_calls()

    await visit(client, "/", cookie)
    assert storage.take_calls() == ["fetch", "replace"]
    await visit(client, "/", cookie)
    assert storage.take_calls() == ["fetch"]
