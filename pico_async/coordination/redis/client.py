"""The client that runs the package's Lua scripts in Redis, and a client of redis-py from a URL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any
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

# After a failure, calls fail at once for this long. Otherwise each of many senders would wait for a timeout of its own.
AVOIDED_FOR_S = 0.5
# A call may take this long in total, also after its caller has stopped waiting: a connection to a distant Redis takes
# several round trips to open, and the next call uses it.
LONGEST_CALL_S = 10.0
# The pause before a call is repeated whose keys are moving to another node of a cluster.
MOVING_S = 0.05

_SCHEMES = ("redis", "rediss", "unix")


class RedisUnavailableError(Exception):
    """Redis did not answer, or refused the call. The text names no address and no credentials."""


class ScriptClient:
    """
    A client that runs Lua scripts over a client of redis-py, which the caller closes.

    Args:
        timeout_s: How long a caller waits for a reply. The call may go on for longer, until `aclose`.
    """

    def __init__(self, client: Redis | RedisCluster, timeout_s: float) -> None:
        self._client = client
        self.timeout_s = timeout_s
        self._fault = ""
        self._avoided_until = self._replied_at = float("-inf")
        # Calls whose callers have stopped waiting. `aclose` ends them.
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def fault(self) -> str | None:
        """The reason why calls fail at once just now, or None."""
        return self._fault if asyncio.get_running_loop().time() < self._avoided_until else None

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """
        Run one of the scripts in `lua/` and return its reply.

        Raises:
            RedisUnavailableError: There is no reply.
        """
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
            connecting = "" if self._replied_at > float("-inf") else "; the connection is opened in the background"
            raise self._failed(f"it did not answer within {self.timeout_s:g} s{connecting}", began_at)
        return call.result()

    async def aclose(self) -> None:
        late = [*self._late]
        for call in late:
            call.cancel()
        if late:
            await asyncio.wait(late)

    async def _call(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        source = source_of(script)
        began_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(LONGEST_CALL_S, self.timeout_s)):
                while True:
                    try:
                        reply = await self._evaluate(source, keys, arguments)
                        break
                    except (ClusterError, TryAgainError) as error:
                        if isinstance(error, ClusterDownError):
                            raise
                        # The script did not run: its keys are moving to another node, which takes milliseconds.
                        await asyncio.sleep(MOVING_S)
        except TimeoutError:
            waited_s = max(LONGEST_CALL_S, self.timeout_s)
            raise self._failed(f"it did not answer within {waited_s:g} s", began_at) from None
        except RedisError as error:
            fault = error_kind(error)
            if "WRONGTYPE" in fault:
                # Redis answers, and other keys are sound: later calls need not fail at once.
                raise RedisUnavailableError(
                    f"{fault}: another program has written to {' or '.join(keys)}. Delete that key, or pass another "
                    "`prefix`"
                ) from None
            raise self._failed(fault, began_at) from None
        except Exception as error:  # noqa: BLE001  any error before a send must end as "not sent"
            # redis-py does not wrap all errors: an unknown option raises TypeError, a connection of another loop
            # RuntimeError.
            raise self._failed(type(error).__name__, began_at) from None
        self._replied_at = asyncio.get_running_loop().time()
        self._avoided_until = float("-inf")
        return _text(reply)

    async def _evaluate(self, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        try:
            return await unless_cancelled(self._client.evalsha(digest, len(keys), *keys, *arguments))
        except NoScriptError:
            # EVAL also stores the script on the server. Each node of a cluster stores its own.
            return await unless_cancelled(self._client.eval(source, len(keys), *keys, *arguments))

    def _failed(self, fault: str, began_at: float) -> RedisUnavailableError:
        # If another call had a reply meanwhile, Redis is available.
        if self._replied_at < began_at:
            self._fault = fault
            self._avoided_until = asyncio.get_running_loop().time() + AVOIDED_FOR_S
        return RedisUnavailableError(fault)

    def _forget(self, call: asyncio.Task[Any]) -> None:
        self._late.discard(call)
        if not call.cancelled():
            call.exception()  # else asyncio logs that the exception was never retrieved


@cache
def source_of(script: str) -> str:
    """Return the text of a script, after the functions that all scripts share."""
    folder = files(__package__).joinpath("lua")
    return "".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in ("prelude", script))


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def unavailable(what: str, fault: str) -> NotSentError:
    """Make the error of a send that needs *what* while Redis is away."""
    return NotSentError(
        f"{what} is shared over Redis, and Redis is not available: {fault}. Nothing was sent, so it is safe to send it "
        "again. Check Redis, or pass `share` to the coordinator to send without Redis at a part of the rate."
    )


def error_kind(error: RedisError) -> str:
    """Return the kind of an error of redis-py, without its text, which may contain the address or a command."""
    # redis-py wraps errors that happen while it connects: a wrong password would only be a ConnectionError.
    if isinstance(error.__cause__, RedisError):
        error = error.__cause__
    # The first word of a server's refusal is its kind: READONLY, NOPERM, LOADING, OOM.
    first = str(error).partition(" ")[0]
    kind = type(error).__name__
    # Older versions of redis-py have no classes for these two.
    if isinstance(error, MovedError | AskError) or first in {"MOVED", "ASK"}:
        return f"{kind}: it is a node of a cluster; pass RedisCoordinator a redis.asyncio.RedisCluster"
    return f"{kind}, {first}" if first.isascii() and first.isupper() and first.isalpha() else kind


def _text(reply: Any) -> Any:
    # The user's own client may decode replies by itself.
    if isinstance(reply, list):
        return [_text(part) for part in reply]
    # Bytes that are not UTF-8 come from another program. The caller finds the value invalid and replaces it.
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply


def client_from_url(url: str, timeout: float, options: dict[str, Any]) -> Redis:
    """
    Make a client of redis-py. No error repeats the URL, because it may contain a password.

    Raises:
        ConfigurationError: The URL or an option is wrong.
    """
    fault = "its scheme or host"
    try:
        parts = urlsplit(url)
        if parts.scheme in _SCHEMES and (parts.path if parts.scheme == "unix" else parts.hostname):
            bounds: dict[str, Any] = {
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                # The first use of a connection that a restart has closed fails, and is then repeated once.
                "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            }
            client = Redis.from_url(url, **(bounds | options))
            # Otherwise an option that redis-py does not know would fail only in the first call.
            client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            return client
    except (ValueError, TypeError, AttributeError) as error:
        fault = type(error).__name__
    raise ConfigurationError(
        f"This is no address of a Redis ({fault}): pass one as 'redis://localhost:6379/0', 'rediss://…' or "
        "'unix:///path/to.sock', with options that redis-py knows."
    )
