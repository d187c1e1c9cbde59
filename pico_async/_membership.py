"""One session's part in what shares its pace and its token: taken on first use, given back at the end."""

from __future__ import annotations

from pico_async._engine.token import Secret
from pico_async._settings import address, counted_at
from pico_async.coordination import registry
from pico_async.coordination.protocols import Coordinator, FleetCoordinator, Identity
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError


class Membership:
    """
    Join a coordinator, and leave it: the session's own, or the one that all sessions of its key and loop share.

    Raises:
        ConfigurationError: *rates* or *coordinator* is none, or both are given.
    """

    def __init__(
        self, base_url: str, username: str, api_key: Secret, rates: Rates | None, coordinator: Coordinator | None
    ) -> None:
        if rates is not None and not isinstance(rates, Rates):
            raise ConfigurationError("`rates` must be a Rates, as Rates(sms=100).")
        if coordinator is not None and not isinstance(coordinator, Coordinator):
            raise ConfigurationError("`coordinator` must be a Coordinator, as RedisCoordinator.from_url('redis://…').")
        if coordinator is not None and rates is not None:
            raise ConfigurationError("Give the rates to the coordinator: with `coordinator=`, `rates=` has no say.")
        self._identity = Identity.of(counted_at(base_url), address(base_url), username, api_key.value)
        self._rates = rates or Rates()
        self._coordinator = coordinator

    def join(self) -> Coordinator:
        """Give the coordinator, which knows of this session until it leaves."""
        if self._coordinator is None:
            return registry.join(self._identity, self._rates)
        if isinstance(self._coordinator, FleetCoordinator):
            self._coordinator.join(self._identity)
        return self._coordinator

    async def leave(self) -> None:
        """Count no more on it. One of your own that is none of a fleet knows nothing of who left."""
        if self._coordinator is None:
            registry.leave(self._identity)
        elif isinstance(self._coordinator, FleetCoordinator):
            await self._coordinator.leave()
