"""One session's part in what shares its pace and its token: taken on first use, given back at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_async._engine.token import Secret
from pico_async.coordination import Coordinator, local
from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError
from pico_async.settings import place

if TYPE_CHECKING:
    from pico_async.coordination.fleet import FleetCoordinator


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
        self._base_url = base_url
        self._username = username
        self._api_key = api_key
        self._rates = rates or Rates()
        self._coordinator = coordinator
        self._fleet: FleetCoordinator | None = None

    def join(self) -> Coordinator:
        """Give the coordinator, which knows of this session until it leaves."""
        if self._coordinator is None:
            return local.join(self._base_url, self._username, self._api_key.value, self._rates)
        # Not with the session, for most have no coordinator of their own.
        from pico_async.coordination.fleet import FleetCoordinator, Identity

        if isinstance(self._coordinator, FleetCoordinator):
            # Pico's hosts count by one key; of stand-ins, each counts by itself.
            counts = self._base_url if place(self._base_url) != "Pico" else "Pico"
            self._coordinator.join(Identity.of(counts, self._base_url, self._username, self._api_key.value))
            self._fleet = self._coordinator
        return self._coordinator

    async def leave(self) -> None:
        """Count no more on it. One of your own that is none of a fleet knows nothing of who left."""
        if self._coordinator is None:
            local.leave(self._base_url, self._username, self._api_key.value)
        elif self._fleet is not None:
            await self._fleet.leave()
