"""Servers of our own, for as long as something is measured on them."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server


@contextmanager
def redis_url() -> Iterator[str]:
    """Run Redis and return where it is."""
    with redis_server() as server:
        yield server.url


@contextmanager
def postgres_dsn() -> Iterator[str]:
    """Run PostgreSQL, without fsync, and return where its database is."""
    with postgres_server() as server:
        yield server.dsn
