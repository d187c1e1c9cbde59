"""What `pico blast` says in the end, to people and to programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from pico_async.cli.blast.forecast import duplicate_rows
from pico_async.cli.blast.progress import COLOURS
from pico_async.cli.blast.run import RunResult
from pico_async.cli.blast.scan import Scan
from pico_async.cli.console import printable
from pico_async.cli.format import format_count, format_duration, format_outcome, format_rest
from pico_async.cli.sandbox import SandboxCounts
from pico_async.errors import Outcome


@frozen(kw_only=True)
class Summary:
    """
    What became of a blast.

    Attributes:
        journal: The journal's file; None where none was kept.
        seen: What the sandbox says of it; None where it went to Pico.
    """

    scan: Scan
    result: RunResult
    report: Path | None = None
    journal: Path | None = None
    seen: SandboxCounts | None = None

    @property
    def exit_code(self) -> int:
        """0 where all were accepted, skipped or suppressed, 128 and its number after a signal, else 1."""
        if self.result.signal is not None:
            return 128 + self.result.signal
        return 1 if self._failed or self.result.errors else 0

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        results = self.result.results
        yield (
            f"{format_count(results.outcomes.total(), 'row')} in {format_duration(self.result.elapsed_s)}, "
            f"{self._rate:.1f} accepted a second:"
        )
        for outcome in COLOURS:
            if outcome is not Outcome.SKIPPED or self.journal is not None:
                yield f"{results.outcomes[outcome]:>9,} {format_outcome(outcome)}{self._meaning(outcome)}"
        if self.result.stopped is not None:
            yield f"It ended early: {self.result.stopped}."
        if results.failures:
            yield "Not accepted:"
            for entry in results.failures:
                yield f"  line {entry.line}, {format_outcome(entry.outcome)}: {printable(entry.error or '')}"
            yield from format_rest(results.failed, len(results.failures))
        yield from self._way_on()
        if self.report is not None:
            yield f"The report is {self.report}."
        elif self._failed:
            yield "With --report OUT.csv the outcome of every row is in a file."
        if self.seen is not None:
            yield from self.seen.lines()

    def as_json(self) -> dict[str, Any]:
        """Give it to a program."""
        results = self.result.results
        numbers: dict[str, Any] = {
            "total": results.outcomes.total(),
            **{outcome.value: results.outcomes[outcome] for outcome in COLOURS},
            "never_read": results.never_read,
            "suppressed": results.suppressed,
            "invalid": self.scan.preflight.invalid,
            "duplicates": self.scan.preflight.duplicates,
            "duplicate_rows": duplicate_rows(self.scan.preflight),
            "elapsed_s": round(self.result.elapsed_s, 3),
            "rate": round(self._rate, 2),
            "stopped": self.result.stopped,
            "failures": [attrs.asdict(entry) for entry in results.failures],
            "errors": list(self.result.errors),
            "report": None if self.report is None else str(self.report),
            "journal": None if self.journal is None else str(self.journal),
        }
        return numbers if self.seen is None else numbers | {"sandbox": attrs.asdict(self.seen)}

    @property
    def _failed(self) -> int:
        outcomes = self.result.results.outcomes
        fine = outcomes[Outcome.ACCEPTED] + outcomes[Outcome.SKIPPED] + self.result.results.suppressed
        return outcomes.total() - fine

    @property
    def _rate(self) -> float:
        elapsed_s = self.result.elapsed_s
        return self.result.results.outcomes[Outcome.ACCEPTED] / elapsed_s if elapsed_s > 0 else 0.0

    def _way_on(self) -> Iterator[str]:
        outcomes = self.result.results.outcomes
        # What makes no message, or has opted out, is as it is however often it is run.
        settled = self.result.results.suppressed + self.scan.preflight.invalid
        unsent = outcomes[Outcome.NOT_SENT] > settled or outcomes[Outcome.REJECTED]
        if self.journal is not None and (unsent or self.result.signal is not None):
            yield "Run the same command with --resume to go on."
            if self.report is not None:
                yield "That needs another --report, or --force to replace this one."
        elif self.journal is None and self.result.signal is not None:
            yield "With --journal FILE, the same command could have gone on from here."

    def _meaning(self, outcome: Outcome) -> str:
        results = self.result.results
        if outcome is Outcome.SKIPPED and results.outcomes[outcome]:
            return ": the journal had them as accepted"
        if outcome is Outcome.IN_DOUBT and self.journal is not None and results.outcomes[outcome]:
            shown = f"`pico journal in-doubt {shlex.quote(str(self.journal))}`"
            return f": they may have gone out; see {shown}, then `mark-sent` or `resend` them"
        if outcome is Outcome.IN_DOUBT and results.outcomes[outcome]:
            return ": they may have gone out, so check the receipts before sending them again"
        if outcome is Outcome.NOT_SENT:
            suppressed = f", {results.suppressed:,} of them suppressed" if results.suppressed else ""
            return suppressed + (f", {results.never_read:,} of them never read" if results.never_read else "")
        return ""
