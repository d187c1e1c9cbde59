"""This module runs a journalled bulk send in a process that can be killed at its n-th failpoint or from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
from attrs import frozen

from pico_async import PicoSession, Rates, SendResult, SmsMessage
from pico_async._engine.http.exchange import Departure
from pico_async.bulk.journal import sqlite_file as journal_file
from tests.support.forked import forked
from tests.support.sandbox_process import KEY


@frozen(kw_only=True)
class CrashingBulkSend:
    """
    One bulk send, which is the same in each run.

    Attributes:
        messages: No recipient is in two bulk sends to one sandbox, so its ledger shows where a message is from.
        reported: The file to which each result is appended as soon as the caller gets it: "<run> <index> <outcome>".
    """

    base_url: str
    journal: Path
    reported: Path
    messages: tuple[SmsMessage, ...]
    concurrency: int
    rate: float | None = None

    def start(self, run: int, *, crash_at: int | None = None) -> ForkServerProcess:
        """
        Run the bulk send in a process of its own.

        Args:
            crash_at: Kill the process at this failpoint, counted from 1.
        """
        process = forked.Process(target=_run, args=(self, run, crash_at))
        process.start()
        return process

    def run_to_its_end(self, run: int) -> None:
        """Run the bulk send without a crash, and wait until it ends."""
        process = self.start(run)
        process.join(60)
        assert process.exitcode == 0, "the resume did not end"

    def reported_in(self, *runs: int) -> dict[int, list[str]]:
        """Return the outcomes that the caller got in these runs, by the message's index in the input."""
        reported: dict[int, list[str]] = {}
        for line in self.reported.read_text().splitlines() if self.reported.exists() else []:
            run, index, outcome = line.split()
            if int(run) in runs:
                reported.setdefault(int(index), []).append(outcome)
        return reported


def recipients(first: int, count: int) -> tuple[SmsMessage, ...]:
    """
    Make *count* messages: those to odd numbers have a key, and the journal identifies the others by their content.
    """
    return tuple(
        SmsMessage(f"861{number:010}", "Your code is 123456", key=f"order-{number}" if number % 2 else None)
        for number in range(first, first + count)
    )


class Failpoints:
    """Points at which this process can be killed; it is killed at the n-th of them that it reaches."""

    def __init__(self, crash_at: int | None) -> None:
        self._left = crash_at

    def reach(self) -> None:
        """Pass one failpoint, or kill this process there."""
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around_commits(self) -> type[sqlite3.Connection]:
        """
        Make a connection class with failpoints before and after each commit, checkpoint and change of the journal mode.
        """
        reach = self.reach

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                if not sql.startswith(("COMMIT", "PRAGMA journal_mode", "PRAGMA wal_checkpoint")):
                    return super().execute(sql, *args)
                reach()
                cursor = super().execute(sql, *args)
                reach()
                return cursor

        return Connection

    def around_posts(self) -> httpx.AsyncHTTPTransport:
        """Make a transport with failpoints before each request and after each reply."""
        reach = self.reach

        class Transport(httpx.AsyncHTTPTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                reach()
                response = await super().handle_async_request(request)
                reach()
                return response

        # The transport uses plain HTTP; loading CA certificates would take longer than the rest of a short run.
        return Transport(verify=False)

    def before_the_write(self) -> Callable[..., Awaitable[None]]:
        """Make a `Departure.leave` with a failpoint, the last moment before the first byte is written."""
        reach, leave = self.reach, Departure.leave

        async def leave_and_reach(departure: Departure, **settings: Any) -> None:
            await leave(departure, **settings)
            reach()

        return leave_and_reach


def _run(bulk_send: CrashingBulkSend, run: int, crash_at: int | None) -> None:
    failpoints = Failpoints(crash_at)
    connection = failpoints.around_commits()
    connect = sqlite3.connect
    journal_file.sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=connection, **kwargs)
    Departure.leave = failpoints.before_the_write()
    asyncio.run(_send(bulk_send, run, failpoints))


async def _send(bulk_send: CrashingBulkSend, run: int, failpoints: Failpoints) -> None:
    reported = os.open(bulk_send.reported, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def report_result(result: SendResult) -> None:
        failpoints.reach()
        os.write(reported, f"{run} {result.index} {result.outcome}\n".encode())
        failpoints.reach()

    async with PicoSession(
        username="user333",
        api_key=KEY,
        sender="8612345678888",
        base_url=bulk_send.base_url,
        rates=Rates(sms=bulk_send.rate),
        transport=failpoints.around_posts(),
    ) as pico:
        report = await pico.send_bulk(
            bulk_send.messages, journal=bulk_send.journal, concurrency=bulk_send.concurrency, on_result=report_result
        )
    assert report.total == len(bulk_send.messages)
