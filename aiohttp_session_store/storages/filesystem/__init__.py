"""Sessions in files.

``storage`` is the storage and all that is asynchronous; ``files`` and ``sweep`` are its transactions, blocking, with
``locks`` between processes and ``format`` for the bytes; ``directory`` makes the place safe.
"""

from .storage import FileSystemStorage

__all__ = ["FileSystemStorage"]
