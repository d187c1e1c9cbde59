"""
These tests send bytes that no request asked for, and check that no request takes them for its reply.

The server runs in a thread of its own: it can act while the client's event loop does not run, as between two tasks of a
Celery worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from attrs import define, field, frozen

from pico_async._engine.http.aiohttp_transport import AiohttpTransport
from pico_async._engine.http.exchange import MAX_UNCLEAN, HttpClient, HttpRequest, HttpTransport
from pico_async._engine.http.httpx_transport import HttpxTransport
from pico_async._engine.wire import Failure, Reply
from tests.support.clock_jump import LONG_S
from tests.support.exchanges import Asked, exchange_with
from tests.support.raw_pico import reset
from tests.support.waiting import PATIENCE_S, until

HEADERS = {"x-api-key": "k"}
STALE = b'{"request_id": "of another message"}'


def reply_with(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, headers, len(body), body)


@frozen
class Stray:
    """
    What a server does on a connection without being asked.

    Attributes:
        content: The bytes that it writes.
        then: What it does with the connection afterwards: "stays", "closes", "ends" (a FIN alone) or "resets".
        beside_tls: The bytes are written beside TLS, as by a proxy in front of a tunnel.
    """

    content: bytes = b""
    then: str = "stays"
    beside_tls: bool = False


STRAYS = {
    "a reply again": Stray(reply_with(STALE)),
    "a refusal again": Stray(reply_with(STALE, b"400 Bad Request")),
    "a reply in chunks": Stray(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(STALE), STALE)
    ),
    "two replies": Stray(2 * reply_with(STALE)),
    "408 and closes": Stray(reply_with(b"", b"408 Request Timeout", b"connection: close\r\n"), "closes"),
    "408 and stays": Stray(reply_with(b"", b"408 Request Timeout")),
    "408 beside TLS": Stray(reply_with(b"", b"408 Request Timeout"), "closes", beside_tls=True),
    "100": Stray(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "half a status line": Stray(b"HTTP/1.1 40"),
    "one byte": Stray(b"H"),
    "half a reply": Stray(reply_with(STALE)[:-4]),
    "garbage": Stray(b"\x00\x01 what?\r\n\r\n"),
    "the end": Stray(then="ends"),
    "closes": Stray(then="closes"),
    "resets": Stray(then="resets"),
}
# aiohttp drops a reply whose packet also holds what is not HTTP, so that message is in doubt.
IN_ONE_PACKET = [name for name, stray in STRAYS.items() if stray.content and name not in ("garbage", "408 beside TLS")]


@define(eq=False)
class Connection:
    """One connection to the server; `requests` is how many it has answered."""

    writer: asyncio.StreamWriter
    requests: int = 0


@define(eq=False)
class Server:
    """
    A server, and a proxy, that answers each request with the request's own body.

    Attributes:
        arrived: The bodies of the requests that were read in whole.
        with_next: Bytes to write in one packet with the next reply, after it.
        together: Replies wait until so many requests have arrived.
        connections: All connections, the oldest first.
    """

    tls: ssl.SSLContext | None
    arrived: list[bytes] = field(factory=list)
    with_next: bytes = b""
    together: int = 0
    connections: list[Connection] = field(factory=list)
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.new_event_loop)

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work in the server's thread, while this thread waits."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def stray(self, stray: Stray) -> None:
        """Do what no request asked for, on the newest connection."""
        await self.stray_on(self.connections[-1], stray)

    async def stray_everywhere(self, stray: Stray) -> None:
        """Do what no request asked for, on each connection."""
        for connection in self.connections:
            await self.stray_on(connection, stray)

    async def stray_on(self, connection: Connection, stray: Stray) -> None:
        """Do what no request asked for, on this connection."""
        writer = connection.writer
        if stray.beside_tls:
            os.write(writer.get_extra_info("socket").fileno(), stray.content)
        elif stray.content:
            writer.write(stray.content)
        if stray.then == "closes":
            writer.close()
        elif stray.then == "ends":
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_WR)
        elif stray.then == "resets":
            reset(writer)
        for _ in range(5):
            await asyncio.sleep(0)

    async def unused(self) -> None:
        """Wait for a connection on which no request has come."""
        await until(lambda: self.connections and not self.connections[-1].requests)
        for _ in range(5):
            await asyncio.sleep(0)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnelled: bool) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            if tunnelled:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                assert self.tls is not None
                await writer.start_tls(self.tls)
            connection = Connection(writer)
            self.connections.append(connection)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                body = await reader.readexactly(int(length.split(b":")[1]))
                self.arrived.append(body)
                connection.requests += 1
                await until(lambda: len(self.arrived) >= self.together)
                writer.write(reply_with(body) + self.with_next)
                if not self.together:
                    self.with_next = b""
        writer.close()

    @contextmanager
    def running(self, *, tunnelled: bool = False) -> Iterator[None]:
        """Run the server on a free port of loopback."""

        async def start() -> None:
            tasks: set[asyncio.Task[None]] = set()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                tasks.add(task)
                with suppress(asyncio.CancelledError):
                    await self.talk(reader, writer, tunnelled)

            listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if tunnelled else self.tls)
            self.port = listening.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            listening.close()
            for connection in self.connections:
                connection.writer.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        started, stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=[start()], daemon=True)
        thread.start()
        assert started.wait(PATIENCE_S)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE_S)
            self._loop.close()


class Watched(Asked):
    """A departure that may act while it waits for another slot."""

    def __init__(self, while_it_waits: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._while_it_waits = while_it_waits

    async def slot_again(self) -> None:
        await super().slot_again()
        self._while_it_waits()


ROADS = ["http", "TLS 1.2", "TLS 1.3", "proxy", "tunnel"]
KINDS = ["httpx", "httpx of the user", "aiohttp"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def each_pair(rows: Iterable[str], columns: Iterable[str], thirds: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return each pair of the first two, with a value of the third, so that each pair with a third occurs, too."""
    return [
        (first, second, thirds[(row + column) % len(thirds)])
        for row, first in enumerate(rows)
        for column, second in enumerate(columns)
    ]


@asynccontextmanager
async def way_to(
    road: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Server, HttpClient]]:
    """Run a server, and open a transport of this kind to it on this road."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    context: ssl.SSLContext | None = None
    if road not in ("http", "proxy"):
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        if road == "TLS 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
    # A connection that is new takes another slot, however fast it opened.
    monkeypatch.setattr("pico_async._engine.http.aiohttp_transport.AT_ONCE_S", -1.0)
    server = Server(context)
    with server.running(tunnelled=road == "tunnel"):
        own = f"http://127.0.0.1:{server.port}"
        proxy = own if road in ("proxy", "tunnel") else None
        base_url = own if road == "http" else f"https://localhost:{server.port}"
        if proxy is not None:
            base_url = "http://localhost" if road == "proxy" else "https://localhost"
            monkeypatch.setenv("ALL_PROXY", proxy)
        make_transport: HttpTransport
        if kind == "aiohttp":
            make_transport = AiohttpTransport()
        elif kind == "httpx":
            make_transport = HttpxTransport()
        else:
            make_transport = HttpxTransport(httpx.AsyncHTTPTransport(proxy=proxy))
        way = HttpClient(base_url, LONG_S, make_transport)
        try:
            yield server, way
        finally:
            await way.aclose()


def message(number: int) -> bytes:
    return b'{"request_id": "r-%d"}' % number


async def send(way: HttpClient, number: int, attempt: Asked | None = None) -> Reply | Failure:
    outgoing = HttpRequest("POST", "/sms", {}, HEADERS, message(number))
    return await exchange_with(way, outgoing, attempt or Watched())


def assert_own_replies(server: Server, replies: list[Reply | Failure]) -> None:
    """Check that each message arrived once, and that each was answered with its own reply."""
    assert server.arrived == [message(number) for number in range(len(replies))]
    assert [reply.content if isinstance(reply, Reply) else reply for reply in replies] == server.arrived


@pytest.mark.lower_bounds
@pytest.mark.parametrize(("road", "kind", "loop"), each_pair(ROADS, KINDS, ["the loop runs", "the loop does not run"]))
async def test_what_comes_on_an_idle_connection_is_no_reply(
    road: str, kind: str, loop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    A connection on which something came while it was idle is not used again; the next message goes over a new one.

    The socket itself is looked at, so this also holds where the event loop has not run since.
    """
    async with way_to(road, kind, monkeypatch, tmp_path) as (server, way):
        replies = [await send(way, 0)]
        for number, stray in enumerate(STRAYS.values(), start=1):
            before = len(server.connections)

            server.do(server.stray(stray))
            for _ in range(20 if loop == "the loop runs" else 0):
                await asyncio.sleep(0)
            replies.append(await send(way, number))

            assert len(server.connections) == before + 1, stray

    assert_own_replies(server, replies)


@pytest.mark.parametrize("road", ROADS)
async def test_what_comes_in_one_packet_with_a_reply_is_no_reply(
    road: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reply that is followed by further bytes in the same packet is returned; its connection is not used again."""
    async with way_to(road, kind, monkeypatch, tmp_path) as (server, way):
        replies: list[Reply | Failure] = []
        for name in IN_ONE_PACKET:
            server.with_next = STRAYS[name].content
            replies.append(await send(way, len(replies)))
            replies.append(await send(way, len(replies)))

            assert server.connections[-1].requests == 1, name
            server.do(server.stray(Stray(then="closes")))

    assert_own_replies(server, replies)


@pytest.mark.parametrize(("road", "kind", "when"), each_pair(ROADS, KINDS, ["with the reply", "afterwards"]))
async def test_no_number_of_lost_connections_loses_a_message(
    road: str, kind: str, when: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where something came on each of many idle connections, the next message still leaves, over a new one."""
    async with way_to(road, kind, monkeypatch, tmp_path) as (server, way):
        server.together = 3 * MAX_UNCLEAN
        stray = STRAYS["a reply again"]
        if when == "with the reply":
            server.with_next = stray.content

        await asyncio.gather(*(send(way, number) for number in range(server.together)))
        server.together, server.with_next = 0, b""
        if when == "afterwards":
            server.do(server.stray_everywhere(stray))
        reply = await send(way, 99)

    assert isinstance(reply, Reply)
    assert reply.content == message(99)


@pytest.mark.parametrize(("name", "kind", "road"), each_pair(STRAYS, KINDS, ["http", "TLS 1.3", "tunnel"]))
async def test_what_comes_while_a_request_waits_for_its_slot_is_no_reply(
    name: str, kind: str, road: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    A connection on which something comes while its request waits for a slot is not written on.

    The request is sent once, over another connection, and is not lost.
    """
    async with way_to(road, kind, monkeypatch, tmp_path) as (server, way):

        def stray() -> None:
            server.do(server.unused())
            if attempt.slots_again == 1:
                server.do(server.stray(STRAYS[name]))

        attempt = Watched(stray)
        replies = [await send(way, 0, attempt), await send(way, 1)]

        assert len(server.connections) == 2
    assert_own_replies(server, replies)
    assert (attempt.slots_again, attempt.writes) == (2, 1)


async def test_the_session_tickets_of_tls_do_not_cost_the_connection(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    The session tickets of TLS 1.3, which arrive after the handshake, are no data.

    A connection whose request waits for a slot meanwhile is used, and used again.
    """
    async with way_to("TLS 1.3", kind, monkeypatch, tmp_path) as (server, way):
        attempt = Watched(lambda: server.do(server.unused()))
        replies = [await send(way, 0, attempt), await send(way, 1), await send(way, 2)]

        assert len(server.connections) == 1
    assert_own_replies(server, replies)
    assert attempt.slots_again == 1


@pytest.mark.lower_bounds
@pytest.mark.parametrize("road", ["http", "TLS 1.3"])
async def test_what_was_read_of_the_socket_beyond_a_reply_is_no_reply(
    road: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    A connection is not used again if a buffer of anyio or TLS contains unread bytes.

    They are put there by hand, because only an unlucky moment does so. This fails where a release of httpx, httpcore
    or anyio moves the places that the transport looks at.
    """
    async with way_to(road, "httpx", monkeypatch, tmp_path) as (server, way):
        replies = [await send(way, 0)]
        connections: Any = way._transport._connections  # type: ignore[attr-defined]
        stream = connections._idle[-1][1]._pool.connections[0]._connection._network_stream._stream
        if road == "http":
            stream._protocol.data_received(b"H")
        else:
            stream._read_bio.write(b"\x17\x03\x03\x00\x01x")
        replies.append(await send(way, 1))

        assert len(server.connections) == 2
    assert_own_replies(server, replies)


@pytest.mark.parametrize("name", ["the end", "408 and closes", "garbage"])
async def test_a_host_that_never_waits_for_a_request_is_given_up(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host that closes, or writes on, each connection before a request is there gets none, and nothing was sent."""
    async with way_to("http", kind, monkeypatch, tmp_path) as (server, way):

        def stray() -> None:
            server.do(server.unused())
            server.do(server.stray(STRAYS[name]))

        attempt = Watched(stray)
        failure = await send(way, 0, attempt)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert "before the request" in failure.reason
    assert (attempt.writes, server.arrived) == (0, [])
