"""Sessions in PostgreSQL, for several machines; needs the extra ``postgres``."""

try:
    from .storage import PostgresStorage
except ImportError as error:
    raise ImportError(
        f"PostgresStorage needs asyncpg ({error}): pip install 'aiohttp_session_store[postgres]'"
    ) from error

__all__ = ["PostgresStorage"]
