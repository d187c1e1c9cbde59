"""One exchange over real sockets: what each failure proves."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
import trustme

from pico_async import LocalCoordinator, MessageExpiredError, Priority
from pico_async._engine.aiohttp_carrier import AiohttpTransport
from pico_async._engine.attempt import Attempt
from pico_async._engine.endpoints import SEND_SMS, Request
from pico_async._engine.httpx_carrier import HttpxCarrier
from pico_async._engine.trace import CallTrace
from pico_async._engine.transport import Carrier, Outgoing, Transport
from pico_async._engine.wire import Failure, Reply
from pico_async.coordination.queue import FairQueue

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture(params=[HttpxCarrier, AiohttpTransport], ids=["httpx", "aiohttp"])
def carrier(request: pytest.FixtureRequest) -> Callable[[], Carrier]:
    """Each library makes the same promises."""
    return request.param


class Asked:
    """An attempt that only takes note of what it is asked."""

    def __init__(self, priority: Priority = Priority.INTERACTIVE) -> None:
        self.priority = priority
        self.turns_again = 0
        self.wrote = False

    async def take(self, places: FairQueue) -> bool:
        return await places.take(self.priority)

    async def leave_late(self) -> bool:
        return False

    async def turn_again(self) -> None:
        self.turns_again += 1

    def note_write(self) -> None:
        self.wrote = True


async def exchange_on(transport: Transport, outgoing: Outgoing) -> Reply | Failure:
    return await transport.exchange(outgoing, Asked())


@asynccontextmanager
async def server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


async def exchange(
    carrier: Callable[[], Carrier], base_url: str, *, timeout_s: float = 0.3, content: bytes = b"{}"
) -> tuple[Reply | Failure, bool]:
    """Give what one exchange brought, and whether it told of a write."""
    attempt = Asked()
    transport = Transport(base_url, timeout_s, carrier())
    try:
        return await transport.exchange(
            Outgoing("POST", "/sms", {}, {"x-api-key": "k"}, content), attempt
        ), attempt.wrote
    finally:
        await transport.aclose()


async def request_of(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def test_a_reply_is_a_reply(carrier: Callable[[], Carrier]) -> None:
    """Status, body and Retry-After."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    async with server(talk) as port:
        reply, wrote = await exchange(carrier, f"http://127.0.0.1:{port}")

    assert isinstance(reply, Reply)
    assert (reply.status, reply.content, reply.retry_after) == (429, b"{}", 3.0)
    assert wrote


async def test_a_refused_connection_sent_nothing(carrier: Callable[[], Carrier]) -> None:
    """Nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    failure, wrote = await exchange(carrier, f"http://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote


async def test_an_unknown_host_sent_nothing(carrier: Callable[[], Carrier]) -> None:
    """A name that never resolves."""
    failure, wrote = await exchange(carrier, "http://nowhere.invalid", timeout_s=5)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["untrusted", "untrusted, by address"])
async def test_an_untrusted_certificate_is_not_talked_to(carrier: Callable[[], Carrier], host: str) -> None:
    """TLS is verified: not a byte of the request leaves, and the reason says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(context)
    heard = b""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.read()

    async with server(talk, context) as port:
        failure, wrote = await exchange(carrier, f"https://{host}:{port}", timeout_s=5)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert heard == b""
    assert "certificate" in failure.reason.lower()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """The context of a server on this machine whose authority is trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(OK)
        await writer.drain()


async def test_a_trusted_certificate_is_talked_to(carrier: Callable[[], Carrier], trusted: ssl.SSLContext) -> None:
    """The same server, with its authority trusted."""
    async with server(answer_all, trusted) as port:
        reply, _ = await exchange(carrier, f"https://localhost:{port}", timeout_s=5)

    assert isinstance(reply, Reply)
    assert (reply.status, reply.content) == (200, b"{}")


async def test_a_handshake_that_hangs_sent_nothing(carrier: Callable[[], Carrier]) -> None:
    """TCP is there, TLS never answers: the request was not written."""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(talk) as port:
        failure, wrote = await exchange(carrier, f"https://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert "connection" in failure.reason


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.transport.abort()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"\x00\x01 what?\r\n\r\n")
    await writer.drain()


async def truncated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("talk", [close_at_once, reset, never_answer, garbage, truncated, dripping])
async def test_a_failure_after_the_first_byte_proves_nothing(carrier: Callable[[], Carrier], talk: Talk) -> None:
    """The write is told before it happens, and the failure does not claim that nothing was sent."""
    async with server(talk) as port:
        failure, wrote = await exchange(carrier, f"http://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote


async def test_a_peer_that_stops_reading_proves_nothing(carrier: Callable[[], Carrier]) -> None:
    """A body larger than all buffers gets stuck in mid-write."""
    async with server(never_answer) as port:
        # On a machine that is short of time, the connection alone may take a third of a second.
        failure, wrote = await exchange(
            carrier, f"http://127.0.0.1:{port}", timeout_s=1.0, content=b" " * 32 * 1024 * 1024
        )

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote


async def test_a_cancellation_in_mid_write_leaves_no_frame_that_holds_the_body(carrier: Callable[[], Carrier]) -> None:
    """httpcore's own frames do, and some error reports print the locals of each."""
    body = b"a text that nobody may see " * 1024 * 1024

    async with server(never_answer) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 5.0, carrier())
        sending = asyncio.create_task(
            exchange_on(transport, Outgoing("POST", "/sms", {}, {"x-api-key": "S3CRET"}, body))
        )
        await asyncio.sleep(0.2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await sending
        await transport.aclose()

    frames = [
        frame for frame, _ in traceback.walk_tb(raised.value.__traceback__) if "test_" not in frame.f_code.co_name
    ]
    assert frames
    for frame in frames:
        assert "nobody may see" not in repr(frame.f_locals)
        assert "S3CRET" not in repr(frame.f_locals)


async def test_a_keep_alive_connection_that_closes_as_it_is_used_proves_nothing(carrier: Callable[[], Carrier]) -> None:
    """The second request meets the closing: it looks as if it had been read, so it is not repeated."""
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await request_of(reader)
        served += 1
        writer.write(OK)
        await writer.drain()
        await request_of(reader)
        writer.transport.abort()

    async with server(talk) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        outgoing = Outgoing("POST", "/sms", {}, {}, b"")
        first = await exchange_on(transport, outgoing)
        second = await exchange_on(transport, outgoing)
        await transport.aclose()

    assert isinstance(first, Reply)
    assert isinstance(second, Failure)
    assert not second.sent_nothing
    assert served == 1


async def test_a_cancellation_before_the_write_is_not_taken_for_one_after_it(carrier: Callable[[], Carrier]) -> None:
    """Cancelled by its scope at any turn of the loop: who was not told of a write by then is told of none later."""
    heard = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        while True:
            await request_of(reader)
            heard += 1
            await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async def cancelled_after(turns: int, transport: Transport) -> tuple[bool, bool]:
        before, attempt, wrote_before = heard, Asked(), []
        with anyio.CancelScope() as scope:

            def cancel(turns: int) -> None:
                if turns:
                    asyncio.get_running_loop().call_soon(cancel, turns - 1)
                else:
                    wrote_before.append(attempt.wrote)
                    scope.cancel()

            cancel(turns)
            await transport.exchange(Outgoing("POST", "/sms", {}, {}, b""), attempt)
        await asyncio.sleep(0.005)
        assert attempt.wrote or heard == before
        return wrote_before == [True], attempt.wrote

    seen = []
    async with server(talk) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        for turns in range(40):
            await exchange_on(transport, Outgoing("GET", "/campaigns", {}, {}, b""))
            seen.append(await cancelled_after(turns, transport))
        await transport.aclose()

    assert set(seen) == {(False, False), (True, True)}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cancellation_in_the_moment_in_which_the_connection_opens_is_not_lost(
    carrier: Callable[[], Carrier], scheme: str
) -> None:
    """The server has it, and the client is about to: nothing leaves, and the connection ends."""
    there, heard = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.set()
        heard.set_result(await reader.read())

    async with server(talk) as port:
        transport, attempt = Transport(f"{scheme}://127.0.0.1:{port}", 60.0, carrier()), Asked()
        sending = asyncio.create_task(transport.exchange(Outgoing("POST", "/sms", {}, {}, b"{}"), attempt))
        await there.wait()
        sending.cancel()
        await asyncio.wait([sending])

        assert attempt.wrote or b"/sms" not in await heard
        await transport.aclose()

    assert sending.cancelled()


async def test_connections_are_kept_and_used_again(carrier: Callable[[], Carrier]) -> None:
    """Three requests one after the other cost one connection."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(OK)
            await writer.drain()

    async with server(talk) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        for _ in range(3):
            await exchange_on(transport, Outgoing("GET", "/campaigns", {}, {}, b""))
        await transport.aclose()

    assert connections == 1


async def test_a_transport_that_does_not_tell_its_writes_is_taken_to_write_at_once() -> None:
    """Cancelled, a mock's request is in doubt; only the three classes prove that nothing was sent."""

    async def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    attempts = [Asked(), Asked()]
    outgoing = Outgoing("POST", "/sms", {}, {}, b"")
    refused, hung = [
        await Transport("https://a", 0.1, HttpxCarrier(httpx.MockTransport(answer))).exchange(outgoing, attempt)
        for answer, attempt in zip((refuse, hang), attempts, strict=True)
    ]

    assert isinstance(refused, Failure)
    assert refused.sent_nothing
    assert isinstance(hung, Failure)
    assert not hung.sent_nothing
    assert all(attempt.wrote for attempt in attempts)


async def test_what_comes_after_a_reply_is_not_taken_for_the_next_one(carrier: Callable[[], Carrier]) -> None:
    """Two replies to one request, in one packet: the second request is answered by its own, on a new connection."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for number in range(2):
            await request_of(reader)
            await reader.readexactly(2)
            body = b'{"n": %d}' % (10 * connections + number)
            reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            writer.write(reply + (reply if connections == 1 else b""))
            await writer.drain()

    async with server(talk) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        outgoing = Outgoing("POST", "/sms", {}, {"x-api-key": "k"}, b"{}")
        replies = [await exchange_on(transport, outgoing) for _ in range(3)]
        await transport.aclose()

    assert [reply.content for reply in replies if isinstance(reply, Reply)] == [
        b'{"n": 10}',
        b'{"n": 20}',
        b'{"n": 21}',
    ]


async def test_connections_that_idle_too_long_are_closed(
    carrier: Callable[[], Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All six that a burst has left, by themselves; what follows goes on with a new one."""
    for module in ("httpx_carrier", "aiohttp_carrier"):
        monkeypatch.setattr(f"pico_async._engine.{module}.KEEPALIVE_EXPIRY_S", 0.2)
    opened = closed = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, closed
        opened += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                await request_of(reader)
                await asyncio.sleep(0.02)
                writer.write(OK)
                await writer.drain()
        closed += 1

    async with server(talk) as port:
        transport = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        outgoing = Outgoing("GET", "/balance", {}, {"x-api-key": "k"}, b"")
        await asyncio.gather(*(exchange_on(transport, outgoing) for _ in range(6)))
        while closed < 6:
            await asyncio.sleep(0.02)

        reply = await exchange_on(transport, outgoing)
        await transport.aclose()

    assert isinstance(reply, Reply)
    assert opened == 7


async def test_no_more_connections_are_opened_than_there_are_places(
    carrier: Callable[[], Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait in front of them, and whoever is in a hurry goes first."""
    monkeypatch.setattr("pico_async._engine.transport.MAX_CONNECTIONS", 3)
    opened, served = 0, []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            served.append(path.decode())
            await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async with server(talk) as port:
        way = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        bulk = [
            asyncio.create_task(way.exchange(Outgoing("GET", f"/{number}", {}, {}, b""), Asked(Priority.BULK)))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        single = Asked()
        await way.exchange(Outgoing("GET", "/single", {}, {}, b""), single)
        replies = await asyncio.gather(*bulk)
        await way.aclose()

    assert all(isinstance(reply, Reply) for reply in replies)
    assert opened == 3
    assert served.index("/single") < 6
    # It waited since its turn, so it had another one.
    assert single.turns_again == 1


async def test_whoever_waits_in_a_pool_of_the_user_s_takes_another_turn() -> None:
    """Its own wait is told by nobody: what had its turn meanwhile would leave in one bunch with it."""
    attempts = [Asked() for _ in range(4)]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async with server(talk) as port:
        one = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        way = Transport(f"http://127.0.0.1:{port}", 5.0, HttpxCarrier(one))
        await exchange_on(way, Outgoing("GET", "/balance", {}, {}, b""))
        await asyncio.gather(*(way.exchange(Outgoing("GET", "/balance", {}, {}, b""), attempt) for attempt in attempts))
        await way.aclose()

    # The first may find the connection free.
    assert [attempt.turns_again for attempt in attempts[1:]] == [1, 1, 1]


async def test_a_message_that_expires_while_it_waits_for_a_place_is_told_at_once(
    carrier: Callable[[], Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the place comes, which takes as long as another one's exchange; and the place is not lost."""
    monkeypatch.setattr("pico_async._engine.transport.MAX_CONNECTIONS", 1)
    answer = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            await answer.wait()
            writer.write(OK)
            await writer.drain()

    async with server(talk) as port:
        way, outgoing = Transport(f"http://127.0.0.1:{port}", 5.0, carrier()), Outgoing("GET", "/", {}, {}, b"")
        first = asyncio.create_task(exchange_on(way, outgoing))
        await asyncio.sleep(0.05)
        late = Attempt(
            Request(SEND_SMS, "/sms"),
            CallTrace(),
            LocalCoordinator(),
            learner=None,
            priority=Priority.INTERACTIVE,
            deadline=time.monotonic() + 0.05,
        )
        async with asyncio.timeout(2):
            with pytest.raises(MessageExpiredError):
                await way.exchange(outgoing, late)
        answer.set()
        replies = [await first, await exchange_on(way, outgoing)]
        await way.aclose()

    assert all(isinstance(reply, Reply) for reply in replies)


async def test_a_connection_that_is_new_takes_another_turn_and_one_that_is_open_does_not(
    carrier: Callable[[], Carrier], trusted: ssl.SSLContext
) -> None:
    """Opening it takes a while: what left on open connections meanwhile would meet it at Pico."""
    attempts = [Asked() for _ in range(3)]

    async with server(answer_all, trusted) as port:
        way = Transport(f"https://localhost:{port}", 5.0, carrier())
        for attempt in attempts:
            await way.exchange(Outgoing("GET", "/balance", {}, {}, b""), attempt)
        await way.aclose()

    assert [attempt.turns_again for attempt in attempts] == [1, 0, 0]


async def test_the_wait_for_another_turn_is_not_the_exchange_s(
    carrier: Callable[[], Carrier], trusted: ssl.SSLContext
) -> None:
    """It may be longer than the timeout."""

    class Patient(Asked):
        async def turn_again(self) -> None:
            await asyncio.sleep(1.5)

    async with server(answer_all, trusted) as port:
        way = Transport(f"https://localhost:{port}", 1.0, carrier())
        reply = await way.exchange(Outgoing("GET", "/balance", {}, {}, b""), Patient())
        await way.aclose()

    assert isinstance(reply, Reply)


async def test_what_is_not_to_leave_any_more_is_not_written(
    carrier: Callable[[], Carrier], trusted: ssl.SSLContext
) -> None:
    """Its reason comes out as it was raised, and the next one leaves."""

    class Late(Asked):
        async def turn_again(self) -> None:
            raise MessageExpiredError("too late")

    heard = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            await writer.drain()

    late, next_one = Late(), Asked()
    async with server(talk, trusted) as port:
        way = Transport(f"https://localhost:{port}", 1.0, carrier())
        with pytest.raises(MessageExpiredError, match="too late"):
            await way.exchange(Outgoing("GET", "/late", {}, {}, b""), late)
        reply = await way.exchange(Outgoing("GET", "/next", {}, {}, b""), next_one)
        await way.aclose()

    assert not late.wrote
    assert isinstance(reply, Reply)
    assert [head.split()[1] for head in heard] == [b"/next"]


@pytest.mark.parametrize("reply_s", [0.0, 0.3])
async def test_a_connection_idles_since_its_request_left(
    carrier: Callable[[], Carrier], reply_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From far away, its reply comes when the host has idled for a while already: it is kept for the less."""
    for module in ("httpx_carrier", "aiohttp_carrier"):
        monkeypatch.setattr(f"pico_async._engine.{module}.KEEPALIVE_EXPIRY_S", 0.5)
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            await asyncio.sleep(reply_s)
            writer.write(OK)
            await writer.drain()

    async with server(talk) as port:
        way = Transport(f"http://127.0.0.1:{port}", 1.0, carrier())
        outgoing = Outgoing("GET", "/balance", {}, {"x-api-key": "k"}, b"")
        await exchange_on(way, outgoing)
        await asyncio.sleep(0.3)
        await exchange_on(way, outgoing)
        await way.aclose()

    assert connections == (2 if reply_s else 1)


async def test_a_connection_that_waits_long_for_a_turn_is_not_written_on(
    carrier: Callable[[], Carrier], trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pause of the pace the host has closed it: the request goes out on another one, and is in no doubt."""
    monkeypatch.setattr("pico_async._engine.transport.KEEPALIVE_EXPIRY_S", 0.2)
    heard = connections = 0

    class Paused(Asked):
        async def turn_again(self) -> None:
            await super().turn_again()
            await asyncio.sleep(0.4 if self.turns_again == 1 else 0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard, connections
        connections += 1
        async with asyncio.timeout(0.3):
            await request_of(reader)
        heard += 1
        writer.write(OK)
        await writer.drain()

    attempt = Paused()
    async with server(talk, trusted) as port:
        way = Transport(f"https://localhost:{port}", 5.0, carrier())
        reply = await way.exchange(Outgoing("POST", "/sms", {}, {}, b""), attempt)
        await way.aclose()

    assert isinstance(reply, Reply)
    assert (heard, connections) == (1, 2)
    assert attempt.turns_again == 2
