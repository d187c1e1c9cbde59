"""
This module runs a server on a real socket that reads whole requests, counts them, and misbehaves as a test demands.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from pico_async import AiohttpTransport, LocalCoordinator, PicoSession, Rates
from tests.support.waiting import PATIENCE_S

Misbehave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# The HTTP transport of a test's sessions, unless the test passes one.
make_transport: Callable[[], AiohttpTransport | None] = lambda: None  # noqa: E731
TRANSPORTS = {"httpx": make_transport, "aiohttp": AiohttpTransport}

BODY = b'{"request_id": "r-1"}'
ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class RawPico:
    """
    A server that accepts every message, until a test sets how it misbehaves.

    Attributes:
        misbehave: Called for a request that was read in whole; None: the server answers.
        before_reading: Called for a connection instead of reading from it; None: the server reads.
        received: How many requests the server has read in whole.
    """

    def __init__(self) -> None:
        self.misbehave: Misbehave | None = None
        self.before_reading: Misbehave | None = None
        self.received = 0
        self.begun = asyncio.Event()
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest: asyncio.StreamWriter | None = None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._newest = writer
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                if self.before_reading is not None:
                    self.begun.set()
                    await self.before_reading(reader, writer)
                    break
                await self._read(reader)
                self.begun.set()
                self.received += 1
                if self.misbehave is not None:
                    await self.misbehave(reader, writer)
                    break
                writer.write(ACCEPTED)
                await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)

    def has_unread(self) -> bool:
        """Return whether bytes have arrived on the newest connection that the server has not read."""
        return self._newest is not None and has_unread(self._newest)

    async def aclose(self) -> None:
        """Close the connections that are left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def has_unread(writer: asyncio.StreamWriter) -> bool:
    """Return whether bytes have arrived on a connection that its process has not read."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as peeking:
        try:
            return bool(peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


@asynccontextmanager
async def raw_pico(context: ssl.SSLContext | None = None) -> AsyncIterator[RawPico]:
    """Run a server on a free port of loopback."""
    pico = RawPico()
    listening = await asyncio.start_server(pico.talk, "127.0.0.1", 0, ssl=context, limit=2**26)
    scheme = "http" if context is None else "https"
    pico.address = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield pico
    finally:
        listening.close()
        await pico.aclose()
        await listening.wait_closed()


@asynccontextmanager
async def session(base_url: str, **settings: Any) -> AsyncIterator[PicoSession]:
    """Open a session that already has its token, so that only the request for the message can fail."""
    coordinator = LocalCoordinator(Rates(sms=None))
    await coordinator.token.keep("token-1")
    async with PicoSession(
        username="user333",
        api_key="k",
        sender="8612345678888",
        base_url=base_url,
        **{"timeout": PATIENCE_S, "retries": 1, "coordinator": coordinator, "transport": make_transport()} | settings,
    ) as made:
        yield made


class FullBacklog:
    """
    An address that answers no SYN.

    Attributes:
        knocks: How many connections this process's event loop has tried to open since the backlog is full.
        on_knock: Called with each of them, after its SYN.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.knocks = 0
        self.on_knock: Callable[[], object] = lambda: None

    def knock(self) -> None:
        """Count one more connection."""
        self.knocks += 1
        self.on_knock()


@asynccontextmanager
async def full_backlog() -> AsyncIterator[FullBacklog]:
    """Listen, accept no connection and fill the backlog, so that the next client gets no answer to its SYN."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(8):
            knocking = socket.socket()
            knocking.setblocking(False)
            with suppress(BlockingIOError):
                knocking.connect(listening.getsockname())
            waiting.append(knocking)
        full = FullBacklog(f"http://127.0.0.1:{listening.getsockname()[1]}")
        connect = loop.sock_connect

        async def connect_and_count(connecting: socket.socket, address: Any) -> None:
            # The SYN leaves before `connect` waits for the first time.
            loop.call_soon(full.knock)
            await connect(connecting, address)

        loop.sock_connect = connect_and_count  # type: ignore[method-assign]
        try:
            yield full
        finally:
            loop.sock_connect = connect  # type: ignore[method-assign]
            for knocking in waiting:
                knocking.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset instead of an orderly close."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def stop_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read nothing more from the connection. A long request fills the kernel's buffers, and the write stops."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wait_for_ever(reader, writer)


async def wait_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait, and neither read nor answer."""
    await asyncio.sleep(3600)
