"""The first pass over a file: what is in it, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field, frozen

from pico_async.cli.duplicates import Duplicates
from pico_async.cli.mailing import Mailing
from pico_async.cli.rows import CsvFile
from pico_async.errors import InvalidMessageError
from pico_async.messages import SmsMessage
from pico_async.segmentation import Encoding, segments

Item = TypeVar("Item")

SHOWN = 5
_TELL_EVERY = 5000


@frozen
class Fault:
    """A row that makes no message."""

    line: int
    reason: str


@frozen
class Repeat:
    """A row whose number and text an earlier row has, too."""

    line: int
    first_line: int


@frozen
class Sample:
    """One of the first messages."""

    line: int
    message: SmsMessage


@define
class Survey:
    """
    What a file holds; of the rows themselves only the first few are kept.

    Attributes:
        rows: Rows, without the header and empty lines.
        invalid: Rows that make no message.
        repeated: Rows whose number and text an earlier one has.
    """

    rows: int = 0
    invalid: int = 0
    repeated: int = 0
    faults: list[Fault] = field(factory=list)
    repeats: list[Repeat] = field(factory=list)
    samples: list[Sample] = field(factory=list)
    parts: Counter[Encoding] = field(factory=Counter)

    @property
    def valid(self) -> int:
        """Rows that make a message."""
        return self.rows - self.invalid

    def note(self, line: int, made: SmsMessage | InvalidMessageError, first_line: int | None) -> None:
        """Count one row."""
        self.rows += 1
        if isinstance(made, InvalidMessageError):
            self.invalid += 1
            _keep(self.faults, Fault(line, str(made)))
            return
        _keep(self.samples, Sample(line, made))
        if made.text is not None:
            found = segments(made.text)
            self.parts[found.encoding] += found.parts
        if first_line is not None:
            self.repeated += 1
            _keep(self.repeats, Repeat(line, first_line))


def survey(file: CsvFile, mailing: Mailing, on_rows: Callable[[int], None]) -> Survey:
    """
    Read the whole file and make each message once, in flat memory.

    A million rows take some ten seconds, and nine hours to send. In return, nothing is sent from a file
    that is damaged further down, and the blast knows its end.

    Args:
        on_rows: Told now and then how many rows were read.

    Raises:
        ConfigurationError: The file cannot be read to its end.
    """
    found = Survey()
    with Duplicates() as duplicates:
        for row in file.rows():
            made = mailing.message(row)
            first_line = None if isinstance(made, InvalidMessageError) else duplicates.first_line_of(made, row.line)
            found.note(row.line, made, first_line)
            if found.rows % _TELL_EVERY == 0:
                on_rows(found.rows)
    return found


def _keep(shown: list[Item], item: Item) -> None:
    if len(shown) < SHOWN:
        shown.append(item)
