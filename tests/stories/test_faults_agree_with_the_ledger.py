"""This test compares the client's outcome of each message with the server's ledger."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pico_async import Outcome, PicoSession, Rates, SendResult, SmsMessage
from pico_async.events import Event
from pico_async.sandbox import Dialect, Fault, Sandbox
from tests.support.clock_jump import LONG_S, jump

virtual, full = pytest.mark.virtual_time, pytest.mark.full


async def jump_over_silence(events: list[Event]) -> None:
    """Move the loop's clock forward whenever no event comes for a while, because each request then hangs or waits."""
    while True:
        before = len(events)
        await asyncio.sleep(0.1)
        if len(events) == before:
            jump()


@pytest.mark.parametrize(
    ("dialect", "socket", "count"),
    [
        pytest.param(Dialect.DOCUMENTED, True, 400, id="documented, on a socket"),
        pytest.param(Dialect.RUOYI, False, 400, id="ruoyi, in process", marks=virtual),
        pytest.param(Dialect.DOCUMENTED, True, 2000, marks=full),
        pytest.param(Dialect.DOCUMENTED, False, 2000, marks=[full, virtual]),
        pytest.param(Dialect.RUOYI, True, 2000, marks=full),
        pytest.param(Dialect.RUOYI, False, 2000, marks=[full, virtual]),
    ],
)
async def test_outcomes_agree_message_by_message(dialect: Dialect, socket: bool, count: int) -> None:
    """
    With a fault in one of five sends, each outcome agrees with the server's ledger, and no message is in it twice.

    - Accepted: the message is in the ledger once, under its `request_id`.
    - Rejected or not sent: the message is not in the ledger.
    - In doubt: the message is in the ledger at most once.
    """
    sandbox = Sandbox(rate_rule=None, dialect=dialect, seed=count, fault_rate=0.2, fault_kinds=tuple(Fault))
    results: list[SendResult] = []
    events: list[Event] = []
    messages = [SmsMessage(f"86123{n:08}", f"hello {n}") for n in range(count)]
    settings = {"username": "user333", "api_key": "sandbox-api-key", "sender": "8612345678888"}

    async with sandbox.serve() as base_url:
        where = {"base_url": base_url} if socket else {"transport": sandbox.transport()}
        async with PicoSession(
            **settings, **where, rates=Rates(sms=None), timeout=LONG_S / 3, on_event=events.append
        ) as pico:
            jumping = asyncio.create_task(jump_over_silence(events)) if socket else None
            await pico.send_bulk(messages, on_result=results.append)
            if jumping is not None:
                jumping.cancel()

    assert len(results) == count
    for result in results:
        assert result.message is not None
        received = sandbox.ledger.sent_to(result.message.to)
        match result.outcome:
            case Outcome.ACCEPTED:
                assert [message.request_id for message in received] == [result.request_id]
            case Outcome.IN_DOUBT:
                assert len(received) <= 1
            case _:
                assert received == []
    assert not sandbox.ledger.duplicates()
    outcomes = Counter(result.outcome for result in results)
    # How many there are of each depends on how many replies come before a jump.
    assert {Outcome.ACCEPTED, Outcome.IN_DOUBT, Outcome.REJECTED} <= set(outcomes)
