"""The way to Redis: one script, one answer, or a clear word that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from pico_async._engine.cancellation import unless_cancelled
from pico_async.errors import NotSentError

# How long nobody asks a Redis that has just failed: a crowd of senders must not wait for one time-out each.
AVOIDED_FOR_S = 0.5


class RedisUnavailableError(Exception):
    """Redis gave no answer, or refused. Its text names no address and no credentials."""


class Link(Protocol):
    """
    What the pace and the token ask of Redis.

    Attributes:
        timeout_s: Bounds one call.
    """

    timeout_s: float

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """
        Run one of the scripts in `lua/` and give its answer.

        Raises:
            RedisUnavailableError: There is none.
        """
        ...


class RedisLink:
    """
    Scripts on one Redis client, which the caller closes.

    Args:
        timeout_s: Bounds one call, with its connection.
    """

    def __init__(self, client: Redis, timeout_s: float) -> None:
        self._client = client
        self.timeout_s = timeout_s
        self._scripts: dict[str, Any] = {}
        self._fault = ""
        self._avoided_until = float("-inf")

    @property
    def fault(self) -> str | None:
        """Why Redis is not asked just now; None where it is."""
        return self._fault if asyncio.get_running_loop().time() < self._avoided_until else None

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script, by its digest where Redis has it already."""
        if fault := self.fault:
            raise RedisUnavailableError(fault)
        if script not in self._scripts:
            source = files("pico_async.coordination").joinpath("lua", f"{script}.lua").read_text(encoding="utf-8")
            self._scripts[script] = self._client.register_script(source)
        try:
            async with asyncio.timeout(self.timeout_s):
                return _text(await unless_cancelled(self._scripts[script](keys=keys, args=arguments)))
        except TimeoutError:
            self._fault = f"it did not answer within {self.timeout_s:g} s"
        except RedisError as error:
            self._fault = kind_of(error)
        except Exception as error:  # noqa: BLE001  it must end as "not sent", whatever it is
            # redis-py lets others through: a TypeError for an option that it does not know, a RuntimeError for a
            # connection of another loop.
            self._fault = type(error).__name__
        self._avoided_until = asyncio.get_running_loop().time() + AVOIDED_FOR_S
        raise RedisUnavailableError(self._fault) from None


def microseconds(seconds: float) -> str:
    """Give them as the scripts take them."""
    return f"{seconds * 1e6:.0f}"


def not_sent(what: str, fault: str) -> NotSentError:
    """Make the error of who needs *what*, while Redis is away."""
    return NotSentError(
        f"{what} is shared over Redis, and Redis is not available: {fault}. Nothing was sent, so it is safe to send it "
        "again. Check Redis, or give the coordinator a `share` to go on with while it is away."
    )


def kind_of(error: RedisError) -> str:
    """Say what kind of error it is: redis-py's own words may hold the address, a server's what it was asked."""
    # redis-py wraps what goes wrong while it connects: a wrong password would be no more than a ConnectionError.
    if isinstance(error.__cause__, RedisError):
        error = error.__cause__
    # The first word of a server's refusal is its kind: READONLY, NOPERM, LOADING, OOM.
    first = str(error).partition(" ")[0]
    kind = type(error).__name__
    return f"{kind}, {first}" if first.isascii() and first.isupper() and first.isalpha() else kind


def _text(answer: Any) -> Any:
    # A client of the user's may decode by itself.
    if isinstance(answer, list):
        return [_text(part) for part in answer]
    return answer.decode() if isinstance(answer, bytes) else answer
