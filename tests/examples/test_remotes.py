"""Sessions with aiohttp-remotes: docs/examples/remotes.py (behind a real nginx in test_behind_nginx.py)."""

import json

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import MemoryStorage
from docs.examples.remotes import make_app
from tests.web.visits import Client, visit, without_jar

SAID = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "203.0.113.5", "X_Forwarded_Host": "example.org"}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await without_jar(aiohttp_client, await make_app(MemoryStorage()))


async def test_the_app_sees_the_real_address_and_the_session_uses_a_secure_cookie(client: Client) -> None:
    first = await visit(client, "/", **SAID)
    second = await visit(client, "/", first.cookie, **SAID)

    assert first.set_cookie
    assert "Secure" in first.set_cookie.split("; ")
    assert [json.loads(answer.text) for answer in (first, second)] == [
        {"visits": visits, "remote": "203.0.113.5", "url": "https://example.org/"} for visits in (1, 2)
    ]


async def test_plain_http_is_redirected_to_https_without_a_cookie(client: Client) -> None:
    answer = await visit(client, "/")

    assert (answer.status, answer.set_cookie) == (308, None)
    assert answer.headers["Location"] == f"https://{client.host}/"
