"""
Four readings of "30 requests per second per API key".

The reference documents the number and not the window rule, so the sandbox can enforce any of four. No rule reads a
clock: each gets the times of requests, so that `replay` can apply it to recorded arrivals.

No rule counts a refused request against the next one (own choice: not documented).
Source: API reference v0.4, the three "Rate Limit" lines; which rule Pico uses is not documented.
"""

from collections import deque
from collections.abc import Iterable
from math import floor
from typing import Protocol

from pico_async.sandbox.checks import Choice

# Thirtieths of a second do not add up to exactly 1 in binary. A nanosecond is less than a clock resolves.
TOLERANCE_S: float = 1e-9


class RateRule(Choice):
    """Window rule by which a number of requests per second is enforced."""

    ALIGNED_WINDOW = "aligned-window"
    FIRST_REQUEST_WINDOW = "first-request-window"
    SLIDING_LOG = "sliding-log"
    TOKEN_BUCKET = "token-bucket"  # noqa: S105  # the name of an algorithm


class Limiter(Protocol):
    """Admits or refuses requests, one after another. The times that it gets never decrease."""

    def admit(self, now: float) -> bool:
        """Count a request that arrives at *now* and return True, or return False if it is refused."""

    def retry_after(self, now: float) -> float:
        """Return in how many seconds a request would be admitted, if no other comes first."""


def _window(rate: float) -> tuple[int, float]:
    # Whole requests only: 30 a second is 30 in 1 s, and 0.5 a second is 1 in 2 s.
    limit = max(1, floor(rate))
    return limit, limit / rate


class FirstRequestWindow:
    """Admits the rate in a second that begins with its first request, as a counter with an expiry does."""

    def __init__(self, rate: float) -> None:
        self._limit, self._window_s = _window(rate)
        self._start: float | None = None
        self._count = 0

    def admit(self, now: float) -> bool:
        start = self._start_at(now)
        if start != self._start:
            self._start, self._count = start, 0
        if self._count >= self._limit:
            return False
        self._count += 1
        return True

    def retry_after(self, now: float) -> float:
        start = self._start_at(now)
        return start + self._window_s - now if start == self._start and self._count >= self._limit else 0.0

    def _start_at(self, now: float) -> float:
        is_over = self._start is None or now - self._start >= self._window_s - TOLERANCE_S
        return now if is_over or self._start is None else self._start


class AlignedWindow(FirstRequestWindow):
    """Admits the rate in each second of the clock, so up to twice the rate around the border of two seconds."""

    def _start_at(self, now: float) -> float:
        return floor(now / self._window_s) * self._window_s


class SlidingLog:
    """Admits the rate in *any* second: requests admitted in (now - 1 s, now] count. The strictest of the four."""

    def __init__(self, rate: float) -> None:
        self._limit, self._window_s = _window(rate)
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        admitted = self._admitted
        while admitted and now - admitted[0] >= self._window_s - TOLERANCE_S:
            admitted.popleft()
        if len(admitted) >= self._limit:
            return False
        admitted.append(now)
        return True

    def retry_after(self, now: float) -> float:
        if len(self._admitted) < self._limit:
            return 0.0
        return max(0.0, self._admitted[0] + self._window_s - now)


class TokenBucket:
    """Admits from a bucket of one second's tokens, refilled evenly: up to twice the rate in the first second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._level = self._capacity
        self._filled_at: float | None = None

    def _fill(self, now: float) -> float:
        if self._filled_at is not None:
            self._level = min(self._capacity, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._level

    def admit(self, now: float) -> bool:
        if self._fill(now) < 1.0 - self._rate * TOLERANCE_S:
            return False
        self._level -= 1.0
        return True

    def retry_after(self, now: float) -> float:
        return max(0.0, (1.0 - self._fill(now)) / self._rate)


def make_limiter(rule: RateRule | str, rate: float) -> Limiter:
    """Return a new limiter that enforces *rate* requests per second by *rule*."""
    if not rate > 0:
        raise ValueError(f"rate={rate!r}: pass more than 0 requests per second, or None for no limit.")
    match RateRule(rule):
        case RateRule.ALIGNED_WINDOW:
            return AlignedWindow(rate)
        case RateRule.FIRST_REQUEST_WINDOW:
            return FirstRequestWindow(rate)
        case RateRule.SLIDING_LOG:
            return SlidingLog(rate)
        case RateRule.TOKEN_BUCKET:
            return TokenBucket(rate)


def replay(rule: RateRule | str, times: Iterable[float], rate: float) -> int:
    """
    Return how many of the requests at *times* the *rule* refuses.

    Args:
        rule: One of the four window rules.
        times: Seconds on one clock, in any order.
        rate: Requests per second.
    """
    limiter = make_limiter(rule, rate)
    return sum(not limiter.admit(at) for at in sorted(times))
