"""Where the Redis of a fleet is: from a flag or the environment, and in no output."""

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
    "as redis://localhost:6379/0. Without it, PICO_REDIS_URL counts; put it there if it holds a password, for an "
    "argument shows in `ps` and in the shell's history."
)


@frozen(kw_only=True)
class FleetAddress:
    """
    Which Redis, and where in it.

    The address may hold a password, so no repr has it, and no error repeats it.

    Attributes:
        asked_for: Whether it was given with the command, and not by the environment.
    """

    url: str = field(repr=False)
    prefix: str = "pico"
    asked_for: bool = True

    @classmethod
    def of(cls, url: str | None, prefix: str) -> FleetAddress | None:
        """Take what was given, else what the environment has; None where neither has any."""
        # An option that is there and empty is a mistake in a script, and must not end in a pace of one's own.
        if url is not None:
            return cls(url=url, prefix=prefix)
        url = os.environ.get("PICO_REDIS_URL")
        return cls(url=url, prefix=prefix, asked_for=False) if url else None

    def coordinator(self, rates: Rates | None) -> RedisCoordinator:
        """
        Make a coordinator of this process's own.

        Raises:
            ConfigurationError: It is no address of a Redis, or redis-py is not installed.
        """
        _require_redis()
        # Here and not above: all else works without the extra.
        from pico_async.coordination.redis.coordinator import RedisCoordinator

        return RedisCoordinator.from_url(self.url, rates=rates, prefix=self.prefix, timeout=_TIMEOUT_S)

    def client(self) -> Redis:
        """
        Make a client, which the caller closes.

        Raises:
            ConfigurationError: It is no address of a Redis, or redis-py is not installed.
        """
        _require_redis()
        from pico_async.coordination.redis.client import client_for

        return client_for(self.url, _TIMEOUT_S, {})


def _require_redis() -> None:
    try:
        import redis.asyncio  # noqa: F401  whether it is there is all that is asked
    except ImportError:
        raise ConfigurationError("--redis needs redis-py: pip install 'pico-async[cli,redis]'") from None
