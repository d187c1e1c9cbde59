"""The arrival window admits a request only if no window at Pico would then hold more than the limit."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from random import Random

import pytest

from pico_async.coordination.local import limiter
from pico_async.coordination.local.limiter import ArrivalWindow, SentRequest

LEAST_S = 0.1


def left(number: int, *moments: float) -> tuple[ArrivalWindow, list[SentRequest]]:
    """Return a window with requests that were sent at *moments*, and the requests; the first had the fastest reply."""
    window = ArrivalWindow(number, 1.0)
    requests = [window.add(moment) for moment in moments]
    window.observe_reply(requests[0], LEAST_S, LEAST_S)
    return window, requests


def test_a_window_holds_its_number_and_no_more() -> None:
    """With a limit of three, a fourth request waits until the first one is one window old."""
    those, _ = left(3, 10.0, 10.2)
    assert those.wait_s(10.4) == 0.0

    those.add(10.4)

    assert those.wait_s(10.4) == pytest.approx(0.6)
    assert those.wait_s(10.999) == pytest.approx(0.001)
    assert those.wait_s(11.0) == 0.0


def test_what_came_late_counts_from_then_on() -> None:
    """A request counts later by as much as its reply was slower than the fastest; a fastest reply changes nothing."""
    those, sent = left(3, 10.0, 10.2, 10.4)

    those.observe_reply(sent[0], LEAST_S + 0.04, LEAST_S)
    assert those.wait_s(11.0) == pytest.approx(0.04)
    those.observe_reply(sent[1], LEAST_S, LEAST_S)
    assert those.wait_s(11.0) == pytest.approx(0.04)


def test_nothing_is_late_where_nobody_knows_how_long_the_quickest_takes() -> None:
    """No request counts as late while the fastest reply time is unknown, as with a fixed jitter allowance."""
    those = ArrivalWindow(1, 1.0)
    request = those.add(10.0)

    those.observe_reply(request, 0.3, inf)

    assert those.wait_s(11.0) == 0.0


def test_one_that_is_quicker_than_all_before_says_that_they_were_late() -> None:
    """A reply that is faster than all before shows that the earlier requests were late by the difference."""
    those, sent = left(3, 10.0, 10.2, 10.4)

    those.observe_reply(sent[2], LEAST_S - 0.04, LEAST_S - 0.04)

    assert those.wait_s(11.0) == pytest.approx(0.04)


def test_what_was_under_way_meanwhile_is_counted_once() -> None:
    """A request in flight while a faster reply arrives is re-dated once, although its own reply comes later."""
    moments = [10.0 + number / 10 for number in range(6)]
    those, sent = left(7, *moments)

    those.observe_reply(sent[1], LEAST_S - 0.01, LEAST_S - 0.01)
    for request in sent[2:]:
        those.observe_reply(request, LEAST_S, LEAST_S - 0.01)

    # A seventh request may leave at once; an eighth waits until one second after the first one's arrival.
    assert those.wait_s(10.6) == 0.0
    those.add(10.6)
    assert those.wait_s(10.6) == pytest.approx(0.41)


def test_of_some_that_left_together_each_is_late_by_itself() -> None:
    """Requests that left at the same time are each re-dated by their own reply, in whatever order the replies come."""
    those, sent = left(3, 10.0, 10.0, 10.0)

    for request, lag_s in zip(sent, (0.03, 0.01, 0.02), strict=True):
        those.observe_reply(request, LEAST_S + lag_s, LEAST_S)

    assert those.wait_s(10.9) == pytest.approx(0.11)


def test_it_remembers_no_more_than_what_counts() -> None:
    """The window forgets requests that no longer count, even at a rate so high that it limits nothing."""
    those = ArrivalWindow(1_000_000_000, 1.0)

    for number in range(5_000):
        those.add(10.0 + number / 1_000)

    assert len(those._recent) < 1_100


def test_one_that_is_late_enough_is_among_the_latest_again() -> None:
    """A request whose reply shows a long delay counts again, even if more requests than the limit left after it."""
    those, sent = left(3, 10.0, 10.02, 10.04, 10.06, 10.08)
    assert those.wait_s(11.0) == pytest.approx(0.04)

    those.observe_reply(sent[0], LEAST_S + 0.049, LEAST_S)

    assert those.wait_s(11.0) == pytest.approx(0.049)


def test_one_that_did_not_leave_is_taken_back() -> None:
    """A request that was not sent is removed once; removing it again changes nothing."""
    those, sent = left(3, 10.0, 10.2, 10.4)
    assert those.wait_s(10.5) == pytest.approx(0.5)

    those.remove(sent[2])
    those.remove(sent[2])
    assert those.wait_s(10.5) == 0.0
    those.add(10.5)
    assert those.wait_s(10.5) == pytest.approx(0.5)


def test_the_one_before_counts_again_where_one_is_taken_back() -> None:
    """After a request is removed, the older request that it had replaced counts again."""
    those, sent = left(3, 10.0, 10.2, 10.4, 10.5)
    assert those.wait_s(11.0) == pytest.approx(0.2)

    those.remove(sent[3])

    assert those.wait_s(10.9) == pytest.approx(0.1)


def test_it_is_pico_that_takes_the_time_where_it_is_more_than_a_stall() -> None:
    """A reply that differs from the fastest one by more than 70 ms re-dates no request: Pico itself took that time."""
    those, sent = left(3, 10.0, 10.2, 10.4)

    those.observe_reply(sent[0], LEAST_S + 0.08, LEAST_S)
    those.observe_reply(sent[1], LEAST_S - 0.08, LEAST_S - 0.08)

    assert those.wait_s(10.9) == pytest.approx(0.1)


def test_it_remembers_for_as_long_as_one_counts() -> None:
    """The window must be kept for one second after its last request, and no longer."""
    those = ArrivalWindow(3, 1.0)
    assert those.occupied_s(10.0) == 0.0

    those.add(10.0)

    assert those.occupied_s(10.25) == pytest.approx(0.75)
    assert those.occupied_s(11.5) == 0.0


@pytest.mark.parametrize("number", [1, 2, 7, 30])
@pytest.mark.parametrize("longest_s", [0.02, 0.3, 0.9])
def test_no_window_holds_more_whatever_the_way_there_does(
    number: int, longest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No window at Pico exceeds the limit, however delays vary, as long as each reply arrives within one window."""
    monkeypatch.setattr(limiter, "MAX_DELAY_S", 1.0)
    chance = Random(number)
    those, now, least_s = ArrivalWindow(number, 1.0), 0.0, LEAST_S
    replies: list[tuple[float, int, SentRequest]] = []
    came: list[float] = []

    for _ in range(2_000):
        while True:
            while replies and replies[0][0] <= now:
                replied_at, _, request = heappop(replies)
                those.observe_reply(request, replied_at - request.sent_at, least_s)
            soon = min(now + those.wait_s(now), replies[0][0] if replies else inf)
            if soon <= now:
                break
            now = soon
        request = those.add(now)
        # Half of the requests are not delayed. Each reply takes the shortest time back.
        came.append(now + chance.choice([0.0, chance.uniform(0.0, longest_s)]))
        heappush(replies, (came[-1] + LEAST_S - 1e-9, len(came), request))
        now += chance.choice([0.0, chance.expovariate(2 * number)])

    came.sort()
    assert all(later - sooner >= 1.0 - 1e-6 for sooner, later in zip(came, came[number:], strict=False))
