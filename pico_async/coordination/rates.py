"""The rates of the rate groups, and the token buckets that keep them."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple

import attrs
from attrs import field, frozen

from pico_async.errors import ConfigurationError

# For a fleet. Two requests may reach the server closer together than they were sent: the network may delay one by 10 ms
# and not the next, and a busy event loop wakes up to 3 ms late.
JITTER_ALLOWANCE_S = 0.013
MAX_JITTER_ALLOWANCE_S = 1.0
# A timer may be this late without loss of rate, because the bucket's capacity makes up for it. asyncio wakes 1 ms late,
# and 2 ms in one case of a hundred.
CATCH_UP_S = 0.002
# The slots of a fleet are fixed in advance. A slot may be used this late, because timers are late if several processes
# share a machine.
FLEET_LATE_S = 0.012
# How much two processes may differ in their estimates of Redis's clock, and in their time from slot to request.
APART_S = 0.010
# The pause after a refusal because requests came too fast: at least this long, and exactly this long without a
# Retry-After. It is the limit's window: the bucket is full after a pause, so a window with a shorter pause in it could
# contain too many requests.
PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
SLOWED_TO = 0.8
SLOWEST = 0.2
SLOWED_FOR_S = 30.0


class RateGroup(StrEnum):
    """Requests that share one rate limit. `Rates` has a field of the same name for each."""

    TOKEN = "token"  # noqa: S105  a rate group's name, no secret
    BALANCE = "balance"
    SMS = "sms"
    MMS = "mms"
    VOICE = "voice"
    MANAGEMENT = "management"


def _rate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"Rates({attribute.name}=…) must be a positive number of requests a second, or None.")


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_JITTER_ALLOWANCE_S:
        raise ConfigurationError(
            f"Rates({attribute.name}=…) must be seconds, from 0 to {MAX_JITTER_ALLOWANCE_S:g}, or None."
        )


@frozen(kw_only=True)
class Rates:
    """
    Requests per second for one API key, as the contract with Pico allows. None is unlimited.

    The defaults are those of the reference v0.4. It documents no rate for MMS, voice and management calls. Pass a
    higher `sms` only after Pico raised it for your key.

    Attributes:
        jitter_allowance_s: The largest difference, in seconds, between the delays of two requests on their way to Pico.
            The limiter stays so far below the rate that no second at Pico contains more requests. For a rate of 30 it
            grants (31 - 1.06) / (1 + allowance) a second; 1.06 is the bucket's capacity. With None, the limiter learns
            it from the spread of the response times: 2 to 50 ms, which gives 29.9 to 28.5 a second. A fleet uses 13 ms.
    """

    sms: float | None = field(default=30, validator=_rate)
    token: float | None = field(default=1, validator=_rate)
    balance: float | None = field(default=1, validator=_rate)
    mms: float | None = field(default=None, validator=_rate)
    voice: float | None = field(default=None, validator=_rate)
    management: float | None = field(default=None, validator=_rate)
    jitter_allowance_s: float | None = field(default=None, validator=_seconds)

    def of(self, rate_group: RateGroup) -> float | None:
        rate: float | None = getattr(self, rate_group.value)
        return rate


class Window(NamedTuple):
    """At most `number` requests in any time of this length."""

    number: int
    length_s: float


def window(rate: float) -> Window:
    """Return the window of a rate: whole requests in a second, or one request in a longer time."""
    return Window(math.floor(rate), 1.0) if rate >= 1 else Window(1, 1 / rate)


class Bucket(NamedTuple):
    """A token bucket: `capacity` tokens at most, refilled with `refill_per_s`."""

    capacity: float
    refill_per_s: float


def bucket(rate: float, jitter_allowance_s: float) -> Bucket:
    """
    Return the bucket with which the server gets no more than *rate* requests in any second.

    A bucket with b tokens and refill r admits at most b + r·T requests in any time T. With b = r = 30 and T = 1 s that
    is 60: 30 at once, 29 within the second, and the 60th exactly at its end.

    With a jitter of up to J seconds, the requests of one second at the server were sent within 1 + J seconds. So
    b + r(1 + J) < n + 1 keeps them to n. For n = 30, b = 1.06 and J = 10 ms this gives r = 29.6. It holds as long as
    the jitter does not exceed J.

    For a rate below one a second, n is 1 and the window is 1/rate seconds.
    """
    n, window_s = window(rate)
    capacity = 1 + n / window_s * CATCH_UP_S
    refill = (n + 1 - capacity) / (window_s + jitter_allowance_s)
    # Rounded down, because the bound is strict.
    return Bucket(capacity, (math.ceil(refill * 1e4) - 1) / 1e4 if refill > 0.01 else refill * 0.999)


def spacing_s(rate: float, jitter_allowance_s: float | None = None) -> float:
    """
    Return the time between two slots of a fleet, with which the server gets no more than *rate* requests in any second.

    The reason is that of `bucket`, with slots that are T seconds apart in place of a refill. Two processes' clocks
    differ by up to A, a slot is used up to L late, and the jitter is up to J. So one second contains at most
    (1 + A + L + J) / T requests. For n = 30, A = 10 ms, L = 12 ms and J = 13 ms this gives 28.99 a second.
    """
    n, window_s = window(rate)
    return (
        window_s + APART_S + FLEET_LATE_S + (JITTER_ALLOWANCE_S if jitter_allowance_s is None else jitter_allowance_s)
    ) / n
