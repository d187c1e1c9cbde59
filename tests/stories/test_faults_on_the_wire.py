"""These tests make eighteen network faults with real sockets, and check the client's error and what had arrived."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trustme
from attrs import frozen

from pico_async import InDoubtError, NoResponseError, NotSentError, PicoError, PicoSession, UnexpectedResponseError
from pico_async._engine import decision
from tests.support import raw_pico
from tests.support.clock_jump import LONG_S, jump, jump_when
from tests.support.raw_pico import (
    ACCEPTED,
    RawPico,
    full_backlog,
    has_unread,
    reset,
    session,
    stop_reading,
    wait_for_ever,
)
from tests.support.waiting import until

TO = "8612345678901"
# More than the kernel buffers for a peer that does not read.
LONG = "x" * 10_000_000


@pytest.fixture(autouse=True, params=raw_pico.TRANSPORTS.values(), ids=raw_pico.TRANSPORTS)
def make_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with each HTTP transport, and without waits between two tries."""
    monkeypatch.setattr(raw_pico, "make_transport", request.param)
    monkeypatch.setattr(decision, "BASE_DELAY_S", 0.0)


async def failure_of(send: Awaitable[object]) -> PicoError:
    with pytest.raises(PicoError) as caught:
        await send
    return caught.value


def assert_not_sent(error: PicoError, *, tries: int = 2) -> None:
    """Check that the message was provably not sent, and was therefore tried again."""
    assert type(error) is NotSentError
    assert error.attempts == tries


def assert_in_doubt(error: PicoError, kind: type[InDoubtError] = NoResponseError) -> None:
    """Check that the message may have been sent, and was therefore not tried again."""
    assert type(error) is kind
    assert error.attempts == 1


async def test_1_a_refused_connection() -> None:
    """A send to a port on which no process listens fails as not sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with session(f"http://127.0.0.1:{unused.getsockname()[1]}") as pico:
            error = await failure_of(pico.sms.send(TO, "hello"))

    assert_not_sent(error)


async def test_2_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A send to a host that is not in the DNS fails as not sent."""

    async def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # A real resolver may wait for servers that this machine cannot reach, for any length of time.
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with session("https://no-such-host.invalid") as pico:
        error = await failure_of(pico.sms.send(TO, "hello"))

    assert_not_sent(error)


async def test_3_an_untrusted_certificate() -> None:
    """A send to a server with an untrusted certificate fails as not sent, and the error names the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with raw_pico.raw_pico(context) as server, session(server.address, timeout=5.0) as pico:
        error = await failure_of(pico.sms.send(TO, "hello"))

    assert_not_sent(error)
    assert "certificate" in str(error)
    assert server.received == 0


async def test_4_a_tcp_handshake_that_hangs() -> None:
    """A send whose SYN is not answered fails as not sent."""
    async with full_backlog() as full, session(full.address, timeout=LONG_S) as pico:
        full.on_knock = jump
        error = await failure_of(pico.sms.send(TO, "hello"))

    assert_not_sent(error)
    assert full.knocks == 2


async def test_5_a_tls_handshake_that_hangs() -> None:
    """A send whose TLS handshake never completes fails as not sent."""
    async with raw_pico.raw_pico() as server:
        server.before_reading = shake_no_hand
        async with session(server.address.replace("http:", "https:"), timeout=LONG_S) as pico:
            error = await failure_of(pico.sms.send(TO, "hello"))

    assert_not_sent(error)
    assert server.received == 0


@pytest.mark.parametrize("make_transport", [raw_pico.TRANSPORTS["httpx"]], ids=["httpx"], indirect=True)
async def test_6_an_exhausted_pool() -> None:
    """A send that gets no connection, because all of the caller's own transport are busy, fails as not sent."""
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    async with raw_pico.raw_pico() as server:
        server.misbehave = wait_for_ever
        async with (
            session(server.address, transport=transport, timeout=10 * LONG_S) as busy,
            # The session that ends first must not close the transport, because the other session uses it.
            session(server.address, transport=_Shared(transport), timeout=LONG_S) as pico,
        ):
            first = asyncio.create_task(busy.sms.send(TO, "busy"))
            await server.begun.wait()

            error = await failure_of(pico.sms.send(TO, "hello"))

            first.cancel()
            await asyncio.wait([first])

    assert_not_sent(error)
    assert server.received == 1


class _Shared(httpx.AsyncHTTPTransport):
    """A transport that another session closes, whose requests wait in the pool until they time out."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._shared = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        waiting = asyncio.create_task(jump_when(lambda: len(self._shared._pool._requests) == 2))
        try:
            return await self._shared.handle_async_request(request)
        finally:
            await waiting

    async def aclose(self) -> None:
        pass


async def shake_no_hand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)  # the client has begun the TLS handshake
    jump()
    await wait_for_ever(reader, writer)


async def read_no_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stop_reading(reader, writer))
        await until(lambda: has_unread(writer))
        jump()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    jump()
    await wait_for_ever(reader, writer)


async def reset_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def reset_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(100_000)
    reset(writer)


async def close_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def truncate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ACCEPTED[:-5])
    await writer.drain()


async def speak_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 SSH-2.0-none of your business\r\n\r\n")
    await writer.drain()


async def say_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b'{"request_id": "r-1", "more": "%s"}' % (b"x" * 2 * 1024 * 1024)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.005)
        jump(LONG_S / 20)


@frozen
class Written:
    """A fault that happens after at least a part of the request is written."""

    misbehave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    received: int
    text: str = "hello"
    kind: type[InDoubtError] = NoResponseError


WRITTEN = {
    "7 a peer that stops reading": Written(read_no_more, 0, LONG),
    "8 no answer": Written(never_answer, 1),
    "9 a reset in mid-write": Written(reset_in_the_middle, 0, LONG),
    "10 a reset after the request": Written(reset_it, 1),
    "11 closed after the request": Written(close_it, 1),
    "13 a truncated reply": Written(truncate, 1),
    "14 garbage in place of HTTP": Written(speak_garbage, 1),
    "15 an oversized reply": Written(say_too_much, 1, kind=UnexpectedResponseError),
    "16 a reply that drips": Written(drip, 1),
}


@pytest.mark.parametrize("fault", WRITTEN.values(), ids=WRITTEN)
async def test_whatever_comes_after_the_first_byte_is_in_doubt(fault: Written) -> None:
    """
    A send that fails after its first byte is in doubt: it is not tried again, and arrives at most once.

    The session's next send succeeds.
    """
    async with raw_pico.raw_pico() as server, session(server.address, timeout=LONG_S) as pico:
        await _sound(pico, server)
        if fault.received:
            server.misbehave = fault.misbehave
        else:
            # The server already waits for the next request, so it still reads and answers that one.
            server.before_reading = fault.misbehave
            await _sound(pico, server)
        before = server.received

        error = await failure_of(pico.sms.send(TO, fault.text))

        arrived = server.received - before
        server.misbehave = server.before_reading = None
        await _sound(pico, server)
    assert_in_doubt(error, fault.kind)
    assert arrived == fault.received


async def test_12_a_connection_that_closes_as_it_is_used() -> None:
    """
    A send is in doubt if the server closes the idle connection at the moment at which the client writes.

    To the client, this looks like fault 11, where the message did arrive.
    """
    async with raw_pico.raw_pico() as server, session(server.address) as pico:
        await _sound(pico, server)

        async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)  # the client wrote, so it considered the connection usable
            writer.close()

        server.before_reading = end
        await _sound(pico, server)

        error = await failure_of(pico.sms.send(TO, "hello"))

    assert_in_doubt(error)
    assert server.received == 2


async def test_17_cancelled_before_the_write() -> None:
    """The CancelledError of a send that is cancelled during the TLS handshake states that nothing was sent."""
    async with raw_pico.raw_pico() as server:
        server.before_reading = wait_for_ever
        async with session(server.address.replace("http:", "https:"), timeout=60.0) as pico:
            sending = asyncio.create_task(pico.sms.send(TO, "hello"))
            await server.begun.wait()

            sending.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await sending

    assert "nothing was sent" in cancelled.value.__notes__[0]
    assert server.received == 0


async def test_18_cancelled_after_the_write() -> None:
    """
    The CancelledError of a send that is cancelled while it waits for the reply states that it may have been sent.

    The request had arrived.
    """
    async with raw_pico.raw_pico() as server:
        server.misbehave = wait_for_ever
        async with session(server.address, timeout=60.0) as pico:
            sending = asyncio.create_task(pico.sms.send(TO, "hello"))
            await server.begun.wait()

            sending.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await sending

    assert "may have been sent" in cancelled.value.__notes__[0]
    assert server.received == 1


async def _sound(pico: PicoSession, server: RawPico) -> None:
    accepted = await pico.sms.send(TO, "hello")

    assert accepted.request_id == "r-1"
