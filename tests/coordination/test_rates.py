"""The sizes of the buckets."""

from __future__ import annotations

import pickle

import pytest

from pico_async import ConfigurationError, Rates
from pico_async.coordination.rates import GUARD_S, bucket


def most_in(window_s: float, *, capacity: float, refill_per_s: float) -> float:
    return capacity + refill_per_s * window_s


def test_the_documented_rate_gets_the_designed_bucket() -> None:
    """30 a second and a guard of 10 ms: 1.06 tokens, 29.6 a second."""
    size = bucket(30, 0.01)

    assert size.capacity == pytest.approx(1.06)
    assert size.refill_per_s == pytest.approx(29.64, abs=0.01)


@pytest.mark.parametrize("guard_s", [0.0, 0.002, 0.05])
@pytest.mark.parametrize("rate", [1, 2, 3, 10, 30, 31.9, 100, 500, 1000])
def test_no_second_at_the_server_sees_more_than_the_rate(rate: float, guard_s: float) -> None:
    """Bunched by the guard, what one window lets through stays below one more than is allowed."""
    size = bucket(rate, guard_s)

    assert most_in(1 + guard_s, capacity=size.capacity, refill_per_s=size.refill_per_s) < int(rate) + 1
    assert size.refill_per_s > (0.99 - guard_s) * int(rate)


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_below_one_a_second_the_window_is_longer(rate: float) -> None:
    """One request in every 1/rate seconds, and not a second one."""
    size = bucket(rate, GUARD_S)

    assert most_in(1 / rate + GUARD_S, capacity=size.capacity, refill_per_s=size.refill_per_s) < 2
    assert size.refill_per_s > 0.95 * rate


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), "30", True])
def test_a_rate_that_is_none_is_refused_by_name(rate: object) -> None:
    """The error names the lane."""
    with pytest.raises(ConfigurationError, match=r"Rates\(voice=…\)"):
        Rates(voice=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("guard_s", [-0.001, 1.1, float("nan"), "0.01", True])
def test_a_guard_that_is_none_is_refused_by_name(guard_s: object) -> None:
    """Seconds, and not milliseconds."""
    with pytest.raises(ConfigurationError, match=r"Rates\(guard_s=…\)"):
        Rates(guard_s=guard_s)  # type: ignore[arg-type]


def test_the_defaults_are_the_reference_s() -> None:
    """30, 1 and 1; no limit where v0.4 documents none."""
    rates = Rates()

    assert (rates.sms, rates.token, rates.balance) == (30, 1, 1)
    assert (rates.mms, rates.voice, rates.management) == (None, None, None)
    assert pickle.loads(pickle.dumps(rates)) == rates
