"""
What a session tells `on_event`: one frozen value for each thing that happens.

    CallStarted
      SlotGranted           the pace let it go
      AttemptStarted
      AttemptEnded
      RateRefused         Pico said that requests come too fast
      Retrying            then another turn and another attempt
      TokenRefreshed      of a call that fetched a token
    CallEnded             always, also of a call that was cancelled
    BlastStarted … BlastEnded

No event holds a number, a text, a key of a message, an address of a receipt, a token or the API key: none can leak
through a metric or a log. `call` and `blast` are numbers within this process: they tell the events of one call, or of
one blast, from the others'.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from pico_async.errors import Outcome


@frozen(kw_only=True)
class CallStarted:
    """
    A method of the session begins its work.

    Attributes:
        blast: The blast that it is part of; None of a single call, and of the token request that a blast needs.
        operation: The method: "sms.send", "balance.get", …
        rate group: What shares one rate with it: a field of `Rates`.
        method: HTTP method.
        host: Where it goes, without the path.
    """

    call: int
    blast: int | None
    operation: str
    rate_group: str
    method: str
    host: str
    port: int


@frozen(kw_only=True)
class SlotGranted:
    """
    The pace gave the call a turn.

    A call takes another one for each attempt, and where a connection was so slow to open that the turn was over. That
    one is told when the attempt ends.

    Attributes:
        waited_s: For how long it waited for this turn.
        pace: Requests a second that the rate group gives now; None where nothing limits it, or nobody knows.
    """

    call: int
    operation: str
    rate_group: str
    waited_s: float
    pace: float | None


@frozen(kw_only=True)
class AttemptStarted:
    """
    A request is begun.

    Attributes:
        attempt: 1 for the call's first.
    """

    call: int
    operation: str
    attempt: int


@frozen(kw_only=True)
class AttemptEnded:
    """
    The request has its answer, or there will be none.

    Attributes:
        outcome: What became of this one request.
        status_code: HTTP status of the reply; None where no reply came.
        error: Name of the error's class; None where it was accepted. "StaleToken" is a token that Pico no longer took.
        duration_s: Seconds since its turn: for the connection, and for the exchange.
    """

    call: int
    operation: str
    attempt: int
    outcome: Outcome
    status_code: int | None
    error: str | None
    duration_s: float


@frozen(kw_only=True)
class RateRefused:
    """
    Pico refused a request because requests come too fast. The rate group pauses, for all who share it.

    Attributes:
        retry_after_s: What Pico asked for; None where it did not say.
    """

    call: int
    operation: str
    rate_group: str
    retry_after_s: float | None


@frozen(kw_only=True)
class Retrying:
    """
    The call will try again.

    Attributes:
        attempt: The one that failed.
        reason: Name of its error's class, as in `AttemptEnded.error`.
        delay_s: For how long it sleeps before it asks for its next turn.
    """

    call: int
    operation: str
    attempt: int
    reason: str
    delay_s: float


@frozen(kw_only=True)
class TokenRefreshed:
    """
    A fresh token was fetched.

    With a coordinator of several processes, by this one; the others hear nothing.
    """

    call: int


@frozen(kw_only=True)
class CallEnded:
    """
    A method of the session is done, raises, or was cancelled.

    Attributes:
        outcome: `ACCEPTED` where Pico carried it out, whatever the operation. Of a cancelled call, `IN_DOUBT` where it
            was on the wire, else `NOT_SENT`.
        status_code: HTTP status of the last reply; None where none came.
        request_id: Pico's name for the request, where it gave one that repeats nothing of what was sent.
        error: Name of the class of what was raised, "CancelledError" where it was cancelled; None where it succeeded.
        attempts: Requests that were begun.
        waited_s: For how long it waited for its turns, all together, also for one that never came.
        duration_s: From `CallStarted` to now.
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
class BlastStarted:
    """
    A `send_bulk` or `stream_bulk` begins.

    Attributes:
        concurrency: Messages in flight at once, at the most.
    """

    blast: int
    concurrency: int


@frozen(kw_only=True)
class BlastEnded:
    """
    A blast is over, in the numbers of its `BulkReport`.

    They count more than its calls: a bad row, and what the journal knew already, is no call.

    Attributes:
        rate: Accepted messages a second.
        ended_early: It was stopped, or left, before its input was read to its end.
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
"""Any of them: what `on_event` is called with."""
