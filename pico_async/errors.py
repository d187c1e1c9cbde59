"""
What can go wrong, told by one question: may I send it again?

    PicoError
    ├── ConfigurationError (also ValueError)    InvalidMessageError (also ValueError)
    │   └── JournalError                        the journal of a blast cannot be used, or be written on
    │       └── NotInDoubtError                 it has nothing in doubt of that name
    ├── SuppressedError                         outcome NOT_SENT: the number opted out; do not send it again
    ├── NotSentError                            outcome NOT_SENT: never reached Pico; safe to send again
    │   └── MessageExpiredError                 expires_in ran out first
    ├── RejectedError                           outcome REJECTED: Pico answered and refused
    │   ├── BadRequestError 400 · AuthenticationError 401 twice · ExpectationFailedError 417 · RateLimitError
    ├── InDoubtError                            outcome IN_DOUBT: may have been sent; never repeated silently
    │   ├── NoResponseError · ServerError 5xx · UnexpectedResponseError
    └── BulkError                               the gravest outcome of a blast; from `raise_for_failures()`

No error holds a key, a token, a message text or a whole number: not in its string, not in an attribute.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of one message."""

    ACCEPTED = "accepted"
    """Pico took it. Whether a handset got it is told by the delivery receipt."""
    REJECTED = "rejected"
    """Pico answered and refused it: it was not sent. But for a rate refusal, a change is needed first."""
    NOT_SENT = "not_sent"
    """It never left: send it again, but for what was wrong or suppressed."""
    IN_DOUBT = "in_doubt"
    """It may have gone out: sending it again may double it."""
    SKIPPED = "skipped"
    """The journal of an earlier run had it already."""


class PicoError(Exception):
    """
    Anything that pico_async raises by itself.

    Errors pickle, so they cross process pools and task queues whole.

    Attributes:
        outcome: What became of the message, or of the request where there is none.
        status_code: HTTP status of Pico's reply; None where no reply came.
        request_id: Pico's name for the request, where the reply gave one.
        errors: Pico's own words, with numbers masked and the message's text taken out.
        retry_after: Seconds that Pico asked to wait, where it did.
        attempts: How many times the request was tried.
    """

    outcome: Outcome = Outcome.NOT_SENT
    status_code: int | None
    request_id: str | None
    errors: tuple[str, ...]
    retry_after: float | None
    attempts: int | None

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        request_id: str | None = None,
        errors: tuple[str, ...] = (),
        retry_after: float | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after
        self.attempts = attempts


class ConfigurationError(PicoError, ValueError):
    """
    The session cannot work as it is set up: a bad argument, a closed session, a redirecting host.

    Nothing was carried out.
    """


class JournalError(ConfigurationError):
    """
    The journal of a blast cannot be used, or can no longer be written on.

    Nothing is sent that is not in it, so the message that it is raised for was not sent.
    """


class NotInDoubtError(JournalError):
    """The journal has nothing in doubt of that name: no such message, or one that was provably not sent."""


class InvalidMessageError(PicoError, ValueError):
    """What was to be sent cannot be: the argument that is wrong is named. Nothing was sent."""


class SuppressedError(PicoError):
    """
    The number has opted out, so nothing was sent to it.

    Not a `NotSentError`, for whoever sends those again must not send this one; and nothing is wrong with the message.
    """


class NotSentError(PicoError):
    """The request never reached Pico. It is safe to send it again."""


class MessageExpiredError(NotSentError):
    """`expires_in` ran out while the message waited for its turn. It was dropped, not sent."""


class RejectedError(PicoError):
    """Pico answered and refused. The request was not carried out."""

    outcome = Outcome.REJECTED


class BadRequestError(RejectedError):
    """Pico found a parameter missing or wrong (HTTP 400)."""


class AuthenticationError(RejectedError):
    """Pico refused the credentials: the token request, or a fresh token (HTTP 401 twice)."""


class ExpectationFailedError(RejectedError):
    """Pico could not meet an expectation of the request (HTTP 417)."""


class RateLimitError(RejectedError):
    """
    Pico refused because requests came too fast, also after the tries that `retries` allows.

    A request for a token is repeated for up to 60 seconds, whatever `retries` says. A message that has no token after
    that is a `NotSentError`.

    The answer is not documented in v0.4; both HTTP 429 and the framework's own wording are understood.
    """


class InDoubtError(PicoError):
    """
    The request may have been carried out, and nobody can tell from here.

    Repeating it may send a message twice, so it was not repeated.
    """

    outcome = Outcome.IN_DOUBT


class NoResponseError(InDoubtError):
    """The request was written, in part at least, and no whole reply came."""


class ServerError(InDoubtError):
    """Pico, or a gateway before it, failed while it held the request."""


class UnexpectedResponseError(InDoubtError):
    """The reply was neither a refusal nor what the reference promises."""


class BulkError(PicoError):
    """Not every message of a blast was accepted. The outcome is the gravest: in doubt, then rejected, then not sent."""

    def __init__(self, message: str, outcome: Outcome = Outcome.NOT_SENT) -> None:
        super().__init__(message)
        self.outcome = outcome
