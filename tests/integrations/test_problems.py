"""An app's reply to its own callers shows no detail of an error; the app's log has the details."""

from __future__ import annotations

import logging

import pytest

from pico_async.errors import (
    AuthenticationError,
    BadRequestError,
    BulkError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    JournalError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
    RateLimitError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from pico_async.integrations.problems import problem
from pico_async.messages import MmsMessage, SmsMessage

SECRET = "a detail for the log alone"


@pytest.mark.parametrize(
    ("error", "status", "again"),
    [
        (ConfigurationError(SECRET), 500, False),
        (JournalError(SECRET), 500, False),
        (AuthenticationError(SECRET), 500, False),
        (BadRequestError(SECRET, errors=(SECRET,), request_id=SECRET), 502, False),
        (RejectedError(SECRET), 502, False),
        (RateLimitError(SECRET), 503, True),
        (NotSentError(SECRET), 503, True),
        (MessageExpiredError(SECRET), 503, True),
        (PicoError(SECRET), 503, True),
        (InDoubtError(SECRET), 502, False),
        (ServerError(SECRET, status_code=500), 502, False),
        (UnexpectedResponseError(SECRET), 502, False),
        (NoResponseError(SECRET), 504, False),
        (BulkError(SECRET, Outcome.IN_DOUBT), 502, False),
        (BulkError(SECRET, Outcome.REJECTED), 502, False),
        (BulkError(SECRET, Outcome.NOT_SENT), 502, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PicoError) else str(value),
)
def test_details_that_the_caller_does_not_see_are_in_the_log(
    caplog: pytest.LogCaptureFixture, error: PicoError, status: int, again: bool
) -> None:
    """
    The reply has the status and the outcome of the error, and no detail. The log has the details, because an app with a
    wrong key answers 500 to everyone.
    """
    caplog.set_level(logging.INFO)

    reply = problem(error)

    assert (reply.status_code, reply.body["may_send_again"], reply.body["outcome"]) == (status, again, error.outcome)
    assert SECRET not in reply.content.decode() + str(reply.headers)
    assert [record.getMessage().endswith(f"{type(error).__name__}: {SECRET}") for record in caplog.records] == [True]
    assert caplog.records[0].levelno == (logging.ERROR if status == 500 else logging.WARNING)


@pytest.mark.parametrize("outcome", [Outcome.IN_DOUBT, Outcome.REJECTED, Outcome.NOT_SENT])
def test_a_blast_in_which_something_failed_is_not_called_unsent(outcome: Outcome) -> None:
    """A bulk send in which a message failed is not reported as not sent, because its other messages were sent."""
    reply = problem(BulkError("1 of 3 messages were not accepted.", outcome))

    assert "not sent" not in reply.body["detail"].lower()
    assert "may have been sent" in reply.body["detail"]


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (lambda: SmsMessage(to="123", text="t"), "`to` has 3 digits"),
        (lambda: SmsMessage(to="8612345678901", text=""), "`text` is empty"),
        (lambda: MmsMessage(to="8612345678901", media_url="x"), "`media_url` is not a web address"),
    ],
)
def test_a_mistake_of_the_caller_is_reported(make: object, detail: str) -> None:
    """A mistake of the caller is reported with status 422 and the name of the argument."""
    assert callable(make)
    with pytest.raises(InvalidMessageError) as caught:
        make()

    reply = problem(caught.value)

    assert reply.status_code == 422
    assert detail in reply.body["detail"]


@pytest.mark.parametrize(
    ("words", "status", "kept"),
    [
        ("The message has no sender: pass `sender=` with it or to PicoSession, or set PICO_SENDER.", 500, ""),
        ("Pass an SmsMessage, an MmsMessage or a VoiceMessage, not str.", 500, ""),
        (
            "`media_url` names a private host. Pass allow_private_urls=True to PicoSession.",
            422,
            "names a private host.",
        ),
        ("`key` 'ann@example.com' came before in this blast. Give each its own.", 422, "`key` cannot be used"),
    ],
)
def test_advice_for_the_app_author_is_not_shown(words: str, status: int, kept: str) -> None:
    """
    The reply shows no advice for the app's author. A missing sender is not the caller's mistake, and a key is the app's
    own name for a message.
    """
    reply = problem(InvalidMessageError(words))

    assert reply.status_code == status
    assert kept in reply.body["detail"]
    assert not [word for word in ("PicoSession", "PICO_", "SmsMessage", "ann@") if word in reply.content.decode()]


def test_retry_after_is_at_most_an_hour() -> None:
    """`Retry-After` is at most an hour, because Pico may ask for any number of seconds."""
    assert problem(RateLimitError("x", retry_after=2.5e11)).headers["Retry-After"] == "3600"
    assert problem(RateLimitError("x", retry_after=2.1)).headers["Retry-After"] == "3"
