"""Whether to try again, and when: one pure function."""

from __future__ import annotations

from pico_async.errors import (
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
    ServerError,
)

BASE_DELAY_S = 0.5
MAX_DELAY_S = 8.0
# A longer Retry-After is not waited for: the caller gets the error, with `retry_after`, and decides.
MAX_RETRY_AFTER_S = 60.0


def next_delay_s(error: PicoError, attempt: int, *, repeatable: bool, retries: int) -> float | None:
    """
    Say how long to wait at most before another try, or None to give up.

    *attempt* is 1 for the first try. No jitter here: the caller draws a moment between `error.retry_after` and
    what this gives.

    The cases:
        expired                              give up
        not sent, rate exceeded              try again: nothing was carried out
        no reply, server trouble             try again only where repeating does no harm
        any other refusal, a strange reply   give up: the next answer would be the same

    Args:
        repeatable: Repeating does no harm, even if the first try was carried out.
        retries: Further tries that the session allows.
    """
    if attempt > retries or isinstance(error, MessageExpiredError):
        return None
    harmless = isinstance(error, NotSentError | RateLimitError)
    if not harmless and not (repeatable and isinstance(error, NoResponseError | ServerError)):
        return None
    asked = error.retry_after or 0.0
    if asked > MAX_RETRY_AFTER_S:
        return None
    return asked + min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(attempt - 1, 10))
