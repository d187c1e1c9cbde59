"""What an app may tell its own callers of an error of Pico's: a JSON problem (RFC 9457), without anybody's secrets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from pico_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
)

MEDIA_TYPE = "application/problem+json"


@frozen
class Problem:
    """
    One error as an HTTP reply.

    Attributes:
        headers: Those that the reply needs, its content type included.
        body: The reply's fields.
    """

    status_code: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def content(self) -> bytes:
        """The reply's body, as JSON in UTF-8."""
        return json.dumps(self.body, ensure_ascii=False).encode()


def problem(error: PicoError) -> Problem:
    """
    Tell an app's own caller of an error: what became of the message, and whether to send it again.

    Neither Pico's words nor what is wrong with the app's own settings are in it: those are for the log.
    """
    status_code, title, detail, again = _told(error)
    headers = {"Content-Type": MEDIA_TYPE}
    if status_code == 503:
        headers["Retry-After"] = str(math.ceil(error.retry_after or 1))
    body = {
        "type": f"urn:pico-async:{error.outcome.value.replace('_', '-')}",
        "title": title,
        "status": status_code,
        "detail": detail,
        "outcome": error.outcome.value,
        "may_send_again": again,
    }
    return Problem(status_code, headers, body)


def _told(error: PicoError) -> tuple[int, str, str, bool]:
    """Give status, title, detail, and whether the caller may send it again as it is."""
    # From the special to the general: the first that fits.
    if isinstance(error, InvalidMessageError):
        # It names the argument, and never its value.
        return 422, "The message is not valid", str(error), False
    if isinstance(error, ConfigurationError | AuthenticationError):
        return 500, "Messages cannot be sent", "This service is not set up to send messages. Nothing was sent.", False
    if isinstance(error, MessageExpiredError):
        return 503, "The message was not sent in time", "It was dropped rather than sent late.", True
    if isinstance(error, NotSentError):
        return 503, "The message was not sent", "The provider was not reached. Nothing was sent.", True
    if isinstance(error, RateLimitError):
        return 503, "The message was not sent", "Too many are being sent at once. Nothing was sent.", True
    if isinstance(error, NoResponseError):
        return 504, "The message may have been sent", _DOUBT, False
    if isinstance(error, InDoubtError):
        return 502, "The message may have been sent", _DOUBT, False
    return 502, "The message was refused", "The provider refused it. It was not sent.", False


_DOUBT = "The provider did not say whether it took it, so it was not repeated. Sending it again may double it."
