"""How fast each kind of request may go."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple

import attrs
from attrs import field, frozen

from pico_async.errors import ConfigurationError

# Of a fleet. Two requests may reach the server closer together than they left: the network delays one by up to 10 ms
# and not the next, and a busy event loop wakes up to 3 ms late.
JITTER_ALLOWANCE_S = 0.013
MAX_JITTER_ALLOWANCE_S = 1.0
# What a late timer loses may be caught up within this time. asyncio wakes 1 ms late, and one time in a hundred 2 ms.
CATCH_UP_S = 0.002
# Slots of a fleet are moments that were fixed beforehand. One is still good so long after its moment, for a timer may
# be late where several processes share a machine.
LATE_S = 0.012
# How far apart two processes are in their ideas of Redis's clock, and in what it takes them from a turn to the request.
APART_S = 0.010


class RateGroup(StrEnum):
    """What shares one rate limit. `Rates` has a field of the same name for each."""

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


def _guard(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_JITTER_ALLOWANCE_S:
        raise ConfigurationError(
            f"Rates({attribute.name}=…) must be seconds, from 0 to {MAX_JITTER_ALLOWANCE_S:g}, or None."
        )


@frozen(kw_only=True)
class Rates:
    """
    Requests a second and API key, as the contract with Pico allows; None is no limit.

    The defaults are those of the reference v0.4; it documents no rate for MMS, voice and management calls.
    Pass a higher `sms` only after Pico's sales raised it for your key.

    Attributes:
        jitter_allowance_s: How much later one request may arrive than the next one that was sent after it. The limiter
            keeps so far below the rate that no second at Pico holds more: (n + 1 - 1.06) / (1 s + allowance) for
            n = 30. None: it is learned from the spread of the response times, between 2 and 50 ms, which gives 29.9
            to 28.5 a second. A fleet does not learn, and takes 13 ms.
    """

    sms: float | None = field(default=30, validator=_rate)
    token: float | None = field(default=1, validator=_rate)
    balance: float | None = field(default=1, validator=_rate)
    mms: float | None = field(default=None, validator=_rate)
    voice: float | None = field(default=None, validator=_rate)
    management: float | None = field(default=None, validator=_rate)
    jitter_allowance_s: float | None = field(default=None, validator=_guard)

    def of(self, rate_group: RateGroup) -> float | None:
        """Give the rate of one rate group."""
        rate: float | None = getattr(self, rate_group.value)
        return rate


class Window(NamedTuple):
    """So many requests at most in any time of this length."""

    number: int
    length_s: float


def window(rate: float) -> Window:
    """Say what a rate means to a server: whole requests in any second, or one in a longer time below one a second."""
    return Window(math.floor(rate), 1.0) if rate >= 1 else Window(1, 1 / rate)


class Bucket(NamedTuple):
    """A token bucket: `capacity` tokens at most, refilled with `refill_per_s`."""

    capacity: float
    refill_per_s: float


def bucket(rate: float, jitter_allowance_s: float) -> Bucket:
    """
    Size the bucket so that the server sees no more than *rate* requests in any one second.

    A bucket of b tokens and refill r admits at most b + r·T in any T. A bucket of 30 that refills with 30 therefore
    lets 59 requests into one second, whatever its name promises. Where the network bunches requests by up to J
    seconds, the guard, the server sees in one second what left in 1 + J, so b + r(1 + J) < n + 1 keeps it to n. For
    n = 30, b = 1.06 and J = 10 ms this gives r = 29.6. It holds for as long as the network keeps to J.

    Below one a second the same holds for n = 1 and a window of 1/rate seconds.
    """
    n, window_s = window(rate)
    capacity = 1 + n / window_s * CATCH_UP_S
    refill = (n + 1 - capacity) / (window_s + jitter_allowance_s)
    # Rounded down, because the bound is strict.
    return Bucket(capacity, (math.ceil(refill * 1e4) - 1) / 1e4 if refill > 0.01 else refill * 0.999)


def spacing_s(rate: float, jitter_allowance_s: float | None = None) -> float:
    """
    Say how far apart the slots of a fleet lie, so that the server sees no more than *rate* requests in any one second.

    The bound is that of `bucket`, for a bucket of one: slots T apart, which one process takes up to A earlier than
    another, each used up to L late and then delayed by the network by up to J, put no more than (1 + A + L + J) / T of
    them into one second. For n = 30, A = 10 ms, L = 12 ms and J = 13 ms this gives 28.99 a second.
    """
    n, window_s = window(rate)
    return (
        window_s + APART_S + LATE_S + (JITTER_ALLOWANCE_S if jitter_allowance_s is None else jitter_allowance_s)
    ) / n
