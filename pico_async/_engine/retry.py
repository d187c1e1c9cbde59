"""Whether to try again, and when: one pure function."""

from __future__ import annotations

from typing import NamedTuple

from pico_async.errors import MessageExpiredError, NoResponseError, NotSentError, PicoError, RateLimitError, ServerError

BASE_DELAY_S = 0.5
MAX_DELAY_S = 8.0
# All the waits of one call together. A longer one is not begun: the caller gets the error, with `retry_after`, and
# decides.
MAX_WAIT_S = 60.0
# Unless Pico asks for more, the waits of ten retries fit: they come to 55.5 s.
MAX_RETRIES = 10


class Backoff(NamedTuple):
    """The shortest wait before another try, and the longest that does not come of what Pico asks for."""

    least_s: float
    most_s: float


BACKOFF = Backoff(0.0, MAX_DELAY_S)
# Pico gives one token a second, to all processes of a key together. With longer waits some of those seconds would go
# unused; with shorter ones forty processes would ask many times for each token that is given.
TOKEN_BACKOFF = Backoff(1.0, 4.0)


def next_delay_s(
    error: PicoError, attempt: int, *, repeatable: bool, retries: int, waited_s: float, backoff: Backoff = BACKOFF
) -> tuple[float, float] | None:
    """
    Say how long to wait at least and at most before another try, or None to give up.

    *attempt* is 1 for the first try. No jitter here: the caller draws a moment between the two. However it draws, the
    waits of one call never come to more than MAX_WAIT_S.

    The cases:
        expired                              give up
        not sent, rate exceeded              try again: nothing was carried out
        no reply, server trouble             try again only where repeating does no harm
        any other refusal, a strange reply   give up: the next answer would be the same

    Args:
        repeatable: Repeating does no harm, even if the first try was carried out.
        retries: Further tries that the session allows.
        waited_s: What the call has waited before its earlier tries, all together.
    """
    if attempt > retries or isinstance(error, MessageExpiredError):
        return None
    harmless = isinstance(error, NotSentError | RateLimitError)
    if not harmless and not (repeatable and isinstance(error, NoResponseError | ServerError)):
        return None
    asked_s = max(error.retry_after or 0.0, backoff.least_s)
    delay_s = min(backoff.most_s, BASE_DELAY_S * 2.0 ** min(attempt - 1, 10))
    left_s = MAX_WAIT_S - waited_s
    # What Pico asks for must fit whole, and so must our own delay, or else the last tries would come in a rush. Only
    # the jitter on top of Pico's is cut: "Retry-After: 60" is common, and waited for.
    if max(asked_s, delay_s) > left_s:
        return None
    return asked_s, min(asked_s + delay_s, left_s)
