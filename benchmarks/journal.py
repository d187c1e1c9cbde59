"""
What a journal costs a bulk send: at the documented rate, and without a rate.

    python benchmarks/journal.py                                    # 2 minutes
    python benchmarks/journal.py --folder /var/tmp                  # on another disk
    python benchmarks/journal.py --commit-ms 20                     # as with a disk that is slower by that

The sandbox runs in a process of its own and enforces no rate. At the documented rate, 900 messages are sent with a
journal, and the rate is that of their arrivals: (n - 1) / (last - first).

Without a rate, bulk sends without and with a journal alternate, so that other work of the machine affects both. Each
round is a fresh process with a fresh file. A rate is the messages over the seconds from the start to the report, and
the ratio is that of the medians. The time of one sync of the disk is printed, too, because a journal depends on it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pico_async import PicoSession, Rates, SmsMessage
from pico_async.sandbox import DEFAULT_API_KEY

PACED = 900


@contextmanager
def sandbox() -> Iterator[str]:
    """Run a sandbox in a process of its own, and yield its address."""
    command = [sys.executable, "-m", "pico_async.sandbox", "--port", "0", "--rate-rule", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(line for line in process.stdout if line.startswith("listening on ")).split()[-1]
        finally:
            process.terminate()


async def blast(base_url: str, count: int, *, journal: str | None, sms_per_s: float | None) -> float:
    """Send so many messages, and return the messages per second."""
    messages = (SmsMessage(f"861{number:010}", "Your code is 1234", key=f"order-{number}") for number in range(count))
    async with PicoSession(
        username="user333",
        api_key=DEFAULT_API_KEY,
        sender="8612345678888",
        base_url=base_url,
        rates=Rates(sms=sms_per_s),
    ) as pico:
        await pico.token.get()
        report = await pico.send_bulk(messages, journal=journal)
    assert report.accepted == count, report
    return report.rate


def slow_down(commit_ms: float) -> None:
    """Slow each commit of a journal down."""
    connect = sqlite3.connect

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                time.sleep(commit_ms / 1e3)
            return super().execute(sql, *values)

    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Slow, **kwargs)


def in_a_fresh_process(base_url: str, chosen: argparse.Namespace, *, journalled: bool) -> float:
    """Send without a rate in a fresh process, and return the messages per second."""
    with tempfile.TemporaryDirectory(dir=chosen.folder) as fresh:
        command = [sys.executable, __file__, "--one", base_url, "--messages", str(chosen.messages)]
        command += ["--commit-ms", str(chosen.commit_ms)]
        command += ["--journal", str(Path(fresh, "blast.db"))] if journalled else []
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def arrivals(base_url: str) -> list[float]:
    """Return the times at which the messages arrived, by the sandbox's ledger."""
    ledger = httpx.get(f"{base_url}/_sandbox/ledger", timeout=60).raise_for_status().json()
    return [message["at"] for message in ledger["accepted"]]


def densest_second(times: list[float]) -> int:
    """Return the most arrivals in any half-open second."""
    window: deque[float] = deque()
    most = 0
    for at in sorted(times):
        window.append(at)
        while window[0] <= at - 1:
            window.popleft()
        most = max(most, len(window))
    return most


def sync_ms(folder: str) -> float:
    """Return the median time of 200 syncs of one page."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        took = []
        for _ in range(200):
            os.pwrite(file.fileno(), b"\0" * 4096, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def main() -> None:
    """Measure both, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000, help="of each bulk send without a rate")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the journals lie")
    parser.add_argument("--commit-ms", type=float, default=0.0, help="added to each commit")
    parser.add_argument("--one", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--journal", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.commit_ms:
        slow_down(chosen.commit_ms)
    if chosen.one:
        print(asyncio.run(blast(chosen.one, chosen.messages, journal=chosen.journal, sms_per_s=None)))
        return

    print(f"a sync of one page: {sync_ms(chosen.folder):.2f} ms")
    with sandbox() as base_url, tempfile.TemporaryDirectory(dir=chosen.folder) as fresh:
        asyncio.run(blast(base_url, PACED, journal=str(Path(fresh, "blast.db")), sms_per_s=30))
        times = arrivals(base_url)
    rate = (len(times) - 1) / (max(times) - min(times))
    print(f"at 30/s, with a journal: {rate:.2f}/s, densest second {densest_second(times)}")

    rounds = []
    for _ in range(chosen.rounds):
        with sandbox() as base_url:
            rounds.append(
                tuple(in_a_fresh_process(base_url, chosen, journalled=journalled) for journalled in (False, True))
            )
    for title, column in zip(("without a journal", "with a journal"), zip(*rounds, strict=True), strict=True):
        print(f"lifted, {title:<18} {statistics.median(column):7.0f}/s  ({min(column):.0f} to {max(column):.0f})")
    plain, journalled = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"ratio {journalled / plain:.2f}")


if __name__ == "__main__":
    main()
