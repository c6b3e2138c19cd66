"""The server of a kind of storage, if it has one."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_server

Server = RedisServer | PostgresServer | None


@contextmanager
def server_of(kind: str) -> Iterator[Server]:
    """Run the server of ``redis`` or ``postgres``; the other kinds of storage have none."""
    if kind == "redis":
        with redis_server() as redis:
            yield redis
    elif kind == "postgres":
        with postgres_server() as postgres:
            yield postgres
    else:
        yield None
