"""TLS: a certificate that proves nothing is an outage whose reason is named, and not a wrong setting."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from aiohttp_session_store import StorageError
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.away import KEY, started
from tests.servers.certificates import Authority
from tests.servers.postgres import PostgresServer


async def use_tls(server: PostgresServer, authority: Authority) -> None:
    """Give the server a certificate for 127.0.0.1."""
    connection = await asyncpg.connect(server.dsn)
    if await connection.fetchval("SHOW ssl_library") == "":
        await connection.close()
        pytest.skip("this server was built without TLS")
    pair = authority.issue("127.0.0.1")
    for name, file in (("ssl_cert_file", pair.certificate), ("ssl_key_file", pair.key)):
        own = server.folder / file.name
        shutil.copyfile(file, own)
        own.chmod(0o600)
        if server.user is not None:
            shutil.chown(own, server.user)
        await connection.execute(f"ALTER SYSTEM SET {name} = '{own}'")
    await connection.execute("ALTER SYSTEM SET ssl = on")
    await connection.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(20):
        while await connection.fetchval("SHOW ssl") != "on":
            await asyncio.sleep(0.02)
    await connection.close()


async def test_a_certificate_that_proves_nothing_is_an_outage_and_the_log_names_the_reason(
    server: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    await use_tls(server, authority)
    dsn = server.dsn + "?sslmode=verify-full&sslrootcert="
    async with started(PostgresStorage.from_dsn(f"{dsn}{authority.file}")) as storage:
        await storage.create_schema()
        assert await storage.fetch(KEY) is None
    assert not caplog.records

    for wrong in (f"{dsn}{other.file}", f"{dsn}{authority.file}".replace("127.0.0.1", "localhost")):
        caplog.clear()
        async with started(PostgresStorage.from_dsn(wrong)) as storage:
            with pytest.raises(StorageError, match="certificate verify failed"):
                await storage.fetch(KEY)
        [record] = caplog.records
        assert "sessions are unavailable" in record.getMessage()
        assert "certificate verify failed" in record.getMessage()
