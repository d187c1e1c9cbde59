"""What became of each row of a blast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attrs import define, field, frozen

from pico_async.bulk.report import SendResult
from pico_async.cli.blast.csv_file import Row
from pico_async.cli.blast.report_file import ReportError, ReportFile, ReportRow
from pico_async.cli.blast.row_mapping import Mapped, RowMapping
from pico_async.errors import Outcome, SuppressedError

FAILURES_SHOWN = 10


@frozen
class _InFlight:
    line: int
    key: str | None


@define(eq=False)
class RowResults:
    """
    Keep what became of each row; of the rows themselves only those in flight are held.

    Attributes:
        outcomes: Rows by outcome.
        never_read: Rows, of those not sent, that the blast did not come to.
        suppressed: Rows, of those not sent, whose number has opted out, or had its message already.
        failed: Rows that failed for a reason of their own, and not because the blast ended while they waited.
        failures: The first few of them.
        report_fault: Why the report is not complete; None where it is. All else is counted on.
    """

    _mapping: RowMapping
    _rows: Iterator[Row]
    _report: ReportFile | None = None
    outcomes: Counter[Outcome] = field(factory=Counter, init=False)
    never_read: int = field(default=0, init=False)
    suppressed: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    failures: list[ReportRow] = field(factory=list, init=False)
    report_fault: str | None = field(default=None, init=False)
    _read: int = field(default=0, init=False)
    _in_flight: dict[int, _InFlight] = field(factory=dict, init=False)

    def messages(self) -> Iterator[Mapped]:
        """Make each row's message when it is asked for."""
        for row, mapped in self._mapping.messages(self._rows):
            # A result knows its message's place in the input, and this leads from there to the line.
            self._in_flight[self._read] = _InFlight(row.line, self._mapping.key_of(row))
            self._read += 1
            yield mapped

    def line_of(self, index: int) -> int:
        """Give the line of the row whose message is in flight at this place of the input."""
        return self._in_flight[index].line

    def begin(self) -> None:
        """
        Begin the report, where there is to be one.

        Raises:
            ReportError: It cannot be written.
        """
        if self._report is not None:
            self._report.begin()

    def settle(self, result: SendResult, *, ended: bool) -> None:
        """
        Book a result.

        Args:
            ended: The blast is at its end, and drops what waits.
        """
        row = self._in_flight.pop(result.index)
        if result.ok and self._report is None:
            self.outcomes[result.outcome] += 1
            return
        entry = ReportRow(
            line=row.line,
            key=row.key,
            outcome=result.outcome,
            request_id=result.request_id,
            attempts=result.attempts,
            error=None if result.error is None else str(result.error),
        )
        self.outcomes[entry.outcome] += 1
        if isinstance(result.error, SuppressedError):
            self.suppressed += 1
        elif not result.ok and not (ended and entry.outcome is Outcome.NOT_SENT):
            self.failed += 1
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append(entry)
        self._write(entry)

    def close(self) -> None:
        """
        Book the rows that the blast did not come to: each has its line in the report, too.

        Raises:
            ConfigurationError: The rest of the file cannot be read.
        """
        for row in self._rows:
            self.never_read += 1
            self.outcomes[Outcome.NOT_SENT] += 1
            self._write(
                ReportRow(
                    line=row.line,
                    key=self._mapping.key_of(row),
                    outcome=Outcome.NOT_SENT,
                    error="The blast had ended before its turn. Nothing was sent.",
                )
            )

    def _write(self, entry: ReportRow) -> None:
        if self._report is None or self.report_fault is not None:
            return
        try:
            self._report.write(entry)
        except ReportError as error:
            self.report_fault = str(error)
