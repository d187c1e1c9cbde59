"""
These tests cancel a send in each of its phases, and check its note, what had arrived, and that nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest

from pico_async import LocalCoordinator, Outcome, PicoSession, Priority, Rates, SmsMessage
from pico_async.coordination.rates import RateGroup
from tests.support import raw_pico
from tests.support.raw_pico import RawPico, full_backlog, session, stop_reading, wait_for_ever
from tests.support.waiting import until
from tests.support.watched_slots import WatchedLimiter

TO = "8612345678901"
# More than the kernel buffers for a peer that does not read.
LONG = "x" * 10_000_000

# A phase opens a session, and says when the session's next send has reached the phase.
Reached = Callable[[], object]
Phase = Callable[[AsyncExitStack, RawPico], Awaitable[tuple[PicoSession, Reached]]]


@pytest.fixture(autouse=True, params=raw_pico.TRANSPORTS.values(), ids=raw_pico.TRANSPORTS)
def make_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with each HTTP transport."""
    monkeypatch.setattr(raw_pico, "make_transport", request.param)


async def token(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session without a token, whose request for one is not answered."""
    server.misbehave = wait_for_ever
    pico = await stack.enter_async_context(
        PicoSession(
            username="user333",
            api_key="k",
            sender="s",
            base_url=server.address,
            timeout=60.0,
            coordinator=LocalCoordinator(Rates(sms=None)),
        )
    )
    return pico, server.begun.is_set


class AskedCoordinator(LocalCoordinator):
    """A coordinator that notes that it was asked for a slot."""

    asked = False

    def limiter(self, rate_group: RateGroup) -> WatchedLimiter:  # type: ignore[override]
        return WatchedLimiter(super().limiter(rate_group), rate_group, self._note)

    async def _note(self, rate_group: RateGroup, _: Priority) -> None:
        self.asked |= rate_group is RateGroup.SMS


async def pace(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session whose next slot is a minute away."""
    coordinator = AskedCoordinator(Rates(sms=30))
    await coordinator.token.keep("t")
    LocalCoordinator.limiter(coordinator, RateGroup.SMS).pause(60.0)
    pico = await stack.enter_async_context(session(server.address, timeout=60.0, coordinator=coordinator))
    return pico, lambda: coordinator.asked


async def pool(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session with the caller's own transport, whose only connection is busy."""
    server.misbehave = wait_for_ever
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    pico = await stack.enter_async_context(session(server.address, timeout=60.0, transport=transport))
    busy = asyncio.create_task(pico.sms.send(TO, "busy"))
    await server.begun.wait()

    async def end() -> None:
        busy.cancel()
        await asyncio.wait([busy])

    stack.push_async_callback(end)
    return pico, lambda: len(transport._pool._requests) == 2


async def connection(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session to a server that does not answer the SYN."""
    full = await stack.enter_async_context(full_backlog())
    return await stack.enter_async_context(session(full.address, timeout=60.0)), lambda: full.knocks


async def handshake(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session to a server that never completes the TLS handshake."""
    server.before_reading = stop_reading
    address = server.address.replace("http:", "https:")
    return await stack.enter_async_context(session(address, timeout=60.0)), server.has_unread


async def write(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session to a server that does not read."""
    server.before_reading = stop_reading
    return await stack.enter_async_context(session(server.address, timeout=60.0)), server.has_unread


async def answer(stack: AsyncExitStack, server: RawPico) -> tuple[PicoSession, Reached]:
    """Open a session to a server that does not answer."""
    server.misbehave = wait_for_ever
    return await stack.enter_async_context(session(server.address, timeout=60.0)), server.begun.is_set


NOT_SENT: list[Phase] = [token, pace, pool, connection, handshake]
IN_DOUBT: list[Phase] = [write, answer]


Cancel = Callable[[Awaitable[object], Awaitable[None]], Awaitable[None]]


async def by_its_task(send: Awaitable[object], when: Awaitable[None]) -> None:
    task = asyncio.ensure_future(send)
    await when
    task.cancel()
    await task


async def by_a_timeout(send: Awaitable[object], when: Awaitable[None]) -> None:
    async with asyncio.timeout(None) as bound:

        async def expire() -> None:
            await when
            bound.reschedule(asyncio.get_running_loop().time())

        expiring = asyncio.create_task(expire())
        try:
            await send
        finally:
            await asyncio.wait([expiring])


async def by_a_scope(send: Awaitable[object], when: Awaitable[None]) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await when
            scope.cancel()

        cancelling = asyncio.create_task(cancel())
        await send
    await cancelling
    assert scope.cancelled_caught


def sockets() -> set[str]:
    """Return the names of the sockets that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("socket:")}


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check at the end of the context that it left no task and no socket."""
    before, tasks = sockets(), asyncio.all_tasks()
    yield
    # Closing takes one or two iterations of the event loop on both sides.
    for _ in range(100):
        if sockets() <= before and asyncio.all_tasks() <= tasks:
            break
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() - tasks == set()
    assert sockets() - before == set()


def sent_of(phase: Phase) -> int:
    """Return how many whole requests for the message have arrived, without those that prepared the phase."""
    return 1 if phase is answer else 0


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the open sockets are read from /proc")


@pytest.mark.parametrize("cancel", [by_its_task, by_a_timeout, by_a_scope])
@pytest.mark.parametrize("phase", NOT_SENT + IN_DOUBT)
async def test_a_cancelled_send_tells_what_became_of_it_and_leaves_nothing(phase: Phase, cancel: Cancel) -> None:
    """
    The CancelledError of a cancelled send has a note that states whether the message may have been sent.

    The note agrees with the requests that arrived, and no task or socket is left. After a cancelled TLS handshake,
    write or wait for the reply, the next send succeeds.
    """
    notes: list[str] = []

    async with nothing_left(), raw_pico.raw_pico() as server, AsyncExitStack() as stack:
        pico, reached = await phase(stack, server)
        before = server.received

        async def send() -> None:
            try:
                await pico.sms.send(TO, LONG if phase is write else "hello")
            except asyncio.CancelledError as cancelled:
                notes.extend(cancelled.__notes__)
                raise

        with suppress(asyncio.CancelledError, TimeoutError):
            await cancel(send(), until(reached))

        arrived = server.received - before
        server.misbehave = server.before_reading = None
        if phase in (write, answer, handshake):
            async with session(server.address) as other:
                assert (await other.sms.send(TO, "hello")).request_id == "r-1"
        if phase in (write, answer):
            assert (await pico.sms.send(TO, "hello")).request_id == "r-1"

    said = "nothing was sent" if phase in NOT_SENT else "may have been sent"
    assert any(said in note for note in notes), notes
    assert arrived == (1 if phase is token else sent_of(phase))


@pytest.mark.parametrize("journalled", [False, True])
@pytest.mark.parametrize("phase", NOT_SENT + IN_DOUBT)
async def test_a_bulk_send_that_is_left_reports_each_outcome(phase: Phase, journalled: bool, tmp_path: Path) -> None:
    """
    A bulk send that is left early reports its message as not sent or in doubt, depending on the phase.

    With a journal, the next run sends a message that was not sent, and leaves a message in doubt as it is.
    """
    journal = tmp_path / "blast.db" if journalled else None
    message = SmsMessage(TO, LONG if phase is write else "hello", key="order-1")
    results = []

    async with nothing_left(), raw_pico.raw_pico() as server, AsyncExitStack() as stack:
        pico, reached = await phase(stack, server)

        async with pico.stream_bulk([message], journal=journal) as stream:
            await until(reached)
        results = [result.outcome for result in stream.leftover]

        server.misbehave = server.before_reading = None
        if journalled:
            async with session(server.address) as other:
                report = await other.send_bulk([message], journal=journal)
                expected = (1, 0) if phase in NOT_SENT else (0, 1)
                assert (report.accepted, report.in_doubt) == expected

    assert results == [Outcome.NOT_SENT if phase in NOT_SENT else Outcome.IN_DOUBT]
