"""These tests check a user's transport with HTTP/2, where many requests share one connection."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme

from pico_async import MessageExpiredError, NoResponseError, NotSentError, PicoError, PicoSession
from pico_async._engine.http2_carrier import Http2Carrier, speaks_http2
from pico_async._engine.transport import Outgoing, Transport
from pico_async._engine.wire import Failure, Reply
from pico_async.coordination import Priority
from pico_async.coordination.queue import FairQueue
from tests.support import raw_pico
from tests.support.clock_jump import LONG_S, MonotonicClock, jump
from tests.support.raw_pico import wait_for_ever
from tests.support.waiting import until

# The extra `http2` installs it.
pytest.importorskip("h2")

import h2.config
import h2.connection
import h2.events
import h2.settings

TO = "8612345678901"


class Connection:
    """One connection on the server's side, with the actions that the server can take on it."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, max_streams: int) -> None:
        self.number = number
        self.writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        )
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def answer(self, stream: int, body: bytes) -> None:
        """Send a reply that accepts the message and repeats its text in the `request_id`."""
        fields = json.loads(body) if body else {}
        reply = json.dumps({"request_id": f"r-{fields.get('text')}", "token": "token-1"}).encode()
        self.h2.send_headers(stream, [(":status", "200"), ("content-length", str(len(reply)))])
        self.h2.send_data(stream, reply, end_stream=True)
        self.flush()

    def reset(self, stream: int) -> None:
        self.h2.reset_stream(stream, error_code=2)
        self.flush()

    def go_away(self, last_stream: int) -> None:
        """Send a GOAWAY that names the last request which the server still works on."""
        self.h2.close_connection(last_stream_id=last_stream)
        self.flush()


Misbehave = Callable[[Connection, int, bytes], Awaitable[None]]


class Http2Pico:
    """
    A Pico server that accepts every message over HTTP/2 until `misbehave` is set.

    Attributes:
        misbehave: Called with a request that was read whole; None sends a normal reply.
        before_reading: Called with a new connection instead of speaking HTTP/2 on it.
        received: The connection's number and the body of each request that was read whole.
        most_at_once: The largest number of requests that were open on one connection at once.
    """

    def __init__(self, max_streams: int) -> None:
        self.address = ""
        self.misbehave: Misbehave | None = None
        self.before_reading: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None
        self.received: list[tuple[int, bytes]] = []
        self.connections = self.most_at_once = self.headers = 0
        self.begun = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._max_streams = max_streams

    def start(self, work: Any) -> None:
        self.tasks.add(asyncio.ensure_future(work))

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._speak(reader, writer)
        writer.close()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.before_reading is not None:
            self.begun.set()
            return await self.before_reading(reader, writer)
        connection = Connection(self.connections, writer, self._max_streams)
        bodies: dict[int, bytes] = {}
        while received := await reader.read(65536):
            for event in connection.h2.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    self.headers += 1
                    bodies[event.stream_id] = b""
                    self.most_at_once = max(self.most_at_once, len(bodies))
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    connection.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.start(self._serve(connection, event.stream_id, bodies))
            connection.flush()
        return None

    async def _serve(self, connection: Connection, stream: int, bodies: dict[int, bytes]) -> None:
        self.received.append((connection.number, bodies[stream]))
        self.begun.set()
        await (self.misbehave or answer)(connection, stream, bodies[stream])
        del bodies[stream]


async def answer(connection: Connection, stream: int, body: bytes) -> None:
    connection.answer(stream, body)


async def answer_late(connection: Connection, stream: int, body: bytes) -> None:
    """Send the reply after a delay that is longer for earlier requests."""
    await asyncio.sleep(max(0.0, 0.05 - stream * 0.0005))
    connection.answer(stream, body)


async def never_answer(connection: Connection, stream: int, body: bytes) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Return the TLS context of a local server whose certificate is trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


@asynccontextmanager
async def http2_pico(
    context: ssl.SSLContext, *, max_streams: int = 100, speaks: str = "h2"
) -> AsyncIterator[Http2Pico]:
    """Start an HTTP/2 server on loopback, and yield it."""
    context.set_alpn_protocols([speaks])
    pico = Http2Pico(max_streams)
    listening = await asyncio.start_server(pico.talk, "127.0.0.1", 0, ssl=context)
    pico.address = f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    try:
        yield pico
    finally:
        listening.close()
        for task in pico.tasks:
            task.cancel()
        await asyncio.gather(*pico.tasks, return_exceptions=True)
        await listening.wait_closed()


def session(pico: Http2Pico, **settings: Any) -> Any:
    """Return a session that already has its token and whose transport speaks HTTP/2."""
    return raw_pico.session(
        pico.address, **{"transport": httpx.AsyncHTTPTransport(http2=True), "timeout": LONG_S} | settings
    )


async def failure_of(send: Awaitable[object]) -> PicoError:
    with pytest.raises(PicoError) as caught:
        await send
    return caught.value


class Asked:
    """An attempt that only records the write and how often a new slot was acquired."""

    priority = Priority.INTERACTIVE

    def __init__(self) -> None:
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


@asynccontextmanager
async def transport(pico: Http2Pico, timeout_s: float = LONG_S) -> AsyncIterator[Transport]:
    made = Transport(pico.address, timeout_s, Http2Carrier(httpx.AsyncHTTPTransport(http2=True)))
    try:
        yield made
    finally:
        await made.aclose()


def saying(text: object) -> Outgoing:
    return Outgoing("POST", "/sms", {}, {"x-api-key": "k"}, json.dumps({"text": str(text)}).encode())


async def test_many_messages_share_one_connection(trusted: ssl.SSLContext) -> None:
    """Sixty concurrent messages share one connection, and each message gets its own reply in any order."""
    async with http2_pico(trusted) as pico, session(pico) as sending:

        async def answer_when_all_are_there(connection: Connection, stream: int, body: bytes) -> None:
            await until(lambda: len(pico.received) == 60)
            await answer_late(connection, stream, body)

        pico.misbehave = answer_when_all_are_there
        accepted = await asyncio.gather(*(sending.sms.send(TO, f"{number}") for number in range(60)))

    assert [each.request_id for each in accepted] == [f"r-{number}" for number in range(60)]
    assert pico.connections == 1
    assert pico.most_at_once == 60
    assert len(pico.received) == 60


async def test_a_token_is_fetched_and_messages_are_sent(trusted: ssl.SSLContext) -> None:
    """A session with `httpx.AsyncHTTPTransport(http2=True)`, as documented, fetches a token and sends a message."""
    async with http2_pico(trusted) as pico:
        async with PicoSession(
            username="user333",
            api_key="k",
            sender="8612345678888",
            base_url=pico.address,
            transport=httpx.AsyncHTTPTransport(http2=True),
        ) as sending:
            accepted = await sending.sms.send(TO, "hello")

    assert accepted.request_id == "r-hello"
    assert pico.connections == 1


async def test_a_server_that_speaks_no_http2_is_spoken_to_as_ever(trusted: ssl.SSLContext) -> None:
    """
    With a server that speaks only HTTP/1.1, concurrent messages are accepted over HTTP/1.1.

    A message without a reply is in doubt.
    """
    async with http2_pico(trusted, speaks="http/1.1") as pico, session(pico) as sending:
        http1 = raw_pico.RawPico()
        pico.before_reading = http1.talk
        accepted = await asyncio.gather(*(sending.sms.send(TO, "hello") for _ in range(5)))

        async def hang_on_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            jump()
            await wait_for_ever(reader, writer)

        http1.misbehave = hang_on_http1
        error = await failure_of(sending.sms.send(TO, "hello"))
        await http1.aclose()

    assert [each.request_id for each in accepted] == ["r-1"] * 5
    assert type(error) is NoResponseError


async def test_httpcore_tells_of_the_write_before_it_happens(trusted: ssl.SSLContext) -> None:
    """
    httpcore reports each request's write once, and before any part of the request arrives.

    The session relies on this event to note a write.
    """
    told: list[tuple[str, int]] = []

    async def trace(event: str, _: dict[str, Any]) -> None:
        if "send_request_headers.started" in event:
            await asyncio.sleep(0.05)
            told.append((event, pico.headers))

    async with http2_pico(trusted) as pico, httpx.AsyncHTTPTransport(http2=True) as plain:
        for _ in range(2):
            request = httpx.Request("POST", pico.address + "/sms", content=b"{}", extensions={"trace": trace})
            response = await plain.handle_async_request(request)
            await response.aread()
            await response.aclose()

    assert told == [("http2.send_request_headers.started", 0), ("http2.send_request_headers.started", 1)]


async def test_what_is_not_to_leave_any_more_is_not_written(trusted: ssl.SSLContext) -> None:
    """A message that expires while it waits for a new slot is not written, and the next message is sent."""

    class Late(Asked):
        async def turn_again(self) -> None:
            raise MessageExpiredError("too late")

    async with http2_pico(trusted) as pico, transport(pico) as way:
        late = Late()
        with pytest.raises(MessageExpiredError, match="too late"):
            await way.exchange(saying("late"), late)
        reply = await way.exchange(saying("next"), Asked())

    assert not late.wrote
    assert isinstance(reply, Reply)
    assert [body for _, body in pico.received] == [b'{"text": "next"}']


async def test_whoever_waits_for_another_turn_keeps_its_place_on_the_connection(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Two requests that wait for a new slot are both sent, and each gets its own reply.

    httpcore numbers a request before it reports the write. A request that waited at that moment shared its number with
    the next one, and both were in doubt, although one had not left.
    """
    monkeypatch.setattr("pico_async._engine.transport.MAX_CONNECTIONS", 2)
    waiting, go_on = asyncio.Event(), asyncio.Event()

    class Waits(Asked):
        async def turn_again(self) -> None:
            waiting.set()
            await go_on.wait()

    async with http2_pico(trusted) as pico, transport(pico) as way:
        await way.exchange(saying("first"), Asked())
        pico.misbehave = answer_late
        early = [asyncio.create_task(way.exchange(saying(number), Asked())) for number in range(2)]
        await asyncio.sleep(0)
        late = [asyncio.create_task(way.exchange(saying(number), Waits())) for number in (2, 3)]
        await waiting.wait()
        await asyncio.gather(*early)
        await asyncio.sleep(0.05)
        go_on.set()
        replies = await asyncio.gather(*late)

    assert all(isinstance(reply, Reply) for reply in replies)
    assert [json.loads(reply.content)["request_id"] for reply in replies if isinstance(reply, Reply)] == ["r-2", "r-3"]
    assert sorted(body for _, body in pico.received[1:]) == [b'{"text": "%d"}' % number for number in range(4)]


async def test_whoever_waited_for_the_connection_takes_another_turn(trusted: ssl.SSLContext) -> None:
    """
    Every request that waited for the connection to open acquires a new slot, not only the request that opened it.

    Otherwise Pico would receive them all at once.
    """
    early = [Asked() for _ in range(5)]

    async with http2_pico(trusted) as pico, transport(pico) as way:
        await asyncio.gather(*(way.exchange(saying("early"), attempt) for attempt in early))

    assert [attempt.turns_again for attempt in early] == [1] * 5
    assert pico.connections == 1


async def test_more_than_the_server_takes_at_once_wait_unwritten(trusted: ssl.SSLContext) -> None:
    """If the server allows two requests at once, further requests are not written, and after a timeout not in doubt."""
    async with http2_pico(trusted, max_streams=2) as pico, transport(pico) as way:
        await way.exchange(saying("first"), Asked())
        pico.misbehave = never_answer
        attempts = [Asked() for _ in range(5)]

        ends = [asyncio.create_task(way.exchange(saying("hello"), attempt)) for attempt in attempts]
        await until(lambda: len(pico.received) == 3)
        await asyncio.sleep(0.05)
        jump()
        failures = await asyncio.gather(*ends)

    assert [attempt.wrote for attempt in attempts] == [True, True, False, False, False]
    assert [failure.sent_nothing for failure in failures if isinstance(failure, Failure)] == [False] * 2 + [True] * 3
    assert len(pico.received) == 3


async def lose(connection: Connection, stream: int, body: bytes) -> None:
    connection.writer.transport.abort()


async def reset_stream(connection: Connection, stream: int, body: bytes) -> None:
    connection.reset(stream)


async def go_away(connection: Connection, stream: int, body: bytes) -> None:
    """Send a GOAWAY that names this request as the last one worked on, and close without a reply."""
    connection.go_away(stream)
    connection.writer.close()


async def answer_in_part(connection: Connection, stream: int, body: bytes) -> None:
    connection.h2.send_headers(stream, [(":status", "200"), ("content-length", "100")])
    connection.h2.send_data(stream, b'{"request_id"')
    connection.flush()
    connection.writer.close()


async def speak_garbage(connection: Connection, stream: int, body: bytes) -> None:
    """Send a reply of HTTP/1.1, which looks like the beginning of a long frame."""
    connection.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")


AFTER = {
    "no answer": never_answer,
    "lost": lose,
    "stream reset": reset_stream,
    "GOAWAY, processed": go_away,
    "cut short": answer_in_part,
    "garbage": speak_garbage,
}
# Only the client's timeout ends a request after these.
ENDLESS = (never_answer, speak_garbage)


@pytest.mark.parametrize("fault", AFTER.values(), ids=AFTER)
async def test_whatever_comes_after_the_headers_is_in_doubt(
    trusted: ssl.SSLContext, fault: Misbehave, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A failure after the request's headers leaves the message in doubt, and the message is not retried.

    The next message is accepted, on a new connection if necessary.
    """
    clock = MonotonicClock(monkeypatch)

    async with http2_pico(trusted) as pico, session(pico) as sending:
        await sending.sms.send(TO, "before")
        pico.misbehave = fault

        failing = asyncio.create_task(failure_of(sending.sms.send(TO, "hello")))
        if fault in ENDLESS:
            await until(lambda: len(pico.received) == 2)
            clock.jump(LONG_S)
        error = await failing

        pico.misbehave = None
        accepted = await sending.sms.send(TO, "after")
    assert type(error) is NoResponseError
    assert error.attempts == 1
    assert [json.loads(body)["text"] for _, body in pico.received] == ["before", "hello", "after"]
    assert accepted.request_id == "r-after"


async def test_a_connection_gone_silent_is_not_used_again(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection that has become silent is not used for new messages; only the messages already on it are in doubt.

    httpcore would keep using the connection, and all later messages would be in doubt, too.
    """
    clock, ends = MonotonicClock(monkeypatch), list[asyncio.Task[object]]()

    async with http2_pico(trusted) as pico, session(pico) as sending:
        await sending.sms.send(TO, "before")
        pico.misbehave = on_the_first_connection(never_answer)
        for number in range(3):
            ends.append(asyncio.create_task(sending.sms.send(TO, f"{number}")))
            await until(lambda: len(pico.received) == 1 + len(ends))
            # The rest of the time passes by itself: first the session's timeout ends, and not httpcore's, too.
            clock.jump((LONG_S - 0.3) / 3)
        await until(ends[0].done)
        ends.append(asyncio.create_task(sending.sms.send(TO, "3")))
        await until(lambda: len(pico.received) == 5)
        clock.jump(LONG_S * 2 / 3)
        await asyncio.wait(ends)

    assert [type(end.exception()).__name__ for end in ends] == ["NoResponseError"] * 3 + ["NoneType"]
    assert pico.connections == 2


async def test_a_slow_answer_ends_no_connection_on_which_others_come(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that times out does not close the connection while other messages on it are accepted."""

    async def not_the_slow_one(connection: Connection, stream: int, body: bytes) -> None:
        await (never_answer if b"slow" in body else answer)(connection, stream, body)

    clock = MonotonicClock(monkeypatch)

    async with http2_pico(trusted) as pico, session(pico) as sending:
        pico.misbehave = not_the_slow_one
        slow = asyncio.create_task(sending.sms.send(TO, "slow"))
        await until(lambda: pico.received)
        while not slow.done():
            await sending.sms.send(TO, "quick")
            clock.jump(LONG_S / 10)
            await asyncio.sleep(0.02)
        await sending.sms.send(TO, "after")

    assert isinstance(slow.exception(), NoResponseError)
    assert pico.connections == 1


def on_the_first_connection(misbehave: Misbehave) -> Misbehave:
    async def serve(connection: Connection, stream: int, body: bytes) -> None:
        await (misbehave if connection.number == 1 else answer)(connection, stream, body)

    return serve


async def test_a_stream_that_is_reset_takes_no_other_with_it(trusted: ssl.SSLContext) -> None:
    """A stream reset leaves only its own message in doubt; the other messages on the connection are accepted."""

    async def reset_third(connection: Connection, stream: int, body: bytes) -> None:
        await asyncio.sleep(0.05)
        if json.loads(body)["text"] == "3":
            connection.reset(stream)
        else:
            connection.answer(stream, body)

    async with http2_pico(trusted) as pico, session(pico) as sending:
        await sending.sms.send(TO, "first")
        pico.misbehave = reset_third
        ends = await asyncio.gather(*(sending.sms.send(TO, f"{number}") for number in range(6)), return_exceptions=True)

    assert [type(end).__name__ for end in ends] == ["Accepted"] * 3 + ["NoResponseError"] + ["Accepted"] * 2
    assert pico.connections == 1


async def test_what_the_server_says_it_did_not_begin_is_not_sent(trusted: ssl.SSLContext) -> None:
    """
    A GOAWAY names the last request that the server worked on (RFC 9113, 6.8), so a later request was not sent.

    The session decides whether to retry it, and a retry waits for a slot; httpcore's own retry would not.
    """

    async def refuse_it(connection: Connection, stream: int, body: bytes) -> None:
        connection.go_away(stream - 2)

    async with http2_pico(trusted) as pico:
        async with session(pico, retries=0) as sending:
            await sending.sms.send(TO, "before")
            pico.misbehave = refuse_it
            error = await failure_of(sending.sms.send(TO, "hello"))
            arrived = len(pico.received)

            pico.misbehave = None
            await sending.sms.send(TO, "after")
        async with session(pico, retries=1) as sending:
            await sending.sms.send(TO, "before")
            pico.misbehave = refuse_once(pico)
            accepted = await sending.sms.send(TO, "again")

    assert type(error) is NotSentError
    assert arrived == 2
    assert accepted.request_id == "r-again"


def refuse_once(pico: Http2Pico) -> Misbehave:
    async def refuse_it(connection: Connection, stream: int, body: bytes) -> None:
        pico.misbehave = None
        connection.go_away(stream - 2)

    return refuse_it


async def close_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def test_a_connection_lost_before_the_headers_sent_nothing(trusted: ssl.SSLContext) -> None:
    """A connection that is lost in the TLS handshake proves that nothing was sent."""
    async with raw_pico.raw_pico() as server:
        server.before_reading = close_it
        way = Transport(
            server.address.replace("http:", "https:"), LONG_S, Http2Carrier(httpx.AsyncHTTPTransport(http2=True))
        )
        attempt = Asked()
        failure = await way.exchange(saying("hello"), attempt)
        await way.aclose()

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not attempt.wrote


async def test_a_connection_lost_while_it_idled_leaves_the_next_message_in_doubt(trusted: ssl.SSLContext) -> None:
    """
    A message is in doubt if the server has closed its idle connection, because httpcore does not check it first.

    The message after it is accepted.
    """
    async with http2_pico(trusted) as pico, session(pico) as sending:
        pico.misbehave = answer_and_close
        await sending.sms.send(TO, "before")
        pico.misbehave = None
        await asyncio.sleep(0.05)

        error = await failure_of(sending.sms.send(TO, "hello"))
        accepted = await sending.sms.send(TO, "after")

    assert type(error) is NoResponseError
    assert accepted.request_id == "r-after"


async def answer_and_close(connection: Connection, stream: int, body: bytes) -> None:
    connection.answer(stream, body)
    connection.writer.close()


async def test_cancelled_before_the_write(trusted: ssl.SSLContext) -> None:
    """A message that is cancelled during the TLS handshake was not sent, and the socket is closed."""
    async with raw_pico.raw_pico() as server:
        gone = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while await reader.read(65536):
                pass
            gone.set()

        server.before_reading = listen
        address = server.address.replace("http:", "https:")
        async with raw_pico.session(address, transport=httpx.AsyncHTTPTransport(http2=True), timeout=LONG_S) as sending:
            task = asyncio.create_task(sending.sms.send(TO, "hello"))
            await server.begun.wait()

            task.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await task
            await gone.wait()

    assert "nothing was sent" in cancelled.value.__notes__[0]


async def test_cancelled_after_the_write(trusted: ssl.SSLContext) -> None:
    """A message that is cancelled after its write is in doubt; the others on the connection are accepted."""

    async def not_the_second(connection: Connection, stream: int, body: bytes) -> None:
        await (never_answer if b"second" in body else answer_late)(connection, stream, body)

    async with http2_pico(trusted) as pico, session(pico) as sending:
        await sending.sms.send(TO, "first")
        pico.misbehave = not_the_second
        task = asyncio.create_task(sending.sms.send(TO, "second"))
        while len(pico.received) < 2:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(sending.sms.send(TO, f"{number}")) for number in range(5)]
        await asyncio.sleep(0.005)

        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        accepted = await asyncio.gather(*others)

    assert "may have been sent" in cancelled.value.__notes__[0]
    assert [each.request_id for each in accepted] == [f"r-{number}" for number in range(5)]
    assert pico.connections == 1


# anyio 4.5 leaves a socket to the garbage collector if the cancellation comes at the moment of the connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_cancelled_at_any_turn_of_the_loop(trusted: ssl.SSLContext) -> None:
    """
    A cancelled request whose write was not noted never reaches the server.

    A concurrent request never gets the reply of another one.
    """
    seen = set()

    async with http2_pico(trusted) as pico, transport(pico) as way:
        await way.exchange(saying("first"), Asked())
        pico.misbehave = answer_late
        for turns in range(20):
            before, attempt = len(pico.received), Asked()
            with anyio.CancelScope() as scope:

                def cancel(turns: int, scope: anyio.CancelScope = scope) -> None:
                    if turns:
                        asyncio.get_running_loop().call_soon(cancel, turns - 1)
                    else:
                        scope.cancel()

                cancel(turns)
                other = asyncio.create_task(way.exchange(saying(f"other {turns}"), Asked()))
                await way.exchange(saying(f"cancelled {turns}"), attempt)
            reply = await other
            await asyncio.sleep(0.005)

            texts = [json.loads(body)["text"] for _, body in pico.received[before:]]
            assert attempt.wrote or f"cancelled {turns}" not in texts
            if isinstance(reply, Reply):
                assert json.loads(reply.content)["request_id"] == f"r-other {turns}"
            seen.add((attempt.wrote, isinstance(reply, Reply)))

    assert {(False, True), (True, True)} <= seen
    gc.collect()


def test_only_a_transport_that_may_speak_it_is_carried_so() -> None:
    """
    Only an httpx transport with HTTP/2 enabled counts as one that speaks HTTP/2.

    httpx keeps this setting in a private attribute, which a new version may move.
    """
    assert speaks_http2(httpx.AsyncHTTPTransport(http2=True))
    assert not speaks_http2(httpx.AsyncHTTPTransport())
    assert not speaks_http2(httpx.MockTransport(lambda _: httpx.Response(200)))
