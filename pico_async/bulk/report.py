"""What became of the messages of a blast."""

from __future__ import annotations

import time
from collections import Counter

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async.errors import BulkError, Outcome, PicoError, SuppressedError
from pico_async.messages import Message
from pico_async.models import Accepted

FIRST_FAILURES = 20


@boundary
@frozen(kw_only=True, eq=False)
class SendResult:
    """
    What became of one message of a blast.

    Attributes:
        index: Its place in the input, from 0.
        message: The message; None where the input gave something else.
        accepted: Pico's reply, where it took the message.
        error: Why it was not accepted.
        attempts: Requests that were begun for it.
    """

    index: int
    message: Message | None
    outcome: Outcome
    accepted: Accepted | None = None
    error: PicoError | None = None
    attempts: int = 0

    @property
    def key(self) -> str | None:
        """Your name for the message."""
        return self.message.key if self.message is not None else None

    @property
    def request_id(self) -> str | None:
        """Pico's name for the request, where it gave one."""
        source = self.accepted or self.error
        return source.request_id if source is not None else None

    @property
    def ok(self) -> bool:
        """Pico has the message, from this blast or from the one that its journal tells of."""
        return self.outcome in (Outcome.ACCEPTED, Outcome.SKIPPED)


@boundary
@frozen(kw_only=True, eq=False)
class BulkReport:
    """
    A blast in numbers.

    Attributes:
        suppressed: Messages, of those not sent, whose number has opted out. They count as no failure.
        elapsed: Seconds from its start to its end, or to now while it runs.
        pace: Messages a second that the pace of text messages gives now; None where nothing limits it, and after the
            session.
        failures: The first 20 that were not accepted, but for the suppressed.
        stopped: Why it ended before its input did; None where it did not.
    """

    total: int = 0
    accepted: int = 0
    rejected: int = 0
    not_sent: int = 0
    in_doubt: int = 0
    skipped: int = 0
    suppressed: int = 0
    elapsed: float = 0.0
    pace: float | None = None
    failures: tuple[SendResult, ...] = field(default=(), repr=lambda failures: f"<the first {len(failures)}>")
    stopped: str | None = None

    @property
    def rate(self) -> float:
        """Accepted messages a second."""
        return self.accepted / self.elapsed if self.elapsed > 0 else 0.0

    def raise_for_failures(self) -> None:
        """
        Raise where anything but the suppressed was not accepted, or the input was not read to its end.

        Raises:
            BulkError: With the numbers, the first failure and the gravest outcome.
        """
        failed = {
            Outcome.IN_DOUBT: self.in_doubt,
            Outcome.REJECTED: self.rejected,
            Outcome.NOT_SENT: self.not_sent - self.suppressed,
        }
        if not any(failed.values()) and self.stopped is None:
            return
        said = [f"{count} {outcome.value.replace('_', ' ')}" for outcome, count in failed.items() if count]
        text = f"Of {self.total} messages {self.accepted + self.skipped} were accepted"
        if self.suppressed:
            said.append(f"{self.suppressed} suppressed")
        text += f", {', '.join(said)}." if said else "."
        if self.stopped is not None:
            text += f" The blast ended early: {self.stopped}."
        if self.failures:
            text += f" The first failure, message {self.failures[0].index}: {self.failures[0].error}"
        raise BulkError(text, next((outcome for outcome, count in failed.items() if count), Outcome.NOT_SENT))


class Tally:
    """Count results as they come."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.stopped: str | None = None
        self._suppressed = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: list[SendResult] = []
        self._began_at = time.monotonic()
        self._ended_at: float | None = None

    def add(self, result: SendResult) -> None:
        """Count one result."""
        self._outcomes[result.outcome] += 1
        if isinstance(result.error, SuppressedError):
            self._suppressed += 1
            return
        # What the journal knew says nothing about how Pico is today.
        if result.attempts or result.outcome not in (Outcome.SKIPPED, Outcome.IN_DOUBT):
            self.in_a_row = 0 if result.ok else self.in_a_row + 1
        if not result.ok and len(self._failures) < FIRST_FAILURES:
            self._failures.append(result)

    def end(self) -> None:
        """Stop the clock."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    def report(self, pace: float | None) -> BulkReport:
        """Give the numbers as they stand, with the *pace* of now."""
        return BulkReport(
            total=self._outcomes.total(),
            accepted=self._outcomes[Outcome.ACCEPTED],
            rejected=self._outcomes[Outcome.REJECTED],
            not_sent=self._outcomes[Outcome.NOT_SENT],
            in_doubt=self._outcomes[Outcome.IN_DOUBT],
            skipped=self._outcomes[Outcome.SKIPPED],
            suppressed=self._suppressed,
            elapsed=(self._ended_at or time.monotonic()) - self._began_at,
            pace=pace,
            failures=tuple(self._failures),
            stopped=self.stopped,
        )
