"""The run of a bulk send: from the token to the last line of the report."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Literal

import anyio
import anyio.lowlevel
from attrs import frozen

from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.sender import BulkStream
from pico_async.cli.blast.plan import BlastPlan
from pico_async.cli.blast.progress import Display, Progress, RateMeter
from pico_async.cli.blast.row_results import RowResults
from pico_async.cli.blast.signals import InterruptedEarlyError, StopSignals
from pico_async.errors import ConfigurationError, PicoError
from pico_async.session import PicoSession


@frozen(kw_only=True)
class RunResult:
    """
    The result of a bulk send, in the seconds from the first message to the last result.

    Attributes:
        stopped: Why it ended before its input did; None where it did not.
        signal: The number of the signal that ended it; None where none did.
        errors: Errors of the input or the report during the bulk send.
    """

    rows: RowResults
    elapsed_s: float
    stopped: str | None = None
    signal: int | None = None
    errors: tuple[str, ...] = ()


@frozen(kw_only=True)
class BlastRun:
    """Send the message of each row of a file, and record the results; *total* is the number of rows."""

    plan: BlastPlan
    total: int
    display: Display

    def run(self) -> RunResult:
        """
        Send all messages, in an event loop of its own.

        ConfigurationError and InterruptedEarlyError mean that nothing was sent.
        """
        if self.plan.session is None:
            raise ConfigurationError("A dry run sends nothing.")
        return asyncio.run(self._open(self.plan.session))

    async def _open(self, session: AbstractAsyncContextManager[PicoSession]) -> RunResult:
        signals = StopSignals(self.display, self.plan.options.grace)
        with signals.handled():
            async with session as pico:
                with ExitStack() as held:
                    return await self._send(pico, signals, held)

    async def _send(self, pico: PicoSession, signals: StopSignals, held: ExitStack) -> RunResult:
        plan = self.plan
        rows = RowResults(plan.mapping, plan.file.rows(), plan.report)
        journal = None
        if (path := plan.options.journal) is not None:
            # `many_blasts`, because the scan has compared all rows with the journal, and not only the first ones.
            journal = SqliteJournal(path, many_blasts=True, made_from=plan.mapping.made_from, line_of=rows.line_of)
        stream = pico.stream_bulk(
            rows.messages(),
            concurrency=plan.options.concurrency,
            stop_after=plan.options.stop_after,
            journal=journal,
            suppression=plan.suppressed,
        )
        errors: list[str] = []
        held.enter_context(self.display)
        try:
            with signals.scope:
                # A wrong key is reported here, once, and not as a failure of every row.
                await pico.token.ensure()
                if plan.report is not None:
                    held.enter_context(plan.report)
                # The order protects an old report: it is replaced only after the journal was opened, and no row is
                # read before the first wait for a result.
                async with stream:
                    # A signal may have come while the journal was opened.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    if plan.report is not None:
                        plan.report.begin()
                    signals.begin(stream)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._show, rows, signals)
                        await _settle_all(stream, rows, errors)
                        tasks.cancel_scope.cancel()
        except PicoError as error:
            if signals.has_begun:
                raise
            raise ConfigurationError(f"The bulk send did not begin, and nothing was sent. {error}") from None
        if signals.first is not None and not signals.has_begun:
            raise InterruptedEarlyError(signals.first)
        for result in stream.leftover:
            rows.settle(result, ended=True)
        try:
            rows.close()
        except PicoError as error:
            errors.append(str(error))
        if rows.report_error is not None:
            errors.append(rows.report_error)
        stopped = stream.report.stopped if signals.first is None else "interrupted"
        self.display.show_sending(
            Progress(total=self.total, outcomes=rows.outcomes, word="Stopped" if stopped else "Sent")
        )
        return RunResult(
            rows=rows,
            elapsed_s=stream.report.elapsed,
            stopped=stopped,
            signal=signals.first,
            errors=tuple(errors),
        )

    async def _show(self, rows: RowResults, signals: StopSignals) -> None:
        meter = RateMeter()
        while True:
            per_s = meter.per_s(time.monotonic(), rows.outcomes)
            word: Literal["Sending", "Stopping"] = "Sending" if signals.first is None else "Stopping"
            self.display.show_sending(Progress(total=self.total, outcomes=rows.outcomes, per_s=per_s, word=word))
            await anyio.sleep(self.display.interval_s)


async def _settle_all(stream: BulkStream, rows: RowResults, errors: list[str]) -> None:
    try:
        async for result in stream:
            # `stream.report` is computed at each access, so it is read only for failures.
            rows.settle(result, ended=not result.ok and stream.report.stopped is not None)
            if rows.report_error is not None:
                # A user who asked for a report wants no messages that are not in it.
                stream.stop("the report could not be written")
    except PicoError as error:  # The input was sound when it was scanned, but may be damaged since.
        errors.append(str(error))
