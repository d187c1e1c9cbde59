"""Several processes with one key: the server sees one pace and one token, and each process gets its share."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.fleet_worker import FleetWorker, Told
from tests.support.sandbox_process import sandbox_process
from tests.support.valkey_server import empty_redis

pytestmark = pytest.mark.alone

PROCESSES = 4


@pytest.mark.parametrize("network", [pytest.param("--jitter-ms=0", marks=pytest.mark.full), "--jitter-ms=10"])
@pytest.mark.parametrize("count", [30, pytest.param(150, marks=pytest.mark.full)])
def test_four_processes_hold_one_limit(network: str, count: int) -> None:
    """A sliding-log server refuses nothing, hands out one token, and hears from each as often as from the others."""
    with ExitStack() as held:
        redis_url = held.enter_context(empty_redis())
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log", network))
        workers = [
            held.enter_context(
                FleetWorker(name=name, redis_url=redis_url, base_url=sandbox.base_url, count=count).start()
            )
            for name in "abcd"[:PROCESSES]
        ]
        told = [worker.finish() for worker in workers]
        ledger = sandbox.ledger()

    assert [set(map(tuple, one.outcomes.values())) for one in told] == [{("accepted",)}] * PROCESSES
    assert len(ledger.accepted) == PROCESSES * count
    assert ledger.refusals == 0
    assert ledger.densest() <= 30
    assert not ledger.duplicates()
    assert ledger.token_requests == 1
    shares = _shares(told, [message.text or "" for message in ledger.accepted])
    assert max(shares) <= 1.5 * min(shares)
    moments = [message.at for message in ledger.accepted]
    print(f"{(len(moments) - 1) / (moments[-1] - moments[0]):.2f}/s, densest {ledger.densest()}, shares {shares}")


def _shares(told: list[Told], texts: list[str]) -> list[int]:
    """Count each process's messages while all of them had some to send."""
    names = [text.split()[0] for text in texts]
    first = max(names.index(one.name) for one in told)
    last = min(len(names) - 1 - names[::-1].index(one.name) for one in told)
    return [names[first:last].count(one.name) for one in told]
