"""The coordinator of one event loop."""

from __future__ import annotations

import asyncio
import copy
from typing import Self

from pico_async.coordination.local.limiter import LocalLimiter
from pico_async.coordination.protocols import Identity
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.coordination.token_cache import LocalTokenStore
from pico_async.errors import ConfigurationError


class LocalCoordinator:
    """
    The limiters of one API key, and the token of one account, in one event loop.

    A session makes or finds one itself. Make one only to give some sessions a part of the rate. They share no limiters
    with the other sessions of the key, so the total of all rates must not exceed what Pico allows.
    """

    def __init__(self, rates: Rates | None = None) -> None:
        self.rates: Rates = rates or Rates()
        self.token: LocalTokenStore = LocalTokenStore()
        self._limiters = {
            group: LocalLimiter(self.rates.of(group), self.rates.jitter_allowance_s) for group in RateGroup
        }
        self._identity: Identity | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions = 0

    def __repr__(self) -> str:
        return f"<LocalCoordinator sms: {self._limiters[RateGroup.SMS]!r}, {self._sessions} sessions>"

    def limiter(self, rate_group: RateGroup) -> LocalLimiter:
        return self._limiters[rate_group]

    def for_another_account(self) -> Self:
        """Make a coordinator with the same limiters and another token: the rate belongs to the key."""
        other = copy.copy(self)
        other.token = LocalTokenStore()
        other._identity, other._sessions = None, 0
        return other

    def at_other_rates(self, rates: Rates) -> Self:
        """Make a coordinator with these rates and the same token. Earlier sends still count."""
        other = copy.copy(self)
        other.rates, other._limiters = rates, dict(self._limiters)
        for group, earlier in self._limiters.items():
            rate = rates.of(group)
            if (rate, rates.jitter_allowance_s) != (self.rates.of(group), self.rates.jitter_allowance_s):
                other._limiters[group] = LocalLimiter(rate, rates.jitter_allowance_s)
                other._limiters[group].continue_from(earlier)
        return other

    def join(self, identity: Identity) -> None:
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
        self._sessions -= 1

    def constrained_s(self) -> float:
        return max(limiter.constrained_s() for limiter in self._limiters.values())
