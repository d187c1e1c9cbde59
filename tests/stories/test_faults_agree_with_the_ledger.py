"""This test compares the client's outcome of each message with the server's ledger."""

from __future__ import annotations

from collections import Counter

import pytest

from pico_async import Outcome, PicoSession, Rates, SendResult, SmsMessage
from pico_async.sandbox import Dialect, Fault, Sandbox


@pytest.mark.parametrize(
    ("dialect", "socket", "count"),
    [
        pytest.param(Dialect.DOCUMENTED, True, 400, id="documented, on a socket"),
        pytest.param(Dialect.RUOYI, False, 400, id="ruoyi, in process"),
        pytest.param(Dialect.DOCUMENTED, True, 2000, marks=pytest.mark.full),
        pytest.param(Dialect.DOCUMENTED, False, 2000, marks=pytest.mark.full),
        pytest.param(Dialect.RUOYI, True, 2000, marks=pytest.mark.full),
        pytest.param(Dialect.RUOYI, False, 2000, marks=pytest.mark.full),
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
    messages = [SmsMessage(f"86123{n:08}", f"hello {n}") for n in range(count)]
    settings = {"username": "user333", "api_key": "sandbox-api-key", "sender": "8612345678888"}

    async with sandbox.serve() as base_url:
        where = {"base_url": base_url} if socket else {"transport": sandbox.transport()}
        async with PicoSession(**settings, **where, rates=Rates(sms=None), timeout=0.5) as pico:
            await pico.send_bulk(messages, on_result=results.append)

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
    # How many there are of each depends on how many replies come within the timeout.
    assert {Outcome.ACCEPTED, Outcome.IN_DOUBT, Outcome.REJECTED} <= set(outcomes)
