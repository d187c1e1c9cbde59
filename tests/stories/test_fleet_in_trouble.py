"""
These tests disturb a fleet by faults of Redis, of a process, of the token or of the rate.

The rate limit holds, no message is sent twice, and the fleet recovers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from pico_async.coordination.rates import spacing_s
from pico_async.sandbox import Ledger
from tests.support.fleet_worker import FleetWorker, RunningWorker, Told, wait_for_accepted
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.sandbox_process import SandboxProcess, sandbox_process
from tests.support.valkey_server import ValkeyServer, valkey_server, valkey_server_with_clock
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

PROCESSES = 3


def killed(server: ValkeyServer) -> None:
    """Kill Redis, and start an empty one two seconds later."""
    server.kill()
    time.sleep(2)
    server.start()


def restarted(server: ValkeyServer) -> None:
    """Kill Redis, and start an empty one at once."""
    server.kill()
    server.start()


def flushed(server: ValkeyServer) -> None:
    """Delete all keys and all scripts from Redis."""
    with server.client() as client:
        client.flushall()
        client.script_flush()


def frozen(server: ValkeyServer) -> None:
    """Pause Redis, so that it answers no client for five seconds."""
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 5000, "ALL")


def read_only(server: ValkeyServer) -> None:
    """Make Redis a read-only replica for two seconds, as in a failover."""
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        time.sleep(2)
        client.replicaof("NO", "ONE")


# Outside the full suite, `killed` runs only in the test of the shares below.
TROUBLES = [
    frozen,
    *(pytest.param(trouble, marks=pytest.mark.full) for trouble in (killed, restarted, flushed, read_only)),
]


@pytest.mark.parametrize("count", [25, pytest.param(100, marks=pytest.mark.full)])
@pytest.mark.parametrize("trouble", TROUBLES)
@repeat_if_starved
def test_a_fleet_comes_through(trouble: Callable[[ValkeyServer], None], count: int) -> None:
    """
    After a fault of Redis, failed sends are reported as not sent, and a later try sends them.

    The server refuses no request, and no message arrives twice.
    """
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: trouble(server), count)

    settle_accounts(told, ledger, count)


@pytest.mark.parametrize("trouble", [killed, pytest.param(frozen, marks=pytest.mark.full)])
@repeat_if_starved
def test_a_fleet_goes_on_with_shares(trouble: Callable[[ValkeyServer], None]) -> None:
    """
    With `share=1/3`, no send of three processes fails while Redis is away.

    The rate limit holds while they use their shares, and also when they change to the shares and back.
    """
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: trouble(server), 40, share=1 / PROCESSES)

    settle_accounts(told, ledger, 40)
    assert {outcome for one in told for tries in one.outcomes.values() for outcome in tries} == {"accepted"}


@pytest.mark.parametrize("seconds", [3600, pytest.param(-3600, marks=pytest.mark.full)])
@repeat_if_starved
def test_the_clock_of_redis_is_stepped(seconds: int) -> None:
    """When Redis's clock is stepped by an hour, no process waits for an hour, and the rate limit holds."""
    with valkey_server_with_clock() as (server, clock), sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: clock.step(seconds), 25)

    settle_accounts(told, ledger, 25)


@repeat_if_starved
def test_a_process_that_dies_with_the_lock_of_the_token() -> None:
    """
    If a process dies while it holds the token lock, the others wait some seconds until the lock expires.

    Then one of them fetches the token for all.
    """
    with ExitStack() as held:
        server = held.enter_context(valkey_server())
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log"))
        sandbox.control("POST", "faults", {"fault": "hang-before-accept", "operation": "token.get", "times": 1})
        doomed = held.enter_context(worker("doomed", server, sandbox, 1).start())
        wait_until(lambda: sandbox.ledger().token_requests == 1, "the doomed one fetches a token")
        doomed.process.kill()
        doomed.process.wait()
        with server.client() as client:
            (lock,) = client.keys("*:lock")
            assert 0 < client.pttl(lock) <= 5000
        living = [held.enter_context(worker(name, server, sandbox, 5).start()) for name in "ab"]
        told = [one.finish() for one in living]
        ledger = sandbox.ledger()

    settle_accounts(told, ledger, 5, token_requests=2)


@repeat_if_starved
def test_a_token_that_expires_for_all_is_fetched_once() -> None:
    """A token that expires for all processes is replaced once, and all processes use the new token."""
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: sandbox.control("POST", "expire-tokens"), 40)

    settle_accounts(told, ledger, 40, token_requests=2)


@repeat_if_starved
def test_a_rate_refusal_that_one_process_meets_slows_all() -> None:
    """
    After Pico refuses one process for its rate, no process sends for more than a second.

    Afterwards, the fleet sends at a lower rate.
    """
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        refusal = {"fault": "rate-limited", "times": 1, "retry_after_s": 2.0}
        told, ledger = in_trouble(server, sandbox, lambda: sandbox.control("POST", "faults", refusal), 25)

    assert {tries[-1] for one in told for tries in one.outcomes.values()} == {"accepted"}
    (refused_at,) = [arrival.at for arrival in ledger.arrivals if arrival.fault == "rate-limited"]
    moments = [message.at for message in ledger.accepted]
    gap_s, began_at = max((later - earlier, earlier) for earlier, later in itertools.pairwise(moments))
    # The others learn of the refusal when they reserve their next slots, and until then use the slots that they hold.
    assert gap_s > 1.0
    assert refused_at - 0.1 <= began_at <= refused_at + 1.0
    after = [moment for moment in moments if moment > began_at + 0.1]
    assert (len(after) - 1) / (after[-1] - after[0]) < 0.9 / spacing_s(30)


def in_trouble(
    server: ValkeyServer, sandbox: SandboxProcess, trouble: Callable[[], None], count: int, share: float | None = None
) -> tuple[list[Told], Ledger]:
    """
    Start a fleet, call `trouble` when *count* messages are accepted, and return the results and the server's ledger.
    """
    with ExitStack() as held:
        workers: list[RunningWorker] = [
            held.enter_context(worker(name, server, sandbox, count, share=share).start()) for name in "abc"[:PROCESSES]
        ]
        wait_for_accepted(sandbox, count)
        trouble()
        told = [one.finish() for one in workers]
    return told, sandbox.ledger()


def worker(
    name: str,
    server: ValkeyServer,
    sandbox: SandboxProcess,
    count: int,
    timeout_s: float = 10.0,
    share: float | None = None,
) -> FleetWorker:
    return FleetWorker(
        name=name,
        redis_url=server.url,
        base_url=sandbox.base_url,
        count=count,
        share=share,
        timeout_s=timeout_s,
    )


def settle_accounts(told: list[Told], ledger: Ledger, count: int, *, token_requests: int | None = None) -> None:
    """Compare the results in the processes with the server's ledger."""
    with rate_claims():
        assert ledger.densest() <= 30
        assert ledger.refusals == 0
    assert not ledger.duplicates()
    accepted = {message.text for message in ledger.accepted}
    for one in told:
        assert len(one.outcomes) == count
        assert {tries[-1] for tries in one.outcomes.values()} == {"accepted"}
        assert {outcome for tries in one.outcomes.values() for outcome in tries[:-1]} <= {"not_sent"}
        assert set(one.outcomes) <= accepted
    # If Redis lost the token or was away, each process may fetch one more; no process fetches one for each message.
    assert ledger.token_requests == token_requests if token_requests else ledger.token_requests <= 1 + PROCESSES
