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
from pico_async.cli.blast.run import Ending
from pico_async.cli.blast.scan import Survey
from pico_async.cli.console import printable
from pico_async.cli.format import counted, rest, spelled, spoken
from pico_async.cli.sandbox import Seen
from pico_async.errors import Outcome


@frozen(kw_only=True)
class Summary:
    """
    What became of a blast.

    Attributes:
        journal: The journal's file; None where none was kept.
        seen: What the sandbox says of it; None where it went to Pico.
    """

    survey: Survey
    ending: Ending
    report: Path | None = None
    journal: Path | None = None
    seen: Seen | None = None

    @property
    def exit_code(self) -> int:
        """0 where all were accepted, skipped or suppressed, 128 and its number after a signal, else 1."""
        if self.ending.signal is not None:
            return 128 + self.ending.signal
        return 1 if self._failed or self.ending.troubles else 0

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        books = self.ending.books
        yield (
            f"{counted(books.outcomes.total(), 'row')} in {spoken(self.ending.elapsed_s)}, "
            f"{self._rate:.1f} accepted a second:"
        )
        for outcome in COLOURS:
            if outcome is not Outcome.SKIPPED or self.journal is not None:
                yield f"{books.outcomes[outcome]:>9,} {spelled(outcome)}{self._meaning(outcome)}"
        if self.ending.stopped is not None:
            yield f"It ended early: {self.ending.stopped}."
        if books.failures:
            yield "Not accepted:"
            for entry in books.failures:
                yield f"  line {entry.line}, {spelled(entry.outcome)}: {printable(entry.error or '')}"
            yield from rest(books.failed, len(books.failures))
        yield from self._way_on()
        if self.report is not None:
            yield f"The report is {self.report}."
        elif self._failed:
            yield "With --report OUT.csv the outcome of every row is in a file."
        if self.seen is not None:
            yield from self.seen.lines()

    def as_json(self) -> dict[str, Any]:
        """Give it to a program."""
        books = self.ending.books
        numbers: dict[str, Any] = {
            "total": books.outcomes.total(),
            **{outcome.value: books.outcomes[outcome] for outcome in COLOURS},
            "never_read": books.never_read,
            "suppressed": books.suppressed,
            "invalid": self.survey.preflight.invalid,
            "duplicates": self.survey.preflight.duplicates,
            "duplicate_rows": duplicate_rows(self.survey.preflight),
            "elapsed_s": round(self.ending.elapsed_s, 3),
            "rate": round(self._rate, 2),
            "stopped": self.ending.stopped,
            "failures": [attrs.asdict(entry) for entry in books.failures],
            "troubles": list(self.ending.troubles),
            "report": None if self.report is None else str(self.report),
            "journal": None if self.journal is None else str(self.journal),
        }
        return numbers if self.seen is None else numbers | {"sandbox": attrs.asdict(self.seen)}

    @property
    def _failed(self) -> int:
        outcomes = self.ending.books.outcomes
        fine = outcomes[Outcome.ACCEPTED] + outcomes[Outcome.SKIPPED] + self.ending.books.suppressed
        return outcomes.total() - fine

    @property
    def _rate(self) -> float:
        elapsed_s = self.ending.elapsed_s
        return self.ending.books.outcomes[Outcome.ACCEPTED] / elapsed_s if elapsed_s > 0 else 0.0

    def _way_on(self) -> Iterator[str]:
        outcomes = self.ending.books.outcomes
        # What makes no message, or has opted out, is as it is however often it is run.
        settled = self.ending.books.suppressed + self.survey.preflight.invalid
        unsent = outcomes[Outcome.NOT_SENT] > settled or outcomes[Outcome.REJECTED]
        if self.journal is not None and (unsent or self.ending.signal is not None):
            yield "Run the same command with --resume to go on."
            if self.report is not None:
                yield "That needs another --report, or --force to replace this one."
        elif self.journal is None and self.ending.signal is not None:
            yield "With --journal FILE, the same command could have gone on from here."

    def _meaning(self, outcome: Outcome) -> str:
        books = self.ending.books
        if outcome is Outcome.SKIPPED and books.outcomes[outcome]:
            return ": the journal had them as accepted"
        if outcome is Outcome.IN_DOUBT and self.journal is not None and books.outcomes[outcome]:
            shown = f"`pico journal in-doubt {shlex.quote(str(self.journal))}`"
            return f": they may have gone out; see {shown}, then `mark-sent` or `resend` them"
        if outcome is Outcome.IN_DOUBT and books.outcomes[outcome]:
            return ": they may have gone out, so check the receipts before sending them again"
        if outcome is Outcome.NOT_SENT:
            suppressed = f", {books.suppressed:,} of them suppressed" if books.suppressed else ""
            return suppressed + (f", {books.never_read:,} of them never read" if books.never_read else "")
        return ""
