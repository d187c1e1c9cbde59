"""These tests begin ten thousand calls at once: all finish or all are cancelled, and no task or connection is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pico_async import Accepted, AiohttpTransport, PicoSession, Rates
from pico_async._engine.http.exchange import MAX_CONNECTIONS
from tests.stories.mute_pico import Server, State, mute_pico

pytestmark = pytest.mark.processes

TO = "8612345678901"

# The gate runs a tenth of the size.
SIZES = pytest.mark.parametrize("size", [1_000, pytest.param(10_000, marks=pytest.mark.full)])

MakeTransport = Callable[[], AiohttpTransport | None]


@pytest.fixture(params=[lambda: None, AiohttpTransport], ids=["httpx", "aiohttp"])
def make_transport(request: pytest.FixtureRequest) -> MakeTransport:
    """Return the factory of one HTTP transport; each test runs with both."""
    return request.param


def session(address: str, make_transport: MakeTransport, rates: Rates | None) -> PicoSession:
    return PicoSession(
        username="user333",
        api_key="k",
        sender="8612345678888",
        base_url=address,
        transport=make_transport(),
        rates=rates,
        # No call may time out here.
        timeout=600.0,
    )


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Check that no httpx transport gets a request while it has another, so that no request waits in httpcore's pool.
    """
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def watched(self: Any, request: httpx.Request) -> httpx.Response:
        # A request belongs to the pool until its reply is read and closed.
        assert not self._pool._requests
        response = await handle(self, request)
        assert len(self._pool._requests) == 1
        return response

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", watched)


async def until(server: Server, holds: Callable[[State], bool]) -> State:
    while not holds(state := await server.state()):
        await asyncio.sleep(0.01)
    return state


@SIZES
@pytest.mark.usefixtures("one_at_a_time")
async def test_all_are_accepted_once(make_transport: MakeTransport, size: int) -> None:
    """
    All calls are accepted once, over at most `MAX_CONNECTIONS` connections, and none waits inside the HTTP library.
    """
    tasks = asyncio.all_tasks()

    with mute_pico(mute=False) as server:
        async with session(server.address, make_transport, Rates(sms=None)) as pico:
            ends = await asyncio.gather(*(pico.sms.send(TO, f"hello {number}") for number in range(size)))
        after = await until(server, lambda state: not state.open)

    assert [type(end) for end in ends] == [Accepted] * size
    assert after.messages == size
    assert 1 < after.most_open <= MAX_CONNECTIONS
    assert asyncio.all_tasks() == tasks


@SIZES
@pytest.mark.parametrize("rates", [None, Rates(sms=None)], ids=["at 30 a second", "without a pace"])
async def test_all_are_cancelled_and_nothing_is_left(
    make_transport: MakeTransport, rates: Rates | None, size: int
) -> None:
    """
    After all calls are cancelled, no task and no connection is left.

    Calls on the wire had arrived, and report that they may have been sent; the others report that nothing was sent.
    """
    tasks = asyncio.all_tasks()

    with mute_pico(mute=True) as server:
        async with session(server.address, make_transport, rates) as pico:
            await pico.token.get()
            calls = [asyncio.create_task(pico.sms.send(TO, f"hello {number}")) for number in range(size)]
            await until(server, lambda state: state.messages >= (MAX_CONNECTIONS if rates else 5))

            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        after = await until(server, lambda state: not state.open)

    notes = Counter(cancellation_note(call) for call in calls)
    sent, unsent = [note for note in notes if "may have been sent" in note], ["POST /sms: nothing was sent."]
    assert sorted(notes) == sorted(sent + unsent)
    assert notes[sent[0]] == after.messages
    if rates:
        assert after.messages == MAX_CONNECTIONS
    assert after.most_open <= MAX_CONNECTIONS
    assert asyncio.all_tasks() == tasks


def cancellation_note(call: asyncio.Task[Accepted]) -> str:
    with pytest.raises(asyncio.CancelledError) as cancelled:
        call.result()
    (note,) = cancelled.value.__notes__
    return note
