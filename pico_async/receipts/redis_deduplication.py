"""What was seen of each message's delivery, in a Redis that all processes of an app share."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.exceptions import RedisError
except ImportError as error:
    raise ImportError("RedisSeenReceipts needs redis-py: pip install 'pico-async[redis]'") from error

from pico_async._boundary import boundary
from pico_async._cancellation import unless_cancelled
from pico_async._logger import Logger
from pico_async.coordination.redis.client import RedisUnavailableError, client_for, kind_of
from pico_async.errors import ConfigurationError
from pico_async.receipts.deduplication import LONGEST_WAIT_S, ReceiptHistory
from pico_async.receipts.receipt import DeliveryStatus

# Of a process that dies with a turn in hand, the others wait no longer than this.
_LOCK_TTL_S = 60
_POLL_S = 0.05
_RELEASE_S = 2.0

_log = Logger("pico_async.receipts")

Answer = TypeVar("Answer")


@boundary
class RedisSeenReceipts:
    """
    Remember receipts for all processes that share a Redis or Valkey, until their URLs expire.

    Each receipt is told once, whichever process it comes to; twice only where a process dies, or takes more than a
    minute, with it. Redis holds random names of the URLs, digests and outcomes: no key of yours, no number, no text.
    While Redis is away, receipts are answered with 503, and so asked for again.

        async with RedisSeenReceipts.from_url("redis://…") as memory: ...

    Args:
        client: A client of redis-py, `Redis` or `RedisCluster`, which you close.
        prefix: What its keys begin with.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(self, client: Redis | RedisCluster, *, prefix: str = "pico") -> None:
        if not isinstance(client, Redis | RedisCluster):
            raise ConfigurationError(
                "`client` must be a redis.asyncio.Redis or RedisCluster; from_url makes a Redis of an address."
            )
        if not isinstance(prefix, str) or not prefix:
            raise ConfigurationError("`prefix` must be a str that is not empty.")
        self._client = client
        self._prefix = prefix
        self._owned = False

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "pico", timeout: float = 1.0, **options: Any) -> Self:
        """
        Make one from an address; close it with `aclose()`, or `async with`.

        Args:
            url: As redis://[user:password@]host:6379/0, rediss://… (TLS) or unix:///path/to.sock.
            timeout: Seconds for one answer of Redis.
            options: Passed on to `redis.asyncio.Redis.from_url`.

        Raises:
            ConfigurationError: It is no such address, or another argument is wrong.
        """
        made = cls(client_for(url, timeout, options), prefix=prefix)
        made._owned = True
        return made

    @asynccontextmanager
    async def lock(self, callback_id: str) -> AsyncIterator[None]:
        """
        Let one receipt of a message go after the other, in all processes.

        Raises:
            TimeoutError: Its turn did not come.
            RedisUnavailableError: Redis is away.
        """
        # It waits here, not in `acquire`, which would go on through a cancellation that one of its tries has dropped.
        name = f"{self._name(callback_id)}:lock"
        lock = self._client.lock(name, timeout=_LOCK_TTL_S, blocking=False)
        token = secrets.token_bytes(16)
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                if not await _asked(lock.acquire(token=token)):
                    await self._let_expire(name)
                    while not await _asked(lock.acquire(token=token)):  # noqa: ASYNC110  Redis rings no bell
                        await asyncio.sleep(_POLL_S)
            yield
        finally:
            # By the token: who is cancelled while it asks may have the turn and not know. Else it expires by itself,
            # and what was taken stays taken.
            with anyio.move_on_after(_RELEASE_S, shield=True), suppress(RedisUnavailableError):
                await _asked(lock.do_release(token))

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        """Return what was seen at one callback URL; None where what is there is unreadable, and `put` replaces it."""
        name = self._name(callback_id)
        try:
            found = await _asked(self._client.get(name))
            if found is None:
                return None
            told = json.loads(found)
            return ReceiptHistory(
                DeliveryStatus(told["status"]), tuple(bytes.fromhex(digest) for digest in told["digests"])
            )
        except RedisUnavailableError as error:
            if "WRONGTYPE" not in str(error):
                raise
        except (ValueError, LookupError, TypeError):
            pass
        # Without the error, which quotes what is there.
        _log.warning("Another program has written to %s in Redis: the next receipt replaces that, as the first.", name)
        return None

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        """Remember it, until the Unix time at which the URL expires."""
        fields = {"status": history.status.value, "digests": [digest.hex() for digest in history.digests]}
        kept_s = max(1, expires_at - int(time.time()))
        await _asked(self._client.set(self._name(callback_id), json.dumps(fields), ex=kept_s))

    async def aclose(self) -> None:
        """Close the client, where `from_url` made it."""
        if self._owned:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _let_expire(self, lock: str) -> None:
        # One that expires later, or never, is none of ours, and would hold back the receipts of a message for ever.
        left_ms = await _asked(self._client.pttl(lock))
        if left_ms == -1 or left_ms > _LOCK_TTL_S * 1000:
            await _asked(self._client.pexpire(lock, _LOCK_TTL_S * 1000))

    def _name(self, callback_id: str) -> str:
        return f"{self._prefix}:receipt:{callback_id}"


async def _asked(call: Awaitable[Answer]) -> Answer:
    """
    Wait for an answer of Redis.

    Raises:
        RedisUnavailableError: There is none. The frames of redis-py's own error hold the password.
    """
    try:
        return await unless_cancelled(call)
    except RedisError as error:
        fault = kind_of(error)
    except Exception as error:  # noqa: BLE001  redis-py lets others through
        fault = type(error).__name__
    raise RedisUnavailableError(fault)
