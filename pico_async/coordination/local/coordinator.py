"""The coordinator of one event loop."""

from __future__ import annotations

import asyncio
import copy
from typing import Self

from pico_async.coordination.local.limiter import LocalLimiter
from pico_async.coordination.local.token_store import LocalTokenStore
from pico_async.coordination.protocols import Identity, Priority
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.errors import ConfigurationError


class LocalCoordinator:
    """
    The pace of one API key, and the token of one account, in one event loop.

    A session makes one by itself, and sessions of one key find each other's. Make your own only to divide the rate: its
    sessions share no pace with others of the key, so the rates of all must not come to more than Pico allows.
    """

    def __init__(self, rates: Rates | None = None) -> None:
        self.rates = rates or Rates()
        self.token = LocalTokenStore()
        self._paces = {
            rate_group: LocalLimiter(self.rates.of(rate_group), self.rates.jitter_allowance_s)
            for rate_group in RateGroup
        }
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
        for rate_group, earlier in self._paces.items():
            rate = rates.of(rate_group)
            if (rate, rates.jitter_allowance_s) != (self.rates.of(rate_group), self.rates.jitter_allowance_s):
                other._paces[rate_group] = LocalLimiter(rate, rates.jitter_allowance_s)
                other._paces[rate_group].follow(earlier)
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

    async def turn(self, rate_group: RateGroup, priority: Priority) -> None:
        """Wait until one more request of the rate group may go out."""
        await self._paces[rate_group].turn(priority)

    async def refused(self, rate_group: RateGroup, retry_after_s: float | None) -> None:
        """Pause the rate group, then go slower for a while."""
        self._paces[rate_group].refused(retry_after_s)

    async def leave_late(self, rate_group: RateGroup, turn_at: float) -> bool:
        """Count the turn of that time from now on; False where others had theirs meanwhile."""
        return await self._paces[rate_group].leave_late(turn_at)

    def heard(self, rate_group: RateGroup, took_s: float) -> None:
        """Learn from how long after its turn a request had its reply."""
        self._paces[rate_group].heard(took_s)

    def per_s(self, rate_group: RateGroup) -> float | None:
        """Say how many requests a second the rate group gives now; None where nothing limits it."""
        return self._paces[rate_group].per_s

    def remembers_s(self) -> float:
        """Say for how many seconds from now what was sent, or refused, holds back what comes next."""
        return max(pace.remembers_s() for pace in self._paces.values())

    def __repr__(self) -> str:
        return f"<LocalCoordinator {self.rates!r}>"
