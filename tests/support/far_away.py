"""
This relay on loopback makes a server seem distant: it delays the bytes and the handshakes.

It runs in a process of its own, or as the context manager `far_away`:

    python -m tests.support.far_away --target http://127.0.0.1:8025 --rtt-ms 200 --tls DIR

With `tls`, the delays lie between the client and the TLS endpoint:

    client  →  delaying relay  →  TLS endpoint  →  server

The relay imitates
- latency: each piece of bytes comes out half a round trip after it went in, in either direction, plus jitter;
- order: the pieces of one connection and direction never overtake each other, so a late piece delays all behind it;
- the opening of a connection: nothing reaches the server until one and a half round trips after the client opened it,
  as after SYN and SYN-ACK. No process can delay the kernel's own accept, so the client's connect() alone takes no
  time. A client that measures connect() uses `slow_to_connect`, too;
- the handshake of TLS 1.3, which really takes place behind the delays: one more round trip;
- a stall: for a while nothing passes on any connection, then all that was held passes at once.

The relay does not imitate bandwidth, slow start, packet loss, retransmission on a single connection, half-closed
connections or resets. If one end closes or resets, the other end sees a close behind the bytes sent before.

The TLS endpoint and the server are on loopback. So the server's ledger has the times at which a distant server would
have received the requests. They are about a millisecond late because of the relay's timers, and never early.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import ssl
import subprocess
import tempfile
from asyncio.selector_events import BaseSelectorEventLoop
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import trustme
from attrs import frozen

from tests.support.late_timers import watched
from tests.support.waiting import PATIENCE_S

HOST = "127.0.0.1"

# A timer may fire early by the resolution of the loop's clock, which is nanoseconds.
RESOLUTION_S = 1e-6


# --- when a piece comes out


class Network:
    """
    The delays of a network: when a piece that is sent now comes out at the other end.

    Args:
        jitter_s: The largest extra delay of a piece from the client; each delay is drawn evenly from 0 to this.
        jitter_both: Pieces from the server are jittered, too.
        stall_at_s: When the stall begins, in seconds after the first byte of all; None: never.
        stall_s: How long the stall lasts.
    """

    def __init__(
        self,
        *,
        rtt_s: float = 0.0,
        jitter_s: float = 0.0,
        jitter_both: bool = False,
        stall_at_s: float | None = None,
        stall_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._rtt_s = rtt_s
        self._jitter_s = {True: jitter_s, False: jitter_s if jitter_both else 0.0}
        self._stall_at_s = stall_at_s
        self._stall_s = stall_s
        self._random = Random(seed)
        self._first_byte_at: float | None = None

    def opened_at(self, now: float) -> float:
        """Return when a connection that is begun now is open for the client, which may write from then on."""
        return now + self._rtt_s

    def out_at(self, now: float, *, to_server: bool) -> float:
        """Return when a piece that is sent now comes out, unless an earlier piece delays it."""
        if self._first_byte_at is None:
            self._first_byte_at = now
        out_at = now + self._rtt_s / 2 + self._random.uniform(0.0, self._jitter_s[to_server])
        if self._stall_at_s is not None:
            begins_at = self._first_byte_at + self._stall_at_s
            if begins_at <= out_at < begins_at + self._stall_s:
                return begins_at + self._stall_s
        return out_at


class Line:
    """One direction of one connection: each piece that is put in comes out later, and in order."""

    def __init__(self, out_at: Callable[[float], float]) -> None:
        self._out_at = out_at
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._out: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self, piece: bytes | None) -> None:
        """Send a piece; None is the end."""
        # A piece waits for the late pieces before it.
        self._held.append((self._out_at(asyncio.get_running_loop().time()), piece))
        self._pass()

    def open(self, out: asyncio.Transport) -> None:
        """Set where the pieces come out; until then they wait."""
        self._out = out
        self._pass()

    def _pass(self) -> None:
        if self._timer is not None or self._out is None:
            return
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time() + RESOLUTION_S:
            _, piece = self._held.popleft()
            if piece is None:
                self._out.close()
            elif not self._out.is_closing():  # asyncio warns of bytes for a closed connection
                self._out.write(piece)
        if self._held:
            self._timer = loop.call_at(self._held[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        self._pass()


class End(asyncio.Protocol):
    """One end of a connection: it puts the bytes that it receives on one line, and writes those of the other line."""

    def __init__(self, away: Line, here: Line, open_ends: set[asyncio.Transport]) -> None:
        self._away = away
        self._here = here
        self._open_ends = open_ends
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the line that ends here."""
        self._transport = transport
        self._open_ends.add(self._transport)
        self._here.open(self._transport)

    def data_received(self, data: bytes) -> None:
        """Put the received bytes on the other line."""
        self._away.put(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Close the other end, behind the bytes that were sent before."""
        self._open_ends.discard(self._transport)
        self._away.put(None)


# --- the relay


@asynccontextmanager
async def relaying(target_port: int, network: Network, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """
    Relay to *target_port* of loopback through *network*, and yield the port to connect to.

    The end of the context closes all connections at once and leaves no task.

    Args:
        tls: Terminate TLS here; the connection to the target is plain.
    """
    loop = asyncio.get_running_loop()
    open_ends: set[asyncio.Transport] = set()

    async with asyncio.TaskGroup() as connecting:

        def accept() -> End:
            opened_at = network.opened_at(loop.time())
            there = Line(lambda now: network.out_at(max(now, opened_at), to_server=True))
            back = Line(lambda now: network.out_at(now, to_server=False))
            connecting.create_task(connect(there, back))
            return End(there, back, open_ends)

        async def connect(there: Line, back: Line) -> None:
            try:
                await loop.create_connection(lambda: End(back, there, open_ends), HOST, target_port)
            except OSError:
                back.put(None)

        server = await loop.create_server(accept, HOST, 0, ssl=tls, backlog=2048)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in list(open_ends):
                transport.abort()
            # A transport calls `connection_lost` in the next iteration of the loop.
            await asyncio.sleep(0)
            await server.wait_closed()


def end_of_tls(directory: Path) -> ssl.SSLContext:
    """Make the server's TLS 1.3 context with a certificate for loopback, and write the CA certificate to `ca.pem`."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return context


async def run(target_port: int, network: Network, tls_directory: Path | None) -> None:
    """Print the relay's address, and relay until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        scheme = "http"
        if tls_directory is not None:
            scheme = "https"
            here = relaying(target_port, Network(), end_of_tls(tls_directory))
            target_port = await stack.enter_async_context(here)
        port = await stack.enter_async_context(relaying(target_port, network))
        print(f"listening on {scheme}://{HOST}:{port}", flush=True)
        await ended.wait()


# --- for tests and benchmarks


@frozen
class FarAway:
    """
    The address of a running relay.

    Attributes:
        ca_file: The CA certificate that a client must trust, for example by SSL_CERT_FILE; None without TLS.
    """

    base_url: str
    ca_file: str | None


@contextmanager
def far_away(
    target: str,
    *,
    rtt_s: float = 0.0,
    jitter_s: float = 0.0,
    jitter_both: bool = False,
    stall_at_s: float | None = None,
    stall_s: float = 0.0,
    tls: bool = False,
    seed: int = 1,
) -> Iterator[FarAway]:
    """
    Run a relay to the server at the URL *target*, in a process of its own, and end it with the context.

    The other arguments are those of `Network`; *tls* adds a TLS endpoint.
    """
    options = ("--rtt-ms", rtt_s * 1000, "--jitter-ms", jitter_s * 1000, "--seed", seed)
    command = watched("tests.support.far_away", "--target", target, *options, flags=("-W", "error"))
    if jitter_both:
        command += ["--jitter-both"]
    if stall_at_s is not None:
        command += ["--stall-at-s", str(stall_at_s), "--stall-ms", str(stall_s * 1000)]
    with ExitStack() as stack:
        ca_file = None
        if tls:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            command += ["--tls", directory]
            ca_file = str(Path(directory) / "ca.pem")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), "the relay did not start; its own message stands above"
            yield FarAway(line.removeprefix("listening on ").strip(), ca_file)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, "the relay failed; its own message stands above"


@contextmanager
def slow_to_connect(rtt_s: float) -> Iterator[None]:
    """
    Delay each TCP connect of this process's event loops by a round trip, as to a distant server.

    The relay counts its own delay from the same moment, so the round trip is not added twice.
    """
    connect = BaseSelectorEventLoop.sock_connect

    async def connect_slowly(loop: BaseSelectorEventLoop, sock: socket.socket, address: Any) -> None:
        await connect(loop, sock, address)
        await asyncio.sleep(rtt_s)

    with mock.patch.object(BaseSelectorEventLoop, "sock_connect", connect_slowly):
        yield


def build_parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.far_away", description="Relay until SIGTERM or SIGINT."
    )
    parser.add_argument("--target", required=True, metavar="URL", help="a plain HTTP server on loopback")
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="of each piece from the client, from 0 to this")
    parser.add_argument("--jitter-both", action="store_true", help="of each piece from the server, too")
    parser.add_argument("--stall-at-s", type=float, help="after the first byte")
    parser.add_argument("--stall-ms", type=float, default=0.0)
    parser.add_argument("--tls", type=Path, metavar="DIR", help="end TLS; the authority's certificate is DIR/ca.pem")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    """Run the relay that the command line describes."""
    options = build_parser().parse_args()
    network = Network(
        rtt_s=options.rtt_ms / 1000,
        jitter_s=options.jitter_ms / 1000,
        jitter_both=options.jitter_both,
        stall_at_s=options.stall_at_s,
        stall_s=options.stall_ms / 1000,
        seed=options.seed,
    )
    asyncio.run(run(urlsplit(options.target).port or 80, network, options.tls))


if __name__ == "__main__":
    main()
