"""Sessions in files.

``storage`` is the storage, and holds all the asynchronous code.  ``atomic_files`` and ``sweep`` are its blocking
transactions.  ``lock`` has the locks between processes, ``file_format`` the layout of a file, and ``swap`` the atomic
replacement of a file.  ``stat_cache`` is the read cache, ``secret`` the file with the signing secret, and ``directory``
checks that the directory is safe.
"""

from .storage import FileSystemStorage

__all__ = ["FileSystemStorage"]
