"""Sessions in PostgreSQL, for apps on one or several machines.  Needs the extra ``postgres``."""

try:
    from .storage import PostgresStorage
except ImportError as _missing:
    raise ImportError(f"PostgresStorage needs asyncpg ({_missing}): pip install 'asyncpg>=0.30'") from _missing

__all__ = ["PostgresStorage"]
