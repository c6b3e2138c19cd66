"""Whatever is sent to the two endpoints, the answer is never a 5xx, comes in bounded time, and changes nothing."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, make_mocked_request

from aiohttp_session_store.testing import ManualClock
from tests.device.browser import Browser, DeviceKey, b64
from tests.device.conftest import BrowserOf, make_app
from tests.web.storages import CountingStorage

# Seconds of CPU that any one request may take; a busy machine does not count. They take less than a millisecond.
_MOST = 5.0  # to collect the garbage of all tests before takes two
_PIECES = [
    "", ".", "..", '"', '""', "=", ";", ",", " ", "\t", "\x7f", "\xff", "é", "null", "none", "ES256", "RS256", "{}",
    "[]", "A" * 86, "A" * 43, "A" * 4000, "eyJhbGciOiJub25lIn0", "0", "9" * 400, "-1", "%00", "../../x", "$date",
    "'", "\\",
]  # fmt: skip


class Fuzz:
    """Makes hostile headers, from texts that are right and from nothing."""

    def __init__(self, seed: int, owner: Browser) -> None:
        self.random = random.Random(seed)
        self.key = owner.session.key
        challenge = owner.session.challenge
        assert challenge is not None
        self.texts = [
            challenge,
            owner.session.id,
            owner.offer()[1],
            owner.cookies["__Host-bound"],
            owner.cookies["__Host-session"],
            "",
        ]
        self.proofs = [
            (owner.session.key if own else DeviceKey()).proof(text, registers=registers)
            for text in self.texts
            for own in (True, False)
            for registers in (True, False)
            if text is not challenge or not own  # those are right
        ]

    def text(self) -> str:
        return "".join(self.random.choice(_PIECES) for _ in range(self.random.randrange(6)))

    def json(self, depth: int = 0) -> Any:
        kind = self.random.randrange(9 if depth < 4 else 6)
        if kind < 2:
            return self.text()
        if kind < 6:
            return self.random.choice([None, True, 0, -1, 1.5, 10**400, "ES256", "dbsc+jwt", [], {}])
        if kind < 8:
            return {self.text(): self.json(depth + 1) for _ in range(self.random.randrange(4))}
        return [self.json(depth + 1) for _ in range(self.random.randrange(4))]

    def mutated(self, text: str) -> str:
        at = self.random.randrange(len(text) + 1)
        kind = self.random.randrange(5)
        if kind == 0:
            return text[:at] + self.random.choice(_PIECES) + text[at:]
        if kind == 1:
            return text[:at]
        if kind == 2:
            return text[:at] + text[at + self.random.randrange(1, 9) :]
        if kind == 3:
            return text[:at] + chr(self.random.randrange(32, 127)) + text[at + 1 :]
        return text + self.random.choice(self.texts)

    def signed(self) -> str:
        """Return a token of any content that the key of the session has really signed."""
        header = {"alg": "ES256", "typ": "dbsc+jwt"} if self.random.random() < 0.8 else {}
        for name in ("jwk", "crit", "alg", "kid", "x5u"):
            if self.random.random() < 0.2:
                header[name] = self.json()
        claims = {self.random.choice(["jti", "jti", "sub"]): self.random.choice([self.json(), *self.texts[1:]])}
        parts = [b64(json.dumps(part).encode()) for part in (header, claims)]
        if self.random.random() < 0.2:
            parts[self.random.randrange(2)] = b64(
                self.random.choice([b"[" * 2000, b'{"a":' * 400, b"\xff", b"", b"1" * 2900])
            )
        return f"{'.'.join(parts)}.{self.key.signature('.'.join(parts))}"

    def proof(self) -> str:
        kind = self.random.randrange(8)
        if kind < 3:
            return self.mutated(self.random.choice(self.proofs))
        if kind < 5:
            return self.signed()
        return self.random.choice(self.proofs) if kind < 6 else self.text()

    def identifier(self) -> str:
        kind = self.random.randrange(4)
        own = self.texts[1]
        return (own, self.mutated(own), self.random.choice(self.texts), self.text())[kind]

    def requests(self, count: int) -> Iterator[tuple[str, dict[str, str]]]:
        for _ in range(count):
            headers = {"Host": self.random.choice(["shop.example", "shop.example", self.text() or "x"])}
            if self.random.random() < 0.9:
                headers["Secure-Session-Response"] = self.proof()
            if self.random.random() < 0.9:
                headers["Sec-Secure-Session-Id"] = self.identifier()
            session, bound = self.texts[4], self.texts[3]
            headers["Cookie"] = self.random.choice(
                [
                    f"__Host-session={session}",
                    f"__Host-session={self.mutated(session)}; __Host-bound={bound}",
                    "",
                    self.text(),
                ]
            )
            yield self.random.choice(["register", "refresh"]), headers


async def attack(owner: Browser, storage: CountingStorage, seed: int, count: int) -> Counter[tuple[str, int]]:
    """Call the handlers with hostile requests, and return how often each answer came.

    No server is in between: it would refuse half of the headers itself, and take most of the time.
    """
    assert isinstance(owner.client, TestClient)
    app = owner.client.app
    assert app is not None
    statuses: Counter[tuple[str, int]] = Counter()
    before = {key: entry[0] for key, entry in storage._records.items()}
    spent: list[float] = []
    handlers = {
        name: route.handler
        for route in app.router.routes()
        if (name := str(route.resource and route.resource.canonical).rpartition("/")[2]) in ("register", "refresh")
    }
    base = make_mocked_request("POST", "/", app=app)
    for name, headers in Fuzz(seed, owner).requests(count):
        request = base.clone(headers=headers)
        start = time.process_time()
        response = await handlers[name](request)
        spent.append(time.process_time() - start)
        assert response.status in (400, 401, 403), (name, headers, response.status)
        assert "Set-Cookie" not in response.headers
        statuses[name, response.status] += 1
    assert {key: entry[0] for key, entry in storage._records.items()} == before
    assert max(spent) < _MOST
    return statuses


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, 3000), *(pytest.param(seed, 25_000, marks=pytest.mark.long) for seed in (2, 3, 4, 5))],
)
async def test_hostile_headers_and_tokens_change_nothing(
    owner: Browser, storage: CountingStorage, clock: ManualClock, seed: int, count: int
) -> None:
    await owner.refresh(owner.session)  # until then, the proof of the registration counts

    statuses = await attack(owner, storage, seed, count)

    assert {("register", 400), ("register", 401), ("refresh", 401), ("refresh", 403)} <= statuses.keys()
    assert min(statuses["register", 400], statuses["refresh", 401], statuses["refresh", 403]) > count // 50
    owner.closed()
    clock.advance(600)
    assert (await owner.get("/")).json["state"] == "bound"


@pytest.mark.parametrize(
    "host", [b"caf\xe9.example", b"\xed\xb3\xa9", "ca\u0301fe".encode(), b"x" * 4000, b'"', b"[::1"]
)
async def test_a_hostile_host_header_is_no_error_of_ours(owner: Browser, host: bytes) -> None:
    assert isinstance(owner.client, TestClient)
    cookies = "; ".join(f"{name}={value}" for name, value in owner.cookies.items())
    proof = owner.session.key.proof(owner.session.challenge)
    registration = owner.session.key.proof(owner.offer()[1], registers=True)
    asked = [
        ("/device-session/register", f"Secure-Session-Response: {registration}\r\n", {400, 403}),
        ("/device-session/refresh", f"Sec-Secure-Session-Id: {owner.session.id}\r\n", {400, 403}),
        (
            "/device-session/refresh",
            f"Sec-Secure-Session-Id: {owner.session.id}\r\nSecure-Session-Response: {proof}\r\n",
            {400, 403},
        ),
        ("/login?login=ada", "", {200, 400}),
    ]
    for path, more, expected in asked:
        reader, writer = await asyncio.open_connection("127.0.0.1", owner.client.port)
        head = f"POST {path} HTTP/1.1\r\nX-Forwarded-Proto: https\r\nConnection: close\r\nContent-Length: 0\r\n"
        writer.write(f"{head}Cookie: {cookies}\r\n{more}Host: ".encode() + host + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert int(answer.split()[1]) in expected, (path, answer)


@pytest.mark.parametrize("seed", [6])
async def test_the_server_passes_hostile_headers_on_and_goes_on(
    browser_of: BrowserOf, storage: CountingStorage, clock: ManualClock, seed: int
) -> None:
    """Over a real connection, for what aiohttp's parser lets through."""
    owner = await browser_of(make_app(storage))
    await owner.post("/login?login=ada")
    clock.advance(60)
    thief = owner.copied()
    for name, headers in Fuzz(seed, owner).requests(300):
        latin = {key: value.encode("utf-8", "replace").decode("latin-1") for key, value in headers.items()}
        printable = {key: value for key, value in latin.items() if value.isprintable() and key != "Host"}
        async with thief.client.post(f"/device-session/{name}", headers=printable) as response:
            assert response.status in (400, 401, 403)

    owner.closed()
    assert (await owner.get("/")).json["state"] == "bound"
