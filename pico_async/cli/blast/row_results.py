"""The result of each row of a bulk send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attrs import define, field

from pico_async.bulk.report import SendResult
from pico_async.cli.blast.csv_file import Row
from pico_async.cli.blast.report_file import ReportError, ReportFile, ReportRow
from pico_async.cli.blast.row_mapping import Mapped, RowMapping
from pico_async.errors import Outcome, SuppressedError

FAILURES_SHOWN = 10


@define(eq=False)
class RowResults:
    """
    Count the results of the rows and write them to the report. Of rows in flight, line and key are held in memory.

    Attributes:
        outcomes: Rows by outcome.
        never_read: Rows that were not sent because the bulk send ended before they were read.
        suppressed: Rows that were not sent because the number opted out, or has its message already.
        failed: Rows that failed for a reason of their own, and not because the bulk send ended.
        failures: The first few of them.
        report_error: Why the report is incomplete; None where it is complete. The counts go on.
    """

    _mapping: RowMapping
    _rows: Iterator[Row]
    _report: ReportFile | None = None
    outcomes: Counter[Outcome] = field(factory=Counter, init=False)
    never_read: int = field(default=0, init=False)
    suppressed: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    failures: list[ReportRow] = field(factory=list, init=False)
    report_error: str | None = field(default=None, init=False)
    _read: int = field(default=0, init=False)
    _in_flight: dict[int, tuple[int, str | None]] = field(factory=dict, init=False)

    def messages(self) -> Iterator[Mapped]:
        """Make each row's message when it is requested."""
        for row, mapped in self._mapping.messages(self._rows):
            # A result has the index of its message in the input, and this maps the index to the line.
            self._in_flight[self._read] = row.line, self._mapping.key_of(row)
            self._read += 1
            yield mapped

    def line_of(self, index: int) -> int:
        """Return the line of the row in flight whose message has this index in the input."""
        return self._in_flight[index][0]

    def settle(self, result: SendResult, *, ended: bool) -> None:
        """Record one result; *ended* means that the bulk send is ending, and drops messages that wait."""
        line, key = self._in_flight.pop(result.index)
        row = ReportRow(
            line=line,
            key=key,
            outcome=result.outcome,
            request_id=result.request_id,
            attempts=result.attempts,
            error=None if result.error is None else str(result.error),
        )
        self.outcomes[row.outcome] += 1
        if isinstance(result.error, SuppressedError):
            self.suppressed += 1
        elif not result.ok and not (ended and row.outcome is Outcome.NOT_SENT):
            self.failed += 1
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append(row)
        self._write(row)

    def close(self) -> None:
        """Read the rest of the file, and record its rows as never read: the report has a line for each row."""
        for row in self._rows:
            self.never_read += 1
            self.outcomes[Outcome.NOT_SENT] += 1
            self._write(
                ReportRow(
                    line=row.line,
                    key=self._mapping.key_of(row),
                    outcome=Outcome.NOT_SENT,
                    error="The bulk send ended before this row. Nothing was sent.",
                )
            )

    def _write(self, row: ReportRow) -> None:
        if self._report is None or self.report_error is not None:
            return
        try:
            self._report.write(row)
        except ReportError as error:
            self.report_error = str(error)
