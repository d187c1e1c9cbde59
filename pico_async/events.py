"""
The events of a session. `on_event` is called with each of them.

    CallStarted
      SlotGranted         the limiter granted a slot
      AttemptStarted
      AttemptEnded
      RateRefused         Pico refused a request because requests came too fast
      Retrying            then another slot and another attempt
      TokenRefreshed      the call fetched a token
    CallEnded             always, also for a call that was cancelled
    BlastStarted … BlastEnded

No event contains a number, a text, a message's key, a callback URL, a token or the API key. So a metric or a log cannot
reveal one. `call` and `blast` count calls and bulk sends in this process: events with the same number belong
together.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from pico_async._values import Value
from pico_async.errors import Outcome


@frozen(kw_only=True)
class CallStarted(Value):
    """
    A call of a session method begins.

    Attributes:
        blast: The bulk send that the call belongs to; None for a single call and for a token request.
        operation: The session method, such as "sms.send" or "balance.get".
        rate_group: The requests that share one rate with it: a field of `Rates`.
        method: HTTP method.
        host: Host of the request, without the path.
    """

    call: int
    blast: int | None
    operation: str
    rate_group: str
    method: str
    host: str
    port: int


@frozen(kw_only=True)
class SlotGranted(Value):
    """
    The limiter granted the call a slot.

    Each attempt needs a slot. An attempt needs another one if its connection opened too late for the first; that event
    is emitted when the attempt ends.

    Attributes:
        waited_s: Seconds for which the call waited for this slot.
        pace: Requests per second that the limiter grants now; None if the rate group is unlimited or unknown.
    """

    call: int
    operation: str
    rate_group: str
    waited_s: float
    pace: float | None


@frozen(kw_only=True)
class AttemptStarted(Value):
    """
    A request is begun.

    Attributes:
        attempt: 1 for the call's first.
    """

    call: int
    operation: str
    attempt: int


@frozen(kw_only=True)
class AttemptEnded(Value):
    """
    The request has its reply, or none will come.

    Attributes:
        outcome: Outcome of this one request.
        status_code: HTTP status of the reply; None if no reply came.
        error: Name of the error's class; None if accepted. "StaleToken": Pico no longer accepted the token.
        duration_s: Seconds since the slot was granted, including the time to connect.
    """

    call: int
    operation: str
    attempt: int
    outcome: Outcome
    status_code: int | None
    error: str | None
    duration_s: float


@frozen(kw_only=True)
class RateRefused(Value):
    """
    Pico refused a request because requests come too fast. Its rate group pauses for all callers that share it.

    Attributes:
        retry_after_s: Seconds that Pico asked to wait; None if it did not.
    """

    call: int
    operation: str
    rate_group: str
    retry_after_s: float | None


@frozen(kw_only=True)
class Retrying(Value):
    """
    The call will try again.

    Attributes:
        attempt: The attempt that failed.
        reason: Name of its error's class, as in `AttemptEnded.error`.
        delay_s: Seconds that the call sleeps before it acquires its next slot.
    """

    call: int
    operation: str
    attempt: int
    reason: str
    delay_s: float


@frozen(kw_only=True)
class TokenRefreshed(Value):
    """
    A fresh token was fetched.

    In a fleet, only the process that fetched it emits this event.
    """

    call: int


@frozen(kw_only=True)
class CallEnded(Value):
    """
    A call of a session method returned, raised, or was cancelled.

    Attributes:
        outcome: `ACCEPTED` if Pico carried the request out, whatever the operation. For a cancelled call, `IN_DOUBT` if
            the request was being exchanged, else `NOT_SENT`.
        status_code: HTTP status of the last reply; None if no reply came.
        request_id: Pico's ID of the request; None if it gave none, or one that repeats something that was sent.
        error: Class name of the exception, "CancelledError" for a cancelled call; None if the call succeeded.
        attempts: Number of requests that were begun.
        waited_s: Seconds that the call waited for slots in total, also for one that was not granted.
        duration_s: Seconds since `CallStarted`.
    """

    call: int
    blast: int | None
    operation: str
    outcome: Outcome
    status_code: int | None
    request_id: str | None
    error: str | None
    attempts: int
    waited_s: float
    duration_s: float


@frozen(kw_only=True)
class BlastStarted(Value):
    """
    A bulk send begins.

    Attributes:
        concurrency: Maximum number of messages in flight.
    """

    blast: int
    concurrency: int


@frozen(kw_only=True)
class BlastEnded(Value):
    """
    A bulk send ended, with the numbers of its `BulkReport`.

    The numbers include messages without a call: invalid ones, and those that the journal already contains.

    Attributes:
        rate: Accepted messages per second.
        ended_early: The bulk send was stopped before its input was read to the end.
    """

    blast: int
    total: int
    accepted: int
    rejected: int
    not_sent: int
    in_doubt: int
    skipped: int
    suppressed: int
    duration_s: float
    rate: float
    ended_early: bool


Event: TypeAlias = (
    CallStarted
    | SlotGranted
    | AttemptStarted
    | AttemptEnded
    | RateRefused
    | Retrying
    | TokenRefreshed
    | CallEnded
    | BlastStarted
    | BlastEnded
)
"""Any event of a session."""
