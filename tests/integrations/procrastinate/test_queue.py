"""Messages go through procrastinate's queue and are sent at most once; its jobs and logs show no private value."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import procrastinate
import psycopg
import pytest
from procrastinate.jobs import Job
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool

from pico_async import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    JournalError,
    JournalState,
    MessageExpiredError,
    MmsMessage,
    NotSentError,
    Outcome,
    PicoSession,
    Priority,
    RateLimitError,
    Rates,
    RejectedError,
    SmsMessage,
    SqliteJournal,
    VoiceMessage,
)
from pico_async.coordination.rates import RateGroup
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate import discard, enqueue_bulk, resend, run_worker, setup, task, tasks
from pico_async.integrations.procrastinate.outbox import OutboxEntry, from_json
from pico_async.integrations.procrastinate.rescue import RESCUE_LOCK, Rescue
from pico_async.integrations.procrastinate.task import LONGEST_WAIT_S, TASK, Retry
from pico_async.messages import Message
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.integrations.conftest import session_with
from tests.support.queue_worker import bear_lost_ends
from tests.support.statements import counted_statements
from tests.support.waiting import PATIENCE_S, until
from tests.support.watched_slots import watch_slots

pytestmark = pytest.mark.lower_bounds

TEXT = "Your code is 4711"


# Of procrastinate, to fetch the job and to end it. Ours: take the message, find its row, intend, settle and drop.
STATEMENTS_PER_MESSAGE = 2 + 4


@pytest.fixture
async def app(database: str) -> AsyncIterator[procrastinate.App]:
    connector = procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=8)
    async with procrastinate.App(connector=connector).open_async() as app:
        await setup(app)
        yield app


def sms(number: int = 1, key: str | None = None, **more: Any) -> SmsMessage:
    return SmsMessage(f"8613{number:09}", TEXT, key=key or f"order-{number}", **more)


async def work(app: procrastinate.App, pico: PicoSession, **options: Any) -> None:
    """Run all the jobs that are in the queue."""
    await run_worker(app, pico, wait=False, install_signal_handlers=False, **{"ledger": impatient(app)} | options)


def impatient(app: procrastinate.App) -> PostgresLedger:
    """
    Make a ledger that waits for no other delivery, because a message in state "sending" has a dead worker in these
    tests.
    """
    return PostgresLedger(app.connector.pool, under_way_s=0)  # type: ignore[attr-defined]


def set_clock(monkeypatch: pytest.MonkeyPatch, off_s: float) -> None:
    """Set the clock of this process, which PostgreSQL does not share."""
    clock = procrastinate.utils.utcnow
    now = lambda *_: clock() + timedelta(seconds=off_s)  # noqa: E731
    monkeypatch.setattr(procrastinate.utils, "utcnow", now)
    monkeypatch.setattr(task, "datetime", SimpleNamespace(now=now))


def rows(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def jobs(database: str) -> Counter[str]:
    return Counter(status for (status,) in rows(database, "SELECT status::text FROM procrastinate_jobs"))


async def test_what_is_enqueued_is_sent_once_and_leaves_the_outbox(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """Messages of all three kinds are sent once, with all their fields, and leave the outbox."""
    messages: list[Message] = [
        sms(1, sender="Pico", callback="https://example.com/dlr", expires_in=600),
        MmsMessage("8613000000002", "https://example.com/cat.png", text="a \0 cat", key="order-2"),
        VoiceMessage("8613000000003", "four seven", lang="zh-CN"),
    ]

    report = await enqueue_bulk(app, messages, batch_size=2)
    await work(app, pico)

    assert (report.total, report.deferred, report.failed, report.stopped) == (3, 3, 0, None)
    sent = {message.to: message for message in sandbox.ledger.accepted}
    assert len(sandbox.ledger.accepted) == len(sent) == 3
    assert (sent["8613000000001"].text, sent["8613000000001"].sender) == (TEXT, "Pico")
    assert sent["8613000000001"].callback == "https://example.com/dlr"
    assert (sent["8613000000002"].media_url, sent["8613000000002"].text) == ("https://example.com/cat.png", "a \0 cat")
    assert (sent["8613000000003"].kind, sent["8613000000003"].lang) == ("voice", "zh-CN")
    assert jobs(database) == {"succeeded": 3}
    assert rows(database, "SELECT * FROM pico_outbox") == []


async def test_a_key_that_is_enqueued_twice_is_sent_once(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """
    A message with a key that is enqueued twice, as by a repeated web request, is sent once. Without a key there are two
    messages.
    """
    await enqueue_bulk(app, [sms(1), sms(2, key=None), attrs.evolve(sms(3), key=None)])
    await enqueue_bulk(app, [sms(1), attrs.evolve(sms(3), key=None)])
    await work(app, pico, ledger=None)

    assert Counter(message.to[-1] for message in sandbox.ledger.accepted) == {"1": 1, "2": 1, "3": 2}
    assert jobs(database) == {"succeeded": 5}


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("commits", [False, True])
async def test_it_takes_part_in_the_callers_transaction(
    app: procrastinate.App, database: str, autocommit: bool, commits: bool
) -> None:
    """On the caller's connection, messages and jobs are committed or rolled back with the caller's transaction."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=autocommit) as connection:
        if autocommit:
            await connection.execute("BEGIN")
        await enqueue_bulk(app, map(sms, range(5)), connection=connection, batch_size=2)
        assert rows(database, "SELECT * FROM pico_outbox") == []
        await connection.execute("COMMIT" if commits else "ROLLBACK")

    assert len(rows(database, "SELECT * FROM pico_outbox")) == (5 if commits else 0)
    assert jobs(database) == ({"todo": 5} if commits else {})


async def test_a_connection_that_commits_by_itself_commits_batches(app: procrastinate.App, database: str) -> None:
    """On a connection in autocommit mode, each batch is committed with both its messages and its jobs."""

    def messages() -> Iterator[SmsMessage]:
        yield from map(sms, range(4))
        assert len(rows(database, "SELECT * FROM pico_outbox")) == 4
        assert jobs(database) == {"todo": 4}
        yield sms(4)

    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await enqueue_bulk(app, messages(), connection=connection, batch_size=2)

    assert jobs(database) == {"todo": 5}


@pytest.mark.own_database
async def test_a_batch_has_messages_and_jobs_or_neither(app: procrastinate.App, database: str) -> None:
    """
    A batch has both its messages and its jobs in the queue, or neither; a note of the error counts the deferred
    messages.
    """
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE procrastinate_jobs ADD CHECK (id <> 4)")

    with pytest.raises(JournalError, match="CheckViolation") as raised:
        await enqueue_bulk(app, map(sms, range(6)), batch_size=2)

    assert len(rows(database, "SELECT * FROM pico_outbox")) == 2
    assert jobs(database) == {"todo": 2}
    assert raised.value.__notes__ == [
        "enqueue_bulk: 2 messages were deferred; it is unknown whether the batch of 2 was. Those with keys can be "
        "enqueued again."
    ]
    assert raised.value.__cause__ is None


@pytest.mark.own_database
async def test_so_it_is_where_the_callers_connection_commits_by_itself(app: procrastinate.App, database: str) -> None:
    """
    On a connection in autocommit mode, a failed batch leaves no message, because a message without a job would never be
    sent.
    """
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("ALTER TABLE procrastinate_jobs ADD CHECK (id <> 4)")
        with pytest.raises(JournalError):
            await enqueue_bulk(app, map(sms, range(6)), connection=connection, batch_size=2)

    assert len(rows(database, "SELECT * FROM pico_outbox")) == 2


async def test_bad_items_are_reported_and_the_rest_is_enqueued(app: procrastinate.App, database: str) -> None:
    """The report lists each bad item by its index, and the other messages are enqueued."""

    async def messages() -> AsyncIterator[Any]:
        yield sms(1)
        yield InvalidMessageError("`to` is empty.")
        yield "hello"
        yield sms(2, expires_in=1e-9)
        yield sms(3)

    report = await enqueue_bulk(app, messages())

    assert (report.total, report.deferred, report.failed) == (5, 2, 3)
    assert [failure.index for failure in report.failures] == [1, 2, 3]
    assert isinstance(report.failures[2].error, MessageExpiredError)
    assert jobs(database) == {"todo": 2}


async def test_an_input_that_breaks_loses_nothing_that_was_read(app: procrastinate.App, database: str) -> None:
    """
    When the input fails, the messages that were read are enqueued. A bad message ends its generator and is reported;
    any other exception is raised.
    """
    report = await enqueue_bulk(app, (SmsMessage(to, TEXT) for to in ["8613000000001", "none", "8613000000003"]))
    assert (report.deferred, report.failed) == (1, 1)
    assert report.stopped is not None

    def broken() -> Iterator[SmsMessage]:
        yield sms(1)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone") as raised:
        await enqueue_bulk(app, broken())
    assert raised.value.__notes__[0].startswith("enqueue_bulk: 1 messages were deferred.")
    assert jobs(database) == {"todo": 2}


async def test_a_cancelled_enqueue_is_cancelled(app: procrastinate.App) -> None:
    """`enqueue_bulk` ends as cancelled when it is cancelled while it waits for its input."""
    waits = asyncio.Event()

    async def endless() -> AsyncIterator[SmsMessage]:
        waits.set()
        await asyncio.Event().wait()
        yield sms()

    enqueueing = asyncio.ensure_future(enqueue_bulk(app, endless()))
    await waits.wait()
    enqueueing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await enqueueing


async def test_codes_go_before_newsletters(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interactive messages leave the queue before bulk messages, and each waits for its slot with its own priority."""
    seen: list[Priority] = []

    async def note(rate_group: RateGroup, priority: Priority) -> None:
        if rate_group is RateGroup.SMS:
            seen.append(priority)

    watch_slots(monkeypatch, pico, note)
    await enqueue_bulk(app, [sms(1), sms(2)])
    await enqueue_bulk(app, [sms(3)], priority=Priority.INTERACTIVE)

    await work(app, pico, concurrency=1)

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["3", "1", "2"]
    assert seen == [Priority.INTERACTIVE, Priority.BULK, Priority.BULK]


async def test_what_expires_in_the_queue_is_dropped(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that expires in the queue, by the database's clock, is dropped; a message with time left is sent."""
    await enqueue_bulk(app, [sms(1, expires_in=60), sms(2, expires_in=60)])
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE pico_outbox SET expires_at = expires_at - interval '61 s' WHERE message LIKE '%order-1%'"
        )

    await work(app, pico)

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["2"]
    assert jobs(database) == {"failed": 1, "succeeded": 1}
    assert rows(database, "SELECT * FROM pico_outbox") == []
    assert "`expires_in` ran out" in caplog.text


async def test_what_is_in_doubt_waits_for_its_owner(
    app: procrastinate.App, sandbox: Sandbox, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The job of a message in doubt has failed. `resend` enqueues the message again, by key or ID, and it is then sent
    twice.
    """
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_DROP, times=2))
    await enqueue_bulk(app, [sms(1), sms(2), sms(3)])
    async with session_with(sandbox) as pico:
        await work(app, pico, concurrency=1)
        assert jobs(database) == {"failed": 2, "succeeded": 1}
        assert "may have been sent" in caplog.text
        ledger = impatient(app)
        first, second = await ledger.in_doubt()

        assert await resend(app, first.id) == 1
        await ledger.mark_sent(second.name)
        await work(app, pico)

    assert Counter(message.to[-1] for message in sandbox.ledger.accepted) == {"1": 2, "2": 1, "3": 1}
    assert await discard(app, older_than_s=60) == 0
    assert len(rows(database, "SELECT * FROM pico_outbox")) == 1
    assert await discard(app, older_than_s=0) == 1
    assert await ledger.in_doubt() == []
    with pytest.raises(JournalError, match="'order-1' was accepted"):
        await resend(app, "order-1")


async def test_what_was_refused_is_not_tried_again_by_itself(
    app: procrastinate.App, sandbox: Sandbox, database: str
) -> None:
    """
    A rejected message is not retried by itself, and is kept, because its owner may correct the cause and resend it.
    """
    sandbox.inject(FaultRule(Fault.BAD_REQUEST, times=1))
    await enqueue_bulk(app, [sms(1)])
    async with session_with(sandbox) as pico:
        await work(app, pico)
        assert jobs(database) == {"failed": 1}
        assert sandbox.ledger.accepted == []

        assert await resend(app, "order-1", priority=Priority.INTERACTIVE, queue="mine") == 1
        assert await discard(app, older_than_s=0) == 0
        assert rows(database, "SELECT priority FROM procrastinate_jobs WHERE queue_name = 'mine'") == [(10,)]
        await work(app, pico, queues=["mine"])

    assert len(sandbox.ledger.accepted) == 1


async def test_what_was_not_sent_is_delivered_again(
    app: procrastinate.App, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Pico cannot be reached, the job waits, and a later delivery sends the message."""
    monkeypatch.setattr("pico_async.integrations.procrastinate.task.FIRST_WAIT_S", 0.0)
    sandbox.inject(FaultRule(Fault.REFUSED_CONNECTION, times=1))
    await enqueue_bulk(app, [sms(1)])
    async with session_with(sandbox, retries=0) as pico:
        await work(app, pico)
        assert jobs(database) == {"todo": 1}
        await work(app, pico)

    assert jobs(database) == {"succeeded": 1}
    assert len(sandbox.ledger.accepted) == 1


async def test_it_is_not_delivered_for_ever(app: procrastinate.App, sandbox: Sandbox, database: str) -> None:
    """
    After `max_tries` deliveries the job has failed as not sent, and the message is kept until its owner resends it.
    """
    sandbox.inject(FaultRule(Fault.REFUSED_CONNECTION))
    await enqueue_bulk(app, [sms(1)])
    async with session_with(sandbox, retries=0) as pico:
        await work(app, pico, max_tries=1)
        assert jobs(database) == {"failed": 1}
        sandbox.clear_faults()

        assert await resend(app, "order-1") == 1
        await work(app, pico)

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["1"]
    assert rows(database, "SELECT * FROM pico_outbox") == []


async def test_wrong_credentials_lose_no_message(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """
    Wrong credentials are the worker's fault: the jobs are tried again until `max_tries`, and the messages can be
    resent. The ledger has no entry for them until then.
    """
    await enqueue_bulk(app, [sms(1), sms(2)])
    async with PicoSession(
        username="user333",
        api_key="wrong",
        sender="8612345678888",
        transport=sandbox.transport(),
        rates=Rates(token=None),
    ) as wrong:
        await work(app, wrong)
        assert jobs(database) == {"todo": 2}
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL")
        await work(app, wrong, max_tries=2)
    assert jobs(database) == {"failed": 2}
    assert not any((await impatient(app).counts()).values())

    assert await resend(app, "order-1", "order-2") == 2
    await work(app, pico)

    assert len(sandbox.ledger.accepted) == 2
    assert rows(database, "SELECT * FROM pico_outbox") == []


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (NotSentError("x"), True),
        (JournalError("x"), True),
        (ConfigurationError("the session is closed"), True),
        (RateLimitError("x", retry_after=900), True),
        (AuthenticationError("x"), True),
        (asyncio.CancelledError(), True),
        (MessageExpiredError("x"), False),
        (InvalidMessageError("x"), False),
        (RejectedError("x"), False),
        (InDoubtError("x"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_only_what_did_not_go_out_is_delivered_again(error: BaseException, again: bool) -> None:
    """
    A job is tried again only after an error that allows another delivery. The wait is never longer than the longest
    wait, unless Pico asked for more.
    """
    retry, job = Retry(50), Job(id=1, queue="pico", lock=None, queueing_lock=None, task_name=TASK, attempts=30)

    decision, wait_s = retry.get_retry_decision(exception=error, job=job), retry.wait_s(error, job)

    assert (decision is not None) is again
    assert isinstance(error, asyncio.CancelledError) or (wait_s is not None) is again
    if wait_s is not None:
        assert wait_s <= max(LONGEST_WAIT_S, getattr(error, "retry_after", None) or 0.0)
        assert not isinstance(error, RateLimitError) or wait_s >= 900


@pytest.mark.parametrize("off_s", [-400, 400])
async def test_a_retry_is_due_by_the_clock_of_postgresql(
    app: procrastinate.App, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    """
    A job that failed, or whose worker died, is due by the clock of PostgreSQL, although the worker's clock is wrong.

    Otherwise a worker whose clock is slow uses up all tries at once, and one whose clock is fast waits too long.
    """
    set_clock(monkeypatch, off_s)
    sandbox.inject(FaultRule(Fault.REFUSED_CONNECTION))
    await enqueue_bulk(app, [sms(1), sms(2)])
    await app.job_manager.fetch_job(None, await app.job_manager.register_worker())
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'")
    due_in = "SELECT id, extract(epoch FROM scheduled_at - now())::float8 FROM procrastinate_jobs ORDER BY id"

    await Rescue(app, Database(app.connector.pool), set(), stalled_s=60).check()  # type: ignore[attr-defined]
    ((_, rescued_in_s), _) = rows(database, due_in)
    async with session_with(sandbox, retries=0) as pico:
        # At this many seconds from now a retry is due, and no other number could be taken for it.
        monkeypatch.setattr("pico_async.integrations.procrastinate.task.FIRST_WAIT_S", 6000.0)
        monkeypatch.setattr("pico_async.integrations.procrastinate.task.LONGEST_WAIT_S", 6000.0)
        monkeypatch.setattr("random.uniform", lambda low, high: high)
        await work(app, pico)

    assert rescued_in_s < 0
    assert [in_s for _, in_s in rows(database, due_in)] == pytest.approx([6000, 6000], abs=PATIENCE_S)


async def test_a_worker_that_ends_gives_its_jobs_back_at_once(
    app: procrastinate.App, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that a worker gives back when it ends is due at once, although the worker's clock is fast."""
    set_clock(monkeypatch, 400)
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=30))
    await enqueue_bulk(app, [sms(1)])
    async with session_with(sandbox) as pico, anyio.create_task_group() as group:
        group.start_soon(lambda: run_worker(app, pico, grace_s=0.1, install_signal_handlers=False))
        await until(lambda: sandbox.ledger.accepted)
        group.cancel_scope.cancel()

    assert rows(database, "SELECT status::text, scheduled_at <= now() FROM procrastinate_jobs") == [("todo", True)]


async def test_no_log_holds_a_text_or_a_whole_number(
    app: procrastinate.App, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record of the package, of procrastinate or of psycopg contains a text or a whole number, at any level."""
    caplog.set_level(logging.DEBUG)
    faults = [Fault.ACCEPT_THEN_DROP, Fault.BAD_REQUEST, Fault.SERVER_TROUBLE_AFTER, Fault.DUPLICATE_SUPPRESSED]
    messages = [SmsMessage(fault.magic_number, TEXT, key=fault.magic_number) for fault in faults]
    await enqueue_bulk(app, [*messages, sms(1, key="8613000000001"), sms(2, expires_in=1e-3)])
    async with session_with(sandbox) as pico:
        await work(app, pico)

    logged = [
        json.dumps([record.getMessage(), record.exc_text, *map(repr, vars(record).values())])
        for record in caplog.records
        if record.name.startswith(("pico_async", "procrastinate", "psycopg"))
    ]
    assert len(logged) > 20
    # Not the code alone, because the hexadecimal digits of an ID may contain it.
    assert not [line for line in logged if "Your code" in line]
    assert not [line for line in logged if "99900000" in line or "8613000000" in line]


async def test_what_a_dead_worker_held_is_put_back(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """
    The jobs of a dead worker are put back. A message that it had not begun is sent. A message that it was sending is in
    doubt, and a message that it had sent is not sent again.
    """
    await enqueue_bulk(app, [sms(1), sms(2), sms(3)])
    dead = await app.job_manager.register_worker()
    held = [await app.job_manager.fetch_job(None, dead) for _ in range(3)]
    assert None not in held
    ledger = impatient(app)
    async with ledger.run(pico.stream_bulk([])._dispatcher._account) as run:
        await run.intend(await run.claim(sms(1), 0))
        line = await run.claim(sms(2), 1)
        await run.intend(line)
        await run.settle(line, Outcome.ACCEPTED, "r-2")
    await work(app, pico, stalled_s=3600)
    assert jobs(database) == {"doing": 3}
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'")

    await work(app, pico, stalled_s=60)

    assert jobs(database) == {"failed": 1, "succeeded": 2}
    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["3"]
    assert [record.name for record in await ledger.in_doubt()] == ["order-1"]


@pytest.mark.parametrize("persists", ["finish_job", "retry_job"])
async def test_an_end_that_could_not_be_stored_is_stored_later(
    app: procrastinate.App, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch, persists: str
) -> None:
    """When PostgreSQL cannot record the end of a job, the end is recorded later, although the worker is still alive."""
    monkeypatch.setattr("pico_async.integrations.procrastinate.task.FIRST_WAIT_S", 0.0)
    bear_lost_ends()
    if persists == "retry_job":
        sandbox.inject(FaultRule(Fault.REFUSED_CONNECTION, to="8613000000001", times=1))
    persist, calls = getattr(app.job_manager, persists), Counter[str]()

    async def fails_once(*args: Any, **kwargs: Any) -> None:
        calls[persists] += 1
        if calls[persists] == 1:
            raise procrastinate.exceptions.ConnectorException from psycopg.OperationalError("away")
        await persist(*args, **kwargs)

    monkeypatch.setattr(app.job_manager, persists, fails_once)
    await enqueue_bulk(app, [sms(1), sms(2)])
    async with session_with(sandbox, retries=0) as pico, anyio.create_task_group() as group:
        group.start_soon(
            lambda: run_worker(app, pico, stalled_s=0.6, fetch_job_polling_interval=0.1, install_signal_handlers=False)
        )
        while jobs(database)["succeeded"] < 2:
            await anyio.sleep(0.02)
        group.cancel_scope.cancel()

    assert sorted(message.to[-1] for message in sandbox.ledger.accepted) == ["1", "2"]
    assert calls[persists] > 1


async def test_only_what_is_idle_twice_in_a_row_is_put_back(app: procrastinate.App, database: str) -> None:
    """A job is put back only if two checks in a row find it idle; a job that its worker handles is never put back."""
    await enqueue_bulk(app, [sms(1), sms(2)])
    worker = Worker(app)
    worker.worker_id = await app.job_manager.register_worker()
    first, second = [await app.job_manager.fetch_job(None, worker.worker_id) for _ in range(2)]
    assert first is not None
    assert second is not None
    rescue = Rescue(app, Database(app.connector.pool), {first.id or 0}, stalled_s=60)  # type: ignore[attr-defined]

    await rescue.put_back_idle(worker)
    assert jobs(database) == {"doing": 2}
    await rescue.put_back_idle(worker)
    await rescue.put_back_idle(worker)

    assert dict(rows(database, "SELECT id, status::text FROM procrastinate_jobs")) == {
        first.id: "doing",
        second.id: "todo",
    }


async def test_a_worker_that_seems_dead_itself_keeps_what_it_has_in_hand(app: procrastinate.App, database: str) -> None:
    """
    A worker whose heartbeats were lost while PostgreSQL was away keeps the job that it handles; its other job is put
    back.
    """
    await enqueue_bulk(app, [sms(1), sms(2)])
    worker = await app.job_manager.register_worker()
    first, second = [await app.job_manager.fetch_job(None, worker) for _ in range(2)]
    assert first is not None
    assert second is not None
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'")

    await Rescue(app, Database(app.connector.pool), {first.id or 0}, stalled_s=60).check()  # type: ignore[attr-defined]

    assert dict(rows(database, "SELECT id, status::text FROM procrastinate_jobs")) == {
        first.id: "doing",
        second.id: "todo",
    }


async def test_one_at_a_time_puts_back(app: procrastinate.App, database: str) -> None:
    """
    Only one worker at a time puts jobs back. Otherwise a second worker could put back a job that a third one has begun.
    """
    await enqueue_bulk(app, [sms(1)])
    await app.job_manager.fetch_job(None, await app.job_manager.register_worker())
    rescue = Rescue(app, Database(app.connector.pool), set(), stalled_s=60)  # type: ignore[attr-defined]
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'")
        other.execute("SELECT pg_advisory_lock(%s)", (RESCUE_LOCK,))
        await rescue.check()
        assert jobs(database) == {"doing": 1}
        other.execute("SELECT pg_advisory_unlock(%s)", (RESCUE_LOCK,))

    await rescue.check()
    assert jobs(database) == {"todo": 1}


async def test_a_worker_looks_after_the_dead_and_outlives_the_loss_of_its_own_row(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """
    A worker puts back the jobs of dead workers and continues when its own row is deleted. A job that it handles for
    long is not put back.
    """
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, to=sms(1).to, times=1, delay_s=0.5))
    await enqueue_bulk(app, [sms(1)])
    async with anyio.create_task_group() as group:
        group.start_soon(
            lambda: run_worker(app, pico, stalled_s=0.3, fetch_job_polling_interval=0.1, install_signal_handlers=False)
        )
        while not jobs(database)["succeeded"]:
            await anyio.sleep(0.02)
        assert rows(database, "SELECT attempts FROM procrastinate_jobs") == [(1,)]

        await enqueue_bulk(app, [sms(2)], queue="of another")
        await app.job_manager.fetch_job(["of another"], await app.job_manager.register_worker())
        while jobs(database)["doing"]:
            await anyio.sleep(0.02)

        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM procrastinate_workers")
        await enqueue_bulk(app, [sms(3)])
        while jobs(database)["succeeded"] < 2:
            await anyio.sleep(0.02)
        group.cancel_scope.cancel()

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["1", "3"]
    assert jobs(database) == {"succeeded": 2, "todo": 1}


async def test_another_ledger_is_asked_where_it_is_given(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    """A worker uses the journal that is passed as `ledger`: a single worker can keep the journal in a file."""
    await enqueue_bulk(app, [sms(1)])
    await work(app, pico, concurrency=1, ledger=SqliteJournal(tmp_path / "queue.db"))

    assert len(sandbox.ledger.accepted) == 1
    assert rows(database, "SELECT * FROM pico_ledger") == []


async def test_a_worker_that_finds_nothing_ends(app: procrastinate.App, pico: PicoSession) -> None:
    """
    A worker that finds no job ends each time. psycopg before 3.3.6 sometimes dropped the cancellation of its listener.
    """
    for _ in range(50):
        worker = asyncio.create_task(work(app, pico))
        ended, _ = await asyncio.wait([worker], timeout=PATIENCE_S)
        if not ended:
            # The worker does not get its own cancellation; its listener does.
            for task in asyncio.all_tasks():
                if task.cancelling():
                    task.cancel()
        await worker
        assert ended


async def test_a_cancelled_worker_settles_what_is_on_the_wire(
    app: procrastinate.App, sandbox: Sandbox, database: str
) -> None:
    """A cancelled worker settles the message in its exchange and takes no more jobs."""
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=0.3))
    await enqueue_bulk(app, map(sms, range(3)))
    async with session_with(sandbox) as pico, anyio.create_task_group() as group:
        group.start_soon(lambda: run_worker(app, pico, concurrency=1, install_signal_handlers=False))
        while not sandbox.ledger.accepted:
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()

    assert len(sandbox.ledger.accepted) == 1
    assert jobs(database) == {"succeeded": 1, "todo": 2}
    assert TASK not in app.tasks


async def test_after_its_grace_it_ends_all_the_same(app: procrastinate.App, sandbox: Sandbox, database: str) -> None:
    """
    After `grace_s` a cancelled worker ends. The message in its exchange is in doubt, and its next delivery reports
    that.
    """
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=30))
    await enqueue_bulk(app, [sms(1)])
    async with session_with(sandbox) as pico:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run_worker(app, pico, grace_s=0.1, install_signal_handlers=False))
            while not sandbox.ledger.accepted:
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert jobs(database) == {"todo": 1}
        await work(app, pico)

    assert jobs(database) == {"failed": 1}
    assert len(sandbox.ledger.accepted) == 1
    ledger = impatient(app)
    assert (await ledger.counts())[JournalState.IN_DOUBT] == 1


async def test_a_signal_stops_it_in_order(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """A worker ends without an error at SIGTERM, which a deployment sends."""
    await enqueue_bulk(app, map(sms, range(2)))
    async with anyio.create_task_group() as group:
        group.start_soon(run_worker, app, pico)
        while jobs(database)["succeeded"] < 2:
            await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    assert jobs(database) == {"succeeded": 2}


@pytest.mark.own_database
async def test_the_worker_makes_the_tables(database: str, pico: PicoSession) -> None:
    """
    The worker makes missing tables, also those of procrastinate. It raises an error, and does not wait, when the schema
    is wrong.
    """
    connector = procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=8)
    async with procrastinate.App(connector=connector).open_async() as app:
        with pytest.raises(JournalError, match="they are missing"):
            await enqueue_bulk(app, [sms()])
        await work(app, pico)
        with psycopg.connect(database) as connection:
            connection.execute("DROP FUNCTION procrastinate_register_worker_v1")
        with pytest.raises(procrastinate.exceptions.ConnectorException):
            await work(app, pico)


@pytest.mark.parametrize("error", [psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement])
async def test_a_worker_goes_on_where_a_pooler_has_no_prepared_statement(
    app: procrastinate.App,
    pico: PicoSession,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[psycopg.Error],
) -> None:
    """A worker continues after the two errors of a transaction pooler, and its log says what to change."""
    register, calls = app.job_manager.register_worker, Counter[str]()

    async def fails_once() -> int:
        calls["register"] += 1
        if calls["register"] == 1:
            raise procrastinate.exceptions.ConnectorException from error("no such statement")
        return await register()

    monkeypatch.setattr(app.job_manager, "register_worker", fails_once)
    await enqueue_bulk(app, [sms(1)])
    await work(app, pico)

    assert len(sandbox.ledger.accepted) == 1
    assert 'give the pool `kwargs={"prepare_threshold": None}`' in caplog.text


async def test_an_unreadable_message_is_kept_and_reported(
    app: procrastinate.App, pico: PicoSession, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A message that cannot be read, as one of a later version, is kept. Its job fails, and the log does not show its
    content.
    """
    await enqueue_bulk(app, [sms(1)])
    with psycopg.connect(database) as connection:
        connection.execute("""UPDATE pico_outbox SET message = '{"kind": "Pigeon", "text": "topsecret"}'""")

    await work(app, pico)

    assert jobs(database) == {"failed": 1}
    assert len(rows(database, "SELECT * FROM pico_outbox WHERE failed_at IS NOT NULL")) == 1
    assert "cannot read" in caplog.text
    assert "topsecret" not in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        SmsMessage("8613000000001", template_id="t-1", sender="Pico", callback="https://example.com", key="k"),
        SmsMessage("8613000000001", "驗證碼 \0 \u2028 4711", key="k"),
        MmsMessage("8613000000001", "https://example.com/cat.png", sender="Pico", key="k"),
        VoiceMessage("8613000000001", "four seven", "zh-TW", key="k"),
    ],
)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    """A message in the outbox keeps its content and key, with its remaining time beside it, and no repr shows it."""
    entry = OutboxEntry.of(attrs.evolve(message, expires_in=60))

    assert from_json(entry.message) == message
    assert entry.remaining_s == pytest.approx(60, abs=5)
    assert OutboxEntry.of(message).remaining_s is None
    assert message.to not in repr(entry)


@pytest.mark.parametrize("packed", ["", "[]", "{}", '{"kind": "SmsMessage"}', '{"kind": "SmsMessage", "to": 5}', "1"])
def test_what_is_no_message_is_an_invalid_message(packed: str) -> None:
    """Data that is no message raises an `InvalidMessageError`, and never another error."""
    with pytest.raises(InvalidMessageError):
        from_json(packed)


async def test_a_wrong_argument_is_named(app: procrastinate.App, pico: PicoSession) -> None:
    """A wrong argument, connector or task raises a `ConfigurationError` that names it."""
    for wrong, complaint in [
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"priority": 5}, "`priority` must be"),
        ({"connection": "dsn"}, "`connection` must be"),
    ]:
        with pytest.raises(ConfigurationError, match=complaint):
            await enqueue_bulk(app, [sms()], **wrong)  # type: ignore[arg-type]
    for wrong, complaint in [({"grace_s": 0}, "`grace_s`"), ({"max_tries": 0}, "`max_tries`"), ({"ledger": 1}, "`led")]:
        with pytest.raises(ConfigurationError, match=complaint):
            await work(app, pico, **wrong)
    with pytest.raises(ConfigurationError, match=r"`app` must be a procrastinate\.App"):
        await enqueue_bulk("app", [sms()])  # type: ignore[arg-type]
    other = procrastinate.App(connector=InMemoryConnector())
    with pytest.raises(ConfigurationError, match="PsycopgConnector, not InMemoryConnector"):
        await enqueue_bulk(other, [sms()])
    narrow = procrastinate.PsycopgConnector(conninfo=app.connector.pool.conninfo, min_size=1, max_size=1)  # type: ignore[attr-defined]
    async with procrastinate.App(connector=narrow).open_async() as one:
        with pytest.raises(ConfigurationError, match="needs two at least"):
            await work(one, pico)
    app.add_tasks_from(tasks(pico), namespace="pico")
    with pytest.raises(ConfigurationError, match="has the task 'pico:send' already"):
        await work(app, pico)


@pytest.mark.parametrize("missing", ["procrastinate", "psycopg", "psycopg_pool"])
def test_a_missing_extra_is_one_sentence_that_names_the_pip_line(missing: str) -> None:
    """
    A missing extra raises an error whose last line names the `pip install` command; `import pico_async` needs no extra.
    """
    code = (
        f"import sys; sys.modules[{missing!r}] = None\nimport pico_async\nimport pico_async.integrations.procrastinate"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert "pip install 'pico-async[procrastinate]'" in ran.stderr.splitlines()[-1]


async def test_a_message_takes_few_statements(app: procrastinate.App, pico: PicoSession) -> None:
    """A message takes a fixed number of statements, and is dropped by the one that settles it as accepted."""
    counts = []
    for number in (1, 51):
        await enqueue_bulk(app, [sms(each, key=f"{number}-{each}") for each in range(number)])
        with counted_statements() as statements:
            await work(app, pico)
        # An empty one is the pool's check of a connection.
        counts.append(sum(bool(statement) for statement in statements))

    # The worker itself asks now and then which jobs to abort.
    assert (counts[1] - counts[0]) // 50 == STATEMENTS_PER_MESSAGE


async def test_a_connection_keeps_its_settings(app: procrastinate.App, database: str) -> None:
    """A statement that commits by itself leaves the connection of the caller's pool as it was."""
    for autocommit in (False, True):
        async with AsyncConnectionPool(database, min_size=1, max_size=1, kwargs={"autocommit": autocommit}) as pool:
            await PostgresLedger(pool).counts()
            with pytest.raises(JournalError):
                await Database(pool).fetch("SELECT 1 / 0", timeout_s=PATIENCE_S)

            async with pool.connection() as connection:
                assert connection.autocommit is autocommit
