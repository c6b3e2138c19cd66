"""Sessions in Redis or Valkey, for several machines; needs the extra ``redis``."""

try:
    from .storage import RedisStorage
except ImportError as error:
    raise ImportError(f"RedisStorage needs redis-py ({error}): pip install 'aiohttp_session_store[redis]'") from error

__all__ = ["RedisStorage"]
