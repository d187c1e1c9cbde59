"""Into the queue: messages and their jobs, in batches, each batch in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from attrs import field, frozen
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.types import JSONDict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pico_async._boundary import boundary
from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async.bulk.report import FIRST_FAILURES, SendResult
from pico_async.bulk.source import END, Input, Source
from pico_async.coordination.protocols import Priority
from pico_async.errors import ConfigurationError, InvalidMessageError, MessageExpiredError, NotInDoubtError
from pico_async.integrations.postgres.connection import (
    Database,
    borrowed_connection,
    journal_error,
    without_prepared_statements,
)
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.postgres.table import keys_of
from pico_async.integrations.procrastinate.outbox import (
    TIMEOUT_S,
    OutboxEntry,
    hold_for_resend,
    keys_in_outbox,
    pool_of,
    put,
    record_jobs,
    without_job,
)
from pico_async.integrations.procrastinate.task import LEVELS, QUEUE, TASK
from pico_async.messages import MmsMessage, SmsMessage, VoiceMessage


@frozen(kw_only=True, eq=False)
class EnqueueReport:
    """
    What came into the queue.

    Attributes:
        total: Items that were read.
        deferred: Messages that have a job now.
        failed: Items that have none: bad ones, and messages that had expired.
        failures: The first 20 of those, each with its place in the input and its error.
        stopped: Why the input ended before its time; None where it did not.
    """

    total: int = 0
    deferred: int = 0
    failed: int = 0
    failures: tuple[SendResult, ...] = field(default=(), repr=lambda failures: f"<the first {len(failures)}>")
    stopped: str | None = None


@boundary
async def enqueue_bulk(
    app: App,
    messages: Input,
    *,
    connection: psycopg.AsyncConnection[Any] | None = None,
    priority: Priority = Priority.BULK,
    queue: str = QUEUE,
    batch_size: int = 500,
) -> EnqueueReport:
    """
    Put any number of messages into the queue, for `run_worker` to send.

    A message is known by its `key`: enqueued twice, it is sent once. One without a key gets one of its own here, so
    enqueued twice it is sent twice. Whether its number has opted out is asked by the worker's session, when the message
    is about to be sent, and not here. `expires_in` goes on counting in the queue. Number and text are in the database
    until Pico has the message, until it has expired or until `discard`, and in no log.

    Args:
        app: Open, with procrastinate's `PsycopgConnector`; `setup(app)` has made its tables.
        messages: Any iterable or async iterable, of one message or a million; it is read in batches. A bad item is
            told in the report and ends nothing.
        connection: Yours, of psycopg's `AsyncConnection`, to the same database: the messages are in the queue when you
            commit, and only then. It is not committed here. (SQLAlchemy over psycopg has it as
            `(await connection.get_raw_connection()).driver_connection`.) Without it, or where it is in autocommit
            outside of a transaction, each batch is committed by itself.
        priority: INTERACTIVE goes before BULK in the queue, and before Pico.
        batch_size: Messages in one transaction, from 1.

    Raises:
        ConfigurationError: An argument is wrong.
        JournalError: A batch could not be written. A note on the error says how many were deferred before.
        Exception: What *messages* raised, once all that was read before is deferred; with that note.
    """
    intake = _Intake(app, connection, priority=priority, queue=queue, batch_size=batch_size)
    source = Source(messages)
    since = cancellations()
    try:
        while True:
            item = await source.anext() if source.is_async else source.next()
            # In a blast the input is read in a task of a group; here in the caller's, and it may take for its own what
            # cancels that.
            await end_if_cancelled(since)
            if item is END:
                break
            await intake.take(item)
        await intake.flush()
        await end_if_cancelled(since)
        if source.error is not None:
            raise source.error  # noqa: TRY301  the note is for this one, too
    except Exception as error:
        error.add_note(intake.progress())
        raise
    finally:
        await source.aclose()
    return intake.report(source.stopped)


@boundary
async def resend(app: App, *names: str, priority: Priority = Priority.BULK, queue: str = QUEUE) -> int:
    """
    Send messages in doubt, refused or given up again: decide it in the ledger, and put them back into the queue.

    One that had gone out is sent twice. Both happen in one transaction, and only for messages that are put back: the
    others are in doubt as before. What has expired is not put back.

    Args:
        names: Of each, its `key`, or the ID that `PostgresLedger.in_doubt` gives, or at least 12 characters of it.

    Returns:
        How many were put back. Fewer than were named, where the outbox has no message of that name (it is another
        queue's, or was discarded), where the message has expired, or where it has a job that may still deliver it.

    Raises:
        JournalError: One of them is not there, was accepted, or may be on the wire; then none is changed.
    """
    database = Database(pool_of(app))
    ledger = PostgresLedger(database.pool)
    # All in one transaction: what was decided in the ledger has a job, or nothing was decided.
    async with _journal_errors(), database.transaction(TIMEOUT_S) as cursor:
        keys = await without_job(cursor)
        ids = await keys_of(cursor, keys.values())
        # What failed before it came to the ledger, for want of a token, never left: there is nothing to decide there.
        unknown = set(names) & (set(keys.values()) - set(ids.values()))
        known = [name for name in names if name not in unknown]
        try:
            decided = await ledger.resendable(cursor, known)
        except NotInDoubtError:
            # One that waits for its first delivery is not in the ledger yet: another `resend` may have put it back.
            first = await keys_in_outbox(cursor, known)
            if not first:
                raise
            decided = await ledger.resendable(cursor, [name for name in known if name not in first])
        meant = unknown | {ids[row] for row in decided if row in ids}
        back = await hold_for_resend(cursor, [name for name, key in keys.items() if key in meant])
        sent_again = {keys[name] for name in back}
        await ledger.put_back(cursor, [row for row in decided if ids.get(row) in sent_again])
        await _defer(app, back, cursor.connection, priority=priority, queue=queue)
    return len(sent_again)


class _Intake:
    """What came of the input so far, and the batch that is next."""

    def __init__(
        self,
        app: App,
        connection: psycopg.AsyncConnection[Any] | None,
        *,
        priority: Priority,
        queue: str,
        batch_size: int,
    ) -> None:
        if not isinstance(priority, Priority):
            raise ConfigurationError("`priority` must be a Priority, as Priority.INTERACTIVE or Priority.BULK.")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError("`batch_size` must be a whole number from 1.")
        if connection is not None and not isinstance(connection, psycopg.AsyncConnection):
            raise ConfigurationError(
                f"`connection` must be an AsyncConnection of psycopg's, not {type(connection).__name__}."
            )
        self._pool = pool_of(app)
        self._app = app
        self._connection = connection
        self._priority = priority
        self._queue = queue
        self._batch_size = batch_size
        self._batch: list[OutboxEntry] = []
        self._total = 0
        self._deferred = 0
        self._failed = 0
        self._failures: list[SendResult] = []

    async def take(self, item: object) -> None:
        """Take one item of the input, and write the batch where it is full."""
        try:
            self._batch.append(_entry(item))
        except (InvalidMessageError, MessageExpiredError) as error:
            self._failed += 1
            if len(self._failures) < FIRST_FAILURES:
                message = item if isinstance(item, SmsMessage | MmsMessage | VoiceMessage) else None
                self._failures.append(
                    SendResult(index=self._total, message=message, outcome=error.outcome, error=error)
                )
        self._total += 1
        if len(self._batch) >= self._batch_size:
            await self.flush()

    async def flush(self) -> None:
        """Write the batch: messages and jobs, or neither."""
        if not self._batch:
            return
        async with _journal_errors(), self._transaction() as connection:
            async with connection.cursor(row_factory=tuple_row) as cursor:
                await put(cursor, self._batch)
            names = [entry.id for entry in self._batch]
            await _defer(self._app, names, connection, priority=self._priority, queue=self._queue)
        self._deferred += len(self._batch)
        self._batch = []

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if self._connection is None:
            async with borrowed_connection(self._pool) as connection, connection.transaction():
                yield connection
            return
        with without_prepared_statements(self._connection):
            if self._connection.autocommit and self._connection.info.transaction_status is TransactionStatus.IDLE:
                async with self._connection.transaction():
                    yield self._connection
            else:
                # Its owner's. A transaction of ours would be the outermost where none was begun, and commit it.
                yield self._connection

    def progress(self) -> str:
        """Say how far it came, for the note on an error."""
        if self._connection is not None:
            return f"enqueue_bulk: {self._deferred} messages were written; they are in the queue if you commit."
        lost = f", and whether the batch of {len(self._batch)} is in, is not known" if self._batch else ""
        return f"enqueue_bulk: {self._deferred} messages were deferred{lost}. Those with keys can be enqueued again."

    def report(self, stopped: str | None) -> EnqueueReport:
        """Give the numbers."""
        return EnqueueReport(
            total=self._total,
            deferred=self._deferred,
            failed=self._failed,
            failures=tuple(self._failures),
            stopped=stopped,
        )


async def _defer(
    app: App, names: list[UUID], connection: psycopg.AsyncConnection[Any], *, priority: Priority, queue: str
) -> None:
    if not names:
        return
    # By its name: a web app need not have the task, nor a session.
    deferrer = app.configure_task(TASK, queue=queue, priority=LEVELS[priority], connection=connection)
    arguments: list[JSONDict] = [{"outbox_id": str(name)} for name in names]
    jobs = await deferrer.batch_defer_async(*arguments)
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await record_jobs(cursor, jobs)


def _entry(item: object) -> OutboxEntry:
    if isinstance(item, InvalidMessageError):
        raise item
    if not isinstance(item, SmsMessage | MmsMessage | VoiceMessage):
        raise InvalidMessageError(
            f"The input gave a {type(item).__name__} where an SmsMessage, MmsMessage or VoiceMessage belongs."
        )
    entry = OutboxEntry.of(item)
    if entry.remaining_s is not None and entry.remaining_s <= 0:
        raise MessageExpiredError("`expires_in` ran out before the message was enqueued. It was dropped, not sent.")
    return entry


@asynccontextmanager
async def _journal_errors() -> AsyncIterator[None]:
    """Tell psycopg's errors, and procrastinate's of them, without the values that they hold."""
    try:
        yield
    except psycopg.Error as error:
        raise journal_error(error) from None
    except ConnectorException as error:
        if not isinstance(error.__cause__, psycopg.Error):
            raise
        raise journal_error(error.__cause__) from None
