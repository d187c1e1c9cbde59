"""The output of `pico blast` at its end, for people and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import attrs
from attrs import frozen

from pico_async.cli.blast.forecast import repeated_lines
from pico_async.cli.blast.plan import BlastPlan
from pico_async.cli.blast.progress import COLOURS
from pico_async.cli.blast.run import RunResult
from pico_async.cli.blast.scan import Scan
from pico_async.cli.console import printable
from pico_async.cli.format import format_count, format_duration, format_outcome, format_rest
from pico_async.cli.sandbox import SandboxCounts
from pico_async.errors import Outcome


@frozen(kw_only=True)
class Summary:
    """The result of a bulk send, as text and as JSON."""

    plan: BlastPlan
    scan: Scan
    result: RunResult

    @property
    def exit_code(self) -> int:
        """0 if each message was accepted, skipped or suppressed; 128 plus its number after a signal; else 1."""
        if self.result.signal is not None:
            return 128 + self.result.signal
        return 1 if self._failed or self.result.errors else 0

    def lines(self) -> Iterator[str]:
        """Return the lines for a person."""
        rows = self.result.rows
        yield (
            f"{format_count(rows.outcomes.total(), 'row')} in {format_duration(self.result.elapsed_s)}, "
            f"{self._rate:.1f} accepted per second:"
        )
        for outcome in COLOURS:
            if outcome is not Outcome.SKIPPED or self.plan.options.journal is not None:
                yield f"{rows.outcomes[outcome]:>9,} {format_outcome(outcome)}{self._meaning(outcome)}"
        if self.result.stopped is not None:
            yield f"It ended early: {self.result.stopped}."
        if rows.failures:
            yield "Not accepted:"
            for row in rows.failures:
                yield f"  line {row.line}, {format_outcome(row.outcome)}: {printable(row.error or '')}"
            yield from format_rest(rows.failed, len(rows.failures))
        yield from self._next_step()
        if self.plan.options.report is not None:
            yield f"The report is in {self.plan.options.report}."
        elif self._failed:
            yield "With --report OUT.csv, the outcome of every row is written to a file."
        if self.plan.sandbox is not None:
            yield from SandboxCounts.of(self.plan.sandbox.ledger).lines()

    def as_json(self) -> dict[str, Any]:
        """Return the same for a program."""
        rows = self.result.rows
        numbers: dict[str, Any] = {
            "total": rows.outcomes.total(),
            **{outcome.value: rows.outcomes[outcome] for outcome in COLOURS},
            "never_read": rows.never_read,
            "suppressed": rows.suppressed,
            "invalid": self.scan.preflight.invalid,
            "duplicates": self.scan.preflight.duplicates,
            "duplicate_rows": repeated_lines(self.scan.preflight.repeats),
            "elapsed_s": round(self.result.elapsed_s, 3),
            "rate": round(self._rate, 2),
            "stopped": self.result.stopped,
            "failures": [attrs.asdict(row) for row in rows.failures],
            "errors": list(self.result.errors),
            "report": None if self.plan.options.report is None else str(self.plan.options.report),
            "journal": None if self.plan.options.journal is None else str(self.plan.options.journal),
        }
        if self.plan.sandbox is not None:
            numbers["sandbox"] = attrs.asdict(SandboxCounts.of(self.plan.sandbox.ledger))
        return numbers

    @property
    def _failed(self) -> int:
        outcomes = self.result.rows.outcomes
        fine = outcomes[Outcome.ACCEPTED] + outcomes[Outcome.SKIPPED] + self.result.rows.suppressed
        return outcomes.total() - fine

    @property
    def _rate(self) -> float:
        elapsed_s = self.result.elapsed_s
        return self.result.rows.outcomes[Outcome.ACCEPTED] / elapsed_s if elapsed_s > 0 else 0.0

    def _next_step(self) -> Iterator[str]:
        outcomes = self.result.rows.outcomes
        # Another run would not change rows that make no message or have opted out.
        settled = self.result.rows.suppressed + self.scan.preflight.invalid
        unsent = outcomes[Outcome.NOT_SENT] > settled or outcomes[Outcome.REJECTED]
        if self.plan.options.journal is not None and (unsent or self.result.signal is not None):
            yield "Run the same command with --resume to continue."
            if self.plan.options.report is not None:
                yield "Pass another --report, or --force to replace this one."
        elif self.plan.options.journal is None and self.result.signal is not None:
            yield "With --journal FILE, the same command could have continued from here."

    def _meaning(self, outcome: Outcome) -> str:
        rows = self.result.rows
        if outcome is Outcome.SKIPPED and rows.outcomes[outcome]:
            return ": accepted before, according to the journal"
        if outcome is Outcome.IN_DOUBT and self.plan.options.journal is not None and rows.outcomes[outcome]:
            shown = f"`pico journal in-doubt {shlex.quote(str(self.plan.options.journal))}`"
            return f": they may have been sent; see {shown}, then `mark-sent` or `resend` them"
        if outcome is Outcome.IN_DOUBT and rows.outcomes[outcome]:
            return ": they may have been sent; check the delivery receipts before sending them again"
        if outcome is Outcome.NOT_SENT:
            suppressed = f", {rows.suppressed:,} of them suppressed" if rows.suppressed else ""
            return suppressed + (f", {rows.never_read:,} of them never read" if rows.never_read else "")
        return ""
