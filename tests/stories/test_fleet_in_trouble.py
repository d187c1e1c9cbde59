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
from tests.support.fleet_worker import FleetWorker, RunningWorker, WorkerResult, wait_for_accepted
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.sandbox_process import SandboxProcess, sandbox_process
from tests.support.valkey_server import ValkeyServer, valkey_server, valkey_server_with_clock
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

PROCESSES = 3
REDIS_TIMEOUT_S = 1.0


def killed(server: ValkeyServer) -> None:
    """Kill Redis, and start an empty one a second later."""
    server.kill()
    time.sleep(1.2)
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
    """Pause Redis, so that it answers no client for longer than a process waits for it."""
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", int(2.5 * REDIS_TIMEOUT_S * 1000), "ALL")


def read_only(server: ValkeyServer) -> None:
    """Make Redis a read-only replica for two seconds, as in a failover."""
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        time.sleep(2)
        client.replicaof("NO", "ONE")


# Outside the full suite, `killed` runs in the test of the shares, and `frozen` in that of one trouble after another.
@pytest.mark.full
@pytest.mark.parametrize("count", [25, 100])
@pytest.mark.parametrize("trouble", [frozen, killed, restarted, flushed, read_only])
@repeat_if_starved
def test_a_fleet_comes_through(trouble: Callable[[ValkeyServer], None], count: int) -> None:
    """
    After a fault of Redis, failed sends are reported as not sent, and a later try sends them.

    The server refuses no request, and no message arrives twice.
    """
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: trouble(server), count, after=count)

    settle_accounts(told, ledger, count)


@pytest.mark.parametrize("trouble", [killed, pytest.param(frozen, marks=pytest.mark.full)])
@repeat_if_starved
def test_a_fleet_goes_on_with_shares(trouble: Callable[[ValkeyServer], None]) -> None:
    """
    With `share=1/3`, no send of three processes fails while Redis is away.

    The rate limit holds while they use their shares, and also when they change to the shares and back.
    """
    with valkey_server() as server, sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: trouble(server), 40, share=1 / PROCESSES, after=15)

    settle_accounts(told, ledger, 40)
    # A second in which no process sends, before the shares and after them.
    moments = [message.at for message in ledger.accepted]
    assert sum(later - earlier > 0.5 for earlier, later in itertools.pairwise(moments)) >= 2
    assert {outcome for one in told for tries in one.outcomes.values() for outcome in tries} == {"accepted"}


@pytest.mark.parametrize("seconds", [3600, pytest.param(-3600, marks=pytest.mark.full)])
@repeat_if_starved
def test_the_clock_of_redis_is_stepped(seconds: int) -> None:
    """When Redis's clock is stepped by an hour, no process waits for an hour, and the rate limit holds."""
    with valkey_server_with_clock() as (server, clock), sandbox_process("--rate-rule=sliding-log") as sandbox:
        told, ledger = in_trouble(server, sandbox, lambda: clock.step(seconds), 20, after=15)

    settle_accounts(told, ledger, 20)


@repeat_if_starved
def test_a_fleet_comes_through_one_trouble_after_another() -> None:
    """
    A fleet recovers from four troubles, one after another, and no message arrives twice.

    - A process dies while it holds the token lock: the others wait until the lock expires, and one of them fetches the
      token for all.
    - The token expires for all processes: it is replaced once, and all processes use the new one.
    - Redis answers no client for some seconds: a send that fails is reported as not sent, and a later try sends it.
    - Pico refuses requests that came too fast: no process sends for more than a second, and then all are slower.
    """
    count = 30
    with ExitStack() as held:
        server = held.enter_context(valkey_server())
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log"))
        kill_with_the_lock_of_the_token(server, sandbox)
        living = [held.enter_context(worker(name, server, sandbox, count).start()) for name in "abc"[:PROCESSES]]
        wait_for_accepted(sandbox, 12)
        token_requests = [sandbox.ledger().token_requests]
        sandbox.control("POST", "expire-tokens")
        wait_for_accepted(sandbox, 30)
        token_requests.append(sandbox.ledger().token_requests)
        frozen(server)
        wait_for_accepted(sandbox, 48)
        sandbox.control("POST", "faults", {"fault": "rate-limited", "times": 1, "retry_after_s": 2.0})
        told = [one.finish() for one in living]
        ledger = sandbox.ledger()

    settle_accounts(told, ledger, count, refusals=1, token_requests=3 + PROCESSES)
    # The doomed process made one request, and all others together one; after that, one for the token that expired.
    assert token_requests == [2, 3]
    assert_a_refusal_slows_all(ledger)


def kill_with_the_lock_of_the_token(server: ValkeyServer, sandbox: SandboxProcess) -> None:
    """Start a process, and kill it while it fetches the token for all; the lock that it leaves expires soon."""
    sandbox.control("POST", "faults", {"fault": "hang-before-accept", "operation": "token.get", "times": 1})
    with worker("doomed", server, sandbox, 1).start():
        wait_until(lambda: sandbox.ledger().token_requests == 1, "the doomed one fetches a token")
    with server.client() as client:
        (lock,) = client.keys("*:lock")
        assert 0 < client.pttl(lock) <= 5000
        # The living ones wait for it, but not for as long.
        client.pexpire(lock, 2000)


def assert_a_refusal_slows_all(ledger: Ledger) -> None:
    """Check that all processes paused after the only rate refusal, and were slower afterwards."""
    (refused_at,) = [arrival.at for arrival in ledger.arrivals if arrival.fault == "rate-limited"]
    moments = [message.at for message in ledger.accepted if message.at > refused_at - 0.1]
    gap_s, began_at = max((later - earlier, earlier) for earlier, later in itertools.pairwise(moments))
    # The others learn of the refusal when they reserve their next slots, and until then use the slots that they hold.
    assert gap_s > 1.0
    assert began_at <= refused_at + 1.0
    after = [moment for moment in moments if moment > began_at + 0.1]
    assert len(after) > 10
    assert (len(after) - 1) / (after[-1] - after[0]) < 0.9 / spacing_s(30)


def in_trouble(
    server: ValkeyServer,
    sandbox: SandboxProcess,
    trouble: Callable[[], None],
    count: int,
    *,
    after: int,
    share: float | None = None,
) -> tuple[list[WorkerResult], Ledger]:
    """
    Start a fleet, call `trouble` when *after* messages are accepted, and return the results and the server's ledger.
    """
    with ExitStack() as held:
        workers: list[RunningWorker] = [
            held.enter_context(worker(name, server, sandbox, count, share=share).start()) for name in "abc"[:PROCESSES]
        ]
        wait_for_accepted(sandbox, after)
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
        redis_timeout_s=REDIS_TIMEOUT_S,
        base_url=sandbox.base_url,
        count=count,
        share=share,
        timeout_s=timeout_s,
    )


def settle_accounts(
    told: list[WorkerResult], ledger: Ledger, count: int, *, refusals: int = 0, token_requests: int = 1 + PROCESSES
) -> None:
    """
    Compare the results in the processes with the server's ledger.

    Args:
        token_requests: The most there may be. If Redis lost the token or was away, each process may fetch one more; no
            process fetches one for each message.
    """
    with rate_claims():
        assert ledger.densest() <= 30
        assert ledger.refusals == refusals
    assert not ledger.duplicates()
    accepted = {message.text for message in ledger.accepted}
    for one in told:
        assert len(one.outcomes) == count
        assert {tries[-1] for tries in one.outcomes.values()} == {"accepted"}
        assert {outcome for tries in one.outcomes.values() for outcome in tries[:-1]} <= {"not_sent"}
        assert set(one.outcomes) <= accepted
    assert ledger.token_requests <= token_requests
