"""The receipts that each message already had, in a Redis that all processes of an app share."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

import anyio

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.exceptions import RedisError
except ImportError as _error:
    raise ImportError("RedisSeenReceipts needs redis-py: pip install 'pico-async[redis]'") from _error

from pico_async._boundary import boundary
from pico_async._cancellation import unless_cancelled
from pico_async._logger import Logger
from pico_async.coordination.redis.client import RedisUnavailableError, client_from_url, error_kind
from pico_async.errors import ConfigurationError
from pico_async.receipts.deduplication import LOCK_TIMEOUT_S, ReceiptHistory
from pico_async.receipts.status import DeliveryStatus

# A process that dies with a lock blocks the others no longer than this.
_LOCK_TTL_S = 60
_POLL_S = 0.05
_RELEASE_S = 2.0

_log = Logger("pico_async.receipts")

Answer = TypeVar("Answer")


@boundary
class RedisSeenReceipts:
    """
    The receipts of all processes that share a Redis or Valkey, until their URLs expire.

    Each receipt is handled once, whichever process receives it. It is handled twice only if a process dies with it, or
    needs more than a minute for it. Redis contains random IDs of the URLs, digests and statuses, but no message key, no
    number and no text. While Redis is away, receipts are answered with 503, so Pico should send them again.

        async with RedisSeenReceipts.from_url("redis://…") as seen_receipts: ...

    Args:
        client: A client of redis-py, `Redis` or `RedisCluster`. The caller closes it.
        prefix: The beginning of each Redis key.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(self, client: Redis | RedisCluster, *, prefix: str = "pico") -> None:
        if not isinstance(client, Redis | RedisCluster):
            raise ConfigurationError(
                "`client` must be a redis.asyncio.Redis or RedisCluster; `from_url` makes one from an address."
            )
        if not isinstance(prefix, str) or not prefix:
            raise ConfigurationError("`prefix` must be a str that is not empty.")
        self._client = client
        self._prefix = prefix
        self._owned = False

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "pico", timeout: float = 1.0, **options: Any) -> Self:
        """
        Connect to an address. Close the result with `aclose()` or `async with`.

        Args:
            url: As redis://[user:password@]host:6379/0, rediss://… (TLS) or unix:///path/to.sock.
            timeout: Seconds for one answer of Redis.
            options: Passed on to `redis.asyncio.Redis.from_url`.

        Raises:
            ConfigurationError: The address or another argument is wrong.
        """
        store = cls(client_from_url(url, timeout, options), prefix=prefix)
        store._owned = True
        return store

    def __repr__(self) -> str:
        return f"<RedisSeenReceipts, prefix: {self._prefix!r}>"

    @asynccontextmanager
    async def lock(self, callback_id: str) -> AsyncIterator[None]:
        """
        Lock one callback URL in all processes, so that its receipts are handled one after the other.

        Raises:
            TimeoutError: Another receipt held the lock for too long.
            RedisUnavailableError: Redis is away.
        """
        # Poll here: the loop in redis-py's `acquire` continues if one of its commands swallows a cancellation.
        name = f"{self._name(callback_id)}:lock"
        lock = self._client.lock(name, timeout=_LOCK_TTL_S, blocking=False)
        token = secrets.token_bytes(16)
        try:
            async with asyncio.timeout(LOCK_TIMEOUT_S):
                if not await _answer(lock.acquire(token=token)):
                    await self._ensure_expiry(name)
                    while not await _answer(lock.acquire(token=token)):  # noqa: ASYNC110  Redis does not notify
                        await asyncio.sleep(_POLL_S)
            yield
        finally:
            # Release by the token: a cancelled `acquire` may hold the lock without a reply. If the release fails, the
            # lock expires.
            with anyio.move_on_after(_RELEASE_S, shield=True), suppress(RedisUnavailableError):
                await _answer(lock.do_release(token))

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        name = self._name(callback_id)
        try:
            found = await _answer(self._client.get(name))
            if found is None:
                return None
            fields = json.loads(found)
            return ReceiptHistory(DeliveryStatus(fields["status"]), tuple(map(bytes.fromhex, fields["digests"])))
        except RedisUnavailableError as error:
            if "WRONGTYPE" not in str(error):
                raise
        except (ValueError, LookupError, TypeError):
            pass
        # Without the error, because it quotes the value.
        _log.warning("Another program wrote to %s in Redis. The next receipt counts as new, and replaces it.", name)
        return None

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        fields = {"status": history.status.value, "digests": [digest.hex() for digest in history.digests]}
        kept_s = max(1, expires_at - int(time.time()))
        await _answer(self._client.set(self._name(callback_id), json.dumps(fields), ex=kept_s))

    async def aclose(self) -> None:
        """Close the client if `from_url` made it."""
        if self._owned:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ensure_expiry(self, lock: str) -> None:
        # Another program's lock that expires later, or never, would block the message's receipts for ever.
        left_ms = await _answer(self._client.pttl(lock))
        if left_ms == -1 or left_ms > _LOCK_TTL_S * 1000:
            await _answer(self._client.pexpire(lock, _LOCK_TTL_S * 1000))

    def _name(self, callback_id: str) -> str:
        return f"{self._prefix}:receipt:{callback_id}"


async def _answer(call: Awaitable[Answer]) -> Answer:
    """Return an answer of Redis; without one, raise an error without redis-py's frames, which contain the password."""
    try:
        return await unless_cancelled(call)
    except RedisError as error:
        fault = error_kind(error)
    except Exception as error:  # noqa: BLE001  redis-py also raises errors of other libraries
        fault = type(error).__name__
    raise RedisUnavailableError(fault)
