"""One blast, told as events to a session's listeners. Imported where somebody listens."""

from __future__ import annotations

import itertools

from pico_async._engine.observer import Observer
from pico_async.bulk.report import BulkReport
from pico_async.events import BlastEnded, BlastStarted

# One count for all sessions: a listener may serve several.
_numbers = itertools.count(1)


class BlastEvents:
    """
    Tell the beginning and the end of one blast.

    Attributes:
        number: What its events, and those of its calls, know it by.
    """

    def __init__(self, observer: Observer) -> None:
        self.number = next(_numbers)
        self._observer = observer

    def begin(self, concurrency: int) -> None:
        """Tell that it begins. What a listener puts into the context of the caller stays there."""
        self._observer.emit(BlastStarted(blast=self.number, concurrency=concurrency))

    def end(self, report: BulkReport, *, whole: bool) -> None:
        """Tell that it is over; *whole* where the input was read to its end."""
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
