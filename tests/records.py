"""What storages in memory hold, told apart: live sessions, and what is kept for ids that were changed or ended."""

from typing import Any

from aiohttp_session_store.record.format import Retired, decode_record
from aiohttp_session_store.record.session_id import snapshot_key


def live_keys(*storages: Any) -> list[str]:
    """Return the keys of the live records of one ``MemoryStorage`` or ``PlainStorage``, or of several together.

    Retired records and tombstones are left out, and so are the snapshots that retired ids may read.
    """
    records = [(key, decode_record(entry[0])) for storage in storages for key, entry in storage._records.items()]
    snapshots = {
        snapshot_key(key, record.successor)
        for key, record in records
        if isinstance(record, Retired) and record.successor
    }
    return [key for key, record in records if not isinstance(record, Retired) and key not in snapshots]
