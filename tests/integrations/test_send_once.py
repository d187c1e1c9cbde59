"""One message, delivered any number of times, by any queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

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
from pico_async._engine.endpoints import Lane
from pico_async.coordination.local import LocalCoordinator
from pico_async.integrations.once import send_once
from pico_async.integrations.postgres import PostgresLedger
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.integrations.conftest import session_with


def sms(to: str = "8613000000001", key: str | None = "order-1", **more: Any) -> SmsMessage:
    return SmsMessage(to, "Your code is 4711", key=key, **more)


async def test_a_second_delivery_is_skipped(ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox) -> None:
    """It has the first one's request ID."""
    first = await send_once(pico, sms(), ledger=ledger)
    second = await send_once(pico, sms(), ledger=ledger)

    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.SKIPPED)
    assert first.request_id == second.request_id == sandbox.ledger.accepted[0].request_id
    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.parametrize("under_way_s", [0, 60])
async def test_a_hundred_deliveries_at_once_send_it_once(
    ledger: PostgresLedger, database: str, pico: PicoSession, sandbox: Sandbox, under_way_s: float
) -> None:
    """Those that come while it is under way wait for its fate; without patience they say in doubt."""
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
    """The reply was lost; the message had arrived."""
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
    """Provably."""
    sandbox.inject(FaultRule(fault, times=3))
    async with session_with(sandbox) as pico:
        first = await send_once(pico, sms(), ledger=ledger)
        sandbox.clear_faults()
        second = await send_once(pico, sms(), ledger=ledger)

    assert (first.outcome, second.outcome) == (outcome, Outcome.ACCEPTED)
    assert len(sandbox.ledger.accepted) == 1


async def test_without_a_ledger_nothing_is_sent(database: str, pico: PicoSession, sandbox: Sandbox) -> None:
    """Its tables are missing, or its server is away: that is a result, as any other failure."""
    async with PostgresLedger(database, under_way_s=0) as ledger:
        result = await send_once(pico, sms(), ledger=ledger)

    assert result.outcome is Outcome.NOT_SENT
    assert isinstance(result.error, JournalError)
    assert sandbox.ledger.arrivals == []


async def test_a_cancelled_delivery_leaves_no_doubt_where_there_is_none(
    ledger: PostgresLedger, pico: PicoSession, sandbox: Sandbox
) -> None:
    """On the wire it is in doubt."""
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
    """That it is too late now says nothing of what an earlier delivery did."""
    async with ledger.run(account_of(pico)) as run:
        await run.intend(await run.claim(sms(), 0))

    first = await send_once(pico, sms(expires_in=1e-9), ledger=ledger)
    other = await send_once(pico, sms(key="order-2", expires_in=1e-9), ledger=ledger)

    assert first.outcome is Outcome.IN_DOUBT
    assert isinstance(other.error, MessageExpiredError)
    assert sandbox.ledger.accepted == []


def account_of(pico: PicoSession) -> str:
    return pico.stream_bulk([])._account


@pytest.mark.parametrize("priority", Priority)
async def test_it_waits_for_the_pace_at_its_own_priority(
    ledger: PostgresLedger, sandbox: Sandbox, priority: Priority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code does not wait behind a newsletter."""
    seen: list[Priority] = []
    turn = LocalCoordinator.turn

    async def noted(self: LocalCoordinator, lane: Lane, priority: Priority) -> None:
        if lane is Lane.SMS:
            seen.append(priority)
        await turn(self, lane, priority)

    monkeypatch.setattr(LocalCoordinator, "turn", noted)
    async with session_with(sandbox) as pico:
        await send_once(pico, sms(), ledger=ledger, priority=priority)

    assert seen == [priority]


async def test_any_journal_will_do(tmp_path: Path, pico: PicoSession, sandbox: Sandbox) -> None:
    """One worker alone can keep it in a file."""
    journal = SqliteJournal(tmp_path / "once.db")

    outcomes = [(await send_once(pico, sms(), ledger=journal)).outcome for _ in range(2)]

    assert outcomes == [Outcome.ACCEPTED, Outcome.SKIPPED]
    assert len(sandbox.ledger.accepted) == 1


async def test_what_cannot_be_is_said_at_once(ledger: PostgresLedger, pico: PicoSession) -> None:
    """A message without a key would be another one at each delivery."""
    assert isinstance(ledger, Journal)

    with pytest.raises(InvalidMessageError, match="`key` is missing: a queue may deliver a message twice"):
        await send_once(pico, sms(key=None), ledger=ledger)
    with pytest.raises(InvalidMessageError, match="not str"):
        await send_once(pico, "hello", ledger=ledger)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`ledger` must be a Journal"):
        await send_once(pico, sms(), ledger="ledger.db")  # type: ignore[arg-type]
