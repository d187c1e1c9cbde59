"""The results and the numbers of a bulk send."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async._values import Value
from pico_async.errors import BulkError, Outcome, PicoError, SuppressedError
from pico_async.messages import Message
from pico_async.models import Accepted

FIRST_FAILURES = 20


@boundary
@frozen(kw_only=True, eq=False)
class SendResult(Value):
    """
    The result of one message of a bulk send.

    Attributes:
        index: Index of the message in the input, from 0.
        message: The message; None if the input yielded something else.
        accepted: Pico's reply, if Pico accepted the message.
        error: Why the message was not accepted.
        attempts: Number of requests that were begun for it.
    """

    index: int
    message: Message | None
    outcome: Outcome
    accepted: Accepted | None = None
    error: PicoError | None = None
    attempts: int = 0

    @property
    def key(self) -> str | None:
        """Your ID of the message."""
        return self.message.key if self.message is not None else None

    @property
    def request_id(self) -> str | None:
        """Pico's ID of the request, if Pico returned one."""
        source = self.accepted or self.error
        return source.request_id if source is not None else None

    @property
    def ok(self) -> bool:
        """Whether Pico has the message, from this bulk send or from an earlier one of the same journal."""
        return self.outcome in (Outcome.ACCEPTED, Outcome.SKIPPED)


@boundary
@frozen(kw_only=True, eq=False)
class BulkReport(Value):
    """
    The numbers of a bulk send.

    Attributes:
        suppressed: Messages whose number has opted out. They are part of *not_sent*, but are no failures.
        elapsed: Seconds from the start to the end, or to now while it runs.
        pace: Text messages per second that the limiter allows now; None without a limit, and after the session closed.
        failures: The first 20 messages that were not accepted, without the suppressed.
        stopped: Why the bulk send ended before its input; None if it did not.
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
        """Accepted messages per second."""
        return self.accepted / self.elapsed if self.elapsed > 0 else 0.0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.total:,} messages in {self.elapsed:,.1f} s: {self.accepted:,} accepted, "
            f"{self.rejected:,} rejected, {self.not_sent - self.suppressed:,} not sent, {self.in_doubt:,} in doubt, "
            f"{self.skipped:,} skipped, {self.suppressed:,} suppressed"
        )
        if self.rate:
            yield f"{self.rate:,.1f} accepted a second"
        if self.stopped is not None:
            yield f"ended early: {self.stopped}"
        for failure in self.failures:
            yield f"message {failure.index} is {failure.outcome.value.replace('_', ' ')}: {failure.error}"
        if (others := self._failed - len(self.failures)) > 0:
            yield f"and {others:,} more that were not accepted"

    @property
    def _failed(self) -> int:
        return self.rejected + self.not_sent - self.suppressed + self.in_doubt

    def raise_for_failures(self) -> None:
        """
        Raise if any message failed, or if the input was not read to its end. Suppressed messages are no failures.

        Raises:
            BulkError: With the numbers, the first failure and the most serious outcome.
        """
        failed = {
            Outcome.IN_DOUBT: self.in_doubt,
            Outcome.REJECTED: self.rejected,
            Outcome.NOT_SENT: self.not_sent - self.suppressed,
        }
        if not any(failed.values()) and self.stopped is None:
            return
        others = [f"{count} {outcome.value.replace('_', ' ')}" for outcome, count in failed.items() if count]
        text = f"Of {self.total} messages {self.accepted + self.skipped} were accepted"
        if self.suppressed:
            others.append(f"{self.suppressed} suppressed")
        text += f", {', '.join(others)}." if others else "."
        if self.stopped is not None:
            text += f" The bulk send ended early: {self.stopped}."
        if self.failures:
            text += f" The first failure, message {self.failures[0].index}: {self.failures[0].error}"
        raise BulkError(text, next((outcome for outcome, count in failed.items() if count), Outcome.NOT_SENT))


class Totals:
    """
    Counts the results of a running bulk send.

    Attributes:
        failures_in_a_row: Failures since the last accepted message.
        stopped: Why the bulk send stopped; None while it has not.
    """

    def __init__(self) -> None:
        self.failures_in_a_row: int = 0
        self.stopped: str | None = None
        self._suppressed = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: list[SendResult] = []
        self._began_at = time.monotonic()
        self._ended_at: float | None = None

    def add(self, result: SendResult) -> None:
        self._outcomes[result.outcome] += 1
        if isinstance(result.error, SuppressedError):
            self._suppressed += 1
            return
        # An outcome from the journal says nothing about Pico now.
        if result.attempts or result.outcome not in (Outcome.SKIPPED, Outcome.IN_DOUBT):
            self.failures_in_a_row = 0 if result.ok else self.failures_in_a_row + 1
        if not result.ok and len(self._failures) < FIRST_FAILURES:
            self._failures.append(result)

    def end(self) -> None:
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    def report(self, per_s: float | None) -> BulkReport:
        """Return the present numbers; *per_s* is what the limiter grants now."""
        return BulkReport(
            **{outcome.value: self._outcomes[outcome] for outcome in Outcome},
            total=self._outcomes.total(),
            suppressed=self._suppressed,
            elapsed=(self._ended_at or time.monotonic()) - self._began_at,
            pace=per_s,
            failures=tuple(self._failures),
            stopped=self.stopped,
        )
