"""Vary and Cache-Control: no cache serves one visitor's page to another, and headers set by a handler are kept."""

import logging

import pytest
from aiohttp import web
from multidict import CIMultiDict

from aiohttp_session_store import MemoryStorage, get_session
from tests.web.storages import app_with
from tests.web.visits import Client, ClientOf, Visit, visit

LOGGER = "aiohttp_session_store"
Headers = list[tuple[str, str]]


async def client_for(client_of: ClientOf, given: Headers) -> Client:
    """Serve handlers that do what their paths say and add the headers *given*."""

    async def reads(request: web.Request) -> web.Response:
        await get_session(request)
        return web.Response(headers=CIMultiDict(given))

    async def writes(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        return web.Response(headers=CIMultiDict(given))

    async def leaves(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        return web.Response(headers=CIMultiDict(given))

    async def ignores(_: web.Request) -> web.Response:
        return web.Response(headers=CIMultiDict(given))

    async def fails(request: web.Request) -> web.Response:
        await writes(request)
        return web.Response(status=500, headers=CIMultiDict(given))

    app = app_with(MemoryStorage(), reads)
    app.add_routes([web.get(f"/{handler.__name__}", handler) for handler in (reads, writes, leaves, ignores, fails)])
    return await client_of(app)


def lines(response: Visit, name: str) -> list[str]:
    return [
        line.strip() for line in response.headers.getall(name, [])
    ]  # the client of aiohttp 3.14.0 keeps trailing spaces


# --- Vary


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], "Cookie"),
        (["Accept"], "Accept, Cookie"),
        (["Accept, Accept-Encoding"], "Accept, Accept-Encoding, Cookie"),
        (["Accept", "Accept-Encoding"], "Accept, Accept-Encoding, Cookie"),
        (["X-Cookie"], "X-Cookie, Cookie"),
    ],
)
@pytest.mark.parametrize("path", ["/reads", "/writes", "/leaves", "/fails"])
async def test_cookie_is_added_to_the_vary_header(client_of: ClientOf, path: str, given: list[str], sent: str) -> None:
    client = await client_for(client_of, [("Vary", value) for value in given])

    assert lines(await visit(client, path), "Vary") == [sent]


@pytest.mark.parametrize(
    "given",
    [["Cookie"], ["cookie"], ["Accept, COOKIE"], ["Accept ,cookie , X"], ["*"], [" * "], ["Accept", "Cookie"]],
)
@pytest.mark.parametrize("path", ["/reads", "/writes", "/leaves"])
async def test_a_vary_header_that_already_has_cookie_is_left_unchanged(
    client_of: ClientOf, path: str, given: list[str]
) -> None:
    client = await client_for(client_of, [("Vary", value) for value in given])

    assert lines(await visit(client, path), "Vary") == [value.strip() for value in given]


# --- Cache-Control


@pytest.mark.parametrize(
    ("given", "sent"),
    [([], ["private"]), (["max-age=60"], ["max-age=60"]), (["public"], ["public"]), (["no-cache"], ["no-cache"])],
)
async def test_a_page_that_reads_its_session_is_private_unless_the_handler_sets_cache_control(
    client_of: ClientOf, given: list[str], sent: list[str]
) -> None:
    client = await client_for(client_of, [("Cache-Control", value) for value in given])

    assert lines(await visit(client, "/reads"), "Cache-Control") == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], "no-store"),
        (["max-age=60"], "max-age=60, no-store"),
        (["private, max-age=60"], "private, max-age=60, no-store"),
        (["no-store"], "no-store"),
        (["private, No-Store"], "private, No-Store"),
        (["public"], "no-store"),
        (["public, max-age=60"], "no-store"),
        (["max-age=60 , Public"], "no-store"),
        (["max-age=60", "public"], "no-store"),
        (["max-age=60", "must-revalidate"], "max-age=60, must-revalidate, no-store"),
    ],
)
@pytest.mark.parametrize("path", ["/writes", "/leaves"])
async def test_a_response_with_a_session_cookie_is_no_store(
    client_of: ClientOf, path: str, given: list[str], sent: str
) -> None:
    client = await client_for(client_of, [("Cache-Control", value) for value in given])
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, path, cookie if path == "/leaves" else None)

    assert response.set_cookie
    assert lines(response, "Cache-Control") == [sent]


async def test_a_change_that_sends_no_cookie_is_only_private(client_of: ClientOf) -> None:
    client = await client_for(client_of, [])
    cookie = (await visit(client, "/writes")).cookie

    response = await visit(client, "/writes", cookie)

    assert response.set_cookie is None
    assert lines(response, "Cache-Control") == ["private"]


async def test_public_with_a_session_cookie_logs_one_warning(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_for(client_of, [("Cache-Control", "public, max-age=60")])

    for _ in range(2):
        await visit(client, "/writes")

    [warning] = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert "public, max-age=60" in warning
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("given", ["private", "no-store", "max-age=60"])
async def test_other_directives_with_a_session_cookie_log_no_warning(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    client = await client_for(client_of, [("Cache-Control", given)])

    await visit(client, "/writes")

    assert not [record for record in caplog.records if record.name == LOGGER]


# --- requests without a session or with an error


@pytest.mark.parametrize("given", [[], [("Vary", "Accept"), ("Cache-Control", "public")]])
async def test_a_response_whose_request_ignores_the_session_is_sent_unchanged(
    client_of: ClientOf, given: Headers
) -> None:
    client = await client_for(client_of, given)
    cookie = (await visit(client, "/writes")).cookie

    response = await visit(client, "/ignores", cookie)

    sent = [(name, value) for name in ("Vary", "Cache-Control", "Set-Cookie") for value in lines(response, name)]
    assert sent == given


async def test_a_failed_request_sends_no_cookie_and_is_private(client_of: ClientOf) -> None:
    client = await client_for(client_of, [])

    response = await visit(client, "/fails")

    assert response.set_cookie is None
    assert lines(response, "Cache-Control") == ["private"]
