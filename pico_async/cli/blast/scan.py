"""The scan of an input file: it reads every row once before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from attrs import evolve, field, frozen

from pico_async.bulk.journal.match import JournalMatch, JournalMatcher
from pico_async.bulk.preflight import Checklist
from pico_async.bulk.preflight_report import Preflight
from pico_async.cli.blast.plan import BlastPlan
from pico_async.cli.journal import describe_mismatch
from pico_async.errors import SuppressedError
from pico_async.messages import SmsMessage

SHOWN = 5
_ROWS_PER_CALL = 5000


@frozen
class Sample:
    """One of the first messages."""

    line: int
    message: SmsMessage


@frozen
class Scan:
    """
    The counts of a file, and its first few messages. No other rows are kept.

    Attributes:
        preflight: The counts of the rows, without header and empty lines; its indexes are lines of the file.
        left_out: Suppressed rows whose number has its message from an earlier row.
        match: The counts of the journal that is resumed; None without one.
        mismatch: Why the journal seems to be that of other rows; None where it does not, or with --yes.
    """

    preflight: Preflight
    left_out: int = 0
    samples: tuple[Sample, ...] = field(default=(), repr=lambda samples: f"<the first {len(samples)}>")
    match: JournalMatch | None = None
    mismatch: str | None = None


def scan_file(plan: BlastPlan, on_rows: Callable[[int], None]) -> Scan:
    """
    Read the whole file and make each message once, in constant memory.

    A million rows take about 20 seconds, a minute with the extra `numbers`, and nine hours to send. In return,
    nothing is sent from a file that is damaged further down, and the bulk send knows its end. *on_rows* is called now
    and then with the number of rows that were read.
    """
    samples: list[Sample] = []
    left_out = 0
    suppressed = plan.suppressed or ()
    journal = plan.options.journal if plan.options.resume else None
    with (
        nullcontext() if journal is None else JournalMatcher(journal) as matcher,
        Checklist() as checklist,
    ):
        for count, (row, mapped) in enumerate(plan.mapping.messages(plan.file.rows()), start=1):
            left_out += isinstance(mapped, SuppressedError)
            if checklist.check(row.line, mapped) is not None and isinstance(mapped, SmsMessage):
                # The journal names a message by the messages before it, so it needs the suppressed ones, too.
                if matcher is not None:
                    matcher.add(mapped)
                if mapped.promotional and mapped.to in suppressed:
                    checklist.suppress()
                else:
                    checklist.admit(row.line, mapped)
                    if len(samples) < SHOWN:
                        samples.append(Sample(row.line, mapped))
            if count % _ROWS_PER_CALL == 0:
                on_rows(count)
        return Scan(
            evolve(checklist.preflight(), price=plan.price),
            left_out,
            tuple(samples),
            match=None if matcher is None else matcher.match(),
            mismatch=None
            if matcher is None or plan.options.yes
            else describe_mismatch(matcher, plan.mapping, plan.file.columns),
        )
