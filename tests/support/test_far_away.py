"""
These tests check that the relay delays bytes by no less than it should, keeps their order, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.far_away import HOST, FarAway, Network, far_away, slow_to_connect
from tests.support.sandbox_process import SandboxProcess, sandbox_process
from tests.support.waiting import PATIENCE_S

RTT_S = 0.1
# asyncio's timers and the tests' measurements have different resolutions.
A_TICK_S = 0.002


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with sandbox_process("--rate-rule=none") as running:
        yield running


@contextmanager
def client(far: FarAway) -> Iterator[httpx.Client]:
    trusted = ssl.create_default_context(cafile=far.ca_file) if far.ca_file else False
    with httpx.Client(base_url=far.base_url, verify=trusted, trust_env=False, timeout=PATIENCE_S) as opened:
        yield opened


def took_s(opened: httpx.Client, steps: list[str] | None = None) -> float:
    """Send a request and return how long it took; *steps* gets the names of the steps that ended."""

    def trace(name: str, info: object) -> None:
        if steps is not None and name.endswith(".complete"):
            steps.append(name)

    began_at = time.monotonic()
    opened.get("/_sandbox/ledger", extensions={"trace": trace}).raise_for_status()
    return time.monotonic() - began_at


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(4096):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def connected(far: FarAway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, urlsplit(far.base_url).port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("tls", "round_trips"), [(False, 2), (True, 3)])
def test_a_first_request_costs_the_handshakes_and_a_second_does_not(
    sandbox: SandboxProcess, tls: bool, round_trips: int
) -> None:
    """
    A first request takes a round trip for TCP, one for TLS 1.3 and one for itself.

    A second request on the same connection takes only its own.
    """
    with far_away(sandbox.base_url, rtt_s=RTT_S, tls=tls) as far, client(far) as opened:
        first: list[str] = []
        second: list[str] = []
        first_s = took_s(opened, first)
        second_s = took_s(opened, second)

    assert first_s >= round_trips * RTT_S - A_TICK_S
    assert second_s >= RTT_S - A_TICK_S
    handshakes = ["connection.connect_tcp.complete", *(["connection.start_tls.complete"] if tls else [])]
    assert [step for step in first if step.startswith("connection.c") or "tls" in step][: len(handshakes)] == handshakes
    assert not [step for step in second if step in handshakes]


def test_the_certificate_is_not_trusted_unasked(sandbox: SandboxProcess) -> None:
    """
    A client that does not trust the relay's CA refuses the connection, so a test over TLS really verifies certificates.
    """
    with far_away(sandbox.base_url, tls=True) as far:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(far.base_url, trust_env=False, timeout=PATIENCE_S)


async def test_a_client_can_see_what_its_connection_costs(sandbox: SandboxProcess) -> None:
    """With `slow_to_connect`, connect() takes a round trip, and the relay does not add that round trip again."""
    clock = asyncio.get_running_loop().time
    network = Network(rtt_s=RTT_S)
    with far_away(sandbox.base_url, rtt_s=RTT_S) as far, slow_to_connect(RTT_S):
        began_at = clock()
        async with connected(far):
            there_s = clock() - began_at

    assert there_s >= RTT_S - A_TICK_S
    # Bytes that are written when connect() returns, or already when it is called, come out at the same moment.
    assert network.out_at(network.opened_at(10.0), to_server=True) == pytest.approx(10.0 + 1.5 * RTT_S)


async def test_what_was_sent_comes_out_in_order_whatever_the_jitter() -> None:
    """Pieces come out in the order in which they were sent, with jitter in both directions."""
    pieces = [b"%05d" % number for number in range(200)]
    async with echo() as server:
        with far_away(server, jitter_s=0.02, jitter_both=True) as far:
            async with connected(far) as (reader, writer):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.001)
                came = await reader.readexactly(5 * len(pieces))

    assert came == b"".join(pieces)


async def test_a_stall_holds_everything_and_then_lets_it_go() -> None:
    """During a stall nothing comes out on any connection, and no byte is lost."""
    count, every_s, stall_at_s, stall_s = 60, 0.01, 0.1, 0.3
    sent_at: dict[str, list[float]] = {"one": [], "other": []}
    came_at: dict[str, list[float]] = {"one": [], "other": []}

    async def tick(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read() -> None:
            for _ in range(count):
                await reader.readexactly(1)
                came_at[name].append(time.monotonic())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            for _ in range(count):
                sent_at[name].append(time.monotonic())
                writer.write(b".")
                await asyncio.sleep(every_s)

    async with echo() as server:
        with far_away(server, stall_at_s=stall_at_s, stall_s=stall_s) as far:
            async with connected(far) as one, connected(far) as other, asyncio.TaskGroup() as ticking:
                ticking.create_task(tick("one", *one))
                ticking.create_task(tick("other", *other))

    sent, came = sent_at["one"] + sent_at["other"], came_at["one"] + came_at["other"]
    assert len(came) == 2 * count
    # The stall is counted from when the relay got the first byte: after it was sent, and before it came back.
    began_by, ended_after = min(came) + stall_at_s, min(sent) + stall_at_s + stall_s
    during = [came_s for sent_s, came_s in zip(sent, came, strict=True) if began_by <= sent_s <= ended_after]
    assert [came_s for came_s in during if came_s < ended_after - A_TICK_S] == []


def test_a_stall_ends_for_all_at_one_moment() -> None:
    """A piece that would come out during a stall comes out at its end; the other pieces are not delayed."""
    network = Network(rtt_s=0.2, stall_at_s=10, stall_s=0.3)
    sent_at = [1000.0, 1009.8, 1009.95, 1010.1, 1010.25]

    out_at = [network.out_at(at, to_server=True) for at in sent_at]

    assert out_at == pytest.approx([1000.1, 1009.9, 1010.3, 1010.3, 1010.35])


def test_jitter_is_drawn_in_the_directions_that_were_asked_for() -> None:
    """
    Jitter applies to pieces from the client alone, or to both directions.

    The jitter never exceeds its limit, and is the same for the same seed.
    """
    one_way, same = Network(jitter_s=0.05), Network(jitter_s=0.05)
    both_ways = Network(jitter_s=0.05, jitter_both=True)

    there = [one_way.out_at(0, to_server=True) for _ in range(500)]

    assert there == [same.out_at(0, to_server=True) for _ in range(500)]
    assert 0.04 < max(there) <= 0.05
    assert min(there) < 0.01
    assert one_way.out_at(0, to_server=False) == 0
    assert max(both_ways.out_at(0, to_server=False) for _ in range(500)) > 0.04


async def test_the_end_of_a_connection_comes_behind_what_was_sent_before_it() -> None:
    """The bytes that a server sends immediately before it closes the connection arrive at the client."""

    async def say_goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"goodbye")
        writer.close()

    server = await asyncio.start_server(say_goodbye, HOST, 0)
    async with server:
        with far_away(f"http://{HOST}:{server.sockets[0].getsockname()[1]}", rtt_s=RTT_S) as far:
            async with connected(far) as (reader, _):
                heard = await reader.read()

    assert heard == b"goodbye"


async def test_nobody_behind_the_relay_looks_like_a_server_that_hangs_up(sandbox: SandboxProcess) -> None:
    """If no server listens behind the relay, the client sees a closed connection, and the relay continues."""
    with far_away("http://127.0.0.1:1") as far:
        async with connected(far) as (reader, _):
            heard = await reader.read()

    assert heard == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_without_a_word_amid_open_connections(
    sandbox: SandboxProcess, tmp_path: Path, number: signal.Signals
) -> None:
    """
    On a signal, the relay ends with exit code 0 and prints nothing, although connections are open.

    Python's development mode would print a warning for any task or socket that is left.
    """
    command = (sys.executable, "-X", "dev", "-W", "error", "-m", "tests.support.far_away", "--target", sandbox.base_url)
    relay = subprocess.Popen(
        [*command, "--rtt-ms=50", "--tls", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert relay.stdout is not None
    far = FarAway(relay.stdout.readline().removeprefix("listening on ").strip(), str(tmp_path / "ca.pem"))
    with client(far) as opened:
        took_s(opened)

        relay.send_signal(number)
        _, said = relay.communicate(timeout=PATIENCE_S)

    # On a busy machine, development mode also prints how long a step of the event loop took.
    printed = [line for line in said.splitlines() if not line.startswith("Executing <")]
    assert (relay.returncode, printed) == (0, [])
