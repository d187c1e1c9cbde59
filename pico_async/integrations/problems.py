"""What an app may tell its own callers of an error of Pico's: a JSON problem (RFC 9457), without anybody's secrets."""

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
# What Pico may ask for is not documented in v0.4, so it may be anything.
_LONGEST_RETRY_S = 3600


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
    Tell an app's own caller of an error, what became of the message and whether to send it again, and log the rest.

    Neither Pico's words nor what is wrong with the app's own settings are in it: those are in the log, which holds no
    secret either.
    """
    status_code, title, detail, again = _told(error)
    level = {422: logging.INFO, 500: logging.ERROR}.get(status_code, logging.WARNING)
    _log.log(level, "%s (%d). %s: %s", title, status_code, type(error).__name__, error)
    headers = {"Content-Type": MEDIA_TYPE}
    if status_code == 503:
        headers["Retry-After"] = str(min(math.ceil(error.retry_after or 1), _LONGEST_RETRY_S))
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
    if isinstance(error, InvalidMessageError) and (fault := _fault(str(error))):
        return 422, "The message is not valid", fault, False
    if isinstance(error, InvalidMessageError | ConfigurationError | AuthenticationError):
        return 500, "Messages cannot be sent", "This service is not set up to send messages. Nothing was sent.", False
    if isinstance(error, BulkError):
        # Sending all of them again would double what was accepted, whatever became of the others.
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


def _fault(words: str) -> str:
    """
    Give what the caller may have done wrong: it names the argument, and never its value.

    It is empty where the words are for the app's author alone, as those of a sender that is missing.
    """
    if words.startswith("`key` "):  # some of them repeat it, and it is the app's own name for the message
        return "`key` cannot be used for this message."
    sentences = re.split(r"(?<=\.) ", words)
    return " ".join(sentence for sentence in sentences if not re.search(r"PicoSession|[a-z]Message\b", sentence))


_DOUBT = "The provider did not say whether it took it, so it was not repeated. Sending it again may double it."
