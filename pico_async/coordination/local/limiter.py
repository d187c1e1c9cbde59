"""The limiter of one rate group in one event loop, and what it learns from the replies."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from math import inf
from operator import attrgetter

from aiolimiter import AsyncLimiter
from attrs import define

from pico_async.coordination.fair_queue import PRIORITY_AHEAD, FairQueue
from pico_async.coordination.rates import (
    MAX_PAUSE_S,
    PAUSE_S,
    SLOWED_FOR_S,
    SLOWED_TO,
    SLOWEST,
    bucket,
    window,
)

# How often the bucket is fitted to the jitter, and the smallest change that is worth a new bucket. Each new bucket
# discards tokens, and that time is lost.
FIT_EVERY_S = 0.5
FIT_FROM_S = 0.0005

# A reply that is slower than the fastest by more than this does not re-date its request: the server was slow, and not
# the way to it. This is more than MAX_JITTER_S, because a stall of 50 ms and a little jitter may come together.
MAX_DELAY_S = 0.070

# The jitter allowance that is used until enough replies came.
INITIAL_JITTER_S = 0.010
MIN_JITTER_S = 0.002
MAX_JITTER_S = 0.050
# Replies of the last 4 s count. So the rate recovers within 4 s after a burst of jitter.
SAMPLES_KEPT_S = 4.0
# More replies per second add nothing, at any rate.
SAMPLES_PER_S = 40
ENOUGH_SAMPLES = 32
# If even the fastest reply takes this long, the delay of a request is known only after requests that could collide with
# it have been sent.
TOO_SLOW_S = 1.0
# A busy event loop reads some replies late, which is no jitter of the network. So one reply in twenty-five is ignored.
# If one of them was late because of the network, `ArrivalWindow` holds back the requests that could collide with it.
LATE_READS = 1 / 25
# After a refusal the allowance grows by the first, because the jitter is larger than the replies show. Then it shrinks
# by the second in each second.
WIDENED_BY_S = 0.020
NARROWED_PER_S = 0.003


@define(eq=False, repr=False)
class LocalSlot:
    """
    Permission to send one request now.

    Attributes:
        granted_at: When it was granted, on the monotonic clock.
        request: Its request in the limiter's `ArrivalWindow`; None if there is none.
    """

    _limiter: LocalLimiter
    granted_at: float
    request: SentRequest | None

    async def renew(self) -> bool:
        self.give_back()
        if await self._limiter.redate(self):
            return False
        another = await self._limiter.acquire(PRIORITY_AHEAD)
        self.granted_at, self.request = another.granted_at, another.request
        return True

    def answered(self, took_s: float) -> None:
        self._limiter.observe_reply(self.request, took_s)

    async def refused(self, retry_after_s: float | None) -> None:
        self._limiter.pause(retry_after_s)

    def give_back(self) -> None:
        """Return the slot unused: no window counts it. The bucket's token is lost."""
        if self.request is not None:
            self._limiter.forget(self.request)
            self.request = None


class LocalLimiter:
    """
    Grant slots to the requests of one rate group, first come first served within a priority.

    A token bucket spaces the slots; its size and the reason for it are in `coordination.rates.bucket`. An
    `ArrivalWindow` makes a request wait if, together with delayed ones, it could exceed the limit at the server.

    Args:
        rate: Requests per second; None grants each slot at once, unless Pico refused one.
        jitter_allowance_s: None learns it.
    """

    def __init__(self, rate: float | None, jitter_allowance_s: float | None = None) -> None:
        self._rate = rate
        self._jitter = JitterEstimate(jitter_allowance_s)
        self._allowance_s = self._jitter.allowance_s(float("-inf"))
        self._queue = FairQueue()
        self._arrivals = None if rate is None else ArrivalWindow(*window(rate))
        self._slowed_to = 1.0
        self._bucket = self._new_bucket()
        self._granted_at = self._fitted_at = self._resume_at = self._recover_at = float("-inf")

    def __repr__(self) -> str:
        if self._bucket is None:
            return f"<LocalLimiter unlimited, {self._queue!r}>"
        return f"<LocalLimiter {self.per_s:.2f}/s, {self._bucket!r}, {self._arrivals!r}, {self._queue!r}>"

    @property
    def per_s(self) -> float | None:
        return None if self._rate is None else bucket(self._rate, self._allowance_s).refill_per_s * self._slowed_to

    async def acquire(self, priority: int) -> LocalSlot:
        if self._bucket is None and not self._pause_s():
            return LocalSlot(self, time.monotonic(), None)
        loop = asyncio.get_running_loop()
        # aiolimiter lets a new caller overtake one that is about to wake, so only the head of the queue asks it.
        await self._queue.acquire(priority)
        try:
            while True:
                if (pause_s := self._resume_at - loop.time()) > 0:
                    await asyncio.sleep(pause_s)
                if self._bucket is not None:
                    await self._bucket.acquire()
                    if loop.time() - self._fitted_at >= FIT_EVERY_S:
                        await self._fit_bucket()
                while self._arrivals is not None and (wait_s := self._arrivals.wait_s(time.monotonic())):
                    await asyncio.sleep(wait_s)
                    await self._discard_refill(wait_s)
                # Pico may have refused a request meanwhile.
                if self._resume_at <= loop.time():
                    self._granted_at = now = time.monotonic()
                    return LocalSlot(self, now, None if self._arrivals is None else self._arrivals.add(now))
        finally:
            self._queue.release()

    async def redate(self, slot: LocalSlot) -> bool:
        """Try to re-date a slot that was given back. Return False if it must be replaced by another one."""
        if self._pause_s():
            return False
        if self._arrivals is None:
            slot.granted_at = time.monotonic()
            return True
        if self._granted_at > slot.granted_at or self._arrivals.wait_s(time.monotonic()):
            return False
        await self._discard_refill(time.monotonic() - slot.granted_at)
        self._granted_at = slot.granted_at = now = time.monotonic()
        slot.request = self._arrivals.add(now)
        return True

    def observe_reply(self, request: SentRequest | None, took_s: float) -> None:
        # Not by the loop's clock, which uvloop rounds.
        if self._arrivals is not None and request is not None:
            self._jitter.add(took_s, time.monotonic())
            self._arrivals.observe_reply(request, took_s, self._jitter.fastest_s)

    def forget(self, request: SentRequest) -> None:
        if self._arrivals is not None:
            self._arrivals.remove(request)

    def pause(self, retry_after_s: float | None) -> None:
        """Pause after a refusal, then grant fewer slots for a while."""
        now = asyncio.get_running_loop().time()
        # Requests that were in flight together are refused together, which counts as one refusal.
        if now >= self._resume_at:
            # A first refusal may come from jitter, so the allowance grows. If it cannot grow, or Pico refuses again
            # before the recovery ends, something else probably uses a part of the rate, so fewer slots are granted.
            again = now < self._recover_at
            if not self._jitter.widen(now) or again:
                self._slowed_to = max(SLOWEST, self._slowed_to * SLOWED_TO)
        pause_s = min(max(retry_after_s or 0.0, PAUSE_S), MAX_PAUSE_S)
        self._resume_at = max(self._resume_at, now + pause_s)
        self._recover_at = self._resume_at + SLOWED_FOR_S
        # A new bucket is full. This is harmless: the old one would be full, too, when the pause is over.
        self._allowance_s = self._jitter.allowance_s(now)
        self._bucket = self._new_bucket()

    def constrained_s(self) -> float:
        """Return for how many seconds earlier requests and refusals still limit new requests."""
        now = asyncio.get_running_loop().time()
        refill_s = 0.0 if self._bucket is None else self._bucket.time_period
        return max(self._occupied_s(), self._pause_s() + refill_s, self._recover_at - now)

    def continue_from(self, earlier: LocalLimiter) -> None:
        """Take over from a limiter with another rate: its sends and refusals constrain new requests."""
        now = asyncio.get_running_loop().time()
        self._resume_at = now + max(earlier._occupied_s(), earlier._pause_s())
        self._slowed_to, self._recover_at = earlier._slowed_to, earlier._recover_at
        self._bucket = self._new_bucket()

    def _occupied_s(self) -> float:
        return 0.0 if self._arrivals is None else self._arrivals.occupied_s(time.monotonic())

    def _pause_s(self) -> float:
        return max(0.0, self._resume_at - asyncio.get_running_loop().time())

    async def _discard_refill(self, waited_s: float) -> None:
        """Discard tokens that accrued while a slot, which has its own, waited. That time must yield no more slots."""
        if self._bucket is not None:
            accrued = waited_s * self._bucket.max_rate / self._bucket.time_period
            await self._bucket.acquire(min(accrued, self._bucket.max_rate))

    async def _fit_bucket(self) -> None:
        """Fit the bucket to the jitter allowance, and return to the full rate when a slow-down is over."""
        self._fitted_at = now = asyncio.get_running_loop().time()
        slowed_to = 1.0 if now >= self._recover_at else self._slowed_to
        allowance_s = self._jitter.allowance_s(now)
        if slowed_to == self._slowed_to and abs(allowance_s - self._allowance_s) < FIT_FROM_S:
            return
        self._slowed_to, self._allowance_s = slowed_to, allowance_s
        self._bucket = self._new_bucket()
        if self._bucket is not None:
            # A new bucket is full. The old one has just granted its last token.
            await self._bucket.acquire(self._bucket.max_rate)

    def _new_bucket(self) -> AsyncLimiter | None:
        if self._rate is None:
            return None
        size = bucket(self._rate, self._allowance_s)
        return AsyncLimiter(size.capacity, size.capacity / (size.refill_per_s * self._slowed_to))


_arrived_at = attrgetter("arrived_at")


@define(eq=False)
class SentRequest:
    """
    One request that used a slot.

    Attributes:
        sent_at: When its slot was granted, on the monotonic clock. It leaves up to `SLOT_FRESH_S` later.
        arrived_at: When it reached the server: that time, until its reply shows a delay.
    """

    sent_at: float
    arrived_at: float


class ArrivalWindow:
    """
    Compute how long to wait so that no window at the server holds more than *limit* requests.

    Each request counts from its send time. If its reply shows a delay on the way, it counts from its estimated arrival.
    If the fastest recent reply becomes faster, all earlier requests were delayed by that much more than was known, so
    their arrivals move. A request that is sent one window after an arrival cannot share a window with that request.

    Args:
        limit: Requests that one window may hold.
        window_s: Length of the window in seconds.
    """

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._recent: list[SentRequest] = []  # by arrival, oldest first
        self._fastest_s = inf

    def __repr__(self) -> str:
        return f"<ArrivalWindow {len(self._recent)}/{self._limit} in {self._window_s:g} s>"

    def wait_s(self, now: float) -> float:
        """Return how many seconds must pass before one more request fits."""
        if len(self._recent) < self._limit:
            return 0.0
        return max(0.0, self._recent[-self._limit].arrived_at + self._window_s - now)

    def occupied_s(self, now: float) -> float:
        """Return how many seconds must pass until the window is empty."""
        return max(0.0, self._recent[-1].arrived_at + self._window_s - now) if self._recent else 0.0

    def add(self, now: float) -> SentRequest:
        """Record a request that is sent now, and forget those that no window can hold, even if they were delayed."""
        del self._recent[: bisect_left(self._recent, now - self._window_s - MAX_DELAY_S, key=_arrived_at)]
        request = SentRequest(now, now)
        insort(self._recent, request, key=_arrived_at)
        return request

    def remove(self, request: SentRequest) -> None:
        if request in self._recent:
            self._recent.remove(request)

    def observe_reply(self, request: SentRequest, took_s: float, fastest_s: float) -> None:
        """
        Re-date a request by the delay that its reply shows.

        Args:
            took_s: How long after its send time the reply came.
            fastest_s: How long the fastest recent reply took; infinity if unknown.
        """
        faster_by_s = self._fastest_s - fastest_s  # infinity or NaN if one is unknown
        self._fastest_s = fastest_s
        if 0.0 < faster_by_s <= MAX_DELAY_S:
            # A faster reply shows that all earlier requests were delayed by more than was known.
            for earlier in self._recent:
                earlier.arrived_at += faster_by_s
        if 0.0 < took_s - fastest_s <= MAX_DELAY_S and request in self._recent:
            self._recent.remove(request)
            request.arrived_at = request.sent_at + took_s - fastest_s
            insort(self._recent, request, key=_arrived_at)


class JitterEstimate:
    """
    Learn the jitter allowance from the spread of the response times.

    Over many replies, the response times spread at least as much as the ways to the server, unless slow ways there
    always meet fast ways back. So the spread is an upper bound of the jitter. The server's own work makes it larger.

    Args:
        fixed_s: Learn nothing, and return this.

    Attributes:
        fastest_s: The fastest recent response time; infinity if unknown.
    """

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._samples: list[tuple[float, float]] = []
        self._last_sent_at = float("-inf")
        self.fastest_s: float = float("inf")
        self._widened_s = 0.0
        self._widened_at = float("-inf")

    def __repr__(self) -> str:
        return f"<JitterEstimate fastest {self.fastest_s * 1e3:.1f} ms, {len(self._samples)} samples>"

    def add(self, took_s: float, now: float) -> None:
        # Sampled by send times: after a stall of the network, many replies come at once.
        if self._fixed_s is None and abs(now - took_s - self._last_sent_at) >= 1 / SAMPLES_PER_S:
            self._last_sent_at = now - took_s
            self._samples.append((now, took_s))
            del self._samples[: -int(2 * SAMPLES_KEPT_S * SAMPLES_PER_S)]
            self.fastest_s = min(self.fastest_s, took_s)

    def widen(self, now: float) -> bool:
        """Raise the allowance for a while, after a refusal. Return False if it is at its maximum already."""
        known_s = self.allowance_s(now)
        if self._fixed_s is not None or known_s >= MAX_JITTER_S:
            return False
        self._widened_s, self._widened_at = min(MAX_JITTER_S, known_s + WIDENED_BY_S), now
        return True

    def allowance_s(self, now: float) -> float:
        if self._fixed_s is not None:
            return self._fixed_s
        self._samples = [sample for sample in self._samples if now - sample[0] <= SAMPLES_KEPT_S]
        took_s = sorted(took_s for _, took_s in self._samples)
        self.fastest_s = took_s[0] if took_s else float("inf")
        spread_s = took_s[-1 - int(len(took_s) * LATE_READS)] - took_s[0] if took_s else 0.0
        if len(took_s) < ENOUGH_SAMPLES or self.fastest_s >= TOO_SLOW_S:
            spread_s = max(spread_s, INITIAL_JITTER_S)
        widened_s = self._widened_s - NARROWED_PER_S * (now - self._widened_at)
        return min(MAX_JITTER_S, max(MIN_JITTER_S, spread_s, widened_s))
