"""
This module runs one process of a fleet, which sends its messages in bulk.

The process sends again what was provably not sent, until all messages are settled.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from contextlib import nullcontext
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

from attrs import field, frozen

from pico_async import Outcome, PicoSession, Rates, RedisCoordinator, SmsMessage
from tests.support import late_timers
from tests.support.far_away import slow_to_connect
from tests.support.forked import forked
from tests.support.sandbox_process import KEY, SandboxProcess
from tests.support.waiting import wait_until


@frozen(kw_only=True)
class FleetWorker:
    """
    The settings of one process.

    Attributes:
        redis_url: The fleet's Redis; None: the process is alone.
        redis_timeout_s: How long a send waits for Redis. In an undisturbed fleet, no busy machine exceeds it.
        name: Begins the text of each message, so that the server's ledger shows which process sent it.
        share: The part of the rate that the process uses while Redis is away; None: its sends fail.
        again: Whether to send messages that were not sent again, until none is left.
        ca_file: The CA certificate to trust instead of the system's, as a server's operator would set it.
        connect_s: How long a TCP connection takes to open; see `slow_to_connect`.
    """

    name: str
    redis_url: str | None
    redis_timeout_s: float = 10.0
    base_url: str
    count: int
    rate: float = 30.0
    share: float | None = None
    again: bool = True
    concurrency: int = 64
    timeout_s: float = 10.0
    retries: int = 2
    ca_file: str | None = None
    connect_s: float = 0.0

    def start(self) -> RunningWorker:
        """Start this worker in a process of its own."""
        results, sending = forked.Pipe(duplex=False)
        process = forked.Process(target=_run, args=(self, sending, late_timers.folder()))
        process.start()
        # The process has the only other copy, so the results end when it ends.
        sending.close()
        return RunningWorker(self, process, results)

    async def run(self) -> dict[str, Any]:
        """Send the messages, and return the outcomes of each by its number."""
        rates = Rates(sms=self.rate)
        coordinator = None
        if self.redis_url is not None:
            coordinator = RedisCoordinator.from_url(
                self.redis_url, rates=rates, share=self.share, timeout=self.redis_timeout_s
            )
        tries: dict[int, list[str]] = {number: [] for number in range(self.count)}
        faults: set[str] = set()
        began_at = time.monotonic()
        async with PicoSession(
            username="user333",
            api_key=KEY,
            sender="8612345678888",
            base_url=self.base_url,
            coordinator=coordinator,
            rates=rates if coordinator is None else None,
            timeout=self.timeout_s,
            retries=self.retries,
        ) as pico:
            left = list(range(self.count))
            while left:
                messages = (
                    SmsMessage(f"86123{number:07}", f"{self.name} {number}", key=str(number)) for number in left
                )
                async with pico.stream_bulk(messages, concurrency=self.concurrency) as results:
                    async for result in results:
                        tries[int(result.key or "")].append(result.outcome.value)
                        faults.add(type(result.error).__name__)
                left = [number for number in left if self.again and tries[number][-1] == Outcome.NOT_SENT]
        return {"tries": tries, "faults": sorted(faults), "elapsed_s": time.monotonic() - began_at}


@frozen
class RunningWorker:
    """A worker whose process runs."""

    worker: FleetWorker
    process: ForkServerProcess
    results: Connection

    def finish(self) -> WorkerResult:
        """Wait until the process ends, and return its results."""
        assert self.results.poll(100), "the process did not end"
        found = self.results.recv()
        self.process.join(100)
        assert self.process.exitcode == 0
        return WorkerResult(
            name=self.worker.name,
            outcomes={f"{self.worker.name} {number}": tries for number, tries in found["tries"].items()},
            faults=set(found["faults"]),
            elapsed_s=found["elapsed_s"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.results.close()


@frozen(kw_only=True)
class WorkerResult:
    """
    The results in one process.

    Attributes:
        outcomes: The outcomes of all tries of each message, by the message's text.
    """

    name: str
    outcomes: dict[str, list[str]]
    faults: set[str] = field(factory=set)
    elapsed_s: float = 0.0


def wait_for_accepted(sandbox: SandboxProcess, count: int) -> None:
    """Wait until the sandbox has accepted *count* messages."""
    wait_until(lambda: len(sandbox.accepted()) >= count, f"{count} messages are accepted")


def _run(worker: FleetWorker, results: Connection, folder: Path | None) -> None:
    warnings.simplefilter("error")
    late_timers.watch_into(folder)
    if worker.ca_file is not None:
        os.environ["SSL_CERT_FILE"] = worker.ca_file
    with slow_to_connect(worker.connect_s) if worker.connect_s else nullcontext():
        results.send(asyncio.run(worker.run()))
