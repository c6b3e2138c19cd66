"""The SQL: one table, and one statement for each verb."""

import hashlib
from dataclasses import dataclass

from ...errors import ConfigurationError

# PostgreSQL cuts longer names off in silence (NAMEDATALEN); the index is named after the table.
_LONGEST_NAME = 63
_INDEX = "_expires_at_idx"
# The table's advisory locks: one for all that make or sweep it, and one for each session.
_SCHEMA, _SWEEP, _SESSION = "schema", "sweep", "session"


def quoted(name: str) -> str:
    """Return *name* as an identifier that means exactly that, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def _checked(what: str, name: object, longest: int) -> str:
    if not isinstance(name, str) or not name or "\0" in name or len(name.encode()) > longest:
        raise ConfigurationError(f"{what} is the name of one, of {longest} bytes at most, not {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for one table.

    Attributes:
        table: Its name, with that of its schema, quoted.
        names: Those of schema or None, table and index, unquoted: what ``exists`` is asked with.
        sweep: Gives how many rows it removed, or null: somebody else has the lock.
    """

    table: str
    names: tuple[str | None, str, str]
    fetch: str
    insert: str
    replace: str
    touch: str
    delete: str
    sweep: str
    exists: str
    create: str

    @classmethod
    def build(cls, table: str, schema: str | None) -> "Statements":
        """Prepare the statements.

        Args:
            table: Its name, unquoted.
            schema: That of its schema, unquoted, or None for the first one of the ``search_path``.

        Raises:
            ConfigurationError: A name is empty or too long.
        """
        _checked("table", table, _LONGEST_NAME - len(_INDEX))
        place = "" if schema is None else f"{quoted(_checked('schema', schema, _LONGEST_NAME))}."
        name = f"{place}{quoted(table)}"
        make_schema = "" if schema is None else f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};\n"
        return cls(
            table=name,
            names=(schema, table, table + _INDEX),
            fetch=f"SELECT data, version, expires_at FROM {name} WHERE key = $1",
            insert=f"INSERT INTO {name} (key, data, version, expires_at) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (key) DO NOTHING RETURNING true",
            replace=f"UPDATE {name} SET data = $2, version = $3, expires_at = $4 WHERE key = $1 AND version = $5"
            " RETURNING true",
            touch=f"UPDATE {name} SET expires_at = greatest(expires_at, $2) WHERE key = $1 AND version = $3"
            " RETURNING true",
            delete=f"DELETE FROM {name} WHERE key = $1",
            # One statement, for its transaction ends whatever becomes of us. Rows are locked first, in one order,
            # skipping what somebody is writing: then nobody waits for anybody.
            sweep="WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($3) AS ours),"
            f" doomed AS (SELECT key FROM {name} WHERE (SELECT ours FROM turn) AND expires_at <= $1"
            " ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED),"
            f" removed AS (DELETE FROM {name} WHERE key IN (SELECT key FROM doomed) RETURNING true)"
            " SELECT CASE WHEN (SELECT ours FROM turn) THEN (SELECT count(*) FROM removed) END",
            exists="SELECT EXISTS (SELECT FROM pg_catalog.pg_indexes WHERE schemaname = coalesce($1, current_schema())"
            " AND tablename = $2 AND indexname = $3)",
            create=f"{make_schema}"
            f"CREATE TABLE IF NOT EXISTS {name} (\n"
            '    key text COLLATE "C" PRIMARY KEY,\n'
            "    data bytea NOT NULL,\n"
            "    version bytea NOT NULL,\n"
            "    expires_at bigint NOT NULL\n"
            ");\n"
            f"CREATE INDEX IF NOT EXISTS {quoted(table + _INDEX)} ON {name} (expires_at);\n",
        )

    @property
    def create_lock(self) -> int:
        """The advisory lock of those who create the table at the same time."""
        return self._lock(_SCHEMA)

    @property
    def sweep_lock(self) -> int:
        """The advisory lock of the one who sweeps."""
        return self._lock(_SWEEP)

    def session_lock(self, key: str) -> int:
        """Return the advisory lock of one session."""
        return self._lock(f"{_SESSION}:{key}")

    def _lock(self, purpose: str) -> int:
        """Spread the locks over 64 bits, so that they meet neither each other nor those of the application."""
        digest = hashlib.sha256(f"aiohttp_session_store:{self.table}:{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)
