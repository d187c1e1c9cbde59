"""How fast each kind of request may go."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
from attrs import field, frozen

from pico_async._engine.endpoints import Lane
from pico_async.errors import ConfigurationError

# Two requests may reach the server closer together than they left: the network delays one by up to 10 ms and not the
# next, and a busy event loop wakes up to 3 ms late. With 10 ms alone, one recording in three of 900 messages at 10 ms
# of jitter held a second with 31.
GUARD_S = 0.013
# What a late timer loses may be caught up within this time; asyncio wakes up to 3 ms late on a busy machine.
CATCH_UP_S = 1 / 300
# Slots of a fleet are moments that were fixed beforehand. One is still good so long after its moment, for a timer may
# be late where several processes share a machine.
LATE_S = 0.012
# How far apart two processes are in their ideas of Redis's clock, and in what it takes them from a turn to the request.
APART_S = 0.010


def _rate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"Rates({attribute.name}=…) must be a positive number of requests a second, or None.")


@frozen(kw_only=True)
class Rates:
    """
    Requests a second and API key, as the contract with Pico allows; None is no limit.

    The defaults are those of the reference v0.4; it documents no rate for MMS, voice and management calls.
    Pass a higher `sms` only after Pico's sales raised it for your key.
    """

    sms: float | None = field(default=30, validator=_rate)
    token: float | None = field(default=1, validator=_rate)
    balance: float | None = field(default=1, validator=_rate)
    mms: float | None = field(default=None, validator=_rate)
    voice: float | None = field(default=None, validator=_rate)
    management: float | None = field(default=None, validator=_rate)

    def of(self, lane: Lane) -> float | None:
        """Give the rate of one lane."""
        rate: float | None = getattr(self, lane.value)
        return rate


class Bucket(NamedTuple):
    """A token bucket: `capacity` tokens at most, refilled with `refill_per_s`."""

    capacity: float
    refill_per_s: float


def bucket(rate: float) -> Bucket:
    """
    Size the bucket so that the server sees no more than *rate* requests in any one second.

    A bucket of b tokens and refill r admits at most b + r·T in any T. A bucket of 30 that refills with 30 therefore
    lets 59 requests into one second, whatever its name promises. Where the network bunches requests by up to J
    seconds, the server sees in one second what left in 1 + J, so b + r(1 + J) < n + 1 keeps it to n. For n = 30,
    b = 1.1 and J = 13 ms this gives r = 29.5. It holds for as long as the network keeps to J.

    Below one a second the same holds for n = 1 and a window of 1/rate seconds.
    """
    window_s, n = (1.0, math.floor(rate)) if rate >= 1 else (1 / rate, 1)
    capacity = 1 + n / window_s * CATCH_UP_S
    refill = (n + 1 - capacity) / (window_s + GUARD_S)
    # Rounded down, because the bound is strict.
    return Bucket(capacity, math.floor(refill * 1e4) / 1e4 if refill > 0.01 else refill * 0.999)


def spacing_s(rate: float) -> float:
    """
    Say how far apart the slots of a fleet lie, so that the server sees no more than *rate* requests in any one second.

    The bound is that of `bucket`, for a bucket of one: slots T apart, which one process takes up to A earlier than
    another, each used up to L late and then delayed by the network by up to J, put no more than (1 + A + L + J) / T of
    them into one second. For n = 30, A = 10 ms, L = 12 ms and J = 13 ms this gives 28.99 a second.
    """
    window_s, n = (1.0, math.floor(rate)) if rate >= 1 else (1 / rate, 1)
    return (window_s + APART_S + LATE_S + GUARD_S) / n
