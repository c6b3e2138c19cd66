"""The configuration in docs/examples/behind_nginx on free ports, and visitors who connect through it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from multidict import CIMultiDictProxy

from tests.docs.blocks import ROOT
from tests.examples.running import EXAMPLES
from tests.servers.nginx import nginx
from tests.servers.ports import free_port

HOST = "example.org"
VISITOR = "127.0.0.2"  # a loopback address other than the proxy's


@dataclass(frozen=True)
class Answer:
    """The response that a visitor gets.

    Attributes:
        set_cookies: The Set-Cookie headers as they were sent.
    """

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    set_cookies: list[str]

    @property
    def cookie(self) -> str:
        """The name and value of the one cookie that was set."""
        assert len(self.set_cookies) == 1
        return self.set_cookies[0].partition(";")[0]


@dataclass(frozen=True)
class Site:
    """A running nginx and a client for it.

    Attributes:
        log: The file that nginx writes its warnings to.
    """

    client: aiohttp.ClientSession
    https: int
    http: int
    log: Path

    async def ask(
        self, path: str, cookie: str | None = None, *, method: str = "GET", data: object = None, **headers: str
    ) -> Answer:
        """Send a request over TLS, with *cookie* as the whole Cookie header."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": HOST}
        if cookie is not None:
            sent["Cookie"] = cookie
        url = f"https://127.0.0.1:{self.https}{path}"
        async with self.client.request(
            method, url, headers=sent, data=data, server_hostname=HOST, allow_redirects=False
        ) as got:
            return Answer(got.status, got.headers, await got.text(), got.headers.getall("Set-Cookie", []))

    @asynccontextmanager
    async def websocket(
        self, path: str, cookie: str, origin: str = f"https://{HOST}"
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket over TLS, from a page of *origin*."""
        headers = {"Host": HOST, "Cookie": cookie, "Origin": origin}
        async with self.client.ws_connect(
            f"wss://127.0.0.1:{self.https}{path}", headers=headers, server_hostname=HOST
        ) as socket:
            yield socket


@contextmanager
def site_before(app_port: int, binary: str, folder: Path, without: str = "") -> Iterator[tuple[int, int, Path]]:
    """Run nginx with the example's configuration, *without* one directive; yield its HTTPS port, HTTP port and log."""
    certificate, key = make_certificate(folder)
    https, http = free_port(), free_port()
    site = (ROOT / EXAMPLES / "behind_nginx/nginx.conf").read_text()
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{http};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
        "/etc/ssl/certs/example.org.pem": str(certificate),
        "/etc/ssl/private/example.org.key": str(key),
        "127.0.0.1:8080": f"127.0.0.1:{app_port}",
        **({without: ""} if without else {}),
    }.items():
        assert site.count(old) == 1, old
        site = site.replace(old, new)
    with nginx(binary, folder / "nginx", site, https, http) as log:
        yield https, http, log


@asynccontextmanager
async def visitors(app_port: int, binary: str, folder: Path, without: str = "") -> AsyncIterator[Site]:
    """Run that nginx; yield a client that trusts its certificate, keeps no cookies and connects from ``VISITOR``."""
    with site_before(app_port, binary, folder, without) as (https, http, log):
        trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        connector = aiohttp.TCPConnector(ssl=trust, local_addr=(VISITOR, 0))
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:
            yield Site(client, https, http, log)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for ``HOST``; return the files of the certificate and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    places = folder / "certificate.pem", folder / "key.pem"
    places[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    places[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return places
