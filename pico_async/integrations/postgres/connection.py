"""The way to PostgreSQL: a pool's connections, bounded in time, patient through a restart, and quiet about values."""

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
    from psycopg.rows import TupleRow, tuple_row
    from psycopg_pool import AsyncConnectionPool, PoolClosed
except ImportError as error:
    raise ImportError(
        "This part of pico_async needs psycopg and its pool: pip install 'pico-async[procrastinate]'"
    ) from error

Pool: TypeAlias = "AsyncConnectionPool[Any]"
Cursor: TypeAlias = "psycopg.AsyncCursor[TupleRow]"

# "Pico" in ASCII, and which of its locks: workers that start at once make the tables one after the other.
SETUP_LOCK = 0x5069636F_01
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

# Added to what changes a row that a message's fate hangs on: a database may be set up to answer before a commit is on
# the disk, and a crash would then forget that a message was on the wire. What is stricter than "on" stays.
DURABLE_COMMIT: LiteralString = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    " ELSE current_setting('synchronous_commit') END, true)"
)

POOLER_HINT: Final = (
    "behind a transaction pooler, as PgBouncer, a connection must prepare no statements: give the pool "
    '`kwargs={"prepare_threshold": None}`'
)


class ServerAwayError(JournalError):
    """PostgreSQL is not there now. It may be in a moment."""


class Database:
    """
    Run statements over a pool.

    Args:
        pool: Open. Its connections may be in autocommit or not.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def fetch(
        self, statement: LiteralString, values: Sequence[object] | dict[str, object] = (), *, timeout_s: float
    ) -> list[TupleRow]:
        """
        Run one statement, commit it and give its rows.

        It must do no harm twice: where the connection is lost it is tried again, and the first may have been committed.

        Args:
            timeout_s: Seconds for all tries, so that a restart of the server is waited for.

        Raises:
            JournalError: The server was not there, or refused. Whether it was committed is unknown.
        """
        give_up_at = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self.cursor(give_up_at - time.monotonic()) as cursor:
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
        """
        Run some statements, and commit them all or none.

        Raises:
            JournalError: They were not committed, or nobody knows.
        """
        try:
            async with self.cursor(timeout_s) as cursor, cursor.connection.transaction():
                yield cursor
        except (psycopg.Error, TimeoutError) as error:
            raise journal_error(error) from None

    @asynccontextmanager
    async def cursor(self, timeout_s: float) -> AsyncIterator[Cursor]:
        """Lend a connection's cursor, with rows as tuples, for so many seconds."""
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
    """
    Lend a connection to who still wants it when it comes.

    Args:
        timeout_s: How long it may take to come; None for the pool's own time.
    """
    since = cancellations()
    async with cancellable(), pool.connection(timeout=timeout_s) as connection:
        # The pool drops a cancellation that comes as it lends. Nothing was done so far, and nothing must be.
        await end_if_cancelled(since)
        with without_prepared_statements(connection):
            yield connection


@contextmanager
def without_prepared_statements(connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """
    Prepare no statement on this connection meanwhile.

    A prepared statement is in one session of PostgreSQL. A transaction pooler, as PgBouncer, may run the next
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
    Make tables, and add columns that an older version did not have, where one of them is missing.

    Inside a transaction, any number of callers may do so at once. Where nothing is missing, it needs no right to make
    any.

    Args:
        tables: The names of their columns.

    Raises:
        JournalError: A table of that name has other columns.
    """
    await cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SETUP_LOCK,))
    missing = await _missing(cursor, tables)
    if not missing:
        return
    # An index may want a column that an unknown table of that name does not have.
    with suppress(psycopg.errors.UndefinedColumn):
        await cursor.execute(schema)
        missing = await _missing(cursor, tables)
    if missing:
        raise JournalError(
            f"PostgreSQL has tables of these names that this version cannot migrate: they lack {', '.join(missing)}. "
            "Nothing was changed. Rename them (ALTER TABLE … RENAME TO …), and call `setup` again: it makes new ones. "
            "A new ledger does not know what was sent: let the queue run empty first."
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
    """Return whether the statement may succeed when it is tried again: the server was only away, as in a restart."""
    passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError)
    return is_pooler_error(error) or (passing and not isinstance(error, PoolClosed))


def is_pooler_error(error: BaseException | None) -> bool:
    """Return whether a statement was prepared in another session (SQLSTATE 26000, 42P05). It was not carried out."""
    return isinstance(error, psycopg.errors.InvalidSqlStatementName | psycopg.errors.DuplicatePreparedStatement)


def journal_error(error: psycopg.Error | TimeoutError) -> JournalError:
    """
    Tell of PostgreSQL's error by its name alone.

    Its text may show values of the statement, which are numbers and texts, or where and as whom one connects.
    """
    if is_transient(error):
        why = "no answer came in time" if isinstance(error, TimeoutError) else "it is away, restarting or full"
        if is_pooler_error(error):
            why = POOLER_HINT
        return ServerAwayError(f"PostgreSQL cannot be used now: {why} ({type(error).__name__}).")
    if isinstance(error, PoolClosed):
        reason = "the pool is closed, or not open yet"
    elif isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        reason = "they are missing, or of an older version: call `setup` once, which makes or migrates them"
    elif isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason = "this user may not; call `setup` once as the owner of the tables"
    else:
        sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
        reason = type(error).__name__ + (f", SQLSTATE {sqlstate}" if sqlstate else "")
    return JournalError(f"The tables of pico_async in PostgreSQL cannot be used: {reason}.")
