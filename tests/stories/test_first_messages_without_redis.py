"""This test checks that processes with one key that start together without Redis lose no message for a token."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.fleet_worker import FleetWorker
from tests.support.sandbox_process import sandbox_process

pytestmark = pytest.mark.processes

PROCESSES, MESSAGES = 3, 5


def test_processes_that_start_together_lose_nothing_for_want_of_a_token() -> None:
    """
    Three processes send in bulk as soon as they have started, with `retries=0`, and all their messages are accepted.

    Pico gives their API key one token a second, so all but one of them have to wait for theirs.
    """
    with ExitStack() as held:
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log"))
        workers = [
            FleetWorker(name=name, redis_url=None, base_url=sandbox.base_url, count=MESSAGES, again=False, retries=0)
            for name in "abc"[:PROCESSES]
        ]
        told = [running.finish() for running in [held.enter_context(worker.start()) for worker in workers]]
        ledger = sandbox.ledger()

    assert [set(map(tuple, one.outcomes.values())) for one in told] == [{("accepted",)}] * PROCESSES
    assert len(ledger.accepted) == PROCESSES * MESSAGES
    assert not ledger.duplicates()
    tokens = [arrival for arrival in ledger.arrivals if arrival.operation == "token.get"]
    assert sum(arrival.verdict == "accepted" for arrival in tokens) == PROCESSES
