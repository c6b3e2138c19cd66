"""The example behind a real nginx that speaks TLS with the visitor: login, logout, WebSocket, and the cookie."""

import asyncio
import datetime
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aiohttp_session_store import FileSystemStorage
from tests.examples.conftest import EXAMPLES
from tests.examples.test_neighbours import Example
from tests.servers.redis import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="there is no nginx on the PATH or in /usr/sbin")


def certify(folder: Path) -> None:
    """Make a certificate for example.org that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "example.org.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    (folder / "example.org.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))


def configure(folder: Path, app_port: int, http: int, https: int) -> Path:
    """Write the example's configuration with ports and paths of a test; it stands inside what nginx.conf brings."""
    text = (EXAMPLES / "behind_nginx" / "nginx.conf").read_text()
    for old, new in (
        ("127.0.0.1:8080", f"127.0.0.1:{app_port}"),
        ("listen 80;", f"listen 127.0.0.1:{http};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{https} ssl;"),
        ("/etc/ssl/certs/", f"{folder}/"),
        ("/etc/ssl/private/", f"{folder}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{text}\n}}\n"
    )
    return config


class Local(aiohttp.abc.AbstractResolver):
    """Finds every host here."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
def ports() -> tuple[int, int]:
    http = free_port()
    return http, next(port for port in iter(free_port, None) if port != http)


@asynccontextmanager
async def visiting(folder: Path, ports: tuple[int, int], example: Example) -> AsyncIterator[aiohttp.ClientSession]:
    """Run app and nginx, and be a browser in front of them that trusts the certificate."""
    assert NGINX
    certify(folder)
    server = TestServer(example("behind_nginx/app.py").make_app(FileSystemStorage(folder / "sessions")))
    await server.start_server()
    config = configure(folder, server.port or 0, *ports)
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[1])) == 0:
                    break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        trusting = ssl.create_default_context(cafile=str(folder / "example.org.pem"))
        connector = aiohttp.TCPConnector(resolver=Local(), ssl=trusting)
        async with aiohttp.ClientSession(f"https://example.org:{ports[1]}", connector=connector) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)
        await server.close()


@needs_nginx
async def test_through_nginx_one_logs_in_and_out_with_a_secure_host_cookie(
    tmp_path: Path, ports: tuple[int, int], example: Example
) -> None:
    async with visiting(tmp_path, ports, example) as client:
        async with client.post("/login", data={"name": "ada"}, allow_redirects=False) as response:
            assert response.status == 303
            cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-session=")
        assert set(cookie.split("; ")[1:]) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"}
        async with client.get("/") as response:
            assert await response.text() == "Welcome, ada.\n"
        copy = cookie.partition(";")[0]
        await client.post("/logout")
        async with client.get("/", headers={"Cookie": copy}) as response:
            assert "ada" not in await response.text()


@needs_nginx
async def test_plain_http_is_sent_to_https_and_what_a_visitor_claims_is_not_passed_on(
    tmp_path: Path, ports: tuple[int, int], example: Example
) -> None:
    async with visiting(tmp_path, ports, example) as client:
        plain = f"http://example.org:{ports[0]}/"
        async with client.get(plain, headers={"X-Forwarded-Proto": "https"}, allow_redirects=False) as response:
            assert response.status == 308
            assert re.match("https://example.org", response.headers["Location"])
            assert "Set-Cookie" not in response.headers


@needs_nginx
async def test_a_websocket_through_nginx_hangs_up_after_a_logout(
    tmp_path: Path, ports: tuple[int, int], example: Example
) -> None:
    async with visiting(tmp_path, ports, example) as client:
        await client.post("/login", data={"name": "ada"})
        async with client.ws_connect("/chat") as chat:
            await chat.send_str("hello")
            assert await chat.receive_str() == "1: hello"
            await client.post("/logout")
            await chat.send_str("still there?")
            message = await chat.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.extra == "logged out"
