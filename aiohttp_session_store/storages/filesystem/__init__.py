"""Sessions in files.

``storage`` is the storage.  Its blocking transactions run in ``threads``:

- ``directory`` is the open directory, and ``safe_path`` opens and checks it.
- ``atomic_files`` reads and changes records.  ``record_file`` is one open file, ``file_format`` its layout, and
  ``swap`` gives a file its name.
- ``lock`` has the locks between processes.
- ``sweep`` removes what has expired, and ``set_aside`` moves away what is no record.
- ``secret`` is the file with the signing secret.  ``probe`` and ``upkeep`` find out what is wrong at the start and
  later.

``stat_cache`` is the read cache, which works on the event loop.
"""

from .storage import FileSystemStorage

__all__ = ["FileSystemStorage"]
