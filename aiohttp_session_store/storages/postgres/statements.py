"""The SQL statements: one table, and one statement for each verb."""

import hashlib
from dataclasses import dataclass

from ...errors import ConfigurationError

# PostgreSQL silently truncates longer names (NAMEDATALEN). The index is named after the table.
_LONGEST_NAME = 63
_INDEX = "_expires_at_idx"
# What the table's advisory locks are for: creating the table, sweeping it, and each session.
_SCHEMA, _SWEEP, _SESSION = "schema", "sweep", "session"


def quoted(name: str) -> str:
    """Quote *name* as an SQL identifier, whatever characters it contains."""
    return '"' + name.replace('"', '""') + '"'


def _checked(what: str, name: object, longest: int) -> str:
    if not isinstance(name, str) or not name or "\0" in name or len(name.encode()) > longest:
        raise ConfigurationError(f"{what} must be a name of at most {longest} bytes, not {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for one table.

    Attributes:
        table: The quoted name of the table, with its schema if one is given.
        names: The unquoted names of the schema (or None), the table and the index: the parameters of ``exists``.
        sweep: Returns how many rows were removed, or null if another process has the sweep lock.
    """

    table: str
    names: tuple[str | None, str, str]
    fetch: str
    insert: str
    replace: str
    touch: str
    delete: str
    delete_version: str
    sweep: str
    exists: str
    create: str

    @classmethod
    def build(cls, table: str, schema: str | None) -> "Statements":
        """Build the statements for one table.

        Args:
            table: The unquoted name of the table.
            schema: The unquoted name of its schema, or None for the first schema of the ``search_path``.

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
            # What another transaction replaced meanwhile is looked at again, at its newest version.
            delete_version=f"WITH removed AS (DELETE FROM {name} WHERE key = $1 AND version = $2 RETURNING true)"
            f" SELECT EXISTS (SELECT FROM removed) OR NOT EXISTS (SELECT FROM {name} WHERE key = $1)",
            # A single statement is a transaction that ends even if this process dies. It first locks the rows, in one
            # order, and skips those that others are writing. So no process waits for another.
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
        """The advisory lock for creating the table: several processes may try at the same time."""
        return self._lock(_SCHEMA)

    @property
    def sweep_lock(self) -> int:
        """The advisory lock for sweeping the table."""
        return self._lock(_SWEEP)

    def session_lock(self, key: str) -> int:
        """Return the advisory lock of one session."""
        return self._lock(f"{_SESSION}:{key}")

    def _lock(self, purpose: str) -> int:
        """Hash *purpose* to 64 bits, so that our locks collide neither with each other nor with the app's locks."""
        digest = hashlib.sha256(f"aiohttp_session_store:{self.table}:{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)
