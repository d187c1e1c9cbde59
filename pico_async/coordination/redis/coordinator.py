"""One pace and one token for a whole fleet: every process and host that shares a Redis."""

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
except ImportError as error:
    raise ImportError("RedisCoordinator needs redis-py: pip install 'pico-async[redis]'") from error

from pico_async._boundary import boundary
from pico_async.coordination.local.limiter import LocalLimiter
from pico_async.coordination.protocols import Identity
from pico_async.coordination.rates import RateGroup, Rates
from pico_async.coordination.redis.client import CONNECT_S, RedisLink, client_for
from pico_async.coordination.redis.limiter import Member, RedisLimiter
from pico_async.coordination.redis.token_store import RedisTokenStore
from pico_async.errors import ConfigurationError


@boundary
class RedisCoordinator:
    """
    The pace and the token of one API key, for all processes and hosts that share a Redis (6 or newer) or Valkey.

        async with PicoSession(coordinator=RedisCoordinator.from_url("redis://localhost")) as pico:
            ...

    It opens with its first session and closes with its last. Sessions of one process may share it; it belongs to one
    API key and one event loop. In Redis lie, under digests of the key and the account: the schedule of each rate group
    that has a rate, the token, and who takes part (host name and process ID). Whoever may read that Redis can read the
    token, which is good for nothing without the API key. What another program writes there is discarded, or ends in an
    error or a warning that names the key.

    Give all processes the same *rates*. Where they differ, the lowest holds for all, until no process has asked with it
    for a minute, and those with a higher one log a warning that names both. So a deploy that changes the rate may go
    from process to process: a lower one holds at once, a higher one a minute after the last old process has asked.
    Lanes without a rate wait for nobody, and a refusal there pauses only the process that met it.

    Args:
        client: A client of redis-py's asyncio API; its maker closes it. `from_url` makes one. It may be a
            `RedisCluster` (all keys of an API key lie in one hash slot), or what a Sentinel's `master_for` gives.
        rates: Requests a second that your contract allows.
        prefix: What all keys in Redis begin with. An ACL user needs `~pico:*` and +@connection +evalsha +eval
            +time +hmget +hset +hdel +zadd +zrem +zcard +zrangebyscore +get +set +del +pexpire +pttl; in
            a cluster +command, +cluster|slots and +asking, too.
        on_unavailable: What a process does while Redis is away, read-only, or slower than *timeout*. "fail", the
            default: it raises NotSentError at once, and a blast waits, as `send_bulk` says.
            "share": it goes on with its *share* of each rate, and its own copy of the token. Never does it send
            without a limit. In both cases it goes on by itself when Redis is back.
        share: The part of each rate that this process may use by itself, as 1/8 where there are eight; the shares of
            all must not come to more than 1. Giving it means on_unavailable="share".
            Two things it cannot know. Where Redis is away for some processes only, the others keep to the whole rate,
            and these shares come on top of it. And where the share of a rate is less than one a second, as of the
            token's, several processes may meet in one second.
        timeout: Seconds that a send waits for one call to Redis. To connect may take up to 10 seconds, in the
            background: until then sends fail, or go on with the *share*.

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
            raise ConfigurationError("`rates` must be a Rates, as Rates(sms=100).")
        if not isinstance(prefix, str) or not prefix.isprintable() or set(prefix) & set("{} "):
            raise ConfigurationError("`prefix` must be printable and hold no braces and no blanks, as 'pico'.")
        if not isinstance(client, Redis | RedisCluster):
            raise ConfigurationError(
                "`client` must be a redis.asyncio.Redis or RedisCluster; or use RedisCoordinator.from_url(…)."
            )
        self.rates = rates or Rates()
        self._share = _checked_share(on_unavailable, share)
        self._client = client
        self._prefix = prefix
        self._link = RedisLink(client, _checked_timeout(timeout))
        # Makes another client, for a forked process; None if the client is the caller's.
        self._new_client: Callable[[], Redis] | None = None
        self._process = os.getpid()
        self._inherited: object = None
        self._member = _this_process()
        self._identity: Identity | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sessions = 0
        self._limiters: dict[RateGroup, RedisLimiter | LocalLimiter] = {}
        self._token = self._token_store()

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
        Make one from an address.

        Args:
            url: As redis://[user:password@]host:6379/0, rediss://… (TLS) or unix:///path/to.sock.
            options: Passed on to `redis.asyncio.Redis.from_url`, as `ssl_ca_certs`.

        Raises:
            ConfigurationError: It is no such address, or another argument is wrong.
        """
        timeout = _checked_timeout(timeout)

        def new_client() -> Redis:
            return client_for(url, timeout, {"socket_connect_timeout": max(CONNECT_S, timeout)} | options)

        made = cls(
            new_client(), rates=rates, prefix=prefix, on_unavailable=on_unavailable, share=share, timeout=timeout
        )
        made._new_client = new_client
        return made

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
        Serve a session of this identity; a session does that by itself.

        Raises:
            ConfigurationError: It serves another API key, or another event loop.
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
            # Not the one that made it, if this was forked from that.
            self._member = _this_process()
            self._link = RedisLink(self._client, self._link.timeout_s)
            self._token = self._token_store()
            self._limiters = {rate_group: self._limiter_of(rate_group) for rate_group in RateGroup}
            self._process = os.getpid()
        self._sessions += 1

    async def leave(self) -> None:
        """End what a `join` began. The last one gives back unused turns and closes what `from_url` made."""
        self._sessions -= 1
        if self._sessions:
            return
        try:
            await self._settle()
        finally:
            if not self._sessions:  # Another may have come meanwhile.
                await self._disconnect()

    async def aclose(self) -> None:
        """Close it, whoever uses it still. A later session opens it again."""
        try:
            await self._settle()
        finally:
            await self._disconnect()

    async def _settle(self) -> None:
        paces = [pace for pace in self._limiters.values() if isinstance(pace, RedisLimiter)]
        try:
            await self._token.aclose()
            for pace in paces:
                await pace.aclose()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._token.aclose()
                for pace in paces:
                    await pace.abort()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._link.aclose()

    async def _disconnect(self) -> None:
        if self._new_client is None:
            return
        # It asks nobody, and a connection that does not close in time is gone all the same.
        with anyio.CancelScope(shield=True), suppress(RedisError, OSError):
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        away = "fails" if self._share is None else f"goes on with {self._share:g} of it"
        return f"<RedisCoordinator {self.rates!r}, {away} while Redis is away>"

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

    def _limiter_of(self, rate_group: RateGroup) -> RedisLimiter | LocalLimiter:
        rate = self.rates.of(rate_group)
        if rate is None:
            return LocalLimiter(None)
        return RedisLimiter(
            rate,
            self._link,
            f"{self._root()}:pace:{rate_group}",
            member=self._member,
            share=self._share,
            jitter_allowance_s=self.rates.jitter_allowance_s,
        )

    def _token_store(self) -> RedisTokenStore:
        return RedisTokenStore(self._link, self._token_key, member=self._member.id, alone=self._share is not None)

    def _token_key(self) -> str:
        root = self._root()
        return f"{root}:token:{self._identity.token if self._identity else ''}"

    def _root(self) -> str:
        if self._identity is None:
            raise _not_joined()
        # One hash tag for all keys of an API key: a cluster keeps them on one node.
        return f"{self._prefix}:{{{self._identity.limiter}}}"


def _this_process() -> Member:
    return Member(id=secrets.token_hex(6), about=f"{socket.gethostname()}:{os.getpid()}")


def _checked_share(on_unavailable: object, share: object) -> float | None:
    if on_unavailable not in (None, "fail", "share"):
        raise ConfigurationError("`on_unavailable` must be 'fail' or 'share'.")
    if share is None:
        if on_unavailable == "share":
            raise ConfigurationError("on_unavailable='share' needs the share: share=1/8 where there are eight.")
        return None
    if on_unavailable == "fail":
        raise ConfigurationError("With on_unavailable='fail' there is no share: leave one of them out.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigurationError("`share` must be a part of the rate, above 0 and no more than 1, as 1/8.")
    return float(share)


def _checked_timeout(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
        raise ConfigurationError("`timeout` must be a positive number of seconds, and no more than 60.")
    return float(timeout)


def _not_joined() -> ConfigurationError:
    return ConfigurationError("This RedisCoordinator serves no session yet: pass it as PicoSession(coordinator=…).")
