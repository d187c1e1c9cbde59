"""Behind a transaction pooler, which changes the connection after each transaction, each message is sent once."""

from __future__ import annotations

import asyncio
from collections import Counter

import procrastinate
import pytest

from pico_async import JournalState, Outcome, SmsMessage
from pico_async.integrations.procrastinate import PostgresLedger, enqueue_bulk, resend, run_worker, setup
from pico_async.integrations.send_once import send_once
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.support.pgbouncer import pgbouncer
from tests.support.queue_worker import bear_lost_ends, session_with
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.processes

COUNT = 80


def messages() -> list[SmsMessage]:
    return [SmsMessage(f"8613{number:09}", "Your code is 4711", key=f"order-{number}") for number in range(COUNT)]


async def test_the_ledger_settles_each_message(database: str) -> None:
    """
    Through a pooler, two ledgers with pools of their own accept each message once, and settle what was accepted.

    A prepared statement is on one connection of PostgreSQL; the next transaction may be on another one.
    """
    sandbox = Sandbox(rate_rule=None)
    with pgbouncer(database) as pooled:
        async with PostgresLedger(pooled) as one, PostgresLedger(pooled) as other, session_with(sandbox) as pico:
            await one.setup()
            results = await asyncio.gather(
                *(send_once(pico, message, ledger=ledger) for message in messages() for ledger in (one, other))
            )
            counts = await other.counts()

    assert Counter(message.to for message in sandbox.ledger.accepted) == {message.to: 1 for message in messages()}
    assert Counter(result.outcome for result in results) == {Outcome.ACCEPTED: COUNT, Outcome.SKIPPED: COUNT}
    assert counts[JournalState.ACCEPTED] == sum(counts.values()) == COUNT


@pytest.mark.parametrize("prepares", [True, False])
async def test_the_queue_sends_each_message(database: str, prepares: bool, caplog: pytest.LogCaptureFixture) -> None:
    """
    Through a pooler, workers send each message of the queue once, and a message in doubt can be resent.

    Where the pool prepares the statements of procrastinate, the workers go on after its errors.
    """
    bear_lost_ends()
    sandbox = Sandbox(rate_rule=None)
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_DROP, to="8613000000000", times=1))
    with pgbouncer(database) as pooled:
        options = {} if prepares else {"kwargs": {"prepare_threshold": None}}
        apps = [
            procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=pooled, max_size=8, **options))
            for _ in range(2)
        ]
        async with apps[0].open_async(), apps[1].open_async(), session_with(sandbox) as pico:
            await setup(apps[0])
            await enqueue_bulk(apps[0], messages(), batch_size=7)
            ledger = PostgresLedger(pooled)
            async with ledger, asyncio.timeout(PATIENCE_S):
                workers = [
                    asyncio.create_task(
                        run_worker(
                            app, pico, stalled_s=1.5, fetch_job_polling_interval=0.2, install_signal_handlers=False
                        )
                    )
                    for app in apps
                ]
                while sum((counts := await ledger.counts()).values()) < COUNT or counts[JournalState.SENDING]:
                    await asyncio.sleep(0.05)
                while not await resend(apps[0], "order-0"):
                    await asyncio.sleep(0.05)
                while (await ledger.counts())[JournalState.ACCEPTED] < COUNT:
                    await asyncio.sleep(0.05)
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    arrived = Counter(message.to for message in sandbox.ledger.accepted)
    assert arrived == {message.to: 1 for message in messages()} | {"8613000000000": 2}
    assert prepares or "lost PostgreSQL" not in caplog.text
