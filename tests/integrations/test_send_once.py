"""`send_once` sends a message at most once, however often any queue delivers it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pico_async import (
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    Journal,
    JournalError,
    JournalState,
    MessageExpiredError,
    Outcome,
    PicoSession,
    Priority,
    SmsMessage,
    SqliteJournal,
)
from pico_async.coordination.rates import RateGroup
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.send_once import send_once
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.integrations.conftest import session_with
from tests.support.watched_slots import watch_slots


def sms(to: str = "8613000000001", key: str | None = "order-1", **more: Any) -> SmsMessage:
    return SmsMessage(to, "Your code is 4711", key=key, **more)


async def test_a_second_delivery_is_skipped(ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox) -> None:
    """A second delivery of a message is skipped and has the request ID of the first delivery."""
    first = await send_once(pico, sms(), ledger=ledger)
    second = await send_once(pico, sms(), ledger=ledger)

    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.SKIPPED)
    assert first.request_id == second.request_id == sandbox.ledger.accepted[0].request_id
    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.parametrize("under_way_s", [0, 60])
async def test_a_hundred_deliveries_at_once_send_it_once(
    ledger: PostgresLedger, database: str, pico: PicoSession, sandbox: Sandbox, under_way_s: float
) -> None:
    """
    A hundred deliveries at once send the message once. The others wait for its outcome; with `under_way_s=0` they may
    be in doubt.
    """
    async with PostgresLedger(database, under_way_s=under_way_s) as shared:
        results = await asyncio.gather(*(send_once(pico, sms(), ledger=shared) for _ in range(100)))

    assert len(sandbox.ledger.accepted) == 1
    outcomes = Counter(result.outcome for result in results)
    assert outcomes[Outcome.ACCEPTED] == 1
    assert {*outcomes} <= {Outcome.ACCEPTED, Outcome.SKIPPED} | ({Outcome.IN_DOUBT} if not under_way_s else set())
    assert (await ledger.counts())[JournalState.ACCEPTED] == 1


async def test_what_may_have_gone_out_is_not_sent_again_until_somebody_decides(
    ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox
) -> None:
    """
    A message that arrived but whose reply was lost stays in doubt and is not sent again; its owner can mark it as sent.
    """
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_DROP, times=1))

    first = await send_once(pico, sms(), ledger=ledger)
    second = await send_once(pico, sms(), ledger=ledger)

    assert (first.outcome, second.outcome) == (Outcome.IN_DOUBT, Outcome.IN_DOUBT)
    assert isinstance(second.error, InDoubtError)
    assert (first.attempts, second.attempts) == (1, 0)
    assert len(sandbox.ledger.accepted) == 1
    await ledger.mark_sent("order-1")
    assert (await send_once(pico, sms(), ledger=ledger)).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("fault", "outcome"), [(Fault.REFUSED_CONNECTION, Outcome.NOT_SENT), (Fault.BAD_REQUEST, Outcome.REJECTED)]
)
async def test_what_did_not_go_out_is_sent_by_the_next_delivery(
    ledger: PostgresLedger, sandbox: Sandbox, fault: Fault, outcome: Outcome
) -> None:
    """A message that was provably not sent, or was rejected, is sent by the next delivery."""
    sandbox.inject(FaultRule(fault, times=1))
    async with session_with(sandbox, retries=0) as pico:
        first = await send_once(pico, sms(), ledger=ledger)
        sandbox.clear_faults()
        second = await send_once(pico, sms(), ledger=ledger)

    assert (first.outcome, second.outcome) == (outcome, Outcome.ACCEPTED)
    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.own_database
@pytest.mark.parametrize("earlier", [0, 1])
async def test_without_the_ledgers_tables_nothing_is_sent(
    ledger: PostgresLedger, database: str, pico: PicoSession, sandbox: Sandbox, earlier: int
) -> None:
    """
    When the ledger's tables are missing, nothing is sent, and the result is not sent with a `JournalError`.

    This holds for the first delivery and for a later one.
    """
    for number in range(earlier):
        await send_once(pico, sms(key=f"earlier-{number}"), ledger=ledger)
    arrived = len(sandbox.ledger.arrivals)
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE pico_ledger, pico_ledger_account")

    result = await send_once(pico, sms(), ledger=ledger)

    assert result.outcome is Outcome.NOT_SENT
    assert isinstance(result.error, JournalError)
    assert len(sandbox.ledger.arrivals) == arrived


async def test_a_delivery_cancelled_before_its_request_leaves_no_doubt(
    ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is cancelled while it waits for its slot leaves no doubt, and the next delivery sends it."""
    waiting = asyncio.Event()

    async def wait_without_end(rate_group: RateGroup, priority: Priority) -> None:
        if rate_group is RateGroup.SMS:
            waiting.set()
            await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        watch_slots(patched, pico, wait_without_end)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_once(pico, sms(), ledger=ledger))
            await waiting.wait()
            sending.cancel()

    assert await ledger.in_doubt() == []
    assert (await send_once(pico, sms(), ledger=ledger)).outcome is Outcome.ACCEPTED
    assert len(sandbox.ledger.accepted) == 1


async def test_a_delivery_cancelled_during_its_request_leaves_its_message_in_doubt(
    ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox
) -> None:
    """A delivery that is cancelled during its exchange leaves its message in doubt."""
    sandbox.inject(FaultRule(Fault.ACCEPT_THEN_HANG, times=1))
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send_once(pico, sms(), ledger=ledger))
        while not sandbox.ledger.accepted:
            await asyncio.sleep(0)
        sending.cancel()

    assert [record.name for record in await ledger.in_doubt()] == ["order-1"]


async def test_a_dead_code_is_dropped_unless_it_may_have_gone_out(
    ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox
) -> None:
    """An expired message is dropped. If an earlier delivery may have sent the message, the result is in doubt."""
    async with ledger.run(account_of(pico)) as run:
        await run.intend(await run.claim(sms(), 0))

    first = await send_once(pico, sms(expires_in=1e-9), ledger=ledger)
    other = await send_once(pico, sms(key="order-2", expires_in=1e-9), ledger=ledger)

    assert first.outcome is Outcome.IN_DOUBT
    assert isinstance(other.error, MessageExpiredError)
    assert sandbox.ledger.accepted == []


def account_of(pico: PicoSession) -> str:
    return pico.stream_bulk([])._dispatcher._account


@pytest.mark.parametrize("priority", Priority)
async def test_it_waits_for_the_pace_at_its_own_priority(
    ledger: PostgresLedger, sandbox: Sandbox, priority: Priority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`send_once` waits for its slot with the caller's priority, so a code does not wait behind a newsletter."""
    seen: list[Priority] = []

    async def note(rate_group: RateGroup, priority: Priority) -> None:
        if rate_group is RateGroup.SMS:
            seen.append(priority)

    async with session_with(sandbox) as pico:
        watch_slots(monkeypatch, pico, note)
        await send_once(pico, sms(), ledger=ledger, priority=priority)

    assert seen == [priority]


async def test_any_journal_will_do(tmp_path: Path, pico: PicoSession, sandbox: Sandbox) -> None:
    """`send_once` accepts any journal: a single worker can keep the journal in a file."""
    journal = SqliteJournal(tmp_path / "once.db")

    outcomes = [(await send_once(pico, sms(), ledger=journal)).outcome for _ in range(2)]

    assert outcomes == [Outcome.ACCEPTED, Outcome.SKIPPED]
    assert len(sandbox.ledger.accepted) == 1


async def test_it_is_logged_as_one_call(tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """`send_once` logs one call, and no bulk send of one message; a delivery that is skipped logs nothing."""
    caplog.set_level(logging.INFO, "pico_async")
    journal = SqliteJournal(tmp_path / "once.db")

    async with session_with(sandbox) as pico:
        await pico.token.ensure()
        caplog.clear()
        for _ in range(2):
            await send_once(pico, sms(), ledger=journal)

    (record,) = caplog.records
    assert " sms.send: accepted (HTTP 200)" in record.getMessage()
    assert record.__dict__["pico"]["blast"] is None


async def test_what_cannot_be_is_said_at_once(ledger: PostgresLedger, pico: PicoSession) -> None:
    """
    A wrong message or ledger is refused at once. A message needs a key, or each delivery would be another message.
    """
    assert isinstance(ledger, Journal)

    with pytest.raises(InvalidMessageError, match="`key` is missing: a queue may deliver a message twice"):
        await send_once(pico, sms(key=None), ledger=ledger)
    with pytest.raises(InvalidMessageError, match="not str"):
        await send_once(pico, "hello", ledger=ledger)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`ledger` must be a Journal"):
        await send_once(pico, sms(), ledger="ledger.db")  # type: ignore[arg-type]
