"""The limiter of one rate group in one event loop."""

from __future__ import annotations

import asyncio
import time

from aiolimiter import AsyncLimiter

from pico_async.coordination.fair_queue import FairQueue
from pico_async.coordination.local.arrival_window import ArrivalWindow
from pico_async.coordination.local.jitter import JitterEstimate
from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import bucket, window
from pico_async.coordination.refusals import MAX_PAUSE_S, PAUSE_S, SLOWED_FOR_S, SLOWED_TO, SLOWEST

# How often, and for how much of a change, the bucket is made anew: what is late by then is not caught up.
FIT_EVERY_S = 0.5
FIT_FROM_S = 0.0005


class LocalLimiter:
    """The pace of one rate group."""

    def __init__(self, rate: float | None, jitter_allowance_s: float | None = None) -> None:
        self._rate = rate
        self._guard = JitterEstimate(jitter_allowance_s)
        self._guard_s = self._guard.at(float("-inf"))
        self._queue = FairQueue()
        self._arrivals = None if rate is None else ArrivalWindow(*window(rate))
        self._share = 1.0
        self._limiter = self._new_limiter()
        self._given_at = self._fitted_at = self._resume_at = self._recover_at = float("-inf")

    @property
    def per_s(self) -> float | None:
        """Requests a second as it gives them now; None where nothing limits it."""
        return None if self._rate is None else bucket(self._rate, self._guard_s).refill_per_s * self._share

    async def turn(self, priority: Priority) -> None:
        """Wait until one more request may go out."""
        if self._limiter is None and not self._pause_s():
            return
        # aiolimiter lets a newcomer overtake whoever is about to wake, so only the head of the queue asks it.
        await self._queue.take(priority)
        try:
            while True:
                if pause_s := self._pause_s():
                    await asyncio.sleep(pause_s)
                if self._limiter is not None:
                    await self._limiter.acquire()
                    await self._fit()
                    while wait_s := self._meets_s():
                        await asyncio.sleep(wait_s)
                        await self._forgo(wait_s)
                # A refusal may have come while this waited, for the bucket or in the pause.
                if not self._pause_s():
                    self._give()
                    return
        finally:
            self._queue.give_back()

    async def leave_late(self, turn_at: float) -> bool:
        """Count the turn of that time from now on; False where others had theirs meanwhile."""
        if self._arrivals is not None:
            # Not then, and, where it is too late, not now.
            self._arrivals.not_left(turn_at)
        if self._pause_s():
            return False
        if self._limiter is None:
            return True
        if self._given_at > turn_at or self._meets_s():
            return False
        await self._forgo(time.monotonic() - turn_at)
        self._give()
        return True

    def heard(self, took_s: float) -> None:
        """Learn from how long after its turn a request had its reply."""
        if self._arrivals is None:
            return
        # Not the loop's own time, which uvloop rounds: by its turn a request is known again.
        now = time.monotonic()
        self._guard.heard(took_s, now)
        self._arrivals.heard(now - took_s, took_s, self._guard.least_s)

    def refused(self, retry_after_s: float | None) -> None:
        """Pause, then go slower for a while."""
        now = asyncio.get_running_loop().time()
        # Requests that were in flight together are refused together: that is one refusal.
        if now >= self._resume_at:
            # A network that bunches needs a wider guard. Where that did not help, something else takes of the rate.
            again = now < self._recover_at
            if not self._guard.refused(now) or again:
                self._share = max(SLOWEST, self._share * SLOWED_TO)
        pause_s = min(max(retry_after_s or 0.0, PAUSE_S), MAX_PAUSE_S)
        self._resume_at = max(self._resume_at, now + pause_s)
        self._recover_at = self._resume_at + SLOWED_FOR_S
        # Not before the pause is over does anybody leave, and by then a new bucket is full, as the old one is.
        self._guard_s = self._guard.at(now)
        self._limiter = self._new_limiter()

    def remembers_s(self) -> float:
        """Say for how many seconds from now what was sent, or refused, holds back what comes next."""
        now = asyncio.get_running_loop().time()
        refill_s = 0.0 if self._limiter is None else self._limiter.time_period
        return max(self._counts_s(), self._pause_s() + refill_s, self._recover_at - now)

    def follow(self, earlier: LocalLimiter) -> None:
        """Go on where that one ends, at another rate: what it gave and what was refused hold back what comes next."""
        now = asyncio.get_running_loop().time()
        self._resume_at = now + max(earlier._counts_s(), earlier._pause_s())
        self._share, self._recover_at = earlier._share, earlier._recover_at
        self._limiter = self._new_limiter()

    def _counts_s(self) -> float:
        return 0.0 if self._arrivals is None else self._arrivals.remembers_s(asyncio.get_running_loop().time())

    def _pause_s(self) -> float:
        return max(0.0, self._resume_at - asyncio.get_running_loop().time())

    async def _forgo(self, waited_s: float) -> None:
        """Take from the bucket what it got while a turn that it had given was waiting: else it would be given twice."""
        if self._limiter is not None:
            got = waited_s * self._limiter.max_rate / self._limiter.time_period
            await self._limiter.acquire(min(got, self._limiter.max_rate))

    def _give(self) -> None:
        self._given_at = time.monotonic()
        if self._arrivals is not None:
            self._arrivals.left(self._given_at)

    def _meets_s(self) -> float:
        """Say for how long what leaves would come to Pico in one window with too many of those before it."""
        return 0.0 if self._arrivals is None else self._arrivals.wait_s(time.monotonic())

    async def _fit(self) -> None:
        """Follow the guard, and go back to the full rate in time."""
        now = asyncio.get_running_loop().time()
        if now - self._fitted_at < FIT_EVERY_S:
            return
        self._fitted_at = now
        share = 1.0 if now >= self._recover_at else self._share
        jitter_allowance_s = self._guard.at(now)
        if share == self._share and abs(jitter_allowance_s - self._guard_s) < FIT_FROM_S:
            return
        self._share, self._guard_s = share, jitter_allowance_s
        self._limiter = self._new_limiter()
        if self._limiter is not None:
            # A new bucket is full of tokens. The old one has just given its last.
            await self._limiter.acquire(self._limiter.max_rate)

    def _new_limiter(self) -> AsyncLimiter | None:
        if self._rate is None:
            return None
        size = bucket(self._rate, self._guard_s)
        return AsyncLimiter(size.capacity, size.capacity / (size.refill_per_s * self._share))
