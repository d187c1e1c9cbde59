"""What is tried again, and when: every class of error, whether a repeat does harm, and every try."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_async import errors
from pico_async._engine.retry import BASE_DELAY_S, MAX_DELAY_S, MAX_RETRY_AFTER_S, next_delay_s
from pico_async.errors import InDoubtError, NotSentError, PicoError, RateLimitError, RejectedError, ServerError

# Whether it is tried again: (where a repeat may double something, where it does no harm)
TABLE = {
    "PicoError": (False, False),
    "ConfigurationError": (False, False),
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


def test_the_table_has_every_error() -> None:
    """A new class needs a decision."""
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PicoError)}

    assert classes == set(TABLE)


@pytest.mark.parametrize("attempt", range(1, RETRIES + 3))
@pytest.mark.parametrize(("kind", "repeatable", "again"), ROWS)
def test_every_case(kind: type[PicoError], repeatable: bool, again: bool, attempt: int) -> None:
    """An error of the class is tried again as the table says, and not at all once the tries are used up."""
    delay_s = next_delay_s(kind("fault"), attempt, repeatable=repeatable, retries=RETRIES)

    assert (delay_s is not None) == (again and attempt <= RETRIES)


@pytest.mark.parametrize("kind", KINDS)
def test_without_retries_nothing_is_tried_again(kind: type[PicoError]) -> None:
    """`retries=0` means one try."""
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
    """Whatever the reply asks for: a message must not go out twice, and the same refusal would come again."""
    error = kind("fault", retry_after=retry_after, status_code=status_code)

    assert next_delay_s(error, attempt, repeatable=False, retries=retries) is None


def test_the_delay_doubles_up_to_its_cap() -> None:
    """Half a second, then twice as long each time, and never more than 8."""
    delays = [next_delay_s(NotSentError("fault"), attempt, repeatable=False, retries=99) for attempt in range(1, 9)]

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert (delays[0], delays[-1]) == (BASE_DELAY_S, MAX_DELAY_S)


@given(attempt=st.integers(1, 10**9))
def test_the_delay_never_shrinks_and_is_capped(attempt: int) -> None:
    """Also after more tries than a float could double."""
    delays = [
        next_delay_s(ServerError("fault"), number, repeatable=True, retries=10**10) for number in (attempt, attempt + 1)
    ]

    assert 0 < delays[0] <= delays[1] <= MAX_DELAY_S


@pytest.mark.parametrize("kind", [NotSentError, RateLimitError, ServerError])
@pytest.mark.parametrize(
    ("retry_after", "delay_s"),
    [
        (None, 0.5),
        (0.0, 0.5),
        (0.25, 0.75),
        (7.0, 7.5),
        (MAX_RETRY_AFTER_S, 60.5),
        (math.nextafter(MAX_RETRY_AFTER_S, math.inf), None),
        (3600.0, None),
        (math.inf, None),
    ],
)
def test_what_pico_asks_to_wait_comes_on_top(
    kind: type[PicoError], retry_after: float | None, delay_s: float | None
) -> None:
    """Up to a minute, for a longer wait is the caller's decision. The upper bound lies above it, for the jitter."""
    assert next_delay_s(kind("fault", retry_after=retry_after), 1, repeatable=True, retries=2) == delay_s


def test_what_pico_asks_to_wait_comes_on_top_of_a_later_delay_too() -> None:
    """The third try waits longer than the first, with or without a Retry-After."""
    error = RateLimitError("fault", retry_after=7.0)

    assert next_delay_s(error, 3, repeatable=False, retries=5) == 9.0


@given(
    kind=st.sampled_from([NotSentError, RateLimitError, ServerError]),
    retry_after=st.floats(0, MAX_RETRY_AFTER_S),
    attempt=st.integers(1, 50),
)
def test_a_repeat_never_comes_before_its_time(kind: type[PicoError], retry_after: float, attempt: int) -> None:
    """The caller draws a moment between `retry_after` and this, so this is never below it."""
    delay_s = next_delay_s(kind("fault", retry_after=retry_after), attempt, repeatable=True, retries=50)

    assert delay_s >= retry_after
