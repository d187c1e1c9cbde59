"""These tests check for every error class whether and when a call is retried."""

import math

import pytest
from hypothesis import given, strategies as st

from pico_async import errors
from pico_async._engine import decision
from pico_async._engine.decision import BASE_DELAY_S, MAX_DELAY_S, MAX_RETRIES, MAX_WAIT_S
from pico_async.errors import InDoubtError, NotSentError, PicoError, RateLimitError, RejectedError, ServerError

# Whether the call is retried: (if a repeat could make a duplicate, if a repeat does no harm)
TABLE = {
    "PicoError": (False, False),
    "ConfigurationError": (False, False),
    "JournalError": (False, False),
    "NotInDoubtError": (False, False),
    "SuppressedError": (False, False),
    "InvalidMessageError": (False, False),
    "NotSentError": (True, True),
    "MessageExpiredError": (False, False),
    "RejectedError": (False, False),
    "BadRequestError": (False, False),
    "AuthenticationError": (False, False),
    "ExpectationFailedError": (False, False),
    "RateLimitError": (True, True),
    "InDoubtError": (False, False),
    "NoResponseError": (False, True),
    "ServerError": (False, True),
    "UnexpectedResponseError": (False, False),
    "BulkError": (False, False),
}
KINDS = [getattr(errors, name) for name in TABLE]
ROWS = [
    pytest.param(getattr(errors, name), repeatable, again, id=f"{name}-{'harmless' if repeatable else 'a double'}")
    for name, row in TABLE.items()
    for repeatable, again in zip((False, True), row, strict=True)
]
RETRIES = 4
AGAIN = [NotSentError, RateLimitError, ServerError]


def next_delay_s(
    error: PicoError, attempt: int, *, repeatable: bool, retries: int, waited_s: float = 0.0
) -> float | None:
    """Return the longest delay before the next try; by default the call has not waited yet."""
    delays = decision.next_delay_s(error, attempt, repeatable=repeatable, retries=retries, waited_s=waited_s)
    return None if delays is None else delays[1]


def test_the_table_has_every_error() -> None:
    """The table contains every error class, so a new class needs a decision."""
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PicoError)}

    assert classes == set(TABLE)


@pytest.mark.parametrize("attempt", range(1, RETRIES + 3))
@pytest.mark.parametrize(("kind", "repeatable", "again"), ROWS)
def test_every_case(kind: type[PicoError], repeatable: bool, again: bool, attempt: int) -> None:
    """An error is retried as the table says, and never after the last retry was used."""
    delay_s = next_delay_s(kind("fault"), attempt, repeatable=repeatable, retries=RETRIES)

    assert (delay_s is not None) == (again and attempt <= RETRIES)


@pytest.mark.parametrize("kind", KINDS)
def test_without_retries_nothing_is_tried_again(kind: type[PicoError]) -> None:
    """`retries=0` means one try: no error is retried."""
    assert next_delay_s(kind("fault"), 1, repeatable=True, retries=0) is None


@given(
    kind=st.sampled_from([kind for kind in KINDS if issubclass(kind, InDoubtError)] + [RejectedError]),
    attempt=st.integers(1, 1000),
    retries=st.integers(0, 1000),
    retry_after=st.none() | st.floats(0, 100),
    status_code=st.none() | st.integers(100, 599),
)
def test_a_send_in_doubt_or_refused_is_never_repeated(
    kind: type[PicoError], attempt: int, retries: int, retry_after: float | None, status_code: int | None
) -> None:
    """
    A send that is in doubt or rejected is never retried, whatever the reply asks for.

    A retry could make a duplicate, or would be rejected again.
    """
    error = kind("fault", retry_after=retry_after, status_code=status_code)

    assert next_delay_s(error, attempt, repeatable=False, retries=retries) is None


def test_the_delay_doubles_up_to_its_cap() -> None:
    """The delay is 0.5 s at first, doubles with each try, and is at most 8 s."""
    delays = [next_delay_s(NotSentError("fault"), attempt, repeatable=False, retries=99) for attempt in range(1, 9)]

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert (delays[0], delays[-1]) == (BASE_DELAY_S, MAX_DELAY_S)


@given(attempt=st.integers(1, 10**9))
def test_the_delay_never_shrinks_and_is_capped(attempt: int) -> None:
    """The delay never decreases and never exceeds its maximum, even after more tries than a float could double."""
    delays = [
        next_delay_s(ServerError("fault"), number, repeatable=True, retries=10**10) for number in (attempt, attempt + 1)
    ]

    assert 0 < delays[0] <= delays[1] <= MAX_DELAY_S


@pytest.mark.parametrize("kind", AGAIN)
@pytest.mark.parametrize(
    ("retry_after", "delay_s"),
    [
        (None, 0.5),
        (0.0, 0.5),
        (0.25, 0.75),
        (7.0, 7.5),
        (59.0, 59.5),
        (MAX_WAIT_S, 60.0),
        (math.nextafter(MAX_WAIT_S, math.inf), None),
        (3600.0, None),
        (math.inf, None),
    ],
)
def test_what_pico_asks_to_wait_comes_on_top(
    kind: type[PicoError], retry_after: float | None, delay_s: float | None
) -> None:
    """
    A `Retry-After` of at most 60 s is added to the delay, and the sum is at most 60 s.

    After a longer `Retry-After` there is no retry, because that wait is the caller's decision.
    """
    assert next_delay_s(kind("fault", retry_after=retry_after), 1, repeatable=True, retries=2) == delay_s


def test_what_pico_asks_to_wait_comes_on_top_of_a_later_delay_too() -> None:
    """A `Retry-After` is also added to the longer delay of a later try."""
    error = RateLimitError("fault", retry_after=7.0)

    assert next_delay_s(error, 3, repeatable=False, retries=5) == 9.0


@given(
    kind=st.sampled_from(AGAIN),
    retry_after=st.none() | st.floats(0, MAX_WAIT_S),
    attempt=st.integers(1, 50),
    waited_s=st.floats(0, MAX_WAIT_S),
)
def test_a_repeat_never_comes_before_its_time(
    kind: type[PicoError], retry_after: float | None, attempt: int, waited_s: float
) -> None:
    """The delay is never below `retry_after`, because the caller draws the moment of the retry between the two."""
    error = kind("fault", retry_after=retry_after)

    delay_s = next_delay_s(error, attempt, repeatable=True, retries=50, waited_s=waited_s)

    assert delay_s is None or (retry_after or 0.0) <= delay_s <= MAX_WAIT_S - waited_s


@pytest.mark.parametrize(
    ("attempt", "retry_after", "waited_s", "delay_s"),
    [
        (2, 7.0, 52.0, 8.0),
        (2, 7.0, 53.0, 7.0),
        (2, 7.0, 53.5, None),
        (5, None, 52.0, 8.0),
        (5, None, 52.5, None),
        (5, 1.0, 52.0, 8.0),
        (5, 1.0, 52.5, None),
        (1, None, 60.0, None),
        (1, 0.0, 60.0, None),
    ],
)
def test_the_waits_of_one_call_have_one_bound(
    attempt: int, retry_after: float | None, waited_s: float, delay_s: float | None
) -> None:
    """
    The waits of one call total at most 60 s.

    A retry whose `Retry-After` or own delay does not fit into the rest is not made.
    """
    error = RateLimitError("fault", retry_after=retry_after)

    assert next_delay_s(error, attempt, repeatable=False, retries=9, waited_s=waited_s) == delay_s


@pytest.mark.parametrize(
    ("attempt", "retry_after", "waited_s", "delays"),
    [
        (1, None, 0.0, (1.0, 1.5)),
        (1, 0.5, 0.0, (1.0, 1.5)),
        (1, 7.0, 0.0, (7.0, 7.5)),
        (9, None, 0.0, (1.0, 5.0)),
        (9, 7.0, 0.0, (7.0, 11.0)),
        (9, None, 56.0, (1.0, 4.0)),
        (9, None, 56.1, None),
    ],
)
def test_a_token_has_a_backoff_of_its_own(
    attempt: int, retry_after: float | None, waited_s: float, delays: tuple[float, float] | None
) -> None:
    """The wait for a token is at least 1 s, and 4 s at most where `Retry-After` does not ask for more."""
    error = RateLimitError("fault", retry_after=retry_after)

    found = decision.next_delay_s(
        error, attempt, repeatable=True, retries=99, waited_s=waited_s, backoff=decision.TOKEN_BACKOFF
    )

    assert found == delays


def test_the_most_retries_fit_into_the_bound() -> None:
    """Ten retries without a `Retry-After` fit into the bound of 60 s, and an eleventh does not."""
    waited_s = 0.0
    for attempt in range(1, MAX_RETRIES + 1):
        delay_s = next_delay_s(NotSentError("x"), attempt, repeatable=False, retries=MAX_RETRIES, waited_s=waited_s)
        assert delay_s is not None
        waited_s += delay_s

    assert waited_s == 55.5
    assert next_delay_s(NotSentError("x"), MAX_RETRIES + 1, repeatable=False, retries=99, waited_s=waited_s) is None


@given(
    kind=st.sampled_from(AGAIN),
    asked=st.lists(st.none() | st.floats(0, 70), min_size=1, max_size=60),
    draws=st.lists(st.floats(0, 1), min_size=60, max_size=60),
)
def test_the_waits_never_come_to_more_than_the_bound(
    kind: type[PicoError], asked: list[float | None], draws: list[float]
) -> None:
    """The waits of one call never total more than the bound, whatever Pico asks for and whatever delay is drawn."""
    waited_s = 0.0
    for attempt, (retry_after, draw) in enumerate(zip(asked, draws, strict=False), 1):
        error = kind("fault", retry_after=retry_after)
        delay_s = next_delay_s(error, attempt, repeatable=True, retries=99, waited_s=waited_s)
        if delay_s is None:
            break
        least_s = retry_after or 0.0
        waited_s += least_s + (delay_s - least_s) * draw

    assert waited_s <= MAX_WAIT_S + 1e-9
