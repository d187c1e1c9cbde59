"""A server that counts sees no more than 30 in any second, whatever the network does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from pico_async import PicoSession, SmsMessage
from tests.support.fleet_worker import FleetWorker
from tests.support.sandbox_process import SandboxProcess, sandbox_process

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def _without_the_garbage_of_others() -> Iterator[None]:
    """Leave what earlier tests made out of the collections, which would stop the loop for longer than the guard."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def messages(count: int, named: str = "hello") -> Iterator[SmsMessage]:
    return (SmsMessage(f"86123456{n:05}", f"{named} {n}") for n in range(count))


def session(sandbox: SandboxProcess, **settings: Any) -> PicoSession:
    return PicoSession(
        username="user333", api_key="sandbox-api-key", sender="8612345678888", base_url=sandbox.base_url, **settings
    )


@pytest.mark.parametrize("network", ["--jitter-ms=0", "--jitter-ms=10", "--latency-ms=1500"])
@pytest.mark.parametrize("count", [120, pytest.param(900, marks=pytest.mark.full)])
def test_a_blast_never_crosses_the_documented_rate(network: str, count: int) -> None:
    """
    A sliding-log server refuses nothing, and no second holds more than 30 arrivals.

    The blast has a process of its own: in this one, collecting the garbage of all other tests stops the loop for longer
    than the guard.
    """
    with sandbox_process("--rate-rule=sliding-log", network) as sandbox:
        blast = FleetWorker(name="blast", redis_url=None, base_url=sandbox.base_url, count=count)
        with blast.start() as running:
            told = running.finish()

        ledger = sandbox.ledger()
    assert list(told.outcomes.values()) == [["accepted"]] * count
    assert ledger.refusals == 0
    assert ledger.densest() <= 30
    assert not ledger.duplicates()
    assert ledger.token_requests == 1


async def test_two_sessions_of_one_key_hold_one_limit_and_use_one_token() -> None:
    """They know nothing of each other, and the server sees one pace."""
    with sandbox_process("--rate-rule=sliding-log") as sandbox:
        async with session(sandbox) as one, session(sandbox) as other:
            reports = await asyncio.gather(one.send_bulk(messages(60, "one")), other.send_bulk(messages(60, "other")))

        ledger = sandbox.ledger()
    assert [report.accepted for report in reports] == [60, 60]
    assert ledger.refusals == 0
    assert ledger.densest() <= 30
    assert ledger.token_requests == 1


async def test_a_single_send_does_not_wait_behind_a_blast() -> None:
    """At the server it comes right after the few that had their turn, not after the hundreds that wait."""
    with sandbox_process() as sandbox:
        async with session(sandbox) as pico, pico.stream_bulk(messages(1000), concurrency=256) as results:
            for _ in range(20):
                await anext(results)
            before = len(sandbox.ledger().accepted)
            await pico.sms.send("8612345678901", "a chatbot's code")

            after = [message.text for message in sandbox.ledger().accepted[before:]]
    # Asking for the ledger takes a moment, in which the blast goes on.
    assert after.index("a chatbot's code") <= 4
