"""The SQL statements: tables of sessions, of locks and of owners, and one statement for each verb."""

import hashlib
from dataclasses import dataclass

from ...errors import ConfigurationError
from ..base import RECLAIM_AFTER

# PostgreSQL silently truncates longer names (NAMEDATALEN). The indexes and the other tables are named after the table.
_LONGEST_NAME = 63
_INDEX = "_expires_at_idx"
_LOCKS, _OWNERS = "_locks", "_owners"
_OWNERS_INDEX = "_until_idx"
# What the table's advisory locks are for: creating the tables, and sweeping them. A channel is named likewise.
_SCHEMA, _SWEEP, _CHANNEL = "schema", "sweep", "channel"


def quoted(name: str) -> str:
    """Quote *name* as an SQL identifier, whatever characters it contains."""
    return '"' + name.replace('"', '""') + '"'


def _checked(what: str, name: object, longest: int) -> str:
    if not isinstance(name, str) or not name or "\0" in name or len(name.encode()) > longest:
        raise ConfigurationError(f"{what} must be a name of at most {longest} bytes, not {name!r}")
    return name


def as_text(value: str | bytes | int) -> str:
    """Return *value* as an array of text holds it.

    The driver asks the server about arrays of any other type, once for each connection.  Before it asks, it turns JIT
    compilation off, or else that query takes a second.  Behind a pooler, it turns it off for another connection.
    """
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else "\\x" + value.hex()


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A statement about one record, and one that does the same for several.

    Attributes:
        one: Returns a row if it was carried out, or if it reads, the columns.
        many: Takes an array for each parameter of *one*, see :func:`as_text`.  Returns a row for each record for which
            it was carried out: its place in the arrays, from 1 on, and the columns of *one* if it reads.  What others
            are writing is left out, and so is all but one of those that change the same record.
        again: To be sent if the answer to one of the others was lost.
        writes: Whether it changes a record.
    """

    one: str
    many: str
    again: str
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for one table of sessions and its table of locks.

    Each statement may be sent a second time if its answer was lost.  Those for inserting and replacing then also find
    what the first one has stored, by the version that the client chose for it.  If others have written since, the
    version that stands then tells; see :mod:`.versions`.

    Attributes:
        table: The quoted name of the table, with its schema if one is given.
        locks: The quoted name of the table of locks.
        names: The unquoted names of the schema (or None), the table, its index, the table of locks, and that of owners
            with its index: the parameters of ``exists``.
        sweep: Returns how many rows were removed, or null if another process has the sweep lock.
        sweep_owners: Returns how many entries were removed.
        exists: Returns whether each exists: the table and its index, the table of locks, that of owners and its index.
        create: Creates the schema, the table and its index, if missing.
        create_locks: Creates the table of locks, if missing.
        create_owners: Creates the index of owners, a table with an index, if missing.
    """

    table: str
    locks: str
    names: tuple[str | None, str, str, str, str, str]
    fetch: Shared
    fetch_many: str
    version: str
    versions: str
    insert: Shared
    replace: Shared
    rewrite: Shared
    walk: str
    touch: Shared
    delete: Shared
    delete_version: Shared
    sweep: str
    take_lock: str
    renew_lock: str
    release_lock: str
    sweep_locks: str
    link: str
    unlink: str
    linked: str
    sweep_owners: str
    exists: str
    make_schema: str
    create: str
    create_locks: str
    create_owners: str

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
        name, locks = f"{place}{quoted(table)}", f"{place}{quoted(table + _LOCKS)}"
        owners = f"{place}{quoted(table + _OWNERS)}"
        ends_at = "clock_timestamp() + $3::float8 * interval '1 second'"
        return cls(
            table=name,
            locks=locks,
            names=(schema, table, table + _INDEX, table + _LOCKS, table + _OWNERS, table + _OWNERS_INDEX),
            fetch=_fetch(name),
            fetch_many=f"SELECT key, data, version, expires_at FROM {name} WHERE key = ANY($1)",
            version=f"SELECT version FROM {name} WHERE key = $1",
            versions=f"SELECT key, version FROM {name} WHERE key = ANY($1)",
            insert=_insert(name),
            replace=_replace(name),
            touch=_touch(name),
            delete=_delete(name),
            delete_version=_delete_version(name),
            rewrite=_rewrite(name),
            # The keys after $1, in their order.
            walk=f"SELECT key, data, version, expires_at FROM {name} WHERE key > $1 ORDER BY key LIMIT $2",
            # A single statement is a transaction that ends even if this process dies. It first locks the rows, in one
            # order, and skips those that others are writing. So no process waits for another. A process whose clock is
            # ahead removes nothing that is alive by the server's clock. (now() can be compared with an index, but
            # clock_timestamp() cannot.)
            sweep="WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($3) AS ours),"
            f" doomed AS (SELECT key FROM {name} WHERE (SELECT ours FROM turn)"
            f" AND expires_at <= least($1, floor(extract(epoch FROM now()))::bigint - {RECLAIM_AFTER})"
            " ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED),"
            f" removed AS (DELETE FROM {name} WHERE key IN (SELECT key FROM doomed) RETURNING true)"
            " SELECT CASE WHEN (SELECT ours FROM turn) THEN (SELECT count(*) FROM removed) END",
            # It looks before it writes, because ON CONFLICT locks a row even if it leaves the row as it is. So a
            # request that waits for a lock writes nothing.
            take_lock=f"INSERT INTO {locks} AS held (key, token, ends_at) SELECT $1::text, $2::bytea, {ends_at}"
            f" WHERE NOT EXISTS (SELECT FROM {locks} WHERE key = $1 AND token <> $2 AND ends_at > clock_timestamp())"
            " ON CONFLICT (key) DO UPDATE SET token = excluded.token, ends_at = excluded.ends_at"
            " WHERE held.token = excluded.token OR held.ends_at <= clock_timestamp() RETURNING true",
            renew_lock=f"UPDATE {locks} SET ends_at = {ends_at}"
            " WHERE key = $1 AND token = $2 AND ends_at > clock_timestamp() RETURNING true",
            release_lock=f"DELETE FROM {locks} WHERE key = $1 AND token = $2",
            sweep_locks=f"DELETE FROM {locks} WHERE ends_at <= clock_timestamp()",
            link=f"INSERT INTO {owners} AS linked (owner, key, until) VALUES ($1, $2, $3)"
            " ON CONFLICT (owner, key) DO UPDATE SET until = greatest(linked.until, excluded.until)",
            unlink=f"DELETE FROM {owners} WHERE owner = $1 AND key = $2",
            linked=f"SELECT array_agg(key) FROM {owners} WHERE owner = $1",
            # It skips what others are writing, so that no process waits for another.
            sweep_owners=f"WITH doomed AS (SELECT owner, key FROM {owners}"
            f" WHERE until <= least($1, floor(extract(epoch FROM now()))::bigint - {RECLAIM_AFTER})"
            " ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED),"
            f" removed AS (DELETE FROM {owners} WHERE (owner, key) IN (SELECT owner, key FROM doomed) RETURNING true)"
            " SELECT count(*) FROM removed",
            exists="SELECT EXISTS (SELECT FROM pg_catalog.pg_indexes WHERE schemaname = coalesce($1, current_schema())"
            " AND tablename = $2 AND indexname = $3), EXISTS (SELECT FROM pg_catalog.pg_tables"
            " WHERE schemaname = coalesce($1, current_schema()) AND tablename = $4),"
            " EXISTS (SELECT FROM pg_catalog.pg_indexes WHERE schemaname = coalesce($1, current_schema())"
            " AND tablename = $5 AND indexname = $6)",
            make_schema="" if schema is None else f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};\n",
            create=f"CREATE TABLE IF NOT EXISTS {name} (\n"
            '    key text COLLATE "C" PRIMARY KEY,\n'
            "    data bytea NOT NULL,\n"
            "    version bytea NOT NULL,\n"
            "    expires_at bigint NOT NULL\n"
            ");\n"
            f"CREATE INDEX IF NOT EXISTS {quoted(table + _INDEX)} ON {name} (expires_at);\n",
            # Not logged, because a lock that a crash of the server loses is noticed: its holder then saves nothing.
            create_locks=f"CREATE UNLOGGED TABLE IF NOT EXISTS {locks} (\n"
            '    key text COLLATE "C" PRIMARY KEY,\n'
            "    token bytea NOT NULL,\n"
            "    ends_at timestamptz NOT NULL\n"
            ");\n",
            create_owners=f"CREATE TABLE IF NOT EXISTS {owners} (\n"
            '    owner text COLLATE "C",\n'
            '    key text COLLATE "C",\n'
            "    until bigint NOT NULL,\n"
            "    PRIMARY KEY (owner, key)\n"
            ");\n"
            f"CREATE INDEX IF NOT EXISTS {quoted(table + _OWNERS_INDEX)} ON {owners} (until);\n",
        )

    @property
    def create_lock(self) -> int:
        """The advisory lock for creating the tables: several processes may try at the same time."""
        return self._lock(_SCHEMA)

    @property
    def channel(self) -> str:
        """The channel on which ended sessions are announced."""
        return f"aiohttp_sessions_{self._lock(_CHANNEL) % 2**64:016x}"

    @property
    def sweep_lock(self) -> int:
        """The advisory lock for sweeping the table."""
        return self._lock(_SWEEP)

    def _lock(self, purpose: str) -> int:
        """Hash *purpose* to 64 bits, so that our locks collide neither with each other nor with the app's locks."""
        digest = hashlib.sha256(f"aiohttp_session_store:{self.table}:{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def _wanted(*columns: str) -> str:
    """Return the arrays that a statement for several records takes, as a table; *columns* are names with types.

    All of them are arrays of text, see :func:`as_text`.
    """
    names = [column.partition(" ")[0] for column in columns]
    arrays = [f"${number}::text[]::{column.partition(' ')[2]}[]" for number, column in enumerate(columns, 1)]
    return f"unnest({', '.join(arrays)}) WITH ORDINALITY AS want ({', '.join(names)}, number)"


def _found(name: str, wanted: str, condition: str) -> str:
    """Return the beginning of a statement that locks what it is about to change, without waiting for anybody.

    Two statements that wait for each other's rows would be a deadlock, and the order in which an UPDATE takes its rows
    cannot be chosen.
    """
    return (
        f"WITH found AS MATERIALIZED (SELECT want.* FROM {wanted} JOIN {name} AS stored ON {condition}"
        " FOR UPDATE OF stored SKIP LOCKED)"
    )


_BY_KEY = "stored.key = {0}.key"
_BY_VERSION = _BY_KEY + " AND stored.version = {0}.version"


def _fetch(name: str) -> Shared:
    one = f"SELECT data, version, expires_at FROM {name} WHERE key = $1"
    many = (
        f"SELECT want.number, stored.data, stored.version, stored.expires_at FROM {_wanted('key text')}"
        f" JOIN {name} AS stored ON {_BY_KEY.format('want')}"
    )
    return Shared(one, many, again=one, writes=False)


def _insert(name: str) -> Shared:
    into = f"INSERT INTO {name} AS stored (key, data, version, expires_at)"
    one = f"{into} VALUES ($1, $2, $3, $4) ON CONFLICT (key)"
    wanted = _wanted("key text", "data bytea", "version bytea", "expires_at bigint")
    return Shared(
        f"{one} DO NOTHING RETURNING true",
        # An insert waits for another one of the same key. So they all go by the keys.
        f"WITH want AS MATERIALIZED (SELECT * FROM {wanted}),"
        f" done AS ({into} SELECT key, data, version, expires_at FROM want ORDER BY key"
        " ON CONFLICT (key) DO NOTHING RETURNING version)"
        " SELECT want.number FROM want JOIN done USING (version)",
        again=f"{one} DO UPDATE SET version = excluded.version WHERE stored.version = excluded.version RETURNING true",
    )


def _replace(name: str) -> Shared:
    wanted = _wanted("key text", "data bytea", "newer bytea", "expires_at bigint", "version bytea")
    return Shared(
        f"UPDATE {name} SET data = $2, version = $3, expires_at = $4 WHERE key = $1 AND version = $5 RETURNING true",
        f"{_found(name, wanted, _BY_VERSION.format('want'))} UPDATE {name} AS stored"
        " SET data = found.data, version = found.newer, expires_at = found.expires_at"
        f" FROM found WHERE {_BY_VERSION.format('found')} RETURNING found.number",
        # One UPDATE, which looks at the newest version of a row even if it had to wait for another writer. A touch may
        # have extended what the first one stored.
        again=f"UPDATE {name} SET data = $2, version = $3,"
        " expires_at = CASE WHEN version = $3 THEN greatest(expires_at, $4) ELSE $4 END"
        " WHERE key = $1 AND version IN ($5, $3) RETURNING true",
    )


def _rewrite(name: str) -> Shared:
    wanted = _wanted("key text", "data bytea", "newer bytea", "version bytea")
    change = f"UPDATE {name} SET data = $2, version = $3 WHERE key = $1 AND version"
    return Shared(
        f"{change} = $4 RETURNING true",
        f"{_found(name, wanted, _BY_VERSION.format('want'))} UPDATE {name} AS stored"
        f" SET data = found.data, version = found.newer FROM found WHERE {_BY_VERSION.format('found')}"
        " RETURNING found.number",
        again=f"{change} IN ($4, $3) RETURNING true",
    )


def _touch(name: str) -> Shared:
    one = f"UPDATE {name} SET expires_at = greatest(expires_at, $2) WHERE key = $1 AND version = $3 RETURNING true"
    wanted = _wanted("key text", "expires_at bigint", "version bytea")
    many = (
        f"{_found(name, wanted, _BY_VERSION.format('want'))} UPDATE {name} AS stored"
        " SET expires_at = greatest(stored.expires_at, found.expires_at)"
        f" FROM found WHERE {_BY_VERSION.format('found')} RETURNING found.number"
    )
    return Shared(one, many, again=one)


def _delete(name: str) -> Shared:
    one = f"DELETE FROM {name} WHERE key = $1"
    many = (
        f"{_found(name, _wanted('key text'), _BY_KEY.format('want'))} DELETE FROM {name} AS stored"
        f" USING found WHERE {_BY_KEY.format('found')} RETURNING found.number"
    )
    return Shared(one, many, again=one)


def _delete_version(name: str) -> Shared:
    # What another transaction replaced meanwhile is looked at again, at its newest version.
    one = (
        f"WITH removed AS (DELETE FROM {name} WHERE key = $1 AND version = $2 RETURNING true)"
        f" SELECT true WHERE EXISTS (SELECT FROM removed) OR NOT EXISTS (SELECT FROM {name} WHERE key = $1)"
    )
    many = (
        f"{_found(name, _wanted('key text', 'version bytea'), _BY_VERSION.format('want'))} DELETE FROM {name} AS stored"
        f" USING found WHERE {_BY_VERSION.format('found')} RETURNING found.number"
    )
    return Shared(one, many, again=one)
