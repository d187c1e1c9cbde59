"""One blast, from the token to the last line of the report, with Ctrl-C in between."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Container, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

import anyio
import anyio.lowlevel
from attrs import define, field, frozen

from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.sender import BulkStream
from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.progress import Display, Progress, RateMeter
from pico_async.cli.blast.report_file import ReportFile
from pico_async.cli.blast.row_mapping import RowMapping
from pico_async.cli.blast.row_results import RowResults
from pico_async.errors import ConfigurationError, PicoError
from pico_async.session import PicoSession


@frozen(kw_only=True)
class RunResult:
    """
    How a blast ended.

    Attributes:
        results: What became of the rows.
        elapsed_s: Seconds from the first message to the last result.
        stopped: Why it ended before its input did; None where it did not.
        signal: The signal that ended it; None where none did.
        errors: What went wrong with the input or the report meanwhile.
    """

    results: RowResults
    elapsed_s: float
    stopped: str | None = None
    signal: int | None = None
    errors: tuple[str, ...] = ()


class InterruptedEarlyError(Exception):
    """
    A signal came before the first message, so nothing was sent.

    Attributes:
        signal: Its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


@define(eq=False)
class Interrupts:
    """
    What SIGINT, SIGTERM and SIGHUP do to a blast.

    Before it begins, the first ends it. From then on the first stops it: no more is read, what waits is not sent, what
    is on the wire is settled. The second, or the end of the grace period, cuts that short: what is on the wire is in
    doubt.
    """

    _display: Display
    _grace_s: float
    first: int | None = field(default=None, init=False)
    scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)
    _stream: BulkStream | None = field(default=None, init=False)

    @property
    def has_begun(self) -> bool:
        """Whether anything may have been sent."""
        return self._stream is not None

    def begin(self, stream: BulkStream) -> None:
        """Stop this blast from now on, where before there was nothing to settle."""
        self._stream = stream

    @contextmanager
    def listening(self) -> Iterator[None]:
        """
        Take the signals for as long as the context lasts.

        It outlasts the sending: a third Ctrl-C must not cut off the rest of the report.
        """
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        # Windows has none; and under nohup, it is ignored for a reason.
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
            numbers.append(hangup)

        def hear(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._told, number)

        # Python's own handlers and not the loop's, which those of Windows do not have.
        before = {number: signal.signal(number, hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _told(self, number: int) -> None:
        if self.first is not None:
            self.scope.cancel()
            return
        self.first = number
        if self._stream is None:
            self.scope.cancel()
            return
        if self._grace_s > 0:
            self._display.print(
                f"Stopping: what is on the wire is waited for, for {self._grace_s:g} s at most. "
                "Ctrl-C again leaves it in doubt."
            )
        else:
            self._display.print("Stopping: what is on the wire is left in doubt.")
        self._stream.stop("interrupted")
        asyncio.get_running_loop().call_later(self._grace_s, self.scope.cancel)


@frozen(kw_only=True)
class BlastRun:
    """
    Send the message of each row of a file, and book what became of it.

    Attributes:
        total: Rows that the file had when it was surveyed.
        journal: The journal's file.
        suppressed: Numbers that opted out.
        grace_s: How long a signal leaves to what is on the wire.
    """

    file: CsvFile
    mapping: RowMapping
    total: int
    display: Display
    concurrency: int = 64
    stop_after: int | None = None
    grace_s: float = 15.0
    journal: Path | None = None
    suppressed: Container[str] | None = None
    report: ReportFile | None = None

    def run(self, session: AbstractAsyncContextManager[PicoSession]) -> RunResult:
        """
        Send it, in an event loop of its own.

        Raises:
            ConfigurationError: It could not begin, and nothing was sent.
            InterruptedEarlyError: A signal came before it began, and nothing was sent.
        """
        return asyncio.run(self._open(session))

    async def _open(self, session: AbstractAsyncContextManager[PicoSession]) -> RunResult:
        interrupts = Interrupts(self.display, self.grace_s)
        with interrupts.listening():
            async with session as pico:
                with ExitStack() as held:
                    return await self._send(pico, interrupts, held)

    async def _send(self, pico: PicoSession, interrupts: Interrupts, held: ExitStack) -> RunResult:
        results = RowResults(self.mapping, self.file.rows(), self.report)
        stream = pico.stream_bulk(
            results.messages(),
            concurrency=self.concurrency,
            stop_after=self.stop_after,
            journal=None if self.journal is None else self._journal(self.journal, results),
            suppression=self.suppressed,
        )
        errors: list[str] = []
        held.enter_context(self.display)
        try:
            with interrupts.scope:
                # A wrong key is told here, once, and not as the failure of every row. Of a fleet, the first asks.
                await pico.token.ensure()
                if self.report is not None:
                    held.enter_context(self.report)
                # A journal that cannot be used raises here, and then a report that cannot be written. Only then is an
                # old report replaced, and nothing is read until this waits for a result.
                async with stream:
                    # The signal may have come in the moment in which the journal was open.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    results.begin()
                    interrupts.begin(stream)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._show, results, interrupts)
                        await _settle_all(stream, results, errors)
                        tasks.cancel_scope.cancel()
        except PicoError as error:
            if interrupts.has_begun:
                raise
            raise ConfigurationError(f"The blast did not begin, and nothing was sent. {error}") from None
        if interrupts.first is not None and not interrupts.has_begun:
            raise InterruptedEarlyError(interrupts.first)
        for leftover in stream.leftover:
            results.settle(leftover, ended=True)
        try:
            results.close()
        except PicoError as error:
            errors.append(str(error))
        if results.report_fault is not None:
            errors.append(results.report_fault)
        result = RunResult(
            results=results,
            elapsed_s=stream.report.elapsed,
            stopped=stream.report.stopped if interrupts.first is None else "interrupted",
            signal=interrupts.first,
            errors=tuple(errors),
        )
        self.display.show_sending(
            Progress(total=self.total, outcomes=results.outcomes, word="Stopped" if result.stopped else "Sent")
        )
        return result

    def _journal(self, path: Path, results: RowResults) -> SqliteJournal:
        # Whether it is that of the rows was asked of all of them, and not of the first ones.
        return SqliteJournal(path, many_blasts=True, made_from=self.mapping.made_from, line_of=results.line_of)

    async def _show(self, results: RowResults, interrupts: Interrupts) -> None:
        meter = RateMeter()
        while True:
            per_s = meter.per_s(time.monotonic(), results.outcomes)
            word: Literal["Sending", "Stopping"] = "Sending" if interrupts.first is None else "Stopping"
            self.display.show_sending(Progress(total=self.total, outcomes=results.outcomes, per_s=per_s, word=word))
            await anyio.sleep(self.display.interval_s)


async def _settle_all(stream: BulkStream, results: RowResults, errors: list[str]) -> None:
    try:
        async for result in stream:
            # The report is made anew at each look, and most rows need none.
            results.settle(result, ended=not result.ok and stream.report.stopped is not None)
            if results.report_fault is not None:
                # Whoever asked for a report does not want messages that it does not tell of.
                stream.stop("the report could not be written")
    except PicoError as error:  # from the input, although it was sound when it was surveyed
        errors.append(str(error))
