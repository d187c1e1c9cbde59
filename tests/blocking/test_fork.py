"""A forked child uses no thread, connection or token of its parent's, and the parent goes on."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pico_async import AiohttpTransport, ConfigurationError, RedisCoordinator
from pico_async.blocking import Pico
from pico_async.coordination import registry
from tests.blocking.programs import run_program
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    # Python warns of it since 3.12.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

PARENT, CHILD = "8612345678901", "8612345678902"


def in_child(do: Callable[[], object]) -> None:
    """Call a function in a forked child, and check that it raises nothing there."""
    process = os.fork()
    if not process:
        signal.alarm(int(PATIENCE_S))  # ends a child that hangs
        try:
            do()
        except BaseException:  # noqa: BLE001  nothing of the test may go on in the child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, "The child failed. Its error is in the captured stderr."


def pico_at(sandbox: SandboxProcess, **settings: Any) -> Pico:
    return Pico(username="user333", api_key=sandbox.api_key, sender="Pico", base_url=sandbox.base_url, **settings)


@pytest.mark.parametrize("is_fast", [False, True], ids=["httpx", "aiohttp"])
def test_a_child_has_its_own_thread_token_and_connections(quick: SandboxProcess, is_fast: bool) -> None:
    """
    A child of a parent that has sent before, and of one that has not, sends by itself. Afterwards the parent sends over
    its own token.
    """
    with pico_at(quick, transport=AiohttpTransport() if is_fast else None) as pico:
        in_child(lambda: pico.sms.send(CHILD, "of a parent that has not sent"))
        pico.sms.send(PARENT, "before")
        in_child(lambda: pico.sms.send(CHILD, "of a parent that has sent"))
        pico.sms.send(PARENT, "after")

    ledger = quick.ledger()
    assert [message.text for message in ledger.sent_to(PARENT)] == ["before", "after"]
    assert len(ledger.sent_to(CHILD)) == 2
    assert ledger.token_requests == 3


def test_a_fork_while_a_call_is_under_way_repeats_and_disturbs_nothing(
    start_sandbox: Callable[..., SandboxProcess],
) -> None:
    """A fork while another thread waits for a reply leaves that call to the parent, and the child can send."""
    sandbox = start_sandbox("--rate-rule", "none")
    with pico_at(sandbox) as pico:
        pico.sms.send(PARENT, "before")
        sandbox.change(latency_s=1)
        thread = threading.Thread(target=pico.sms.send, args=(PARENT, "under way"))
        thread.start()
        wait_until(lambda: len(sandbox.arrivals()) == 3, "the second message has arrived")
        in_child(lambda: pico.sms.send(CHILD, "meanwhile"))
        thread.join(PATIENCE_S)

    ledger = sandbox.ledger()
    assert [message.text for message in ledger.sent_to(PARENT)] == ["before", "under way"]
    assert len(ledger.sent_to(CHILD)) == 1


def test_forks_in_the_middle_of_sends_lose_and_double_nothing(quick: SandboxProcess) -> None:
    """While four threads send, the process forks twelve times; each child sends once, and all messages arrive once."""
    with pico_at(quick, retries=0) as pico:
        pico.token.ensure()

        def send(number: int) -> None:
            for turn in range(6):
                pico.sms.send(f"86123456789{number:02}", f"turn {turn}")

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number in range(10, 16):
            in_child(lambda to=f"86123456789{number:02}": pico.sms.send(to, "child"))
        for thread in threads:
            thread.join(PATIENCE_S)

    counts = quick.accepted_by_number()
    assert counts == {f"86123456789{number:02}": 6 for number in range(4)} | {
        f"86123456789{number:02}": 1 for number in range(10, 16)
    }


def test_a_lock_that_a_thread_of_the_parent_held_is_free_in_a_child(quick: SandboxProcess) -> None:
    """A child can send although its parent forked while a thread held the lock of the registry."""
    with pico_at(quick) as pico:
        pico.sms.send(PARENT, "before")
        with registry._lock:
            in_child(lambda: pico.sms.send(CHILD, "hi"))

    assert len(quick.ledger().sent_to(CHILD)) == 1


def test_a_child_that_closes_closes_nothing_of_its_parent(quick: SandboxProcess) -> None:
    """A child that leaves the `with`, without a call or after one, leaves the parent's client open."""
    with pico_at(quick) as pico:
        pico.sms.send(PARENT, "before")

        def close() -> None:
            pico.close()
            with pytest.raises(ConfigurationError, match="closed"):
                pico.sms.send(CHILD, "late")

        in_child(close)
        in_child(lambda: (pico.sms.send(CHILD, "hi"), pico.close()))
        pico.sms.send(PARENT, "after")

    assert len(quick.ledger().sent_to(PARENT)) == 2


def test_a_stream_of_the_parent_is_refused_in_a_child(quick: SandboxProcess) -> None:
    """A child that uses a stream of its parent's gets an error, and does not wait for a thread that it has not."""
    with pico_at(quick) as pico, pico.stream_bulk([]) as results:

        def use() -> None:
            with pytest.raises(ConfigurationError, match="forked"):
                next(results)
            assert results.report.total == 0

        in_child(use)


def test_a_transport_of_the_user_is_refused_in_a_child_if_the_parent_used_it(quick: SandboxProcess) -> None:
    """A child may not use an httpx transport that its parent has used: the sockets are shared. It says so."""
    with pico_at(quick, transport=httpx.AsyncHTTPTransport()) as pico:
        in_child(lambda: pico.sms.send(CHILD, "unused"))
        pico.sms.send(PARENT, "hi")

        def send() -> None:
            with pytest.raises(ConfigurationError, match="in each process"):
                pico.sms.send(CHILD, "used")

        in_child(send)


def test_processes_share_the_rate_through_redis(start_sandbox: Callable[..., SandboxProcess], redis_url: str) -> None:
    """A parent and its children that share a `RedisCoordinator` from a URL share the rate and one token."""
    sandbox = start_sandbox("--rate-rule", "sliding-log")
    with pico_at(sandbox, coordinator=RedisCoordinator.from_url(redis_url, timeout=PATIENCE_S), retries=0) as pico:
        pico.sms.send(PARENT, "before")
        for _ in range(2):
            in_child(lambda: [pico.sms.send(CHILD, f"hi {number}") for number in range(5)])
        pico.sms.send(PARENT, "after")

    ledger = sandbox.ledger()
    assert len(ledger.accepted) == 12
    assert ledger.token_requests == 1


@pytest.mark.parametrize("transport", ["None", "AiohttpTransport()"])
def test_a_child_that_ends_as_a_program_does_harms_nothing(
    tmp_path: Path, quick: SandboxProcess, transport: str
) -> None:
    """A child that ends as any program does runs its exit handlers and finalizers, and its parent can still send."""
    code = f"""
import os, sys
from pico_async import AiohttpTransport
from pico_async.blocking import Pico
from pico_async.coordination import registry

pico = Pico(transport={transport}, retries=0)
pico.sms.send({PARENT!r}, "before")
if not (child := os.fork()):
    pico.sms.send({CHILD!r}, "child")
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(pico.sms.send({PARENT!r}, "after").request_id)
"""
    ran = run_program(code, tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(quick.ledger().accepted) == 3
