"""
The errors of the package. They answer one question: may I send it again?

    PicoError
    ├── ConfigurationError (also ValueError)    InvalidMessageError (also ValueError)
    │   └── JournalError                        the journal of a bulk send cannot be used or written
    │       └── NotInDoubtError                 the journal has no message of that name in doubt
    ├── SuppressedError                         outcome NOT_SENT: the number opted out; do not send it again
    ├── NotSentError                            outcome NOT_SENT: it never reached Pico; safe to send again
    │   └── MessageExpiredError                 expires_in ran out first
    ├── RejectedError                           outcome REJECTED: Pico answered and refused
    │   ├── BadRequestError 400 · AuthenticationError 401 twice · ExpectationFailedError 417 · RateLimitError
    ├── InDoubtError                            outcome IN_DOUBT: it may have been sent; it is never repeated silently
    │   ├── NoResponseError · ServerError 5xx · UnexpectedResponseError
    └── BulkError                               the gravest outcome of a bulk send, raised by `raise_for_failures()`

No error contains a key, a token, a message text or a whole number, neither in its string nor in an attribute.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from attrs import frozen

from pico_async._values import Value, described, schema_of

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Outcome(StrEnum):
    """What became of one message."""

    ACCEPTED = "accepted"
    """Pico took the message. The delivery receipt says whether a handset got it."""
    REJECTED = "rejected"
    """Pico refused the message, so it was not sent. Unless the rate was exceeded, change it before another send."""
    NOT_SENT = "not_sent"
    """The message never left. It may be sent again, unless it was invalid or suppressed."""
    IN_DOUBT = "in_doubt"
    """The message may have been sent. Sending it again may deliver it twice."""
    SKIPPED = "skipped"
    """The journal of an earlier run already contains the message."""


class Reason(StrEnum):
    """What is wrong with an argument, for a program that says it in the words of its user."""

    EMPTY = "empty"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    CHARACTERS = "characters"
    """It contains a character that does not belong there."""
    COUNTRY_CODE = "country_code"
    """The number begins with no country code."""
    LEADING_ZERO = "leading_zero"
    """A 0 stands after the country code, where it is left out."""
    AREA_CODE = "area_code"
    """The number has no area code."""
    EXTENSION = "extension"
    """The number ends in an extension, which no message reaches."""
    SPREADSHEET = "spreadsheet"
    """A spreadsheet rounded the number, or took it for an amount."""
    UNUSED = "unused"
    """The number is of a length or range that is not in use in its country."""
    AMBIGUOUS = "ambiguous"
    """The number can be read in two ways."""
    TYPE = "type"
    """The value has the wrong type."""
    FORMAT = "format"
    """The value is no ID, no URL, no language code, or no number of seconds in the allowed range."""
    HOST = "host"
    """The URL names a host that Pico must not be sent to."""
    MISSING = "missing"
    """The argument is needed, and was not given."""
    CONFLICT = "conflict"
    """Two arguments exclude each other, or the key names another message."""
    OTHER = "other"


@frozen(kw_only=True)
class _ErrorFields(Value):
    """What an error is in JSON: `type` is the name of its class."""

    type: str
    message: str
    outcome: Outcome
    status_code: int | None = None
    request_id: str | None = None
    errors: tuple[str, ...] = ()
    retry_after: float | None = None
    attempts: int | None = None
    argument: str | None = None
    reason: Reason | None = None


class PicoError(Exception):
    """
    Base class of all errors of pico_async.

    Errors can be pickled, so they survive process pools and task queues.

    Attributes:
        outcome: What happened to the message, or to the request of a call that sends none.
        status_code: HTTP status of Pico's reply; None if no reply came.
        request_id: Pico's ID of the request, if the reply contains one.
        errors: Pico's own error texts, with numbers masked and the message's text removed.
        retry_after: Seconds that Pico asked to wait; None if it did not.
        attempts: How many times the request was tried.
    """

    outcome: Outcome = Outcome.NOT_SENT

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

    def to_dict(self) -> dict[str, Any]:
        """Return the class's name as `type`, the `message` and the attributes, in plain JSON types."""
        return _ErrorFields(
            type=type(self).__name__,
            message=str(self),
            outcome=self.outcome,
            status_code=self.status_code,
            request_id=self.request_id,
            errors=self.errors,
            retry_after=self.retry_after,
            attempts=self.attempts,
            argument=getattr(self, "argument", None),
            reason=getattr(self, "reason", None),
        ).to_dict()

    @classmethod
    def _from_fields(cls, *, message: str, outcome: Outcome, **fields: Any) -> Self:
        named = globals().get(fields.pop("type"))
        kind = named if isinstance(named, type) and issubclass(named, cls) else cls
        error = kind(message)
        for name, value in fields.items():
            if value is not None:
                setattr(error, name, value)
        if error.outcome is not outcome:
            error.outcome = outcome
        return error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema by which pydantic validates and serializes the error."""
        return schema_of(_ErrorFields, source, handler, make=cls._from_fields, is_made=cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema, for OpenAPI."""
        return described(cls, schema, handler)


class ConfigurationError(PicoError, ValueError):
    """
    The session cannot work as it is set up: a bad argument, a closed session, a redirecting host.

    Nothing was carried out.
    """


class JournalError(ConfigurationError):
    """
    The journal of a bulk send cannot be used, or can no longer be written to.

    Nothing is sent that is not in it, so the message that it is raised for was not sent.
    """


class NotInDoubtError(JournalError):
    """No message of that name is in doubt in the journal: it is unknown, or it was provably not sent."""


class InvalidMessageError(PicoError, ValueError):
    """
    An argument of the message is invalid; the error names it. Nothing was sent.

    Attributes:
        argument: Name of the argument, as "to"; None if it is not one alone.
        reason: What is wrong with it.
    """

    argument: str | None
    reason: Reason

    def __init__(
        self, message: str, *, argument: str | None = None, reason: Reason = Reason.OTHER, **attributes: Any
    ) -> None:
        super().__init__(message, **attributes)
        self.argument = argument
        self.reason = reason


class SuppressedError(PicoError):
    """
    The number has opted out, so nothing was sent to it.

    This is no `NotSentError`: code that sends those again must not send this message. The message itself is valid.
    """


class NotSentError(PicoError):
    """The request never reached Pico. It is safe to send it again."""


class MessageExpiredError(NotSentError):
    """`expires_in` ran out while the message waited for its slot. It was dropped, not sent."""


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
    Pico refused the request because requests came too fast, also after the allowed retries.

    A request for a token is repeated for up to 60 seconds, whatever `retries` says. A message that has no token after
    that is a `NotSentError`.

    This answer is not documented in v0.4. HTTP 429 and the known wordings of such refusals are understood.
    """


class InDoubtError(PicoError):
    """
    The request may have been carried out. The client cannot know.

    Repeating it may send a message twice, so it was not repeated.
    """

    outcome = Outcome.IN_DOUBT


class NoResponseError(InDoubtError):
    """The request was written, at least in part, and no complete reply came."""


class ServerError(InDoubtError):
    """Pico, or a gateway in front of it, failed while it handled the request."""


class UnexpectedResponseError(InDoubtError):
    """The reply is neither a refusal nor a success as the reference describes it."""


class BulkError(PicoError):
    """A bulk send had failures. Its outcome is the gravest of them: in doubt, then rejected, then not sent."""

    def __init__(self, message: str, outcome: Outcome = Outcome.NOT_SENT) -> None:
        super().__init__(message)
        self.outcome = outcome
