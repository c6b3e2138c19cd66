"""What a server must permit, and ways to reach one: users, TLS, Unix sockets, and commands that were renamed."""

import asyncio
import logging
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import Announcement, ConfigurationError, KeyedStorage, StorageError
from aiohttp_session_store.migrate import RedisReader
from aiohttp_session_store.storages.redis import RedisStorage, announcing
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.docs.blocks import ROOT, block
from tests.servers.away import EXPIRES_AT, KEY, started
from tests.servers.certificates import Authority
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer, installed, packaged, redis_cluster, redis_server

PASSWORD = "hunter2"
LINE = block("docs/redis.md", "text", "ACL SETUSER").strip()


def permit(server: RedisServer, *also: str) -> str:
    """Make the user of the documentation, and return the URL for it."""
    with server.client() as admin:
        admin.execute_command(*LINE.replace("PASSWORD", PASSWORD).split(), *also)
    return f"redis://sessions:{PASSWORD}@127.0.0.1:{server.port}"


def refused(server: RedisServer) -> list[str]:
    """Return the commands that the server has refused, without those that the driver can do without."""
    with server.client() as admin:
        log = admin.acl_log()
    return [entry["object"] for entry in log if entry["object"] not in ("client", "client|setinfo")]


def asked(server: RedisServer) -> set[str]:
    """Return the commands that were called."""
    with server.client() as admin:
        statistics = admin.info("commandstats")
    return {name.removeprefix("cmdstat_") for name in statistics}


async def all_work(storage: RedisStorage) -> None:
    """Call everything that sends a command of its own."""
    version = await storage.insert(KEY, b"data", EXPIRES_AT)
    assert version
    assert await storage.fetch(KEY)
    version = await storage.replace(KEY, b"newer", EXPIRES_AT, version)
    assert version
    assert await storage.touch(KEY, EXPIRES_AT + 1, version)
    assert await storage.delete(KEY, version)
    assert await storage.delete(KEY)
    async with storage.lock(KEY) as lease:
        await lease()
    await storage.link("owner", KEY, EXPIRES_AT)
    assert list(await storage.linked("owner")) == [KEY]
    await storage.unlink("owner", KEY)
    async with aclosing(storage.announcements()) as announcements:
        await anext(announcements)
        await storage.announce(KEY, "logout")
        assert await anext(announcements) == Announcement(KEY, "logout")
        waiting = asyncio.ensure_future(anext(announcements))
        await asyncio.sleep(0.2)  # the silence is tested
        await storage.announce(KEY, "revoked")
        assert await waiting == Announcement(KEY, "revoked")


# --- a user of its own


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[RedisServer]:
    with redis_server() as server:
        permit(server, "+scan")  # for the tests of a walk, as the page says
        yield server
        assert refused(server) == []


class TestRedisStorageForTheUserInTheDocumentation(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(
        self, guarded_server: RedisServer, prefix: str, clock: ManualClock
    ) -> AsyncIterator[KeyedStorage]:
        url = f"redis://sessions:{PASSWORD}@127.0.0.1:{guarded_server.port}"
        storage = RedisStorage.from_url(url, prefix=f"session:{prefix}", clock=clock)
        await storage.start()
        yield storage
        await storage.aclose()


@pytest.mark.parametrize("binary", [installed, packaged])
async def test_the_user_in_the_documentation_may_do_what_is_needed_and_nothing_else(
    binary: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_SILENT", 0.05)
    found = binary() if callable(binary) else None
    if found is None:
        pytest.skip("this server is not installed")
    with redis_server(binary=found) as server:
        url = permit(server)
        with server.client() as admin:
            admin.config_resetstat()
        async with started(RedisStorage.from_url(url)) as storage:
            await all_work(storage)

        assert refused(server) == []
        assert asked(server) >= set(re.findall(r"\+(\w+)", LINE))


async def test_the_user_may_reach_no_other_keys(server: RedisServer) -> None:
    storage = RedisStorage.from_url(permit(server), prefix="other:")
    with pytest.raises(StorageError, match=r"(?i)no permission"):
        await storage.insert(KEY, b"", EXPIRES_AT)
    await storage.aclose()


@pytest.mark.parametrize(
    ("option", "permission"), [("/1", "+select"), ("?client_name=app", "+client|setname"), ("?db=1", "+select")]
)
async def test_an_option_needs_the_permission_that_the_documentation_names(
    server: RedisServer, option: str, permission: str
) -> None:
    assert f"`{permission}`" in (ROOT / "docs/redis.md").read_text().replace("\\|", "|")
    storage = RedisStorage.from_url(permit(server) + option)
    with pytest.raises(StorageError, match="no permissions"):
        await storage.fetch(KEY)

    permit(server, permission)
    await all_work(storage)
    await storage.aclose()


async def test_a_cluster_needs_the_permissions_that_the_documentation_names() -> None:
    more = "+cluster|slots +command"
    assert f"`{more}`" in (ROOT / "docs/redis.md").read_text().replace("\\|", "|")
    with redis_cluster() as servers:
        url, *_ = [permit(server, *more.split()) for server in servers]
        client = RedisCluster.from_url(url, socket_timeout=1)
        async with started(RedisStorage(client)) as storage:
            await all_work(storage)
        await client.aclose()

        assert [refused(server) for server in servers] == [[]] * 3


# --- a server that does not tell whether it may evict sessions


@pytest.mark.parametrize("how", ["renamed", "not permitted"])
async def test_a_server_without_info_has_sessions_and_the_log_says_what_it_could_not_be_asked(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    options = ("--rename-command", "INFO", "") if how == "renamed" else ()
    with redis_server(*options) as server, caplog.at_level(logging.INFO):
        url = server.url if how == "renamed" else permit(server, "-info")
        async with started(RedisStorage.from_url(url)) as storage:
            await all_work(storage)

    [record] = [record for record in caplog.records if record.name == "aiohttp_session_store"]
    assert record.levelno == logging.INFO
    assert "could not ask the Redis server whether it may evict sessions (INFO memory)" in record.getMessage()
    assert "maxmemory-policy is noeviction" in record.getMessage()


async def test_a_server_that_permits_nothing_is_unavailable_and_the_log_says_why(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(RedisStorage.from_url(permit(server, "-get"))):
        pass

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "sessions are unavailable" in record.getMessage()
    assert "'get'" in record.getMessage()


# --- passwords


@pytest.mark.parametrize("url", ["redis://:{}@{}", "redis://sessions:{}@{}", "redis://{}@{}", "redis://{}?password={}"])
async def test_a_password_that_the_server_refuses_is_shown_nowhere(
    server: RedisServer, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    permit(server)
    with server.client() as admin:
        admin.config_set("requirepass", "another")
    caplog.set_level(logging.DEBUG)
    wrong, address = "S3cr3t", f"127.0.0.1:{server.port}"
    made = url.format(address, wrong) if "?" in url else url.format(wrong, address)
    async with started(RedisStorage.from_url(made)) as storage:
        with pytest.raises(StorageError) as caught:
            await storage.fetch(KEY)

    error: BaseException | None = caught.value
    while error is not None:
        assert wrong not in f"{error}{error!r}"
        error = error.__context__
    assert wrong not in "".join(traceback.format_exception(caught.value)) + caplog.text


@pytest.mark.parametrize(("renamed", "protocol"), [("HELLO", 3), ("AUTH", 2)])
@pytest.mark.parametrize("binary", [installed, packaged])
async def test_a_server_that_does_not_know_the_command_with_the_password_shows_it_nowhere(
    caplog: pytest.LogCaptureFixture, binary: Callable[[], str | None], renamed: str, protocol: int
) -> None:
    """The server repeats the arguments of a command that it does not know."""
    found = binary()
    if found is None:
        pytest.skip("this server is not installed")
    caplog.set_level(logging.DEBUG)
    with redis_server("--rename-command", renamed, "", binary=found) as server:
        url = f"redis://sessions:{PASSWORD}@127.0.0.1:{server.port}?protocol={protocol}"
        client = Redis.from_url(url)
        async with started(RedisStorage.from_url(url)) as storage:
            for call in (storage.fetch(KEY), RedisReader(client).read(KEY)):
                with pytest.raises(StorageError, match=f"unknown command .{renamed}") as caught:
                    await call
                assert PASSWORD not in "".join(traceback.format_exception(caught.value))
        await client.aclose()

    assert renamed in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(("renamed", "protocol"), [("HELLO", 3), ("AUTH", 2)])
async def test_a_cluster_that_does_not_know_that_command_shows_the_password_nowhere(
    caplog: pytest.LogCaptureFixture, renamed: str, protocol: int
) -> None:
    """The client of a cluster keeps the refusal as the cause of its own error."""
    caplog.set_level(logging.DEBUG)
    with redis_server("--cluster-enabled", "yes", "--rename-command", renamed, "") as server:
        url = f"redis://sessions:{PASSWORD}@127.0.0.1:{server.port}?protocol={protocol}"
        client = RedisCluster.from_url(url, socket_timeout=1)
        async with started(RedisStorage(client)) as storage:
            with pytest.raises(StorageError) as caught:
                await storage.fetch(KEY)
            assert PASSWORD not in "".join(traceback.format_exception(caught.value))
        await client.aclose()

    assert PASSWORD not in caplog.text


# --- TLS and Unix sockets


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_server(authority: Authority) -> Iterator[RedisServer]:
    """Return a server whose certificate is for 127.0.0.1, and which asks its clients for one of the same authority."""
    binary = installed() or packaged()
    if binary is None or b"tls-cert-file" not in Path(binary).read_bytes():
        pytest.skip("this redis-server was built without TLS")
    port, pair = free_port(), authority.issue("127.0.0.1")
    files = ("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key))
    with redis_server("--tls-port", str(port), *files, "--tls-ca-cert-file", str(authority.file)) as server:
        permit(server)
        server.url = f"rediss://sessions:{PASSWORD}@127.0.0.1:{port}?ssl_ca_certs={authority.file}"
        yield server


def with_certificate(authority: Authority) -> str:
    pair = authority.issue("app")
    return f"&ssl_certfile={pair.certificate}&ssl_keyfile={pair.key}"


async def test_a_server_with_tls_and_client_certificates_is_reached_by_the_options_of_the_url(
    tls_server: RedisServer, authority: Authority
) -> None:
    async with started(RedisStorage.from_url(tls_server.url + with_certificate(authority))) as storage:
        await all_work(storage)


async def test_a_server_that_asks_for_no_client_certificate_needs_none(tls_server: RedisServer) -> None:
    with tls_server.client() as admin:
        admin.config_set("tls-auth-clients", "no")
    async with started(RedisStorage.from_url(tls_server.url)) as storage:
        await all_work(storage)


@pytest.mark.parametrize("wrong", ["authority", "name", "no client certificate"])
async def test_a_certificate_that_proves_nothing_is_a_storage_error_that_names_the_cause(
    tls_server: RedisServer, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    url = tls_server.url
    if wrong != "no client certificate":
        url += with_certificate(authority)
    if wrong == "authority":
        (tmp_path / "other").mkdir()
        url = url.replace(str(authority.file), str(Authority(tmp_path / "other").file))
    elif wrong == "name":
        url = url.replace("127.0.0.1", "localhost")
    async with started(RedisStorage.from_url(url + "&ssl_check_hostname=true", timeout=1)) as storage:
        with pytest.raises(StorageError) as caught:
            await storage.fetch(KEY)

    shown = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in shown
    if wrong != "no client certificate":  # the server just hangs up
        assert re.search("certificate verify failed", shown, re.IGNORECASE)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_keyfile=/nowhere/key.pem&ssl_certfile"])
def test_a_file_that_cannot_be_read_is_refused_while_the_app_is_built(option: str) -> None:
    with pytest.raises(ConfigurationError, match="names a file that cannot be read"):
        RedisStorage.from_url(f"rediss://:{PASSWORD}@host?{option}=/nowhere/{PASSWORD}.pem")


async def test_a_unix_socket_is_reached_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)) as server:
        permit(server, "+select")
        for url in (f"unix://{path}", f"unix://sessions:{PASSWORD}@{path}", f"unix://sessions:{PASSWORD}@{path}?db=1"):
            async with started(RedisStorage.from_url(url)) as storage:
                await all_work(storage)
