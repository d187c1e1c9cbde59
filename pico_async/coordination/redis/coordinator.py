"""The limiters and the token that all processes and hosts with one Redis share."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

import anyio

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.exceptions import RedisError
except ImportError as _error:
    raise ImportError("RedisCoordinator needs redis-py: pip install 'pico-async[redis]'") from _error

from pico_async._boundary import boundary
from pico_async.coordination.local.limiter import LocalLimiter
from pico_async.coordination.protocols import Identity
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.coordination.redis.client import LONGEST_CALL_S, ScriptClient, client_from_url
from pico_async.coordination.redis.limiter import RedisLimiter
from pico_async.coordination.redis.schedule import Member
from pico_async.coordination.redis.token_store import RedisTokenStore
from pico_async.errors import ConfigurationError


@boundary
class RedisCoordinator:
    """
    The limiters and the token of one API key, for all processes and hosts that share a Redis (6 or newer) or Valkey.

        async with PicoSession(coordinator=RedisCoordinator.from_url("redis://localhost")) as pico:
            ...

    It opens with its first session and closes with its last. Several sessions of one process may share it. It serves
    one API key and one event loop.

    All keys in Redis are digests of the API key and the account. They hold the schedule of each rate group that has a
    rate, the host name and process ID of each process, and the token. Without the API key, the token is useless. Values
    that another program writes there are discarded, or lead to an error or a warning that names the Redis key.

    Pass the same *rates* in all processes. If they differ, the lowest one holds for all, and processes with a higher
    one log a warning that names both. A deploy may therefore change the rate one process after the other. A lower rate
    holds at once, a higher one a minute after the last old process has asked for slots. Rate groups without a rate are
    not limited, and a refusal there pauses only the process that met it.

    Args:
        client: A client of redis-py's asyncio API, which the caller closes; `from_url` makes one. It may be a
            `RedisCluster`, because all keys of an API key are in one hash slot, or the client of a Sentinel's
            `master_for`.
        rates: Requests per second that your contract allows.
        prefix: The beginning of all keys in Redis. An ACL user needs `~pico:*` and +@connection +evalsha +eval
            +time +hmget +hset +hdel +zadd +zrem +zcard +zrangebyscore +get +set +del +pexpire +pttl. In a cluster,
            the user also needs +command, +cluster|slots and +asking.
        on_unavailable: What a process does while Redis is away, read-only, or slower than *timeout*. "fail", the
            default: sends raise NotSentError at once, and a bulk send waits as `send_bulk` describes. "share": the
            process uses its *share* of each rate, and its own copy of the token. It never sends without a limit. In
            both cases the process uses Redis again as soon as that is back.
        share: The part of each rate that this process may use by itself, such as 1/8 for eight processes. The shares
            of all processes must not add up to more than 1. Passing it means on_unavailable="share". It has two limits.
            If only some processes have lost Redis, the others still use the whole rate, and the shares come on top. If
            a share is less than one request per second, as it is for tokens, several processes may send in one second.
        timeout: Seconds that a send waits for one call to Redis. Connecting may take up to 10 seconds, in the
            background. Until then sends fail, or use the *share*.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        rates: Rates | None = None,
        prefix: str = "pico",
        on_unavailable: Literal["fail", "share"] | None = None,
        share: float | None = None,
        timeout: float = 1.0,
    ) -> None:
        if rates is not None and not isinstance(rates, Rates):
            raise ConfigurationError("`rates` must be a Rates, such as Rates(sms=100).")
        if not isinstance(prefix, str) or not prefix.isprintable() or set(prefix) & set("{} "):
            raise ConfigurationError("`prefix` must be printable, without braces and blanks, such as 'pico'.")
        if not isinstance(client, Redis | RedisCluster):
            raise ConfigurationError(
                "`client` must be a redis.asyncio.Redis or RedisCluster; or use RedisCoordinator.from_url(…)."
            )
        self.rates: Rates = rates or Rates()
        self._share = _checked_share(on_unavailable, share)
        self._client = client
        self._prefix = prefix
        self._scripts = ScriptClient(client, _checked_timeout(timeout))
        # Makes another client, for a forked process; None if the client is the caller's.
        self._new_client: Callable[[], Redis] | None = None
        self._process = os.getpid()
        self._inherited: object = None
        self._member = _this_process()
        self._identity: Identity | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions = 0
        self._limiters: dict[RateGroup, RedisLimiter | LocalLimiter] = {}
        self._token = self._new_token_store()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        rates: Rates | None = None,
        prefix: str = "pico",
        on_unavailable: Literal["fail", "share"] | None = None,
        share: float | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> Self:
        """
        Make a coordinator from a URL.

        Args:
            url: redis://[user:password@]host:6379/0, rediss://… (TLS) or unix:///path/to.sock.
            options: Passed on to `redis.asyncio.Redis.from_url`, such as `ssl_ca_certs`.

        Raises:
            ConfigurationError: The URL or another argument is wrong.
        """
        timeout = _checked_timeout(timeout)

        def new_client() -> Redis:
            return client_from_url(url, timeout, {"socket_connect_timeout": max(LONGEST_CALL_S, timeout)} | options)

        coordinator = cls(
            new_client(), rates=rates, prefix=prefix, on_unavailable=on_unavailable, share=share, timeout=timeout
        )
        coordinator._new_client = new_client
        return coordinator

    @property
    def token(self) -> RedisTokenStore:
        """The token that the fleet shares."""
        return self._token

    def limiter(self, rate_group: RateGroup) -> RedisLimiter | LocalLimiter:
        """Return the limiter of a rate group. Groups without a rate are not limited, and not shared."""
        if not self._limiters:
            raise _not_joined()
        return self._limiters[rate_group]

    def join(self, identity: Identity) -> None:
        """
        Begin to serve a session of this identity. A session calls this itself.

        Raises:
            ConfigurationError: The coordinator serves another API key, account or host, or another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._sessions and self._process != os.getpid():
            self._forget_parent()
        if self._sessions and self._loop is not loop:
            raise ConfigurationError("This RedisCoordinator belongs to another event loop: make one in each loop.")
        if self._identity not in (None, identity):
            raise ConfigurationError(
                "This RedisCoordinator serves another API key, account or host: make one for each."
            )
        self._identity = identity
        if self._loop is not loop:
            self._loop = loop
            # A forked copy of this object must be a member of its own.
            self._member = _this_process()
            self._scripts = ScriptClient(self._client, self._scripts.timeout_s)
            self._token = self._new_token_store()
            self._limiters = {rate_group: self._new_limiter(rate_group) for rate_group in RateGroup}
            self._process = os.getpid()
        self._sessions += 1

    async def leave(self) -> None:
        """End what `join` began. The last session returns unused slots and closes the client that `from_url` made."""
        self._sessions -= 1
        if self._sessions:
            return
        try:
            await self._leave_fleet()
        finally:
            if not self._sessions:  # another session may have joined meanwhile
                await self._close_client()

    async def aclose(self) -> None:
        """Close the coordinator, even if sessions still use it. A later session opens it again."""
        try:
            await self._leave_fleet()
        finally:
            await self._close_client()

    async def _leave_fleet(self) -> None:
        limiters = self._redis_limiters()
        try:
            await self._token.aclose()
            for limiter in limiters:
                await limiter.aclose()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._token.aclose()
                for limiter in limiters:
                    await limiter.abort()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._scripts.aclose()

    async def _close_client(self) -> None:
        if self._new_client is None:
            return
        # Closing waits for no reply. A connection that cannot be closed properly is gone all the same.
        with anyio.CancelScope(shield=True), suppress(RedisError, OSError):
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        away = "fails" if self._share is None else f"uses {self._share:g} of the rates"
        state = "".join(f", {part!r}" for part in (self._token, *self._redis_limiters()))
        return f"<RedisCoordinator {self.rates!r}, {away} while Redis is away, {self._sessions} sessions{state}>"

    def _forget_parent(self) -> None:
        """Serve no session of the parent process, and use none of its connections, in a forked child."""
        if self._new_client is None:
            raise ConfigurationError(
                "This process was forked from one that uses this RedisCoordinator, and may not use the connections of "
                "its client. Make both in each process, or use RedisCoordinator.from_url."
            )
        # The client is kept, because collecting it may write on the parent's sockets.
        self._inherited = (self._client, self._inherited)
        self._client = self._new_client()
        self._process, self._sessions, self._loop = os.getpid(), 0, None

    def _redis_limiters(self) -> list[RedisLimiter]:
        return [limiter for limiter in self._limiters.values() if isinstance(limiter, RedisLimiter)]

    def _new_limiter(self, rate_group: RateGroup) -> RedisLimiter | LocalLimiter:
        rate = self.rates.of(rate_group)
        if rate is None:
            return LocalLimiter(None)
        return RedisLimiter(
            rate,
            self._scripts,
            f"{self._key_prefix()}:pace:{rate_group}",
            member=self._member,
            share=self._share,
            jitter_allowance_s=self.rates.jitter_allowance_s,
        )

    def _new_token_store(self) -> RedisTokenStore:
        return RedisTokenStore(self._scripts, self._token_key, member=self._member.id, alone=self._share is not None)

    def _token_key(self) -> str:
        prefix = self._key_prefix()
        return f"{prefix}:token:{self._identity.token if self._identity else ''}"

    def _key_prefix(self) -> str:
        if self._identity is None:
            raise _not_joined()
        # One hash tag in all keys of an API key, so that a cluster keeps them on one node.
        return f"{self._prefix}:{{{self._identity.limiter}}}"


def _this_process() -> Member:
    return Member(id=secrets.token_hex(6), about=f"{socket.gethostname()}:{os.getpid()}")


def _checked_share(on_unavailable: object, share: object) -> float | None:
    if on_unavailable not in (None, "fail", "share"):
        raise ConfigurationError("`on_unavailable` must be 'fail' or 'share'.")
    if share is None:
        if on_unavailable == "share":
            raise ConfigurationError("on_unavailable='share' needs the share, such as share=1/8 for eight processes.")
        return None
    if on_unavailable == "fail":
        raise ConfigurationError("With on_unavailable='fail' there is no share: pass only one of them.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigurationError("`share` must be a part of the rate, above 0 and at most 1, such as 1/8.")
    return float(share)


def _checked_timeout(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
        raise ConfigurationError("`timeout` must be a positive number of seconds, at most 60.")
    return float(timeout)


def _not_joined() -> ConfigurationError:
    return ConfigurationError("This RedisCoordinator serves no session yet: pass it as PicoSession(coordinator=…).")
