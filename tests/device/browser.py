"""A small browser that knows Device Bound Session Credentials, as a real Chromium speaks them."""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HOST = "shop.example"
FORGETS = frozenset({400, 401, 404, 408, 409, 429})
MOST_403 = 5

_REGISTRATION = re.compile(r'\(ES256\);path="([^"]+)";challenge="([^"]+)"')
_CHALLENGE = re.compile(r'"([^"]+)"(?:;id="([^"]+)")?')


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class DeviceKey:
    """A key that never leaves the device, and what it signs."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}

    def proof(self, challenge: Any, *, registers: bool = False, header: Any = None, claims: Any = None) -> str:
        """Return a proof, with other fields in its header or claims if they are given."""
        head: dict[str, Any] = {"alg": "ES256", "typ": "dbsc+jwt"} | ({"jwk": self.jwk} if registers else {})
        body = {"jti": challenge} | (claims or {})
        signed = f"{b64(json.dumps(head | (header or {})).encode())}.{b64(json.dumps(body).encode())}"
        return f"{signed}.{self.signature(signed)}"

    def signature(self, signed: str) -> str:
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@dataclass
class Answer:
    """The response to one request."""

    status: int
    text: str
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def challenge(self) -> str:
        """The challenge that came along."""
        found = _CHALLENGE.fullmatch(self.headers["Secure-Session-Challenge"])
        assert found is not None
        return found[1]


@dataclass
class BoundSession:
    """What the browser keeps of one session."""

    id: str
    key: DeviceKey
    refresh_path: str
    challenge: str | None


@dataclass
class Browser:
    """A profile: its cookies and its bound sessions."""

    client: TestClient[web.Request, web.Application] | ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    bound: dict[str, BoundSession] = field(default_factory=dict)
    supports: bool = True
    host: str = HOST
    offered: str | None = None
    log: list[tuple[str, int]] = field(default_factory=list)

    # --- pages

    async def get(self, path: str, **headers: Any) -> Answer:
        return await self.visit("GET", path, **headers)

    async def post(self, path: str, **headers: Any) -> Answer:
        return await self.visit("POST", path, **headers)

    async def visit(self, method: str, path: str, **headers: Any) -> Answer:
        """Do as a browser: refresh first if the bound cookie is gone, and register if the response asks for it."""
        if "__Host-bound" not in self.cookies:
            for session in list(self.bound.values()):
                await self.refresh(session)
        answer = await self.send(method, path, **headers)
        if self.supports and "Secure-Session-Registration" in answer.headers:
            self.offered = answer.headers["Secure-Session-Registration"]
            await self.register(DeviceKey())
        return answer

    async def send(self, method: str, path: str, *, bare: bool = False, **headers: Any) -> Answer:
        """Send one request; *bare*: without cookies."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Host": self.host, "X-Forwarded-Proto": "https"}
        if self.cookies and not bare:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.client.request(method, path, headers=sent, allow_redirects=False) as response:
            answer = Answer(response.status, await response.text(), response.headers)
        for line in answer.headers.getall("Set-Cookie", ()):
            name, _, value = line.partition(";")[0].partition("=")
            if value and "Max-Age=0" not in line:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        self.log.append((f"{method} {path}", answer.status))
        return answer

    def copied(self) -> "Browser":
        """Return what a thief has who has copied the cookies, and no key."""
        return Browser(self.client, dict(self.cookies), supports=False, host=self.host)

    def closed(self) -> None:
        """Let the bound cookie end."""
        self.cookies.pop("__Host-bound", None)

    # --- the protocol

    def offer(self) -> tuple[str, str]:
        """Return the path and the challenge of the last login."""
        assert self.offered is not None
        found = _REGISTRATION.fullmatch(self.offered)
        assert found is not None, self.offered
        return found[1], found[2]

    async def register(self, key: DeviceKey, **fields: Any) -> Answer:
        path, challenge = self.offer()
        proof = key.proof(challenge, registers=True, **fields)
        answer = await self.send("POST", path, Secure_Session_Response=proof)
        for _ in range(MOST_403):
            if answer.status != 403:
                break
            proof = key.proof(answer.challenge, registers=True)
            answer = await self.send("POST", path, Secure_Session_Response=proof)
        if answer.status == 200:
            self.bound[answer.json["session_identifier"]] = BoundSession(
                answer.json["session_identifier"], key, answer.json["refresh_url"], answer.challenge
            )
        return answer

    async def refresh(self, session: BoundSession, *, bare: bool = False) -> Answer:
        """Refresh as Chromium does, and forget the session where it does."""
        answer = Answer(0, "", {})
        for _ in range(1 + MOST_403):
            proof = (
                {} if session.challenge is None else {"Secure_Session_Response": session.key.proof(session.challenge)}
            )
            answer = await self.send("POST", session.refresh_path, bare=bare, Sec_Secure_Session_Id=session.id, **proof)
            if answer.status == 200:
                assert answer.json["session_identifier"] == session.id
            if answer.status in (200, 403):
                session.challenge = answer.challenge
            if answer.status != 403:
                break
        if answer.status in FORGETS:
            self.bound.pop(session.id, None)
        return answer

    @property
    def session(self) -> BoundSession:
        """The one bound session."""
        (session,) = self.bound.values()
        return session


async def client_of(app: web.Application) -> TestClient[web.Request, web.Application]:
    """Serve *app*, to be closed by who asks."""
    client = TestClient(TestServer(app), cookie_jar=DummyCookieJar())
    await client.start_server()
    return client
