"""The events of one bulk send, emitted to a session's listeners."""

from __future__ import annotations

import itertools

from pico_async._engine.progress import Observer
from pico_async.bulk.report import BulkReport
from pico_async.events import BlastEnded, BlastStarted

# One count for all sessions, because one listener may serve several.
_numbers = itertools.count(1)


class BulkEvents:
    """Emits the first and the last event of one bulk send; *number* identifies it there and in its calls' events."""

    def __init__(self, observer: Observer) -> None:
        self.number: int = next(_numbers)
        self._observer = observer

    def begin(self, concurrency: int) -> None:
        """Emit that the bulk send began, in its own task: what a listener adds to the context holds for it alone."""
        self._observer.emit(BlastStarted(blast=self.number, concurrency=concurrency))

    def end(self, report: BulkReport, *, whole: bool) -> None:
        """Emit that the bulk send is over; *whole* means that the input was read to its end."""
        self._observer.emit(
            BlastEnded(
                blast=self.number,
                total=report.total,
                accepted=report.accepted,
                rejected=report.rejected,
                not_sent=report.not_sent,
                in_doubt=report.in_doubt,
                skipped=report.skipped,
                suppressed=report.suppressed,
                duration_s=report.elapsed,
                rate=report.rate,
                ended_early=not whole or report.stopped is not None,
            )
        )
