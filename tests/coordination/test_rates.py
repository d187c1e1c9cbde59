"""The sizes of the buckets."""

from __future__ import annotations

import pickle

import pytest

from pico_async import ConfigurationError, Rates
from pico_async.coordination.rates import GUARD_S, bucket


def most_in(window_s: float, *, capacity: float, refill_per_s: float) -> float:
    return capacity + refill_per_s * window_s


def test_the_documented_rate_gets_the_designed_bucket() -> None:
    """30 a second: 1.1 tokens, 29.5 a second."""
    size = bucket(30)

    assert size.capacity == pytest.approx(1.1)
    assert size.refill_per_s == pytest.approx(29.5, abs=0.02)


@pytest.mark.parametrize("rate", [1, 2, 3, 10, 30, 31.9, 100, 500, 1000])
def test_no_second_at_the_server_sees_more_than_the_rate(rate: float) -> None:
    """Bunched by the guard, what one window lets through stays below one more than is allowed."""
    size = bucket(rate)

    assert most_in(1 + GUARD_S, capacity=size.capacity, refill_per_s=size.refill_per_s) < int(rate) + 1
    assert size.refill_per_s > 0.95 * int(rate)


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_below_one_a_second_the_window_is_longer(rate: float) -> None:
    """One request in every 1/rate seconds, and not a second one."""
    size = bucket(rate)

    assert most_in(1 / rate + GUARD_S, capacity=size.capacity, refill_per_s=size.refill_per_s) < 2
    assert size.refill_per_s > 0.95 * rate


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), "30", True])
def test_a_rate_that_is_none_is_refused_by_name(rate: object) -> None:
    """The error names the lane."""
    with pytest.raises(ConfigurationError, match=r"Rates\(voice=…\)"):
        Rates(voice=rate)  # type: ignore[arg-type]


def test_the_defaults_are_the_reference_s() -> None:
    """30, 1 and 1; no limit where v0.4 documents none."""
    rates = Rates()

    assert (rates.sms, rates.token, rates.balance) == (30, 1, 1)
    assert (rates.mms, rates.voice, rates.management) == (None, None, None)
    assert pickle.loads(pickle.dumps(rates)) == rates
