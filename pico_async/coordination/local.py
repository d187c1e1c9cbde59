"""One pace for all sessions of a key in one event loop, and one token for those of an account."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from contextlib import AbstractAsyncContextManager
from typing import Self

from aiolimiter import AsyncLimiter

from pico_async._engine.endpoints import Lane
from pico_async.coordination import Priority
from pico_async.coordination.arrivals import Arrivals
from pico_async.coordination.fleet import Identity
from pico_async.coordination.guard import Guard
from pico_async.coordination.queue import FairQueue
from pico_async.coordination.rates import Rates, bucket, window
from pico_async.coordination.refusals import MAX_PAUSE_S, PAUSE_S, SLOWED_FOR_S, SLOWED_TO, SLOWEST
from pico_async.errors import ConfigurationError

# The reference says 30 minutes; the framework behind it extends a session only in its last 20, so that is what an
# idle token is sure of. Two minutes are left for the requests that wait with it.
TOKEN_IDLE_S = 18 * 60
# How often, and for how much of a change, the bucket is made anew: what is late by then is not caught up.
FIT_EVERY_S = 0.5
FIT_FROM_S = 0.0005


class LocalPace:
    """The pace of one lane."""

    def __init__(self, rate: float | None, guard_s: float | None = None) -> None:
        self._rate = rate
        self._guard = Guard(guard_s)
        self._guard_s = self._guard.at(float("-inf"))
        self._queue = FairQueue()
        self._arrivals = None if rate is None else Arrivals(*window(rate))
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

    def follow(self, earlier: LocalPace) -> None:
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
        guard_s = self._guard.at(now)
        if share == self._share and abs(guard_s - self._guard_s) < FIT_FROM_S:
            return
        self._share, self._guard_s = share, guard_s
        self._limiter = self._new_limiter()
        if self._limiter is not None:
            # A new bucket is full of tokens. The old one has just given its last.
            await self._limiter.acquire(self._limiter.max_rate)

    def _new_limiter(self) -> AsyncLimiter | None:
        if self._rate is None:
            return None
        size = bucket(self._rate, self._guard_s)
        return AsyncLimiter(size.capacity, size.capacity / (size.refill_per_s * self._share))


class LocalTokenStore:
    """A token in this process's memory, behind an asyncio lock."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._used_at = 0.0
        self._lock = asyncio.Lock()

    async def current(self) -> str | None:
        """Give the token and note its use, or None where it idled too long."""
        now = asyncio.get_running_loop().time()
        if self._token is not None and now - self._used_at < TOKEN_IDLE_S:
            self._used_at = now
            return self._token
        return None

    async def keep(self, token: str) -> None:
        """Put a fresh token in the place of whatever is there."""
        self._token = token
        self._used_at = asyncio.get_running_loop().time()

    async def discard(self, token: str) -> None:
        """Drop the token, unless another has taken its place."""
        # Fifty calls may fail with one old token; only the first may evict it.
        if self._token == token:
            self._token = None

    def refreshing(self) -> AbstractAsyncContextManager[object]:
        """Hold the right to fetch."""
        return self._lock


class LocalCoordinator:
    """
    The pace of one API key, and the token of one account, in one event loop.

    A session makes one by itself, and sessions of one key find each other's. Make your own only to divide the rate: its
    sessions share no pace with others of the key, so the rates of all must not come to more than Pico allows.
    """

    def __init__(self, rates: Rates | None = None) -> None:
        self.rates = rates or Rates()
        self.token = LocalTokenStore()
        self._paces = {lane: LocalPace(self.rates.of(lane), self.rates.guard_s) for lane in Lane}
        self._identity: Identity | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions = 0

    def for_another_account(self) -> Self:
        """Make a coordinator with the same pace and a token of its own: Pico counts by key, a token is an account's."""
        other = copy.copy(self)
        other.token = LocalTokenStore()
        other._identity, other._sessions = None, 0
        return other

    def at_other_rates(self, rates: Rates) -> Self:
        """Make a coordinator with these rates and the same token; what was sent at the earlier rates counts."""
        other = copy.copy(self)
        other.rates, other._paces = rates, dict(self._paces)
        for lane, earlier in self._paces.items():
            rate = rates.of(lane)
            if (rate, rates.guard_s) != (self.rates.of(lane), self.rates.guard_s):
                other._paces[lane] = LocalPace(rate, rates.guard_s)
                other._paces[lane].follow(earlier)
        return other

    def join(self, identity: Identity) -> None:
        """
        Serve a session of this identity; a session does that by itself.

        Raises:
            ConfigurationError: It serves another API key, account or host, or another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._sessions and self._loop is not loop:
            raise ConfigurationError("This LocalCoordinator belongs to another event loop: make one in each loop.")
        if self._identity not in (None, identity):
            raise ConfigurationError(
                "This LocalCoordinator serves another API key, account or host: make one for each."
            )
        self._identity, self._loop = identity, loop
        self._sessions += 1

    async def leave(self) -> None:
        """End what a `join` began."""
        self._sessions -= 1

    async def turn(self, lane: Lane, priority: Priority) -> None:
        """Wait until one more request of the lane may go out."""
        await self._paces[lane].turn(priority)

    async def refused(self, lane: Lane, retry_after_s: float | None) -> None:
        """Pause the lane, then go slower for a while."""
        self._paces[lane].refused(retry_after_s)

    async def leave_late(self, lane: Lane, turn_at: float) -> bool:
        """Count the turn of that time from now on; False where others had theirs meanwhile."""
        return await self._paces[lane].leave_late(turn_at)

    def heard(self, lane: Lane, took_s: float) -> None:
        """Learn from how long after its turn a request had its reply."""
        self._paces[lane].heard(took_s)

    def per_s(self, lane: Lane) -> float | None:
        """Say how many requests a second the lane gives now; None where nothing limits it."""
        return self._paces[lane].per_s

    def remembers_s(self) -> float:
        """Say for how many seconds from now what was sent, or refused, holds back what comes next."""
        return max(pace.remembers_s() for pace in self._paces.values())

    def __repr__(self) -> str:
        return f"<LocalCoordinator {self.rates!r}>"


class _Shared:
    """What the sessions of one API key share in one loop."""

    def __init__(self, rates: Rates) -> None:
        self.pace = LocalCoordinator(rates)
        self.by_token: dict[str, LocalCoordinator] = {}
        self.sessions = 0
        self.forgetting: asyncio.TimerHandle | None = None

    def keep_to(self, rates: Rates) -> None:
        """Go on at these rates, where they are others."""
        if rates == self.pace.rates:
            return
        self.pace = self.pace.at_other_rates(rates)
        for name, earlier in self.by_token.items():
            self.by_token[name] = self.pace.for_another_account()
            self.by_token[name].token = earlier.token


# The one global of the package: two sessions of one key must share a pace without knowing of each other. Loops of
# several threads share the table, never an entry.
_shared: dict[asyncio.AbstractEventLoop, dict[str, _Shared]] = {}
_table = threading.Lock()


def join(identity: Identity, rates: Rates) -> LocalCoordinator:
    """
    Give the coordinator that all sessions of this identity share in the running loop.

    Sessions of the same key, but of another account or host, get one with the same pace and another token.

    Each `join` is ended by a `leave`. What was sent counts for a while after it was sent, so the pace and the tokens
    outlive the last session by that while: a session for each message must not cross a rate, either.

    Raises:
        ConfigurationError: Another session of this key runs at other rates.
    """
    loop = asyncio.get_running_loop()
    with _table:
        for closed in [loop for loop in _shared if loop.is_closed()]:  # sessions that were never closed
            del _shared[closed]
        keys = _shared.setdefault(loop, {})
        shared = keys.get(identity.pace)
        if shared is None:
            shared = keys[identity.pace] = _Shared(rates)
    if not shared.sessions:
        shared.keep_to(rates)
    if shared.pace.rates != rates:
        raise ConfigurationError(
            f"Another open session of this API key runs at {shared.pace.rates}, and they share one pace, whatever "
            "account and host they name: give both the same `rates`."
        )
    if shared.forgetting is not None:
        shared.forgetting.cancel()
        shared.forgetting = None
    shared.sessions += 1
    if identity.token not in shared.by_token:
        shared.by_token[identity.token] = shared.pace.for_another_account()
    return shared.by_token[identity.token]


def leave(identity: Identity) -> None:
    """End what a `join` in the running loop began."""
    loop = asyncio.get_running_loop()
    shared = _shared[loop][identity.pace]
    shared.sessions -= 1
    if not shared.sessions:
        shared.forgetting = loop.call_later(shared.pace.remembers_s(), _forget, loop, identity.pace, shared)


def _forget(loop: asyncio.AbstractEventLoop, name: str, shared: _Shared) -> None:
    with _table:
        keys = _shared.get(loop, {})
        if keys.get(name) is shared:
            del keys[name]
        if not keys:
            _shared.pop(loop, None)
