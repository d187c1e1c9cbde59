"""
This module runs a queue worker in a process of its own.

    python -m tests.support.queue_worker SETTINGS_AS_JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import procrastinate
from attrs import define, field

from pico_async import PicoSession, Rates
from pico_async.integrations.postgres import run as postgres_run
from pico_async.integrations.procrastinate import PostgresLedger, run_worker
from pico_async.sandbox import Sandbox
from tests.support.sandbox_process import KEY

ROOT = Path(__file__).parent.parent.parent
CONCURRENCY = 3


def make_app(conninfo: str, name: str, *, timeout_s: float = 30.0) -> procrastinate.App:
    """
    Make an app whose connections have a name, under which PostgreSQL lists them.

    Args:
        timeout_s: How long procrastinate waits for a connection.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=conninfo, kwargs={"application_name": name}, min_size=2, max_size=8, timeout=timeout_s
    )
    return procrastinate.App(connector=connector)


def session_with(sandbox: Sandbox) -> PicoSession:
    """Make a session for a sandbox in this process, without a limit for SMS."""
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        rates=Rates(sms=None),
    )


def bear_lost_ends() -> None:
    """Make the running loop ignore that a task of procrastinate could not report its job's end to PostgreSQL."""
    loop = asyncio.get_running_loop()
    others = loop.get_exception_handler() or asyncio.BaseEventLoop.default_exception_handler

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), procrastinate.exceptions.ConnectorException):
            others(loop, context)

    loop.set_exception_handler(handle)


@define(kw_only=True)
class QueueWorker:
    """
    A worker and its process.

    Attributes:
        name: The name of its connections in PostgreSQL, and the beginning of its claims in the ledger.
        stalled_s: After so long without a sign of life, the worker counts as dead.
    """

    name: str
    conninfo: str
    base_url: str
    stalled_s: float
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the worker's process."""
        settings = json.dumps(attrs.asdict(self, filter=lambda attribute, _: attribute.init))
        self.process = subprocess.Popen([sys.executable, "-m", __name__, settings], cwd=ROOT)

    def kill(self) -> None:
        """Kill the process, as the kernel does when memory is short, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Stop the process with SIGTERM, as a deploy does, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    @property
    def mark(self) -> bytes:
        """Return the bytes with which the worker's claims begin."""
        return self.name.encode().ljust(12, b"-")

    async def work(self) -> None:
        """Run the queue worker in this process until it is stopped."""
        # In the ledger, only the claim identifies a delivery; its mark shows the test which worker made it.
        postgres_run.secrets = SimpleNamespace(token_bytes=lambda size: self.mark + os.urandom(size - len(self.mark)))
        app = make_app(self.conninfo, self.name)
        async with (
            app.open_async(),
            PicoSession(
                username="user333",
                api_key=KEY,
                sender="8612345678888",
                base_url=self.base_url,
                rates=Rates(sms=None),
            ) as pico,
        ):
            await run_worker(
                app,
                pico,
                ledger=PostgresLedger(app.connector.pool, under_way_s=self.stalled_s),
                concurrency=CONCURRENCY,
                stalled_s=self.stalled_s,
                fetch_job_polling_interval=0.2,
            )


if __name__ == "__main__":
    asyncio.run(QueueWorker(**json.loads(sys.argv[1])).work())
