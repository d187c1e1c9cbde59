"""One message of a bulk send from its start to its result."""

from __future__ import annotations

import anyio
from attrs import define

from pico_async._boundary import without_frames
from pico_async._engine.progress import CallProgress
from pico_async.bulk.report import SendResult
from pico_async.errors import NoResponseError, NotSentError, Outcome, PicoError
from pico_async.messages import Message
from pico_async.models import Accepted


@define(eq=False)
class Delivery:
    """One message of a bulk send, with what is needed to end it and to report it."""

    index: int
    message: Message
    progress: CallProgress
    scope: anyio.CancelScope

    def accepted(self, accepted: Accepted) -> SendResult:
        return SendResult(
            index=self.index,
            message=self.message,
            outcome=Outcome.ACCEPTED,
            accepted=accepted,
            attempts=self.progress.attempts,
        )

    def failed(self, error: PicoError) -> SendResult:
        return failure_result(self.index, self.message, error, self.progress.attempts)

    def ended(self, by: str) -> PicoError:
        """Return the error of a message that was ended from outside: in doubt if its request may have been sent."""
        if self.progress.in_doubt:
            return NoResponseError(f"Ended by {by} during its exchange with Pico. The message may have been sent.")
        return NotSentError(f"Ended by {by} while waiting. Nothing was sent.")


def failure_result(index: int, message: Message | None, error: PicoError, attempts: int = 0) -> SendResult:
    """Return the result of an item that failed by this error, without the package's frames in it."""
    without_frames(error)
    return SendResult(index=index, message=message, outcome=error.outcome, error=error, attempts=attempts)
