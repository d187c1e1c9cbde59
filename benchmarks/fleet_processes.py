"""
Four processes with one key and one Valkey: their rate together, and their calls to Redis.

    python benchmarks/fleet_processes.py                            # 2 minutes

1. At the documented 30 a second: 600 messages by `send_bulk`, without and with 10 ms of jitter. A sandbox in a process
   of its own enforces a sliding log. The rate is that of the arrivals, (n - 1) / (last - first).
2. At 2,000 a second: slots alone, and whole messages. The messages go to a server in a process of its own that only
   answers, because the sandbox would need more of the machine than the clients. The rate is that of the slots, or of
   the arrivals, while all four processes had something to send.

The calls to Redis are those of its own `INFO commandstats`, from the first slot to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pico_async import Identity, PicoSession, Priority, Rates, RedisCoordinator, SmsMessage  # noqa: E402
from pico_async.coordination.rates import RateGroup  # noqa: E402
from tests.support.fleet_worker import FleetWorker  # noqa: E402
from tests.support.sandbox_process import sandbox_process  # noqa: E402
from tests.support.valkey_server import ValkeyServer, valkey_server  # noqa: E402

PROCESSES = 4


class Row(NamedTuple):
    """One line of the table."""

    what: str
    per_s: float
    of_rate: float
    densest: int
    calls_per_s_and_process: float
    shares: list[int]
    note: str = ""

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.per_s:,.2f} | {self.of_rate:.1%} | {self.densest:,} | "
            f"{self.calls_per_s_and_process:.1f} | {max(self.shares) / min(self.shares):.2f} | {self.note} |"
        )


def paced(jitter_ms: int) -> Row:
    """Send 4 x 150 messages at the documented rate, to a sandbox that enforces it."""
    with ExitStack() as held:
        server = held.enter_context(valkey_server())
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log", f"--jitter-ms={jitter_ms}"))
        workers = [
            held.enter_context(
                FleetWorker(name=name, redis_url=server.url, base_url=sandbox.base_url, count=150).start()
            )
            for name in "abcd"
        ]
        for worker in workers:
            worker.finish()
        ledger = sandbox.ledger()
        calls = redis_calls(server)
    moments = {name: [one.at for one in ledger.accepted if (one.text or "").startswith(name)] for name in "abcd"}
    return row(
        f"messages, 30 a second, {jitter_ms} ms of jitter",
        moments,
        30,
        calls,
        f"{ledger.refusals} refused, {ledger.token_requests} token request",
        whole=True,
    )


def lifted(kind: str, rate: float, count: int, concurrency: int) -> Row:
    """Acquire slots, or send messages, at a raised rate."""
    with valkey_server() as server, lean_server() as (base_url, arrivals):
        command = [sys.executable, __file__, f"--{kind}", server.url, base_url, str(rate), str(count), str(concurrency)]
        processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "abcd"]
        taken = {name: json.loads(one.communicate()[0]) for name, one in zip("abcd", processes, strict=True)}
        calls = redis_calls(server)
        moments = taken if kind == "slots" else arrivals()
    what = "slots" if kind == "slots" else "messages"
    return row(f"{what}, {rate:,.0f} a second, {concurrency} at once", moments, rate, calls, "", whole=False)


def row(what: str, moments: dict[str, list[float]], rate: float, calls: int, note: str, *, whole: bool) -> Row:
    everything = sorted(moment for own in moments.values() for moment in own)
    begin, end = max(min(own) for own in moments.values()), min(max(own) for own in moments.values())
    steady = [moment for moment in everything if begin <= moment <= end]
    judged = everything if whole else steady
    per_s = (len(judged) - 1) / (judged[-1] - judged[0])
    return Row(
        what,
        per_s,
        per_s / rate,
        max(bisect.bisect_left(everything, moment + 1.0) - at for at, moment in enumerate(everything)),
        calls / (everything[-1] - everything[0]) / len(moments),
        [sum(begin <= moment <= end for moment in own) for own in moments.values()],
        note,
    )


def redis_calls(server: ValkeyServer) -> int:
    """Count the commands that clients sent, without those that scripts ran."""
    with server.client() as client:
        found: dict[str, dict[str, int]] = client.info("commandstats")  # type: ignore[assignment]
    own = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_script|load", "cmdstat_hello")
    return sum(found.get(name, {}).get("calls", 0) for name in own)


@contextmanager
def lean_server() -> Iterator[tuple[str, Any]]:
    """Run a server that only answers; yield its address, and a function that returns the arrivals of each process."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().strip()

        def arrivals() -> dict[str, list[float]]:
            process.stdin.write("done\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield address, arrivals
        finally:
            process.terminate()


class Answer(asyncio.Protocol):
    """Read requests, record their senders, and accept them."""

    moments: dict[str, list[float]] = {}  # noqa: RUF012  one server, one table

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head_end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:head_end].lower()
            at = head.find(b"content-length: ")
            length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < head_end + 4 + length:
                return
            body, self.buffer = self.buffer[head_end + 4 : head_end + 4 + length], self.buffer[head_end + 4 + length :]
            if body:
                name = json.loads(body)["text"][0]
                self.moments.setdefault(name, []).append(time.monotonic())
                reply = b'{"request_id": "r-1"}'
            else:
                reply = b'{"request_id": "r-1", "token": "t-1"}'
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))


async def serve() -> None:
    """Serve until there is a line on stdin, and print the arrivals."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(Answer.moments), flush=True)


async def acquire_slots(redis_url: str, rate: float, count: int, concurrency: int) -> None:
    """Acquire slots, and print when each was granted."""
    coordinator = RedisCoordinator.from_url(redis_url, rates=Rates(sms=rate))
    coordinator.join(Identity.of("bench", "bench", "user333", "k"))
    moments: list[float] = []
    left = iter(range(count))

    async def sender() -> None:
        for _ in left:
            await coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)
            moments.append(time.monotonic())

    await asyncio.gather(*(sender() for _ in range(concurrency)))
    await coordinator.leave()
    print(json.dumps(moments))


async def send(redis_url: str, base_url: str, rate: float, count: int, concurrency: int, name: str) -> None:
    """Send messages."""
    async with PicoSession(
        username="user333",
        api_key="k",
        sender="8612345678888",
        base_url=base_url,
        coordinator=RedisCoordinator.from_url(redis_url, rates=Rates(sms=rate)),
    ) as pico:
        messages = (SmsMessage(f"861{number:010}", f"{name} {number}") for number in range(count))
        report = await pico.send_bulk(messages, concurrency=concurrency)
    assert report.accepted == count, report
    print("[]")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--count", type=int, default=6000, help="slots, or messages, of each process")
    options = parser.parse_args()
    print("| what | a second | of the rate | densest second | Redis calls a second and process | max/min share | |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for jitter_ms in (0, 10):
        print(paced(jitter_ms), flush=True)
    for kind, concurrency in (("slots", 64), ("slots", 16), ("messages", 64)):
        print(lifted(kind, options.rate, options.count, concurrency), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        if sys.argv[1:2] == ["--serve"]:
            asyncio.run(serve())
        elif sys.argv[1:2] == ["--slots"]:
            _, _, redis_url, _, rate, count, concurrency, _ = sys.argv
            asyncio.run(acquire_slots(redis_url, float(rate), int(count), int(concurrency)))
        elif sys.argv[1:2] == ["--messages"]:
            _, _, redis_url, base_url, rate, count, concurrency, name = sys.argv
            asyncio.run(send(redis_url, base_url, float(rate), int(count), int(concurrency), name))
        else:
            main()
