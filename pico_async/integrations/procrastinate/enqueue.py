"""Put messages and their jobs into the queue, in batches, each batch in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from attrs import define, field, frozen
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.types import JSONDict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pico_async._boundary import boundary
from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async._values import Value
from pico_async.bulk.report import FIRST_FAILURES, SendResult
from pico_async.bulk.source import END, Input, Source
from pico_async.coordination.protocols import Priority
from pico_async.errors import ConfigurationError, InvalidMessageError, MessageExpiredError, NotInDoubtError, Reason
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
class EnqueueReport(Value):
    """
    The result of `enqueue_bulk`.

    Attributes:
        total: The number of items that were read.
        deferred: The number of messages that have a job now.
        failed: The number of items without a job: bad ones, and messages that had expired.
        failures: The first 20 of the failed items, each with its index in the input and its error.
        stopped: Why the input ended early; None if it did not.
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

    The `key` identifies a message: enqueued twice, it is sent once. A message without a key gets a random one, so
    enqueued twice, it is sent twice. The worker's session checks opt-outs just before it sends the message. The time of
    `expires_in` includes the queue. Number and text are in no log. They are in the database until Pico has the message,
    until it has expired, or until `discard`.

    Args:
        app: An open app with procrastinate's `PsycopgConnector`, after `setup(app)`.
        messages: Any iterable or async iterable, of one message or a million. It is read in batches. A bad item is
            reported as failed and does not stop the rest.
        connection: Your own psycopg `AsyncConnection` to the same database. The messages are in the queue when you
            commit; it is not committed here. (In SQLAlchemy over psycopg it is
            `(await connection.get_raw_connection()).driver_connection`.) Without it, or if it is in autocommit outside
            a transaction, each batch is committed by itself.
        priority: INTERACTIVE comes before BULK, in the queue and in the limiter.
        batch_size: Messages in one transaction, from 1.

    Raises:
        ConfigurationError: An argument is wrong.
        JournalError: A batch could not be written. A note on the error has the number of messages deferred before.
        Exception: An error of *messages*, after everything that was read before is deferred; with the same note.
    """
    intake = _Intake(app=app, connection=connection, priority=priority, queue=queue, batch_size=batch_size)
    source = Source(messages)
    since = cancellations()
    try:
        while True:
            item = await source.anext() if source.is_async else source.next()
            # The input runs in the caller's task, and may swallow a cancellation of that task.
            await end_if_cancelled(since)
            if item is END:
                break
            await intake.add(item)
        await intake.flush()
        await end_if_cancelled(since)
        if source.error is not None:
            raise source.error  # noqa: TRY301  it gets the note, too
    except Exception as error:
        error.add_note(intake.progress())
        raise
    finally:
        await source.aclose()
    return EnqueueReport(
        total=intake.total,
        deferred=intake.deferred,
        failed=intake.failed,
        failures=tuple(intake.failures),
        stopped=source.stopped,
    )


@boundary
async def resend(app: App, *names: str, priority: Priority = Priority.BULK, queue: str = QUEUE) -> int:
    """
    Put messages that are in doubt, refused or given up back into the queue, and allow the ledger to send them.

    A message that was sent is sent twice. Ledger and queue change in one transaction, and only for the messages that
    are put back. The others stay in doubt.

    Args:
        names: For each message its `key`, its ID from `PostgresLedger.in_doubt`, or the first 12 or more characters of
            the ID.

    Returns:
        The number of messages that were put back. A message is not put back if it has expired, or if a job may still
        deliver it. Nor is one that is not in the outbox, because another queue has it or it was discarded.

    Raises:
        JournalError: A message is missing, was accepted, or may be on the wire. Then none is changed.
    """
    database = Database(pool_of(app))
    ledger = PostgresLedger(database.pool)
    # In one transaction: either the ledger allows the messages and they have jobs, or nothing changed.
    async with _journal_errors(), database.transaction(TIMEOUT_S) as cursor:
        keys = await without_job(cursor)
        ids = await keys_of(cursor, keys.values())
        # A message that failed before its intent, for example without a token, is not in the ledger.
        unknown = set(names) & (set(keys.values()) - set(ids.values()))
        known = [name for name in names if name not in unknown]
        try:
            decided = await ledger.resendable(cursor, known)
        except NotInDoubtError:
            # A message that waits for its first delivery is not in the ledger either. Another `resend` may have put it
            # back.
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


@define(kw_only=True, eq=False, repr=False)
class _Intake:
    """The counts so far, and the next batch."""

    _app: App
    _connection: psycopg.AsyncConnection[Any] | None
    _priority: Priority
    _queue: str
    _batch_size: int
    _batch: list[OutboxEntry] = field(factory=list, init=False)
    total: int = 0
    deferred: int = 0
    failed: int = 0
    failures: list[SendResult] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        pool_of(self._app)
        if not isinstance(self._priority, Priority):
            raise ConfigurationError("`priority` must be a Priority, such as Priority.INTERACTIVE or Priority.BULK.")
        if isinstance(self._batch_size, bool) or not isinstance(self._batch_size, int) or self._batch_size < 1:
            raise ConfigurationError("`batch_size` must be a whole number from 1.")
        if self._connection is not None and not isinstance(self._connection, psycopg.AsyncConnection):
            raise ConfigurationError(
                f"`connection` must be a psycopg AsyncConnection, not {type(self._connection).__name__}."
            )

    async def add(self, item: object) -> None:
        """Add one item of the input, and write the batch if it is full."""
        try:
            self._batch.append(_entry(item))
        except (InvalidMessageError, MessageExpiredError) as error:
            self.failed += 1
            if len(self.failures) < FIRST_FAILURES:
                message = item if isinstance(item, SmsMessage | MmsMessage | VoiceMessage) else None
                self.failures.append(SendResult(index=self.total, message=message, outcome=error.outcome, error=error))
        self.total += 1
        if len(self._batch) >= self._batch_size:
            await self.flush()

    async def flush(self) -> None:
        """Write the batch: both its messages and its jobs, or neither."""
        if not self._batch:
            return
        async with _journal_errors(), self._transaction() as connection:
            async with connection.cursor(row_factory=tuple_row) as cursor:
                await put(cursor, self._batch)
            names = [entry.id for entry in self._batch]
            await _defer(self._app, names, connection, priority=self._priority, queue=self._queue)
        self.deferred += len(self._batch)
        self._batch = []

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if self._connection is None:
            async with borrowed_connection(pool_of(self._app)) as connection, connection.transaction():
                yield connection
            return
        with without_prepared_statements(self._connection):
            if self._connection.autocommit and self._connection.info.transaction_status is TransactionStatus.IDLE:
                async with self._connection.transaction():
                    yield self._connection
            else:
                # The caller commits. A transaction block would commit here if the caller began none.
                yield self._connection

    def progress(self) -> str:
        """Return how many messages were deferred, for the note on an error."""
        if self._connection is not None:
            return f"enqueue_bulk: {self.deferred} messages were written; they are in the queue if you commit."
        lost = f"; it is unknown whether the batch of {len(self._batch)} was" if self._batch else ""
        return f"enqueue_bulk: {self.deferred} messages were deferred{lost}. Those with keys can be enqueued again."


async def _defer(
    app: App, names: list[UUID], connection: psycopg.AsyncConnection[Any], *, priority: Priority, queue: str
) -> None:
    if not names:
        return
    # By its name, because a web app has neither the task nor a session.
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
            f"The input yielded a {type(item).__name__}. It must yield SmsMessage, MmsMessage or VoiceMessage.",
            reason=Reason.TYPE,
        )
    entry = OutboxEntry.of(item)
    if entry.remaining_s is not None and entry.remaining_s <= 0:
        raise MessageExpiredError("`expires_in` ran out before the message was enqueued. It was dropped, not sent.")
    return entry


@asynccontextmanager
async def _journal_errors() -> AsyncIterator[None]:
    """Replace errors of psycopg, and procrastinate's errors from them, by errors without values."""
    try:
        yield
    except psycopg.Error as error:
        raise journal_error(error) from None
    except ConnectorException as error:
        if not isinstance(error.__cause__, psycopg.Error):
            raise
        raise journal_error(error.__cause__) from None
