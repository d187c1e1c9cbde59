"""
This module runs one process of a fleet, which sends its messages in bulk.

The process sends again what was provably not sent, until all messages are settled.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from attrs import asdict, field, frozen

from pico_async import Outcome, PicoSession, Rates, RedisCoordinator, SmsMessage
from tests.support.far_away import slow_to_connect
from tests.support.late_timers import watched
from tests.support.sandbox_process import KEY, SandboxProcess
from tests.support.waiting import wait_until


@frozen(kw_only=True)
class FleetWorker:
    """
    The settings of one process.

    Attributes:
        redis_url: The fleet's Redis; None: the process is alone.
        name: Begins the text of each message, so that the server's ledger shows which process sent it.
        share: The part of the rate that the process uses while Redis is away; None: its sends fail.
        again: Whether to send messages that were not sent again, until none is left.
        ca_file: The CA certificate to trust instead of the system's, as a server's operator would set it.
        connect_s: How long a TCP connection takes to open; see `slow_to_connect`.
    """

    name: str
    redis_url: str | None
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
        return RunningWorker(
            self,
            subprocess.Popen(
                watched("tests.support.fleet_worker", json.dumps(asdict(self)), flags=("-W", "error")),
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parent.parent.parent,
                env=os.environ if self.ca_file is None else {**os.environ, "SSL_CERT_FILE": self.ca_file},
            ),
        )

    async def run(self) -> dict[str, Any]:
        """Send the messages, and return the outcomes of each by its number."""
        rates = Rates(sms=self.rate)
        coordinator = None
        if self.redis_url is not None:
            coordinator = RedisCoordinator.from_url(self.redis_url, rates=rates, share=self.share, timeout=0.5)
        told: dict[int, list[str]] = {number: [] for number in range(self.count)}
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
                        told[int(result.key or "")].append(result.outcome.value)
                        faults.add(type(result.error).__name__)
                left = [number for number in left if self.again and told[number][-1] == Outcome.NOT_SENT]
        return {"told": told, "faults": sorted(faults), "elapsed_s": time.monotonic() - began_at}


@frozen
class RunningWorker:
    """A worker whose process runs."""

    worker: FleetWorker
    process: subprocess.Popen[str]

    def finish(self) -> Told:
        """Wait until the process ends, and return its results."""
        out, _ = self.process.communicate(timeout=100)
        assert self.process.returncode == 0
        found = json.loads(out)
        return Told(
            name=self.worker.name,
            outcomes={f"{self.worker.name} {number}": told for number, told in found["told"].items()},
            faults=set(found["faults"]),
            elapsed_s=found["elapsed_s"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@frozen(kw_only=True)
class Told:
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


if __name__ == "__main__":
    worker = FleetWorker(**json.loads(sys.argv[1]))
    with slow_to_connect(worker.connect_s) if worker.connect_s else nullcontext():
        sys.stdout.write(json.dumps(asyncio.run(worker.run())))
