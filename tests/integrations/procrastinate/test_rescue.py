"""A message is always somebody's: a job delivers it, its owner decides it, or it has expired and is deleted."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import procrastinate
import psycopg
import pytest
from procrastinate.jobs import Status

from pico_async import JournalError, JournalState, Outcome, PicoSession
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.procrastinate import (
    LedgerRecord,
    PostgresLedger,
    discard,
    enqueue_bulk,
    resend,
    run_worker,
    setup,
)
from pico_async.integrations.procrastinate.outbox import FIRST_ID
from pico_async.integrations.procrastinate.rescue import Rescue
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.integrations.conftest import session_with
from tests.integrations.procrastinate.test_queue import app, impatient, jobs, rows, sms, work
from tests.support.waiting import until

pytestmark = pytest.mark.lower_bounds

__all__ = ["app"]  # the fixture


def rescue_of(app: procrastinate.App, **more: Any) -> Rescue:
    return Rescue(app, Database(app.connector.pool), set(), stalled_s=60, **more)  # type: ignore[attr-defined]


def execute(database: str, statement: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def kept(database: str) -> list[bool]:
    """Return, of each message in the outbox, whether it waits for its owner."""
    return [waits for (waits,) in rows(database, "SELECT failed_at IS NOT NULL FROM pico_outbox")]


async def leave_in_doubt(app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, *numbers: int) -> None:
    """Enqueue messages, and lose the connection on which each is sent, so that Pico does not get them."""
    sandbox.inject(FaultRule(Fault.DROP_BEFORE_ACCEPT, times=len(numbers)))
    await enqueue_bulk(app, map(sms, numbers))
    await work(app, pico)
    assert names(await impatient(app).in_doubt()) == {f"order-{number}" for number in numbers}


def names(records: list[LedgerRecord]) -> set[str]:
    return {record.name for record in records}


async def cancelled(app: procrastinate.App, database: str) -> None:
    await app.job_manager.cancel_job_by_id_async(1)


async def cancelled_and_deleted(app: procrastinate.App, database: str) -> None:
    await app.job_manager.cancel_job_by_id_async(1, delete_job=True)


async def deleted_by_hand(app: procrastinate.App, database: str) -> None:
    execute(database, "DELETE FROM procrastinate_jobs")


async def failed_by_hand(app: procrastinate.App, database: str) -> None:
    await app.job_manager.finish_job_by_id_async(1, Status.FAILED, delete_job=False)


async def aborted_by_a_dead_worker(app: procrastinate.App, database: str) -> None:
    await app.job_manager.fetch_job(None, await app.job_manager.register_worker())
    await app.job_manager.cancel_job_by_id_async(1, abort=True)
    execute(database, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'")
    await rescue_of(app).check()


async def of_no_task(app: procrastinate.App, database: str) -> None:
    """Run a worker that does not know the task."""
    await app.run_worker_async(wait=False, install_signal_handlers=False)


LOSSES = [cancelled, cancelled_and_deleted, deleted_by_hand, failed_by_hand, aborted_by_a_dead_worker, of_no_task]


@pytest.mark.parametrize("looks", [0, 1])
@pytest.mark.parametrize("lose", LOSSES)
async def test_a_message_that_lost_its_job_is_its_owners(
    app: procrastinate.App,
    pico: PicoSession,
    sandbox: Sandbox,
    database: str,
    lose: Callable[[procrastinate.App, str], Awaitable[None]],
    looks: int,
) -> None:
    """
    A message whose job ended without a delivery is kept for its owner, who can resend it.

    `resend` finds it at once, also where no worker has looked for it yet.
    """
    await enqueue_bulk(app, [sms(1)])
    await lose(app, database)
    for _ in range(looks):
        await work(app, pico)
        assert kept(database) == [True]
    assert not sandbox.ledger.accepted

    assert await resend(app, "order-1") == 1
    await work(app, pico)

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["1"]
    assert kept(database) == []


@pytest.mark.parametrize("lose", [deleted_by_hand, aborted_by_a_dead_worker])
async def test_logging_that_fails_ends_no_worker(
    app: procrastinate.App,
    pico: PicoSession,
    sandbox: Sandbox,
    database: str,
    lose: Callable[[procrastinate.App, str], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that keeps a message for its owner sends the others although each record of the package raises."""

    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("request_id")

    await enqueue_bulk(app, [sms(1)])
    await lose(app, database)
    await enqueue_bulk(app, [sms(2)])
    for module in ("rescue", "worker", "task"):
        monkeypatch.setattr(logging.getLogger(f"pico_async.integrations.procrastinate.{module}"), "handle", fail)
    await work(app, pico)

    assert [message.to[-1] for message in sandbox.ledger.accepted] == ["2"]
    assert kept(database) == [True]


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_message_that_lost_its_job_can_be_discarded(
    app: procrastinate.App, pico: PicoSession, database: str, lose: Callable[[procrastinate.App, str], Awaitable[None]]
) -> None:
    """A message whose job ended without a delivery can be discarded; a message with a job cannot."""
    await enqueue_bulk(app, [sms(1)])
    await lose(app, database)
    await enqueue_bulk(app, [sms(2)], queue="later")
    execute(database, "UPDATE pico_outbox SET failed_at = now() WHERE message LIKE '%order-2%'")
    await work(app, pico)

    assert await discard(app, older_than_s=0) == 1
    assert [text for (text,) in rows(database, "SELECT message::json ->> 'key' FROM pico_outbox")] == ["order-2"]


async def test_a_message_whose_job_is_aborted_on_the_wire_is_in_doubt_and_can_be_decided(
    app: procrastinate.App, sandbox: Sandbox, database: str
) -> None:
    """A message whose job is aborted while Pico answers is in doubt, is not sent again by itself, and can be resent."""
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=30))
    await enqueue_bulk(app, [sms(1)])
    ledger = impatient(app)
    async with session_with(sandbox) as pico, anyio.create_task_group() as group:
        group.start_soon(lambda: run_worker(app, pico, stalled_s=0.6, install_signal_handlers=False))
        await until(lambda: sandbox.ledger.accepted)
        await app.job_manager.cancel_job_by_id_async(1, abort=True)
        await until(lambda: kept(database) == [True])

        assert jobs(database) == {"failed": 1}
        assert names(await ledger.in_doubt()) == {"order-1"}
        assert len(sandbox.ledger.accepted) == 1
        assert await resend(app, "order-1") == 1
        await until(lambda: jobs(database)["succeeded"])
        group.cancel_scope.cancel()

    assert len(sandbox.ledger.accepted) == 2
    assert await ledger.in_doubt() == []
    assert kept(database) == []


async def test_what_a_job_of_another_queue_delivers_is_left_to_it(
    app: procrastinate.App, pico: PicoSession, database: str
) -> None:
    """A message whose job waits, or is in a worker's hand, is not kept, and `resend` gives it no second job."""
    await enqueue_bulk(app, [sms(1), sms(2)], queue="later")
    await app.job_manager.fetch_job(["later"], await app.job_manager.register_worker())
    await work(app, pico)

    assert kept(database) == [False, False]
    assert jobs(database) == {"doing": 1, "todo": 1}


async def test_what_expired_without_a_job_is_deleted_and_its_doubt_stays(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """
    A message that expired is deleted although it has no job, and `resend` leaves it in doubt, because it sends nothing.
    """
    await leave_in_doubt(app, sandbox, pico, 1)
    await enqueue_bulk(app, [sms(2)])
    await app.job_manager.cancel_job_by_id_async(2)
    execute(database, "UPDATE pico_outbox SET expires_at = now() - interval '1 s'")
    ledger = impatient(app)

    assert await resend(app, "order-1", "order-2") == 0
    assert jobs(database) == {"failed": 1, "cancelled": 1}
    await work(app, pico)

    assert kept(database) == []
    assert names(await ledger.in_doubt()) == {"order-1"}
    assert await resend(app, "order-1") == 0
    assert names(await ledger.in_doubt()) == {"order-1"}
    await ledger.mark_sent("order-1")
    assert not sandbox.ledger.accepted


async def test_resends_at_once_give_one_job(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """Of many resends at once, in any order of names, one counts each message, and each message has one job."""
    await leave_in_doubt(app, sandbox, pico, 1, 2, 3)
    orders = itertools.permutations(["order-1", "order-2", "order-3"])

    counts = await asyncio.gather(*(resend(app, *order) for order in orders))

    assert sum(counts) == 3
    assert jobs(database) == {"failed": 3, "todo": 3}
    await work(app, pico)
    assert sorted(message.to[-1] for message in sandbox.ledger.accepted) == ["1", "2", "3"]


async def test_resends_at_once_of_what_was_never_delivered_give_one_job(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """A message that was cancelled before its first delivery is counted by one of many resends; the others say 0."""
    await enqueue_bulk(app, [sms(1), sms(2), sms(3, key='quote " and ü')])
    execute(database, "UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id <> 2")

    counts = await asyncio.gather(*(resend(app, "order-1", 'quote " and ü') for _ in range(5)))

    assert sum(counts) == 2
    assert await resend(app, "order-1", "order-2", 'quote " and ü') == 0
    with pytest.raises(JournalError, match="no message of the key or ID 'order-9'"):
        await resend(app, "order-2", "order-9")
    await work(app, pico)
    assert sorted(message.to[-1] for message in sandbox.ledger.accepted) == ["1", "2", "3"]


async def test_a_resend_against_a_discard_counts_what_it_sends(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """Where messages are resent and discarded at once, `resend` counts what is sent; the others stay in doubt."""
    numbers = range(1, 9)
    await leave_in_doubt(app, sandbox, pico, *numbers)
    keys = [f"order-{number}" for number in numbers]

    *counts, discarded = await asyncio.gather(*(resend(app, key) for key in keys), discard(app, older_than_s=0))
    await work(app, pico)

    assert len(sandbox.ledger.accepted) == sum(counts)
    assert sum(counts) + discarded == len(keys)
    left = {key for key, count in zip(keys, counts, strict=True) if not count}
    assert names(await impatient(app).in_doubt()) == left
    assert kept(database) == []


@pytest.mark.parametrize("decides", ["resend", "discard", "the rescue"])
async def test_a_message_that_is_being_resent_is_left_alone(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str, decides: str
) -> None:
    """While one `resend` gives a message its job, another one waits for it, and all others leave the message alone."""
    await leave_in_doubt(app, sandbox, pico, 1)
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database) as other:
        other.execute("UPDATE pico_outbox SET failed_at = NULL, job = 2")
        other.execute("INSERT INTO procrastinate_jobs (id, queue_name, task_name) VALUES (2, 'later', 'pico:send')")
        if decides == "resend":
            again = asyncio.ensure_future(resend(app, "order-1"))
            while not await asyncio.to_thread(rows, database, waits):
                await asyncio.sleep(0.01)
            other.commit()
            assert await again == 0
        elif decides == "discard":
            assert await discard(app, older_than_s=0) == 0
        else:
            await rescue_of(app).check()
        other.commit()

    assert kept(database) == [False]
    assert jobs(database) == {"failed": 1, "todo": 1}
    assert names(await impatient(app).in_doubt()) == {"order-1"}


@pytest.mark.own_database
async def test_what_cannot_be_deferred_is_not_decided(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """When `resend` cannot write a job, the message is in doubt as before, and waits for its owner as before."""
    await leave_in_doubt(app, sandbox, pico, 1)
    execute(database, "ALTER TABLE procrastinate_jobs ADD CHECK (queue_name <> 'full')")

    with pytest.raises(JournalError, match="CheckViolation"):
        await resend(app, "order-1", queue="full")

    assert kept(database) == [True]
    assert names(await impatient(app).in_doubt()) == {"order-1"}


async def test_a_resend_that_names_an_unknown_message_changes_nothing(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """When one name is unknown, no message of the same `resend` is put back."""
    await leave_in_doubt(app, sandbox, pico, 1)

    with pytest.raises(JournalError, match="no message of the key"):
        await resend(app, "order-1", "order-7")

    assert kept(database) == [True]
    assert names(await impatient(app).in_doubt()) == {"order-1"}


@pytest.mark.parametrize("fault", [Fault.REFUSED_CONNECTION, Fault.BAD_REQUEST])
async def test_a_resend_that_did_not_go_out_leaves_the_doubt(
    app: procrastinate.App, sandbox: Sandbox, fault: Fault
) -> None:
    """
    A message that was in doubt is in doubt again where its resend was refused, or did not reach Pico.

    It can be resent again, and a proof of the first delivery is accepted.
    """
    ledger = impatient(app)
    async with session_with(sandbox, retries=0) as pico:
        await leave_in_doubt(app, sandbox, pico, 1)
        sandbox.inject(FaultRule(fault))
        for _ in range(2):
            assert await resend(app, "order-1") == 1
            assert await ledger.in_doubt() == []
            await work(app, pico, max_tries=1)
            assert [(record.name, record.state) for record in await ledger.in_doubt()] == [
                ("order-1", JournalState.IN_DOUBT)
            ]

    assert (await ledger.counts())[JournalState.IN_DOUBT] == 1
    assert await ledger.forget(older_than_s=0) == 0
    assert await ledger.confirm("order-1", "r-1") is True
    assert await ledger.in_doubt() == []


async def test_a_proof_that_comes_before_the_resend_is_delivered_spares_it(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """A resent message whose first delivery is proved meanwhile is not sent a second time."""
    await leave_in_doubt(app, sandbox, pico, 1)
    await resend(app, "order-1")

    assert await impatient(app).confirm("order-1") is True
    await work(app, pico)

    assert not sandbox.ledger.accepted
    assert kept(database) == []


async def test_a_resend_that_is_never_delivered_is_in_doubt_again(
    app: procrastinate.App, sandbox: Sandbox, pico: PicoSession, database: str
) -> None:
    """A message that was resent, and whose new job was cancelled, is listed as in doubt again after `stale_s`."""
    await leave_in_doubt(app, sandbox, pico, 1)
    await resend(app, "order-1")
    await app.job_manager.cancel_job_by_id_async(2)

    later = PostgresLedger(app.connector.pool, stale_s=0)  # type: ignore[attr-defined]
    assert names(await later.in_doubt()) == {"order-1"}


@pytest.mark.parametrize("delete_jobs", ["never", "always"])
async def test_expired_messages_hold_up_no_others(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str, delete_jobs: str
) -> None:
    """
    Expired messages are dropped in batches, and no worker takes their jobs one by one.

    A job whose message may have gone out in an earlier delivery is delivered all the same, and its outcome is reported.
    """
    ledger = impatient(app)
    await pico.send_bulk([sms(1)], journal=ledger)
    async with ledger.run(pico.stream_bulk([])._dispatcher._account) as run:
        await run.intend(await run.claim(sms(2), 0))
        line = await run.claim(sms(3), 1)
        await run.intend(line)
        await run.settle(line, Outcome.NOT_SENT, None)
    await enqueue_bulk(app, (attrs.evolve(sms(number), expires_in=60) for number in range(1, 2501)))
    execute(database, "UPDATE pico_outbox SET expires_at = expires_at - interval '1 hour'")
    await enqueue_bulk(app, [sms(4000, expires_in=600)])

    await work(app, pico, delete_jobs=delete_jobs)

    assert [message.to[-4:] for message in sandbox.ledger.accepted] == ["0001", "4000"]
    assert names(await ledger.in_doubt()) == {"order-2"}
    if delete_jobs == "always":
        assert jobs(database) == {}
    else:
        assert jobs(database) == {"failed": 2499, "succeeded": 2}
        started = "SELECT count(*) FROM procrastinate_events WHERE type = 'started'"
        assert rows(database, started) == [(3,)]
    await work(app, pico)
    assert kept(database) == []


async def test_a_long_outbox_is_looked_at_in_parts(
    app: procrastinate.App, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look examines some of the messages, and the looks together find each message without a job."""
    monkeypatch.setattr("pico_async.integrations.procrastinate.outbox.SCAN_SIZE", 3)
    await enqueue_bulk(app, map(sms, range(10)))
    execute(database, "UPDATE procrastinate_jobs SET status = 'cancelled'")
    rescue = rescue_of(app)
    found = []
    for _ in range(5):
        await rescue.check()
        found.append(sum(kept(database)))

    assert found == [3, 6, 9, 10, 10]
    assert rescue._checked_until != FIRST_ID


OLD = """
ALTER TABLE pico_outbox DROP COLUMN job;
DROP INDEX pico_outbox_expires;
ALTER TABLE pico_ledger DROP COLUMN doubted;
"""


@pytest.mark.own_database
async def test_older_tables_are_migrated(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """`setup` migrates tables of an older version, with the messages and the rows that they hold."""
    await leave_in_doubt(app, sandbox, pico, 1)
    await enqueue_bulk(app, [sms(2), sms(3)])
    await app.job_manager.cancel_job_by_id_async(2)
    execute(database, OLD)
    ledger = impatient(app)

    with pytest.raises(JournalError, match="of an older version: call `setup` once"):
        await ledger.in_doubt()
    await asyncio.gather(setup(app), setup(app))

    assert names(await ledger.in_doubt()) == {"order-1"}
    await rescue_of(app).check()
    assert sorted(kept(database)) == [False, True, True]
    assert await resend(app, "order-1", "order-2") == 2
    assert await resend(app, "order-1") == 0
    await work(app, pico)
    assert sorted(message.to[-1] for message in sandbox.ledger.accepted) == ["1", "2", "3"]


async def test_a_message_that_an_older_version_enqueues_is_delivered(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """A message whose job is not noted, because an older version enqueued it, is not taken for one without a job."""
    await enqueue_bulk(app, [sms(1)])
    execute(database, "UPDATE pico_outbox SET job = NULL")
    await rescue_of(app).check()

    assert kept(database) == [False]
    assert await discard(app, older_than_s=0) == 0
    await work(app, pico)
    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.own_database
@pytest.mark.parametrize("missing", ["state", "claim"])
async def test_a_table_that_is_anothers_is_named_with_what_to_do(
    app: procrastinate.App, database: str, missing: str
) -> None:
    """When a table with the ledger's name lacks a column, `setup` names the column and what to do about the table."""
    execute(database, f"ALTER TABLE pico_ledger DROP COLUMN {missing}")

    with pytest.raises(JournalError, match=rf"they lack pico_ledger\.{missing}\. Nothing was changed\. Rename"):
        await setup(app)


async def test_messages_that_expire_while_a_worker_runs_are_dropped_together(
    app: procrastinate.App, pico: PicoSession, sandbox: Sandbox, database: str
) -> None:
    """The first expired message that a job finds makes the worker drop all of them in batches, before its next look."""
    await enqueue_bulk(app, (attrs.evolve(sms(number), expires_in=600) for number in range(1, 501)))

    async def expire_all(number: str) -> bool:
        if not expired:
            expired.append(number)
            execute(database, "UPDATE pico_outbox SET expires_at = now() - interval '1 s'")
        return False

    expired: list[str] = []
    async with session_with(sandbox, suppression=expire_all) as session:
        await work(app, session, concurrency=1, stalled_s=3600)

    one_by_one = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed' AND attempts > 0"
    assert jobs(database)["todo"] == 0
    assert kept(database) == []
    assert rows(database, one_by_one)[0][0] < 100


async def test_the_planner_knows_of_many_new_jobs(app: procrastinate.App, database: str) -> None:
    """A check analyzes tables that have grown, so that the next job is found by its index, and not by sorting all."""
    await enqueue_bulk(app, map(sms, range(3000)))

    await rescue_of(app).check()

    counted = "SELECT reltuples FROM pg_class WHERE relname IN ('procrastinate_jobs', 'pico_outbox')"
    assert rows(database, counted) == [(3000,), (3000,)]
    plan = "EXPLAIN SELECT id FROM procrastinate_jobs WHERE status = 'todo' ORDER BY priority DESC, id LIMIT 1"
    assert not any("Sort" in line for (line,) in rows(database, plan))
