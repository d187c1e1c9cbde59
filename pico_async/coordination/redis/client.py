"""The way to Redis: one script, one answer, or a clear word that there is none."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    MovedError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from pico_async._cancellation import unless_cancelled
from pico_async.errors import ConfigurationError, NotSentError

# How long nobody asks a Redis that has just failed: a crowd of senders must not wait for one time-out each.
AVOIDED_FOR_S = 0.5
# How long a call may go on for which its caller waits no longer: a connection to a Redis far away takes some round
# trips to open, and is there for the next call.
CONNECT_S = 10.0
# How long to wait where the keys are on their way to another node of a cluster.
MOVING_S = 0.05

_SCHEMES = ("redis", "rediss", "unix")


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
        timeout_s: How long a caller waits for an answer. The call may go on for longer, until `aclose`.
    """

    def __init__(self, client: Redis | RedisCluster, timeout_s: float) -> None:
        self._client = client
        self.timeout_s = timeout_s
        self._sources: dict[str, str] = {}
        self._fault = ""
        self._avoided_until = self._answered_at = float("-inf")
        # Calls for which nobody waits any more. Owned by this link: `aclose` ends them.
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def fault(self) -> str | None:
        """Why Redis is not asked just now; None where it is."""
        return self._fault if asyncio.get_running_loop().time() < self._avoided_until else None

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script, by its digest where Redis has it already."""
        if fault := self.fault:
            raise RedisUnavailableError(fault)
        began_at = asyncio.get_running_loop().time()
        call = asyncio.create_task(self._call(script, keys, arguments))
        try:
            await asyncio.wait([call], timeout=self.timeout_s)
        finally:
            if not call.done():
                self._late.add(call)
                call.add_done_callback(self._forget)
        if not call.done():
            told = "" if self._answered_at > float("-inf") else "; it is connected to in the background"
            raise self._failed(f"it did not answer within {self.timeout_s:g} s{told}", began_at)
        return call.result()

    async def aclose(self) -> None:
        """End the calls for which nobody waits any more."""
        late = [*self._late]
        for call in late:
            call.cancel()
        if late:
            await asyncio.wait(late)

    async def _call(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        if script not in self._sources:
            self._sources[script] = source_of(script)
        source = self._sources[script]
        began_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(CONNECT_S, self.timeout_s)):
                while True:
                    try:
                        answer = await self._evaluate(source, keys, arguments)
                        break
                    except (ClusterError, TryAgainError) as error:
                        if isinstance(error, ClusterDownError):
                            raise
                        # The keys are on their way to another node, which takes milliseconds: it was not run.
                        await asyncio.sleep(MOVING_S)
        except TimeoutError:
            raise self._failed(f"it did not answer within {max(CONNECT_S, self.timeout_s):g} s", began_at) from None
        except RedisError as error:
            fault = kind_of(error)
            if "WRONGTYPE" in fault:
                # It answers, and other keys are sound.
                raise RedisUnavailableError(
                    f"{fault}: another program has written to {' or '.join(keys)}. Delete that key, or pass another "
                    "`prefix`"
                ) from None
            raise self._failed(fault, began_at) from None
        except Exception as error:  # noqa: BLE001  it must end as "not sent", whatever it is
            # redis-py lets others through: a TypeError for an option that it does not know, a RuntimeError for a
            # connection of another loop.
            raise self._failed(type(error).__name__, began_at) from None
        self._answered_at = asyncio.get_running_loop().time()
        self._avoided_until = float("-inf")
        return _text(answer)

    async def _evaluate(self, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await unless_cancelled(self._client.evalsha(_digest(source), len(keys), *keys, *arguments))
        except NoScriptError:
            # It is new to this server, which keeps it from now on: each node of a cluster has its own.
            return await unless_cancelled(self._client.eval(source, len(keys), *keys, *arguments))

    def _failed(self, fault: str, began_at: float) -> RedisUnavailableError:
        # Where another call had its answer meanwhile, Redis is there.
        if self._answered_at < began_at:
            self._fault = fault
            self._avoided_until = asyncio.get_running_loop().time() + AVOIDED_FOR_S
        return RedisUnavailableError(fault)

    def _forget(self, call: asyncio.Task[Any]) -> None:
        self._late.discard(call)
        if not call.cancelled():
            call.exception()  # or else asyncio complains that nobody asked for it


def source_of(script: str) -> str:
    """Give the text of a script, behind what all scripts share."""
    folder = files(__package__).joinpath("lua")
    return "".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in ("stored", script))


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
    # Older versions of redis-py know the two by their first word alone.
    if isinstance(error, MovedError | AskError) or first in {"MOVED", "ASK"}:
        return f"{kind}: it is a node of a cluster; pass RedisCoordinator a redis.asyncio.RedisCluster"
    return f"{kind}, {first}" if first.isascii() and first.isupper() and first.isalpha() else kind


def _digest(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _text(answer: Any) -> Any:
    # A client of the user's may decode by itself.
    if isinstance(answer, list):
        return [_text(part) for part in answer]
    # What is no UTF-8 was not put there by this project: whoever asked finds it wrong, and replaces it.
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def client_for(url: str, timeout: float, options: dict[str, Any]) -> Redis:
    """
    Make a client of an address, which no error repeats.

    Raises:
        ConfigurationError: It is no such address.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        if sound:
            bounds: dict[str, Any] = {
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                # A connection that a restart closed is noticed by its next use, which then has another try.
                "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            }
            client = Redis.from_url(url, **(bounds | options))
            # Or else an option that redis-py does not know is an error of the first call.
            client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            return client
    except (ValueError, TypeError, AttributeError) as error:
        what = type(error).__name__
    else:
        what = "its scheme or host"
    # The address may hold a password, so it is not repeated.
    raise ConfigurationError(
        f"This is no address of a Redis ({what}): pass one as 'redis://localhost:6379/0', 'rediss://…' or "
        "'unix:///path/to.sock', with options that redis-py knows."
    )
