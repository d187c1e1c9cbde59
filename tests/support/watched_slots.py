"""Call a function before each slot of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from pico_async import PicoSession, Priority
from pico_async.coordination.local.limiter import LocalLimiter, LocalSlot
from pico_async.coordination.rates import RateGroup

Called = Callable[[RateGroup, Priority], Awaitable[object]]


class WatchedLimiter:
    """A limiter that first calls a function."""

    def __init__(self, limiter: LocalLimiter, rate_group: RateGroup, called: Called) -> None:
        self._limiter = limiter
        self._rate_group = rate_group
        self._called = called

    @property
    def per_s(self) -> float | None:
        return self._limiter.per_s

    async def acquire(self, priority: Priority) -> LocalSlot:
        await self._called(self._rate_group, priority)
        return await self._limiter.acquire(priority)


def watch_slots(monkeypatch: pytest.MonkeyPatch, session: PicoSession, called: Called) -> None:
    """Call *called* before each slot of an open session, until the end of the patch."""
    limiters = session._engine._limiters
    for rate_group, limiter in limiters.items():
        monkeypatch.setitem(limiters, rate_group, WatchedLimiter(cast(LocalLimiter, limiter), rate_group, called))
