"""The token bucket is sized so that no second at the server exceeds the rate, and wrong rates are refused."""

from __future__ import annotations

import pickle

import pytest

from pico_async import ConfigurationError, Rates
from pico_async.coordination.rates import JITTER_ALLOWANCE_S, bucket


def most_in(window_s: float, *, capacity: float, refill_per_s: float) -> float:
    return capacity + refill_per_s * window_s


def test_the_documented_rate_gets_the_designed_bucket() -> None:
    """A rate of 30 and a jitter allowance of 10 ms lead to a bucket of 1.06 tokens, refilled with 29.6 a second."""
    size = bucket(30, 0.01)

    assert size.capacity == pytest.approx(1.06)
    assert size.refill_per_s == pytest.approx(29.64, abs=0.01)


@pytest.mark.parametrize("jitter_allowance_s", [0.0, 0.002, 0.05])
@pytest.mark.parametrize("rate", [1, 2, 3, 10, 30, 31.9, 100, 500, 1000])
def test_no_second_at_the_server_sees_more_than_the_rate(rate: float, jitter_allowance_s: float) -> None:
    """One second at the server holds no more than the rate, even if jitter bunches requests, and little is lost."""
    size = bucket(rate, jitter_allowance_s)

    assert most_in(1 + jitter_allowance_s, capacity=size.capacity, refill_per_s=size.refill_per_s) < int(rate) + 1
    assert size.refill_per_s > (0.99 - jitter_allowance_s) * int(rate)


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_below_one_a_second_the_window_is_longer(rate: float) -> None:
    """Below one request a second, at most one request leaves in any 1/rate seconds."""
    size = bucket(rate, JITTER_ALLOWANCE_S)

    assert most_in(1 / rate + JITTER_ALLOWANCE_S, capacity=size.capacity, refill_per_s=size.refill_per_s) < 2
    assert size.refill_per_s > 0.95 * rate


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), "30", True])
def test_a_rate_that_is_none_is_refused_by_name(rate: object) -> None:
    """An invalid rate raises an error that names the rate group."""
    with pytest.raises(ConfigurationError, match=r"Rates\(voice=…\)"):
        Rates(voice=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("jitter_allowance_s", [-0.001, 1.1, float("nan"), "0.01", True])
def test_a_guard_that_is_none_is_refused_by_name(jitter_allowance_s: object) -> None:
    """A `jitter_allowance_s` that is not a number of seconds between 0 and 1 raises an error that names it."""
    with pytest.raises(ConfigurationError, match=r"Rates\(jitter_allowance_s=…\)"):
        Rates(jitter_allowance_s=jitter_allowance_s)  # type: ignore[arg-type]


def test_the_defaults_are_the_reference_s() -> None:
    """The default rates are 30, 1 and 1, without a limit where v0.4 documents none; they can be pickled."""
    rates = Rates()

    assert (rates.sms, rates.token, rates.balance) == (30, 1, 1)
    assert (rates.mms, rates.voice, rates.management) == (None, None, None)
    assert pickle.loads(pickle.dumps(rates)) == rates
