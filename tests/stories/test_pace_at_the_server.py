"""
These tests check that a server receives at most 30 requests in any second, also over a network with jitter or latency.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.stories.pace_programs import CODE, SEEN
from tests.support.fleet_worker import FleetWorker
from tests.support.late_timers import rate_claims, repeat_if_starved, watched
from tests.support.sandbox_process import SandboxProcess, sandbox_process

pytestmark = pytest.mark.processes


# Outside the full suite, two sessions send over a network without jitter; see below.
@pytest.mark.parametrize(
    "network", [pytest.param("--jitter-ms=0", marks=pytest.mark.full), "--jitter-ms=10", "--latency-ms=1500"]
)
@pytest.mark.parametrize("count", [75, pytest.param(900, marks=pytest.mark.full)])
@repeat_if_starved
def test_a_bulk_send_never_exceeds_the_documented_rate(network: str, count: int) -> None:
    """A server with a sliding log refuses nothing, and no second holds more than 30 arrivals."""
    with sandbox_process("--rate-rule=sliding-log", network) as sandbox:
        bulk_send = FleetWorker(name="bulk_send", redis_url=None, base_url=sandbox.base_url, count=count)
        with bulk_send.start() as running:
            told = running.finish()

        ledger = sandbox.ledger()
    assert list(told.outcomes.values()) == [["accepted"]] * count
    with rate_claims():
        assert ledger.refusals == 0
        assert ledger.densest() <= 30
    assert not ledger.duplicates()
    assert ledger.token_requests == 1


@repeat_if_starved
def test_two_sessions_of_one_key_hold_one_limit_and_use_one_token() -> None:
    """Two sessions of one key in one process share the limiter and the token, without knowing of each other."""
    with sandbox_process("--rate-rule=sliding-log") as sandbox:
        accepted = run("two_sessions", sandbox)

        ledger = sandbox.ledger()
    assert accepted == [38, 38]
    with rate_claims():
        assert ledger.refusals == 0
        assert ledger.densest() <= 30
    assert ledger.token_requests == 1


@repeat_if_starved
def test_a_single_send_does_not_wait_behind_a_bulk_send() -> None:
    """A single send reaches the server right after the few requests that had slots, not after the 256 that wait."""
    with sandbox_process() as sandbox:
        run("single_send", sandbox)

        texts = [message.text for message in sandbox.accepted()]
    # Only the results seen and the requests under way come first: slots are 33 ms apart, a reply takes some 2 ms.
    with rate_claims():
        assert texts.index(CODE) <= SEEN + 4


def run(program: str, sandbox: SandboxProcess) -> Any:
    """Run one of the programs against the sandbox, and return what it printed."""
    command = watched("tests.stories.pace_programs", program, sandbox.base_url, flags=("-W", "error"))
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
