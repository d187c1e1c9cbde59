"""The jitter allowance is learned from response times and refusals."""

from __future__ import annotations

import random

import pytest

from pico_async.coordination.local.limiter import JitterEstimate


def record(jitter: JitterEstimate, took_s: list[float], *, since: float = 0.0, per_s: float = 30) -> float:
    """Record the replies of evenly spaced requests, and return when the next request would leave."""
    for number, took in enumerate(took_s):
        jitter.add(took, since + number / per_s + took)
    return since + len(took_s) / per_s


def test_it_begins_with_what_a_common_network_does() -> None:
    """The jitter allowance starts at 10 ms, and widens as soon as the first replies spread more."""
    jitter = JitterEstimate()
    assert jitter.allowance_s(0.0) == 0.010

    now = record(jitter, [0.1, 0.12])

    assert jitter.allowance_s(now) == pytest.approx(0.020)


@pytest.mark.parametrize(("jitter_s", "least", "most"), [(0, 0.002, 0.002), (0.02, 0.018, 0.02), (0.5, 0.05, 0.05)])
def test_it_follows_the_spread_of_the_response_times(jitter_s: float, least: float, most: float) -> None:
    """The jitter allowance follows the spread of response times from 2 to 50 ms, even if they are near a second."""
    draw = random.Random(1).uniform
    jitter = JitterEstimate()

    now = record(jitter, [0.9 + draw(0, jitter_s) for _ in range(120)])

    assert least <= jitter.allowance_s(now) <= most


def test_replies_of_a_second_and_more_leave_it_as_it_begins() -> None:
    """Replies that take a second or more leave the jitter allowance at 10 ms: they come too late to correct it."""
    jitter = JitterEstimate()

    now = record(jitter, [1.0] * 120)

    assert jitter.allowance_s(now) == 0.010


def test_a_reply_that_was_read_late_now_and_then_widens_nothing() -> None:
    """A late reply in every 60 does not widen the jitter allowance: a busy event loop may have read it late."""
    jitter = JitterEstimate()

    now = record(jitter, [0.1 + 0.3 * (number % 60 == 7) for number in range(120)])

    assert jitter.allowance_s(now) == 0.002


def test_a_spike_counts_for_four_seconds() -> None:
    """Ten replies of one stall widen the jitter allowance to 50 ms, and some 4 s later it is 2 ms again."""
    jitter = JitterEstimate()
    now = record(jitter, [0.1] * 60)
    for number in range(10):  # replies to the requests of 300 ms arrive together
        jitter.add(0.4 - number / 30, now + 0.3)
    now += 0.3
    assert jitter.allowance_s(now) == 0.05

    now = record(jitter, [0.1] * 125, since=now)

    assert jitter.allowance_s(now) == 0.002


def test_old_replies_count_no_more() -> None:
    """After a minute without a reply, the jitter allowance is 10 ms again, as at the start."""
    jitter = JitterEstimate()

    now = record(jitter, [0.1] * 120)

    assert jitter.allowance_s(now + 60) == 0.010


def test_a_refusal_widens_it_at_once_and_it_narrows_slowly() -> None:
    """A refusal widens the jitter allowance by 20 ms at once, up to 50 ms; it narrows by 3 ms each second."""
    jitter = JitterEstimate()
    now = record(jitter, [0.1] * 120)

    assert jitter.widen(now)
    wide = [jitter.allowance_s(now + second) for second in (0.0, 1.0, 3.0)]
    again = [jitter.widen(now + 3.0) for _ in range(4)]

    assert wide == pytest.approx([0.022, 0.019, 0.013])
    assert again == [True, True, False, False]
    assert jitter.allowance_s(now + 3.0) == 0.05


def test_one_that_is_fixed_learns_nothing() -> None:
    """A fixed jitter allowance changes neither with replies nor with refusals."""
    jitter = JitterEstimate(0.007)

    now = record(jitter, [0.1, 0.9] * 60)

    assert not jitter.widen(now)
    assert jitter.allowance_s(now) == 0.007


def test_a_high_rate_costs_no_memory() -> None:
    """At thousands of requests a second, at most 320 response times are kept, and they span the whole period."""
    jitter = JitterEstimate()

    now = record(jitter, [0.1 + 0.03 * (number < 1000) * (number // 60 % 2) for number in range(8000)], per_s=2000)

    assert len(jitter._samples) <= 320
    assert jitter.allowance_s(now) == pytest.approx(0.03)
