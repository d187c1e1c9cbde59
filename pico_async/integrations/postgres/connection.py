"""Statements over a pool of PostgreSQL connections: with time limits, retries through a restart, and safe errors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, LiteralString, TypeAlias

import anyio

from pico_async._cancellation import cancellable, cancellations, end_if_cancelled
from pico_async.errors import JournalError

try:
    import psycopg
    from psycopg.pq import TransactionStatus
    from psycopg.rows import TupleRow, tuple_row
    from psycopg_pool import AsyncConnectionPool, PoolClosed
except ImportError as _error:
    raise ImportError(
        "This part of pico_async needs psycopg and its pool: pip install 'pico-async[procrastinate]'"
    ) from _error

Pool: TypeAlias = "AsyncConnectionPool[Any]"
Cursor: TypeAlias = "psycopg.AsyncCursor[TupleRow]"

# "Pico" in ASCII, and the number of the lock. Workers that start at once create the tables one after the other.
SETUP_LOCK = 0x5069636F_01
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

# Part of each statement that records an intent or an outcome. A database may be configured to answer before a commit is
# on the disk, and a crash would then lose the record that a message was sent. A setting stricter than "on" stays.
DURABLE_COMMIT: LiteralString = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    " ELSE current_setting('synchronous_commit') END, true)"
)

POOLER_HINT: Final = (
    "behind a transaction pooler, as PgBouncer, connections must not prepare statements: give the pool "
    '`kwargs={"prepare_threshold": None}`'
)


class ServerAwayError(JournalError):
    """PostgreSQL is away now. A later try may succeed."""


class Database:
    """A PostgreSQL database behind an open pool, whose connections may be in autocommit or not."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __repr__(self) -> str:
        counts = self.pool.get_stats()
        open_, waiting = counts.get("pool_size", 0), counts.get("requests_waiting", 0)
        return f"<Database, connections: {open_}, idle: {counts.get('pool_available', 0)}, waiting: {waiting}>"

    async def fetch(
        self, statement: LiteralString, values: Sequence[object] | dict[str, object] = (), *, timeout_s: float
    ) -> list[TupleRow]:
        """
        Run one statement, commit it and return its rows.

        The statement must be idempotent. If the connection is lost, it runs again, and the first run may have been
        committed.

        Args:
            timeout_s: Seconds for all tries together, so that a restart of the server is waited for.

        Raises:
            JournalError: The server was away, or refused the statement. It is unknown whether it was committed.
        """
        give_up_at = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self.cursor(give_up_at - time.monotonic()) as cursor, _autocommit(cursor.connection):
                    await cursor.execute(statement, values)
                    rows = await cursor.fetchall() if cursor.description else []
            except (psycopg.Error, TimeoutError) as error:
                if not is_transient(error) or time.monotonic() + pause_s >= give_up_at:
                    raise journal_error(error) from None
            else:
                return rows
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @asynccontextmanager
    async def transaction(self, timeout_s: float) -> AsyncIterator[Cursor]:
        """Run the body's statements, and commit all or none; after a JournalError it may be unknown which."""
        try:
            async with self.cursor(timeout_s) as cursor, cursor.connection.transaction():
                yield cursor
        except (psycopg.Error, TimeoutError) as error:
            raise journal_error(error) from None

    @asynccontextmanager
    async def cursor(self, timeout_s: float) -> AsyncIterator[Cursor]:
        """Open a cursor that returns tuples, for at most *timeout_s* seconds."""
        timeout_s = max(timeout_s, 0.001)
        with anyio.fail_after(timeout_s):
            async with (
                borrowed_connection(self.pool, timeout_s) as connection,
                connection.cursor(row_factory=tuple_row) as cursor,
            ):
                yield cursor


@asynccontextmanager
async def borrowed_connection(
    pool: Pool, timeout_s: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Borrow a connection, unless the caller is cancelled meanwhile; without *timeout_s*, the pool's timeout counts."""
    since = cancellations()
    async with cancellable(), pool.connection(timeout=timeout_s) as connection:
        # The pool swallows a cancellation that comes with the connection. Nothing was done yet, so stop here.
        await end_if_cancelled(since)
        with without_prepared_statements(connection):
            yield connection


@asynccontextmanager
async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """Make PostgreSQL commit each statement of the body by itself, which saves the round trips of BEGIN and COMMIT."""
    before = connection.autocommit
    await connection.set_autocommit(True)
    try:
        yield
    finally:
        # The pool discards a connection that was lost, or was cancelled in the middle.
        if connection.info.transaction_status is TransactionStatus.IDLE:
            await connection.set_autocommit(before)


@contextmanager
def without_prepared_statements(connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """
    Keep the connection from preparing statements in the body.

    A prepared statement exists in one session of PostgreSQL. A transaction pooler, as PgBouncer, may run the next
    transaction in another session.
    """
    threshold = connection.prepare_threshold
    connection.prepare_threshold = None
    try:
        yield
    finally:
        connection.prepare_threshold = threshold


async def make_tables(cursor: Cursor, tables: Mapping[str, Sequence[str]], schema: LiteralString) -> None:
    """
    Create missing tables, and add columns that an older version did not have; raise if a table has other columns.

    The cursor must be in a transaction. Any number of callers may do this at once. If nothing is missing, no privilege
    to create tables is needed.
    """
    await cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SETUP_LOCK,))
    missing = await _missing(cursor, tables)
    if not missing:
        return
    # An index may need a column that another program's table of that name does not have.
    with suppress(psycopg.errors.UndefinedColumn):
        await cursor.execute(schema)
        missing = await _missing(cursor, tables)
    if missing:
        raise JournalError(
            f"PostgreSQL has tables of these names that this version cannot migrate: they lack {', '.join(missing)}. "
            "Nothing was changed. Rename them (ALTER TABLE … RENAME TO …), and call `setup` again to create new ones. "
            "A new ledger does not know what was sent, so let the queue run empty first."
        )


async def _missing(cursor: Cursor, tables: Mapping[str, Sequence[str]]) -> list[str]:
    names = [(table, column) for table, columns in tables.items() for column in columns]
    await cursor.execute(
        "SELECT name || '.' || part FROM unnest(%s::text[], %s::text[]) AS wanted (name, part) WHERE NOT EXISTS"
        " (SELECT FROM pg_attribute WHERE attrelid = to_regclass(name) AND attname = part AND NOT attisdropped)",
        ([table for table, _ in names], [column for _, column in names]),
    )
    return [name for (name,) in await cursor.fetchall()]


def is_transient(error: BaseException) -> bool:
    """Return whether a later try may succeed, because the server was only away, such as in a restart."""
    passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError)
    return is_pooler_error(error) or (passing and not isinstance(error, PoolClosed))


def is_pooler_error(error: BaseException | None) -> bool:
    """Return whether a statement was prepared in another session (SQLSTATE 26000, 42P05), so it did not run."""
    return isinstance(error, psycopg.errors.InvalidSqlStatementName | psycopg.errors.DuplicatePreparedStatement)


def journal_error(error: psycopg.Error | TimeoutError) -> JournalError:
    """
    Return an error that contains only the type of PostgreSQL's error.

    The text of PostgreSQL's error may contain values, such as numbers and texts, or the server's host and user.
    """
    if is_transient(error):
        why = "it did not answer in time" if isinstance(error, TimeoutError) else "it is away, restarting or full"
        if is_pooler_error(error):
            why = POOLER_HINT
        return ServerAwayError(f"PostgreSQL cannot be used now: {why} ({type(error).__name__}).")
    if isinstance(error, PoolClosed):
        reason = "the pool is closed, or not open yet"
    elif isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        reason = "they are missing, or of an older version: call `setup` once to create or migrate them"
    elif isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason = "this user has no privilege; call `setup` once as the owner of the tables"
    else:
        sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
        reason = type(error).__name__ + (f", SQLSTATE {sqlstate}" if sqlstate else "")
    return JournalError(f"The tables of pico_async in PostgreSQL cannot be used: {reason}.")
