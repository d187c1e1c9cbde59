"""The verdict of a failed attempt, the earlier attempts and the session's retries decide what follows."""

from __future__ import annotations

import pytest

from pico_async import (
    AuthenticationError,
    BadRequestError,
    InDoubtError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    PicoError,
    RateLimitError,
    RejectedError,
)
from pico_async._engine.decision import Action, Fail, History, ReplaceToken, Retry, Return, decide
from pico_async._engine.endpoints import (
    CREATE_CAMPAIGN,
    DELETE_CAMPAIGN,
    GET_BALANCE,
    GET_TOKEN,
    SEND_SMS,
    Endpoint,
    Request,
)
from pico_async._engine.verdict import StaleToken

SENT_NOTHING, NO_REPLY = NotSentError("no connection"), NoResponseError("no reply")
STALE = StaleToken(RejectedError("401", status_code=401))
GONE = RejectedError("404", status_code=404)
DOUBT = NoResponseError("an earlier attempt had no reply")


def after(
    verdict: StaleToken | PicoError, endpoint: Endpoint = SEND_SMS, history: History | None = None, **settings: bool
) -> Action:
    """Decide with two retries, for a request that was sent with a token."""
    return decide(
        verdict,
        history or History(),
        Request(endpoint, endpoint.path),
        **{"with_token": True, "retry_in_doubt": False, "retries": 2, "ending": False} | settings,  # type: ignore[arg-type]
    )


def test_waiting_for_a_token_is_no_retry() -> None:
    """A call counts as retried after a failed attempt, but not if only token requests came too fast."""
    assert not History().retried
    assert History(failures=1).retried
    assert not History(failures=1, token_rate_refusals=1).retried


def test_a_stale_token_is_replaced_once() -> None:
    """The first 401 replaces the token; the second one fails, as does one for a request without a token."""
    second, tokenless = after(STALE, history=History(token_replaced=True)), after(STALE, GET_TOKEN, with_token=False)

    assert after(STALE) == ReplaceToken(STALE)
    assert isinstance(second, Fail)
    assert isinstance(second.error, AuthenticationError)
    assert isinstance(tokenless, Fail)
    assert isinstance(tokenless.error, AuthenticationError)


def test_a_deletion_that_finds_nothing_is_done_only_after_a_doubt() -> None:
    """A deletion that finds nothing returns if an earlier attempt was in doubt; otherwise it fails."""
    assert after(GONE, DELETE_CAMPAIGN, History(doubt=DOUBT)) == Return({"request_id": None})
    assert after(GONE, DELETE_CAMPAIGN) == Fail(GONE)


@pytest.mark.parametrize(
    ("error", "endpoint", "retry_in_doubt", "again"),
    [
        (SENT_NOTHING, SEND_SMS, False, True),
        (RateLimitError("too fast"), SEND_SMS, False, True),
        (NO_REPLY, SEND_SMS, False, False),
        (NO_REPLY, SEND_SMS, True, True),
        (NO_REPLY, CREATE_CAMPAIGN, False, False),
        (NO_REPLY, DELETE_CAMPAIGN, False, True),
        (NO_REPLY, GET_BALANCE, False, True),
        (BadRequestError("wrong"), SEND_SMS, True, False),
        (MessageExpiredError("late"), SEND_SMS, True, False),
    ],
)
def test_only_what_may_be_repeated_is_retried(
    error: PicoError, endpoint: Endpoint, retry_in_doubt: bool, again: bool
) -> None:
    """A failure is retried if nothing was carried out, or if a repeat does no harm."""
    action = after(error, endpoint, retry_in_doubt=retry_in_doubt)

    assert isinstance(action, Retry) == again
    if not again:
        assert action == Fail(error)


@pytest.mark.parametrize("settings", [{"ending": True}, {"retries": 0}])
def test_no_retry_is_begun_without_retries_or_at_the_end(settings: dict[str, bool]) -> None:
    """A failure that may be repeated fails if the session allows no retries, or if the call is ending."""
    assert after(SENT_NOTHING, **settings) == Fail(SENT_NOTHING)


def test_a_doubt_outlives_each_later_failure() -> None:
    """A call that was in doubt once fails as in doubt, whatever a later attempt proves about itself."""
    first = after(NO_REPLY, retry_in_doubt=True)
    assert isinstance(first, Retry)
    assert first.doubt is NO_REPLY

    history = History()
    history.add(first)
    second = after(SENT_NOTHING, history=history, retry_in_doubt=True)
    assert isinstance(second, Retry)
    assert second.doubt is NO_REPLY

    history.add(second)
    last = after(BadRequestError("wrong"), history=history, retry_in_doubt=True)
    assert last == Fail(NO_REPLY)
    assert isinstance(last.error, InDoubtError)


def test_a_read_without_a_reply_leaves_no_doubt() -> None:
    """A GET without a reply changes nothing, so a later refusal of it is reported as such."""
    action = after(NO_REPLY, GET_BALANCE)

    assert isinstance(action, Retry)
    assert action.doubt is None


def test_a_refused_token_request_waits_in_a_queue_and_costs_no_retry() -> None:
    """A token request that is refused because it came too fast is retried although all retries are used."""
    refusals = History(failures=5, token_rate_refusals=5)

    action = after(RateLimitError("too fast"), GET_TOKEN, refusals, with_token=False, retries=0)

    assert isinstance(action, Retry)
    assert action.is_token_rate_refusal
    assert isinstance(after(RateLimitError("too fast"), GET_BALANCE, History(failures=5)), Fail)
