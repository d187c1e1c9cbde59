"""The address of a fleet's Redis, from a flag or the environment. No output shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import field, frozen

from pico_async.coordination.rates import Rates
from pico_async.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from pico_async.coordination.redis.coordinator import RedisCoordinator

_TIMEOUT_S = 1.0

URL_HELP = (
    "as redis://localhost:6379/0. The default is PICO_REDIS_URL. Put a URL with a password there: `ps` and the "
    "shell's history show arguments."
)


@frozen(kw_only=True)
class FleetAddress:
    """
    A Redis, and the prefix of the fleet's keys in it. The URL may contain a password, so no repr or error shows it.

    Attributes:
        asked_for: Whether the URL was passed to the command, and not set in the environment.
    """

    url: str = field(repr=False)
    prefix: str = "pico"
    asked_for: bool = True

    @classmethod
    def of(cls, url: str | None, prefix: str) -> FleetAddress | None:
        """Return the address that was passed, or that of the environment, or None."""
        # An empty option is a mistake in a script. Without an error, the command would not share the fleet's rate.
        if url is not None:
            return cls(url=url, prefix=prefix)
        url = os.environ.get("PICO_REDIS_URL")
        return cls(url=url, prefix=prefix, asked_for=False) if url else None

    def coordinator(self, rates: Rates | None) -> RedisCoordinator:
        """Make a coordinator, or raise if this is no address of a Redis, or redis-py is not installed."""
        _require_redis()
        # Not at the top: all other commands work without the extra.
        from pico_async.coordination.redis.coordinator import RedisCoordinator

        return RedisCoordinator.from_url(self.url, rates=rates, prefix=self.prefix, timeout=_TIMEOUT_S)

    def client(self) -> Redis:
        """Make a client, which the caller closes; raise as `coordinator` does."""
        _require_redis()
        from pico_async.coordination.redis.client import client_for

        return client_for(self.url, _TIMEOUT_S, {})


def _require_redis() -> None:
    try:
        import redis.asyncio  # noqa: F401
    except ImportError:
        raise ConfigurationError("--redis needs redis-py: pip install 'pico-async[cli,redis]'") from None
