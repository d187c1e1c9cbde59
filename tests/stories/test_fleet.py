"""This test checks that several processes with one key share one rate limit and one token."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import redis

from tests.support.fleet_worker import FleetWorker, WorkerResult
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.sandbox_process import sandbox_process

pytestmark = pytest.mark.processes

PROCESSES = 4


@pytest.mark.parametrize("network", [pytest.param("--jitter-ms=0", marks=pytest.mark.full), "--jitter-ms=10"])
@pytest.mark.parametrize("count", [30, pytest.param(150, marks=pytest.mark.full)])
@repeat_if_starved
def test_four_processes_hold_one_limit(shared_redis: str, network: str, count: int) -> None:
    """
    A sliding-log server refuses no request of four processes with one key, and issues one token to them.

    While all four have messages to send, none sends more than 1.5 times as many as another.
    """
    with redis.Redis.from_url(shared_redis) as client:
        client.flushdb()
    with ExitStack() as held:
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log", network))
        workers = [
            held.enter_context(
                FleetWorker(name=name, redis_url=shared_redis, base_url=sandbox.base_url, count=count).start()
            )
            for name in "abcd"[:PROCESSES]
        ]
        finished = [worker.finish() for worker in workers]
        ledger = sandbox.ledger()

    assert [set(map(tuple, one.outcomes.values())) for one in finished] == [{("accepted",)}] * PROCESSES
    assert len(ledger.accepted) == PROCESSES * count
    with rate_claims():
        assert ledger.refusals == 0
        assert ledger.densest() <= 30
    assert not ledger.duplicates()
    assert ledger.token_requests == 1
    shares = _shares(finished, [message.text or "" for message in ledger.accepted])
    with rate_claims():
        assert max(shares) <= 1.5 * min(shares)
    moments = [message.at for message in ledger.accepted]
    print(f"{(len(moments) - 1) / (moments[-1] - moments[0]):.2f}/s, densest {ledger.densest()}, shares {shares}")


def _shares(finished: list[WorkerResult], texts: list[str]) -> list[int]:
    """Count the messages of each process in the period in which all of them had messages to send."""
    names = [text.split()[0] for text in texts]
    first = max(names.index(one.name) for one in finished)
    last = min(len(names) - 1 - names[::-1].index(one.name) for one in finished)
    return [names[first:last].count(one.name) for one in finished]
