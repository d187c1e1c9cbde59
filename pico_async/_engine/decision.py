"""What follows a failed attempt, and after which delay: two pure functions."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from attrs import define, frozen

from pico_async._engine.endpoints import Request
from pico_async._engine.verdict import StaleToken, found_nothing
from pico_async.coordination.rates import RateGroup
from pico_async.errors import (
    AuthenticationError,
    InDoubtError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
    ServerError,
)

BASE_DELAY_S = 0.5
MAX_BACKOFF_S = 8.0
# All waits of one call together. A longer wait is not begun: the error's `retry_after` lets the caller decide.
MAX_WAIT_S = 60.0
# The waits of ten retries take at most 55.5 s, unless Pico asks for more.
MAX_RETRIES = 10


class Backoff(NamedTuple):
    """The shortest and the longest wait before a retry, unless Pico asks for more."""

    least_s: float
    most_s: float


BACKOFF = Backoff(0.0, MAX_BACKOFF_S)
# Pico gives all processes of a key one token a second. With longer waits, some of these seconds would not be used. With
# shorter ones, forty processes would send many requests for each token.
TOKEN_BACKOFF = Backoff(1.0, 4.0)


@define
class History:
    """
    The earlier attempts of a call.

    Attributes:
        doubt: An attempt may have been carried out. No later failure changes that.
        token_replaced: Pico refused the token once, and a fresh one was fetched.
        failures: Attempts that failed, without those of a replaced token.
        token_rate_refusals: Failures in which Pico refused a token request because requests came too fast.
        waited_s: Seconds that the call waited between its attempts.
    """

    doubt: InDoubtError | None = None
    token_replaced: bool = False
    failures: int = 0
    token_rate_refusals: int = 0
    waited_s: float = 0.0

    @property
    def retried(self) -> bool:
        """Whether an attempt failed, token refusals aside."""
        return self.failures > self.token_rate_refusals

    def add(self, retry: Retry) -> None:
        self.doubt = retry.doubt
        self.failures += 1
        self.token_rate_refusals += retry.is_token_rate_refusal


@frozen
class Return:
    """The call succeeded: an earlier attempt, which was in doubt, deleted what this one did not find."""

    value: object


@frozen
class ReplaceToken:
    """Fetch another token, and try again at once."""

    error: StaleToken


@frozen
class Retry:
    """
    Try again.

    Attributes:
        is_token_rate_refusal: Pico refused a token request because requests came too fast. The retry costs nothing of
            the retry budget.
        doubt: What the call raises if no later attempt succeeds; None: it raises the last attempt's own error.
    """

    error: PicoError
    after_s: Backoff
    is_token_rate_refusal: bool
    doubt: InDoubtError | None


@frozen
class Fail:
    """Raise the error."""

    error: PicoError


Action: TypeAlias = Return | ReplaceToken | Retry | Fail


def decide(
    verdict: StaleToken | PicoError,
    history: History,
    request: Request,
    *,
    with_token: bool,
    retry_in_doubt: bool,
    retries: int,
    ending: bool = False,
) -> Action:
    """
    Return what follows a failed attempt.

    The cases, in this order:

        401, and the token was not replaced yet     replace the token
        a DELETE found nothing to delete, and
        an earlier attempt was in doubt             return: that attempt did it
        a failure after which a repeat is allowed   retry, while retries and time are left
        any other failure                           fail; in doubt if any attempt was

    Args:
        history: The earlier attempts, without this one.
        with_token: The request was sent with a token.
        retry_in_doubt: Retry also a request that may have been carried out, although its endpoint is not repeatable.
        retries: Number of retries that the session allows.
        ending: The call must end.
    """
    if isinstance(verdict, StaleToken):
        if with_token and not history.token_replaced:
            return ReplaceToken(verdict)
        verdict = _refused_twice(request, verdict.error)
    if history.doubt is not None and found_nothing(request, verdict):
        return Return({"request_id": verdict.request_id})
    # Pico gives all processes of a key one token a second. A refusal is a part of the wait for a token, and does not
    # count against *retries*.
    is_token_rate_refusal = isinstance(verdict, RateLimitError) and request.endpoint.rate_group is RateGroup.TOKEN
    uncounted = history.token_rate_refusals + (1 if is_token_rate_refusal else 0)
    after_s = next_delay_s(
        verdict,
        history.failures + 1,
        repeatable=request.endpoint.repeatable or retry_in_doubt,
        retries=0 if ending else retries + uncounted,
        waited_s=history.waited_s,
        backoff=TOKEN_BACKOFF if is_token_rate_refusal else BACKOFF,
    )
    if after_s is None:
        return Fail(history.doubt or verdict)
    doubt = history.doubt
    if isinstance(verdict, InDoubtError) and request.endpoint.method != "GET":  # a GET changes nothing
        doubt = verdict
    return Retry(verdict, after_s, is_token_rate_refusal, doubt)


def next_delay_s(
    error: PicoError, attempt: int, *, repeatable: bool, retries: int, waited_s: float, backoff: Backoff = BACKOFF
) -> Backoff | None:
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
    # Pico's wait and the client's own delay must each fit into the time left: with a shortened delay, the last retries
    # would follow too fast. If only their sum is too long, the random part is cut, because "Retry-After: 60" is common.
    if max(asked_s, delay_s) > left_s:
        return None
    return Backoff(asked_s, min(asked_s + delay_s, left_s))


def _refused_twice(request: Request, refusal: PicoError) -> AuthenticationError:
    what = "the API key" if request.endpoint.rate_group is RateGroup.TOKEN else "a fresh token either"
    return AuthenticationError(
        f"{request}: Pico did not take {what}. It was not carried out. Check that the username belongs "
        "to the API key, and that this host's IP address is allowed.",
        status_code=refusal.status_code,
        request_id=refusal.request_id,
        errors=refusal.errors,
    )
