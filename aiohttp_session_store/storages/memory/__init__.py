"""Sessions in the memory of one process: for development, tests, and apps that run as a single process."""

from .storage import MemoryStorage

__all__ = ["MemoryStorage"]
