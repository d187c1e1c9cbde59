"""The delay before a retry: one pure function."""

from __future__ import annotations

from typing import NamedTuple

from pico_async.errors import MessageExpiredError, NoResponseError, NotSentError, PicoError, RateLimitError, ServerError

BASE_DELAY_S = 0.5
MAX_DELAY_S = 8.0
# All waits of one call together. A longer wait is not begun: the error's `retry_after` lets the caller decide.
MAX_WAIT_S = 60.0
# The waits of ten retries take 55.5 s, unless Pico asks for more.
MAX_RETRIES = 10


class Backoff(NamedTuple):
    """The shortest wait before a retry, and the longest one if Pico does not ask for more."""

    least_s: float
    most_s: float


BACKOFF = Backoff(0.0, MAX_DELAY_S)
# Pico gives all processes of a key one token a second. With longer waits, some of these seconds would not be used. With
# shorter ones, forty processes would send many requests for each token.
TOKEN_BACKOFF = Backoff(1.0, 4.0)


def next_delay_s(
    error: PicoError, attempt: int, *, repeatable: bool, retries: int, waited_s: float, backoff: Backoff = BACKOFF
) -> tuple[float, float] | None:
    """
    Return the shortest and the longest wait before a retry, or None if there is none.

    The caller draws a random wait between the two. The waits of one call never exceed MAX_WAIT_S in total.

    The cases:

        expired                              no retry
        not sent, rate exceeded              retry: nothing was carried out
        no reply, server failure             retry only if repeating does no harm
        any other refusal or reply           no retry: the next reply would be the same

    Args:
        attempt: 1 for the first attempt.
        repeatable: Repeating does no harm, even if the first attempt was carried out.
        retries: Number of retries that the session allows.
        waited_s: Total of the call's earlier waits.
    """
    if attempt > retries or isinstance(error, MessageExpiredError):
        return None
    harmless = isinstance(error, NotSentError | RateLimitError)
    if not harmless and not (repeatable and isinstance(error, NoResponseError | ServerError)):
        return None
    asked_s = max(error.retry_after or 0.0, backoff.least_s)
    delay_s = min(backoff.most_s, BASE_DELAY_S * 2.0 ** min(attempt - 1, 10))
    left_s = MAX_WAIT_S - waited_s
    # Pico's Retry-After and the client's own delay must both fit, or the last retries would follow too fast. Only the
    # random part is cut, because "Retry-After: 60" is common.
    if max(asked_s, delay_s) > left_s:
        return None
    return asked_s, min(asked_s + delay_s, left_s)
