"""What the errors of the driver mean: what was done all the same, and what to say about it."""

from typing import Any

import asyncpg

from ...errors import StorageError

__all__ = ["DRIVER_ERRORS", "forget_values", "is_lost", "no_connection", "storage_error"]

#: What the driver raises when the server fails or is unavailable.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def storage_error(error: Exception, timeout: float, *, maybe_stored: bool = False) -> StorageError:
    """Return the :class:`StorageError` that describes *error*.

    Args:
        error: What the driver has raised.
        timeout: Seconds that the server had to answer.
        maybe_stored: Whether a write may have been carried out all the same.
    """
    if isinstance(error, TimeoutError):
        text = f"PostgreSQL did not answer within {timeout:g} s"
    elif isinstance(error, asyncpg.UndefinedTableError):
        text = f"PostgreSQL: {error}: await storage.create_schema(), or run the SQL of storage.schema_sql"
    elif isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        text = (
            f"PostgreSQL: {str(error).partition(chr(10))[0]}. Behind a pooler such as PgBouncer, use"
            " from_dsn(..., prepared_statements=False) or create_pool(..., statement_cache_size=0)"
        )
    elif isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        text = f"PostgreSQL is read-only: {error}"
    else:
        text = f"PostgreSQL: {type(error).__name__}: {error}"
    return StorageError(text, maybe_stored=maybe_stored)


def forget_values(error: Exception) -> None:
    """Remove the data of a session from *error*, if the table has another constraint, trigger or type than ours."""
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None  # such as "Failing row contains (...)"
    if isinstance(error, asyncpg.DataError | ValueError):
        error.args = ("a value was refused (not shown): compare the table with storage.schema_sql",)


def is_lost(error: BaseException) -> bool:
    """Return whether the statement may have been carried out although it ended with *error*."""
    if isinstance(error, asyncpg.PostgresError):
        # An ERROR undoes the statement. A FATAL ends the connection, and may come after the commit. The rest is about
        # connections: 08 is its class, and 40003 means "statement completion unknown".
        severity = error.severity_en or error.severity or "ERROR"  # the driver's own errors have none
        return severity != "ERROR" or (error.sqlstate or "").startswith(("08", "40003"))
    # The driver refuses a parameter, or settings, before it sends anything.
    return not (isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError))


def no_connection(pool: Any, limit: float) -> str:
    """Return what to say if *pool* had no connection within *limit* seconds."""
    size = 0 if pool is None else pool.get_max_size()
    if pool is not None and pool.get_size() - pool.get_idle_size() >= size:
        return (
            f"all {size} connections of the pool were in use for {limit:.3g} s: nothing was sent to PostgreSQL, so"
            " nothing was stored. Make the pool larger, or find what keeps its connections busy"
        )
    return f"PostgreSQL did not answer within {limit:.3g} s: there was no connection, so nothing was stored"
