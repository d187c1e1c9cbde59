"""The first pass over a file: what is in it, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Container

from attrs import field, frozen

from pico_async.bulk.journal.match import JournalMatch, JournalMatcher
from pico_async.bulk.preflight import Checklist, Preflight
from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.row_mapping import RowMapping
from pico_async.errors import SuppressedError
from pico_async.messages import SmsMessage

SHOWN = 5
_TELL_EVERY = 5000


@frozen
class Sample:
    """One of the first messages."""

    line: int
    message: SmsMessage


@frozen
class Scan:
    """
    What a file holds; of the rows themselves only the first few are kept.

    Attributes:
        preflight: The rows in numbers, without the header and empty lines; its places are lines of the file.
        left_out: Rows, of the suppressed, whose number has its message already.
        samples: The first few messages that would be sent.
        match: What the journal of an earlier run has of them; None without one.
    """

    preflight: Preflight
    left_out: int = 0
    samples: tuple[Sample, ...] = field(default=(), repr=lambda samples: f"<the first {len(samples)}>")
    match: JournalMatch | None = None


def scan_file(
    file: CsvFile,
    mapping: RowMapping,
    on_rows: Callable[[int], None],
    suppressed: Container[str] = frozenset(),
    journal: JournalMatcher | None = None,
) -> Scan:
    """
    Read the whole file and make each message once, in flat memory.

    A million rows take some twenty seconds, a minute with the extra `numbers`, and nine hours to send. In return,
    nothing is sent from a file that is damaged further down, and the blast knows its end.

    Args:
        on_rows: Told now and then how many rows were read.
        suppressed: Numbers that opted out.
        journal: The journal of an earlier run.

    Raises:
        ConfigurationError: The journal, or the file cannot be read to its end.
    """
    samples: list[Sample] = []
    left_out = 0
    with Checklist() as checklist:
        for count, (row, mapped) in enumerate(mapping.messages(file.rows()), start=1):
            left_out += isinstance(mapped, SuppressedError)
            if checklist.message(row.line, mapped) is not None and isinstance(mapped, SmsMessage):
                # The journal names messages by what came before, so it is asked for the suppressed, too.
                if journal is not None:
                    journal.add(mapped)
                if mapped.promotional and mapped.to in suppressed:
                    checklist.suppress()
                else:
                    checklist.admit(row.line, mapped)
                    if len(samples) < SHOWN:
                        samples.append(Sample(row.line, mapped))
            if count % _TELL_EVERY == 0:
                on_rows(count)
        match = None if journal is None else journal.match()
        return Scan(checklist.preflight(), left_out, tuple(samples), match)
