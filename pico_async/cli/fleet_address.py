"""The address of a fleet's Redis, from an option or the environment. No output shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import field, frozen

from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from pico_async.coordination.redis.coordinator import RedisCoordinator

# Seconds for one call to Redis.
_TIMEOUT_S = 1.0

URL_HELP = (
    "such as redis://localhost:6379/0. Without it, PICO_REDIS_URL is used. If it contains a password, use that "
    "variable, because an argument shows in `ps` and in the shell's history."
)


@frozen(kw_only=True)
class FleetAddress:
    """
    The URL of a Redis, and the prefix of the fleet's keys.

    No repr and no error shows the URL, because it may contain a password.

    Attributes:
        asked_for: Whether the URL was given with the command, and not by the environment.
    """

    url: str = field(repr=False)
    prefix: str = "pico"
    asked_for: bool = True

    @classmethod
    def of(cls, url: str | None, prefix: str) -> FleetAddress | None:
        """Return the address that was given, else that of the environment, else None."""
        # An empty option is a mistake in a script. Ignoring it would let this process send at a rate of its own.
        if url is not None:
            return cls(url=url, prefix=prefix)
        url = os.environ.get("PICO_REDIS_URL")
        return cls(url=url, prefix=prefix, asked_for=False) if url else None

    def coordinator(self, rates: Rates | None) -> RedisCoordinator:
        """
        Make a coordinator for this process.

        Raises:
            ConfigurationError: The URL is wrong, or redis-py is not installed.
        """
        _require_redis()
        # Imported here, because the rest of the command line works without the extra.
        from pico_async.coordination.redis.coordinator import RedisCoordinator

        return RedisCoordinator.from_url(self.url, rates=rates, prefix=self.prefix, timeout=_TIMEOUT_S)

    def client(self) -> Redis:
        """
        Make a client, which the caller closes.

        Raises:
            ConfigurationError: The URL is wrong, or redis-py is not installed.
        """
        _require_redis()
        from pico_async.coordination.redis.client import client_from_url

        return client_from_url(self.url, _TIMEOUT_S, {})


def _require_redis() -> None:
    try:
        import redis.asyncio  # noqa: F401  only checks that it is installed
    except ImportError:
        raise ConfigurationError("--redis needs redis-py: pip install 'pico-async[cli,redis]'") from None
