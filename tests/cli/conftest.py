"""The real command in a process of its own, on real files, Redis and PostgreSQL, beside an app that uses them."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, Session
from aiohttp_session_store.cli.commands import run
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.kinds import Server, server_of
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

COMMAND = [sys.executable, "-m", "aiohttp_session_store"]
#: Seconds in which a busy machine does what takes a second.
PATIENCE = 60.0


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that it printed."""
        return json.loads(self.out)


@dataclass
class Place:
    """A storage, as the app uses it and as an operator names it.

    Attributes:
        options: Those that name it on the command line.
        make: Makes another storage object on it.
        environment: Variables for the command.
    """

    options: list[str]
    make: Callable[..., KeyedStorage]
    environment: dict[str, str] = field(default_factory=dict)

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_")}
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *self.options,
            *arguments,
            env=kept | {"FORCE_COLOR": "1"} | self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> Finished:
        """Run a command to its end.  Without a terminal, it never prints an escape code."""
        process = await self.begin(*arguments)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        finished = Finished(process.returncode or 0, out.decode(), err.decode())
        assert "\x1b" not in finished.out + finished.err
        return finished

    async def quickly(self, *arguments: str) -> Finished:
        """Run a command in this process.  Only one at a time: its output is that of the process."""
        return await asyncio.to_thread(inside, [*self.options, *arguments], self.environment)


def inside(arguments: list[str], environment: dict[str, str]) -> Finished:
    """Run a command in a thread of this process, which saves the second that a process needs to begin."""
    out, err = StringIO(), StringIO()
    with patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Finished(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", params=["files", "redis", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of the storage, started outside of the event loop and once for all tests of a module."""
    with server_of(request.param) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Place:
    return Place(
        ["--storage", f"files:{tmp_path}/sessions"],
        lambda **options: FileSystemStorage(tmp_path / "sessions", sweep_interval=None, **options),
    )


@pytest.fixture
def place(server: Server, files: Place) -> Place:
    name = secrets.token_hex(4)
    if isinstance(server, RedisServer):
        url, prefix = server.url, f"{name}:"
        return Place(
            ["--prefix", prefix], lambda **o: RedisStorage.from_url(url, prefix=prefix, **o), {"SESSION_STORAGE": url}
        )
    if isinstance(server, PostgresServer):
        dsn, table = server.dsn, f"sessions_{name}"
        return Place(
            ["--storage", dsn, "--schema", "public", "--table", table],
            lambda **o: PostgresStorage.from_dsn(dsn, schema="public", table=table, sweep_interval=None, **o),
        )
    return files


async def prepared(storage: KeyedStorage) -> KeyedStorage:
    """Return *storage* after making its tables, if it has any."""
    if isinstance(storage, PostgresStorage):
        await storage.create_schema()
    return storage


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[KeyedStorage]:
    storage = await prepared(place.make())
    yield storage
    await storage.aclose()


async def stored(storage: KeyedStorage, owner: str | None = None, label: str | None = None, **data: Any) -> Session:
    """Return a new session, as it was loaded after it was stored."""
    session = await storage.read(None)
    session.update(data)
    if owner is not None:
        session.login(owner, label=label)
    return await storage.read(await storage.save(session))
