"""Call a function before each slot that the coordinator of an event loop grants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pico_async import LocalCoordinator, Priority
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


def watch_slots(monkeypatch: pytest.MonkeyPatch, called: Called) -> None:
    """Call *called* before each slot, until the end of the patch."""
    limiter = LocalCoordinator.limiter
    monkeypatch.setattr(
        LocalCoordinator,
        "limiter",
        lambda self, rate_group: WatchedLimiter(limiter(self, rate_group), rate_group, called),
    )
