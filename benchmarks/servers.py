"""Database servers that run only while something is measured on them."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server


@contextmanager
def redis_url() -> Iterator[str]:
    """Run Redis and yield its URL."""
    with redis_server() as server:
        yield server.url


@contextmanager
def postgres_dsn() -> Iterator[str]:
    """Run PostgreSQL without fsync and yield the DSN of its database."""
    with postgres_server() as server:
        yield server.dsn
