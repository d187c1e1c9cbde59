"""Each error class has its documented parent and outcome, and an error survives copying and pickling."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import pico_async
from pico_async import SmsMessage, VoiceMessage, destination, errors, segments
from pico_async._engine.wire import Account, send_request
from pico_async.errors import BulkError, InvalidMessageError, Outcome, PicoError, Reason

# The tree in the docstring of `pico_async.errors`: the parent and the outcome of each class.
TREE = {
    "PicoError": ("Exception", "not_sent"),
    "ConfigurationError": ("PicoError", "not_sent"),
    "JournalError": ("ConfigurationError", "not_sent"),
    "NotInDoubtError": ("JournalError", "not_sent"),
    "InvalidMessageError": ("PicoError", "not_sent"),
    "SuppressedError": ("PicoError", "not_sent"),
    "NotSentError": ("PicoError", "not_sent"),
    "MessageExpiredError": ("NotSentError", "not_sent"),
    "RejectedError": ("PicoError", "rejected"),
    "BadRequestError": ("RejectedError", "rejected"),
    "AuthenticationError": ("RejectedError", "rejected"),
    "ExpectationFailedError": ("RejectedError", "rejected"),
    "RateLimitError": ("RejectedError", "rejected"),
    "InDoubtError": ("PicoError", "in_doubt"),
    "NoResponseError": ("InDoubtError", "in_doubt"),
    "ServerError": ("InDoubtError", "in_doubt"),
    "UnexpectedResponseError": ("InDoubtError", "in_doubt"),
    "BulkError": ("PicoError", "not_sent"),
}
ALSO_VALUE_ERRORS = {"ConfigurationError", "JournalError", "NotInDoubtError", "InvalidMessageError"}

KINDS = [getattr(errors, name) for name in TREE]
KINDS_OF_ONE_REQUEST = [kind for kind in KINDS if kind is not BulkError]

COPIES: dict[str, Callable[[PicoError], PicoError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def tree_of(kind: type[PicoError]) -> set[type[PicoError]]:
    """Return this class and all its subclasses in the package."""
    own = {sub for sub in kind.__subclasses__() if sub.__module__.startswith("pico_async")}
    return {kind}.union(*(tree_of(sub) for sub in own))


def test_the_tree_holds_the_drawn_classes_and_no_other() -> None:
    """The core has exactly the documented error classes; a user could not know to catch any other class."""
    names = {
        kind.__name__
        for kind in tree_of(PicoError)
        if not kind.__module__.startswith(("pico_async.cli", "pico_async.integrations"))
    }

    assert names == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_each_class_hangs_where_the_drawing_has_it(name: str) -> None:
    """Each error class has the documented parent and outcome, and is a `ValueError` only where that is documented."""
    kind = getattr(errors, name)
    parent, outcome = TREE[name]

    assert kind.__base__.__name__ == parent
    assert kind.outcome == outcome
    assert issubclass(kind, ValueError) == (name in ALSO_VALUE_ERRORS)


@pytest.mark.parametrize("name", [*TREE, "Outcome"])
def test_each_class_is_a_public_name(name: str) -> None:
    """Each error class and `Outcome` can be imported from `pico_async` itself."""
    assert name in pico_async.__all__
    assert getattr(pico_async, name) is getattr(errors, name)


def test_outcomes_are_the_five_of_the_contract() -> None:
    """`Outcome` has exactly these five values; journals and logs contain these words."""
    assert {outcome.name: str(outcome) for outcome in Outcome} == {
        "ACCEPTED": "accepted",
        "REJECTED": "rejected",
        "NOT_SENT": "not_sent",
        "IN_DOUBT": "in_doubt",
        "SKIPPED": "skipped",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_is_none(kind: type[PicoError]) -> None:
    """Every error has all the attributes; an attribute without a known value is None or empty."""
    error = kind("POST /sms: something happened.")

    assert str(error) == "POST /sms: something happened."
    assert error.errors == ()
    assert (error.status_code, error.request_id, error.retry_after, error.attempts) == (None, None, None, None)


@pytest.mark.parametrize("made_by", COPIES)
@pytest.mark.parametrize("kind", KINDS_OF_ONE_REQUEST)
def test_a_copy_is_whole(kind: type[PicoError], made_by: str) -> None:
    """
    An error that is copied or pickled keeps its attributes and notes, so it can cross process pools and task queues.
    """
    error = kind(
        "POST /sms: Pico refused.",
        status_code=400,
        request_id="r-1",
        errors=("Error description message", "and another"),
        retry_after=1.5,
        attempts=3,
    )
    error.add_note("row 7")

    twin = COPIES[made_by](error)

    assert type(twin) is kind
    assert twin is not error
    assert str(twin) == "POST /sms: Pico refused."
    assert twin.outcome is error.outcome
    assert (twin.status_code, twin.request_id, twin.errors, twin.retry_after, twin.attempts) == (
        400,
        "r-1",
        ("Error description message", "and another"),
        1.5,
        3,
    )
    assert twin.__notes__ == ["row 7"]


@pytest.mark.parametrize("made_by", COPIES)
@pytest.mark.parametrize("outcome", [Outcome.IN_DOUBT, Outcome.REJECTED, Outcome.NOT_SENT])
def test_a_copy_of_a_blasts_error_keeps_its_outcome(outcome: Outcome, made_by: str) -> None:
    """A `BulkError` that is copied or pickled keeps its own outcome and does not return to the outcome of its class."""
    error = BulkError("Of 3 messages 2 were accepted.", outcome)

    twin = COPIES[made_by](error)

    assert type(twin) is BulkError
    assert str(twin) == "Of 3 messages 2 were accepted."
    assert twin.outcome is outcome


def test_a_blasts_outcome_does_not_stick_to_its_class() -> None:
    """The outcome of one `BulkError` does not change the outcome of the next one."""
    doubtful = BulkError("first", Outcome.IN_DOUBT)

    other = BulkError("second")

    assert doubtful.outcome is Outcome.IN_DOUBT
    assert other.outcome is Outcome.NOT_SENT


def sms(**arguments: Any) -> SmsMessage:
    return SmsMessage(**{"to": "8612345678901", "text": "x"} | arguments)


REASONS: list[tuple[Callable[[], object], str | None, Reason]] = [
    (lambda: sms(to=""), "to", Reason.EMPTY),
    (lambda: sms(to="12345"), "to", Reason.TOO_SHORT),
    (lambda: sms(to="8861234"), "to", Reason.TOO_SHORT),
    (lambda: sms(to="8" * 16), "to", Reason.TOO_LONG),
    (lambda: sms(to="1 " * 60), "to", Reason.TOO_LONG),
    (lambda: sms(to="86O2345678901"), "to", Reason.CHARACTERS),
    (lambda: sms(to="0912345678"), "to", Reason.COUNTRY_CODE),
    (lambda: sms(to="+886 0912 345 678"), "to", Reason.LEADING_ZERO),
    (lambda: sms(to="886912345678 ext. 9"), "to", Reason.EXTENSION),
    (lambda: sms(to="8.86912E+11"), "to", Reason.SPREADSHEET),
    (lambda: sms(to="886912345678.0"), "to", Reason.SPREADSHEET),
    (lambda: sms(to=886912345678), "to", Reason.TYPE),
    (lambda: destination("911 2345", region="US"), "to", Reason.AREA_CODE),
    (lambda: destination("8611111111111"), "to", Reason.UNUSED),
    (lambda: destination("4915123456789", region="DE"), "to", Reason.AMBIGUOUS),
    (lambda: sms(text=" "), "text", Reason.EMPTY),
    (lambda: sms(text=7), "text", Reason.TYPE),
    (lambda: sms(text="\ud800"), "text", Reason.CHARACTERS),
    (lambda: segments("\ud800"), "text", Reason.CHARACTERS),
    (lambda: sms(text=None), None, Reason.MISSING),
    (lambda: sms(template_id="t-1"), None, Reason.CONFLICT),
    (lambda: sms(text=None, template_id="?"), "template_id", Reason.FORMAT),
    (lambda: sms(callback="ftp://example.com"), "callback", Reason.FORMAT),
    (lambda: sms(expires_in=0), "expires_in", Reason.FORMAT),
    (lambda: sms(promotional=1), "promotional", Reason.TYPE),
    (lambda: VoiceMessage("8612345678901", "x", "english"), "lang", Reason.FORMAT),
    (lambda: send_request(sms(), Account("user333")), "sender", Reason.MISSING),
    (lambda: send_request(sms(callback="http://10.0.0.1/"), Account("user333", "PICO")), "callback", Reason.HOST),
]


@pytest.mark.parametrize(("make", "argument", "reason"), REASONS, ids=range(len(REASONS)))
def test_an_invalid_message_says_which_argument_is_wrong_and_why(
    make: Callable[[], object], argument: str | None, reason: Reason
) -> None:
    """`argument` and `reason` let a program tell its user what is wrong in the user's own language."""
    with pytest.raises(InvalidMessageError) as caught:
        make()

    assert (caught.value.argument, caught.value.reason) == (argument, reason)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (twin.argument, twin.reason, str(twin)) == (argument, reason, str(caught.value))
    assert caught.value.to_dict()["reason"] == reason.value


def test_an_error_of_ones_own_has_a_reason() -> None:
    """An `InvalidMessageError` that a program raises itself needs no reason: it is `OTHER`."""
    assert InvalidMessageError("It has no code.").reason is Reason.OTHER
