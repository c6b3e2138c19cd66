"""Checks of a storage whose server is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from aiohttp_session_store import KeyedStorage, StorageError

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000

S = TypeVar("S", bound=KeyedStorage)


@asynccontextmanager
async def started(storage: S) -> AsyncIterator[S]:
    """Start *storage*, and close it at the end."""
    await storage.start()
    yield storage
    await storage.aclose()


async def all_fail(storage: KeyedStorage) -> set[str]:
    """Check that every verb raises StorageError with a cause; return the messages."""
    said = set()
    for call in (
        storage.fetch(KEY),
        storage.insert(KEY, b"", EXPIRES_AT),
        storage.replace(KEY, b"", EXPIRES_AT, b"v"),
        storage.touch(KEY, EXPIRES_AT, b"v"),
        storage.delete(KEY),
    ):
        with pytest.raises(StorageError) as caught:
            await call
        assert caught.value.__cause__ is not None
        said.add(str(caught.value))
    return said


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Listen on a port, accept every connection, and never answer."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
