"""Any number of threads share one rate, one token and one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from pico_async import NotSentError, Rates
from pico_async.blocking import Pico, loop_thread as module
from pico_async.blocking.loop_thread import LoopThread
from tests.support.sandbox_process import SandboxProcess
from tests.support.virtual_time import VirtualClock, VirtualSelector

THREADS = 8


def send_from_threads(pico: Pico, each: int) -> None:
    """Send from eight threads at once; each sends one message after the other."""

    def send(thread: int) -> None:
        for number in range(each):
            pico.sms.send(f"861234567{thread:02}{number:02}", "hi")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, range(THREADS)))


def test_threads_keep_to_the_rate_together_over_one_token(
    monkeypatch: pytest.MonkeyPatch, virtual_clock: VirtualClock
) -> None:
    """Of 400 messages from eight threads, at most 30 are sent in any second, over one token. The time is virtual."""
    monkeypatch.setattr(module, "_new_loop", lambda: asyncio.SelectorEventLoop(VirtualSelector(virtual_clock)))
    tokens, sent = 0, list[float]()

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal tokens
        if "/token/" in request.url.path:
            tokens += 1
            return httpx.Response(200, json={"token": "t-1"})
        sent.append(asyncio.get_running_loop().time())
        return httpx.Response(200, json={"request_id": "r-1"})

    account = {"username": "user333", "api_key": "key", "sender": "Pico"}
    with Pico(**account, transport=httpx.MockTransport(answer)) as pico:  # type: ignore[arg-type]
        send_from_threads(pico, 50)

    assert (tokens, len(sent)) == (1, 400)
    assert max(sum(start <= moment < start + 1 for moment in sent) for start in sent) <= 30


@pytest.mark.parametrize("each", [5, pytest.param(50, marks=pytest.mark.full)])
def test_threads_keep_to_the_rate_at_a_real_server(start_sandbox: Callable[..., SandboxProcess], each: int) -> None:
    """A server that counts each second refuses none of the messages that eight threads send at once."""
    sandbox = start_sandbox("--rate-rule", "sliding-log")
    with Pico(username="user333", api_key=sandbox.api_key, sender="Pico", base_url=sandbox.base_url, retries=0) as pico:
        send_from_threads(pico, each)

    ledger = sandbox.ledger()
    assert len(ledger.accepted) == THREADS * each
    assert not ledger.duplicates()
    assert ledger.token_requests == 1


def test_a_thread_that_cannot_be_started_means_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, quick: SandboxProcess
) -> None:
    """If no thread can be started, or no event loop made, the call is not sent; a later call tries again."""

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with Pico(
        username="user333", api_key=quick.api_key, sender="Pico", base_url=quick.base_url, rates=Rates(sms=None)
    ) as pico:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(NotSentError, match="can't start new thread"):
                pico.sms.send("8612345678901", "first")
        with monkeypatch.context() as patch:
            patch.setattr(module, "_new_loop", fail)
            patch.setattr(threading, "excepthook", lambda _: None)
            with pytest.raises(NotSentError, match="could not be started"):
                pico.sms.send("8612345678901", "second")
        pico.sms.send("8612345678901", "third")

    assert [message.text for message in quick.accepted()] == ["third"]


def test_a_thread_that_was_stopped_takes_no_call_and_may_be_stopped_again(own_thread: LoopThread) -> None:
    """After its stop, a thread refuses calls as at the exit of the program; a second stop does nothing."""

    async def nothing() -> None:
        pass

    own_thread.run(nothing())
    own_thread.stop()
    own_thread.stop()

    with pytest.raises(Exception, match="ending"):
        own_thread.run(nothing())
    own_thread.start_soon(nothing())
    assert own_thread.get(lambda: 1) == 1
