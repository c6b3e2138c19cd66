"""Sessions in Redis or Valkey, for apps on one or several machines.  Needs the extra ``redis``."""

try:
    from .storage import RedisStorage
except ImportError as _missing:
    raise ImportError(f"RedisStorage needs redis-py ({_missing}): pip install 'redis>=5.0.1'") from _missing

__all__ = ["RedisStorage"]
