"""Errors as JSON problems (RFC 9457) that an app may show to its own callers, because they contain no secrets."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from pico_async._logger import Logger
from pico_async.errors import (
    AuthenticationError,
    BulkError,
    ConfigurationError,
    InvalidMessageError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
    RateLimitError,
)

MEDIA_TYPE = "application/problem+json"

_log = Logger("pico_async.problems")
# v0.4 does not document how long Pico may ask to wait.
_LONGEST_RETRY_S = 3600


@frozen
class Problem:
    """
    One error as an HTTP reply.

    Attributes:
        headers: The reply's headers, including its content type.
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
    Return a reply that says what happened to the message and whether to send it again, and log the details.

    The reply contains neither Pico's words nor faults of the app's settings. The log contains them, but no secret.
    """
    status_code, title, detail, may_send_again = _describe(error)
    level = {422: logging.INFO, 500: logging.ERROR}.get(status_code, logging.WARNING)
    _log.log(level, "%s (%d). %s: %s", title, status_code, type(error).__name__, error, extra={"pico": error.to_dict()})
    headers = {"Content-Type": MEDIA_TYPE}
    if status_code == 503:
        headers["Retry-After"] = str(min(math.ceil(error.retry_after or 1), _LONGEST_RETRY_S))
    body = {
        "type": f"urn:pico-async:{error.outcome.value.replace('_', '-')}",
        "title": title,
        "status": status_code,
        "detail": detail,
        "outcome": error.outcome.value,
        "may_send_again": may_send_again,
    }
    return Problem(status_code, headers, body)


def _describe(error: PicoError) -> tuple[int, str, str, bool]:
    """Return the status, the title, the detail, and whether the caller may send the same message again."""
    # In order from the special to the general.
    if isinstance(error, InvalidMessageError) and (fault := _callers_fault(str(error))):
        return 422, "The message is not valid", fault, False
    if isinstance(error, InvalidMessageError | ConfigurationError | AuthenticationError):
        return 500, "Messages cannot be sent", "This service is not set up to send messages. Nothing was sent.", False
    if isinstance(error, BulkError):
        # Sending all of them again would double the accepted ones.
        return (
            502,
            "Not every message was accepted",
            "Some may have been sent. Sending them again may double them.",
            False,
        )
    if isinstance(error, MessageExpiredError):
        return 503, "The message was not sent in time", "It was dropped rather than sent late.", True
    if isinstance(error, NotSentError):
        return 503, "The message was not sent", "The provider was not reached. Nothing was sent.", True
    if isinstance(error, RateLimitError):
        return 503, "The message was not sent", "Too many are being sent at once. Nothing was sent.", True
    if error.outcome is Outcome.IN_DOUBT:
        return 504 if isinstance(error, NoResponseError) else 502, "The message may have been sent", _DOUBT, False
    if error.outcome is Outcome.NOT_SENT:
        return 503, "The message was not sent", "Nothing was sent.", True
    return 502, "The message was refused", "The provider refused it. It was not sent.", False


def _callers_fault(words: str) -> str:
    """
    Return the part of an error message about the caller's own fault. It names the argument, but not its value.

    It is empty if the message is for the app's author alone, as when the sender is missing.
    """
    if words.startswith("`key` "):  # some of these contain the key, which is the app's own name for the message
        return "`key` cannot be used for this message."
    sentences = re.split(r"(?<=\.) ", words)
    return " ".join(sentence for sentence in sentences if not re.search(r"PicoSession|[a-z]Message\b", sentence))


_DOUBT = "The provider did not say whether it took it, so it was not repeated. Sending it again may double it."
