"""What `pico blast` says before anything is sent, and all that it says in a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from pico_async.cli.console import printable
from pico_async.cli.mailing import Mailing
from pico_async.cli.survey import Survey
from pico_async.cli.words import counted, plural, rest, spoken
from pico_async.numbers import mask


@frozen(kw_only=True)
class Forecast:
    """
    What a file holds, and what sending it takes.

    Attributes:
        per_s: Messages that leave in a second: a little less than the contract allows, so as never to exceed it.
        shared: Whether other processes take their part of it.
    """

    file: Path
    mailing: Mailing
    survey: Survey
    per_s: float
    shared: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds that the sending takes at least."""
        return self.survey.valid / self.per_s

    def short(self) -> Iterator[str]:
        """Say what is worth a look while there is time to press Ctrl-C."""
        said = [counted(self.survey.rows, "row"), f"numbers from `{self.mailing.to_column}`"]
        if self.survey.invalid:
            said.append(f"{self.survey.invalid:,} without a message")
        said.append(f"{'at least' if self.shared else 'about'} {spoken(self.duration_s)} at {self._speed}")
        yield f"{self.file}: {', '.join(said)}."
        yield from self._repeats()

    @property
    def _speed(self) -> str:
        return f"{self.per_s:.1f} a second" + (", which the fleet shares" if self.shared else "")

    def _repeats(self) -> Iterator[str]:
        if self.survey.repeated:
            yield "Duplicates (the number and the text of an earlier row; sent all the same):"
            for repeat in self.survey.repeats:
                yield f"  line {repeat.line} repeats line {repeat.first_line}"
            yield from rest(self.survey.repeated, len(self.survey.repeats))

    def lines(self) -> Iterator[str]:
        """Say all of it."""
        survey = self.survey
        yield f"Nothing was sent. {self.file}: {counted(survey.rows, 'row')}, numbers from `{self.mailing.to_column}`."
        yield f"{survey.valid:>9,} to send, which takes {spoken(self.duration_s)} at {self._speed}"
        for encoding, parts in survey.parts.items():
            yield f"{parts:>9,} {plural(parts, 'part')} in {encoding}"
        yield f"{survey.invalid:>9,} without a message"
        yield f"{survey.repeated:>9,} {plural(survey.repeated, 'duplicate')}"
        if survey.faults:
            yield "Rows without a message:"
            yield from (f"  line {fault.line}: {printable(fault.reason)}" for fault in survey.faults)
            yield from rest(survey.invalid, len(survey.faults))
        yield from self._repeats()
        if survey.samples:
            yield "The first messages:"
            for sample in survey.samples:
                content = sample.message.text or f"template {sample.message.template_id}"
                yield f"  line {sample.line}, to {mask(sample.message.to)}: {printable(content)}"

    def as_json(self) -> dict[str, Any]:
        """Give all of it to a program."""
        survey = self.survey
        return {
            "dry_run": True,
            "total": survey.rows,
            "valid": survey.valid,
            "invalid": survey.invalid,
            "duplicates": survey.repeated,
            "per_s": round(self.per_s, 2),
            "duration_s": round(self.duration_s, 1),
            "parts": survey.parts.total(),
            "invalid_rows": [attrs.asdict(fault) for fault in survey.faults],
            "duplicate_rows": [attrs.asdict(repeat) for repeat in survey.repeats],
            "samples": [
                {"line": sample.line, "to": mask(sample.message.to), "text": sample.message.text}
                for sample in survey.samples
            ],
        }
