"""A record that the storage does not let us change keeps no command from the others."""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import KeyRing
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.cli.conftest import Finished, Place, inside, stored
from tests.servers.postgres import PostgresServer, postgres_server

KEYS = {"SESSION_KEYS": KeyRing.new_key()}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def refusing(server: PostgresServer, table: str, condition: str) -> tuple[PostgresStorage, list[str]]:
    """Return a storage with 70 sessions, on a server that refuses to change the first of them or all."""
    storage = PostgresStorage.from_dsn(server.dsn, table=table, sweep_interval=None)
    await storage.create_schema()
    keys = sorted([(await stored(storage, number=number)).key for number in range(70)])
    async with storage._connections.one() as connection:
        await connection.execute(
            f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'not this one'; END$$;"
            f" CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW"
            f" WHEN ({condition.format(key=keys[3])}) EXECUTE FUNCTION {table}_refuse()"
        )
    return storage, keys


async def run(server: PostgresServer, table: str, *command: str) -> Finished:
    return await asyncio.to_thread(inside, ["--storage", server.dsn, "--table", table, *command], KEYS)


async def test_what_cannot_be_changed_is_named_and_left(server: PostgresServer) -> None:
    storage, keys = await refusing(server, "one", "OLD.key = '{key}'")
    encrypted = await run(server, "one", "reencrypt", "--json")
    ended = await run(server, "one", "end", "--all", "--yes", "--json")
    rest = await run(server, "one", "stats", "--json")
    await storage.aclose()

    assert (encrypted.code, ended.code) == (1, 1)
    assert (encrypted.document["reencrypted"], encrypted.document["left"]) == (69, 1)
    assert (ended.document["ended"], ended.document["left"], ended.document["complete"]) == (69, 1, True)
    assert rest.document["live"] == 1
    for finished in (encrypted, ended):
        assert f"{keys[3]} could not be changed: PostgreSQL: RaiseError: not this one" in finished.err


@pytest.mark.parametrize("command", [["reencrypt"], ["end", "--all", "--yes"]], ids=lambda command: command[0])
async def test_a_storage_that_changes_nothing_ends_the_command(server: PostgresServer, command: list[str]) -> None:
    table = f"all_{command[0]}"
    storage, _ = await refusing(server, table, "true")
    finished = await run(server, table, *command)
    await storage.aclose()

    assert finished.code == 3
    assert "not this one" in finished.err


async def test_a_folder_that_cannot_be_read_keeps_nobody_else_logged_in(
    files: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor those whose sessions end soon, which are looked at last."""
    storage, soon = files.make(), files.make(idle_timeout=300)
    keys = sorted([(await stored(one, "ada", number=number)).key for number in range(4) for one in (storage, soon)])
    real, closed = os.open, keys[0][:2]

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patched:  # chmod would not do: tests may run as root
        patched.setattr(os, "open", refuse)
        finished = await files.quickly("end", "--all", "--yes")
    left = (await files.quickly("list", "--json")).document
    await storage.aclose()
    await soon.aclose()

    assert finished.code == 3
    assert f"Permission denied: '{closed}'" in finished.err
    assert [session["key"] for session in left] == [key for key in keys if key[:2] == closed]
    assert f"{8 - len(left)} sessions ended." in finished.err
