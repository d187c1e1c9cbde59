"""The receipts that each message already had. They decide whether another receipt is new."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, runtime_checkable

import anyio
import attrs
from attrs import define, field, frozen

from pico_async.errors import ConfigurationError
from pico_async.receipts.status import DeliveryStatus

# A sender that repeats itself must not fill the process's memory while the app hangs.
LOCK_TIMEOUT_S = 10.0


@frozen
class ReceiptHistory:
    """
    The receipts that were handled at one callback URL.

    Attributes:
        status: The status with the highest `progress`.
        digests: A digest of each receipt.
    """

    status: DeliveryStatus
    digests: tuple[bytes, ...]


@runtime_checkable
class SeenReceipts(Protocol):
    """A store of handled receipts: `LocalSeenReceipts` for one process, `RedisSeenReceipts` for many."""

    def lock(self, callback_id: str) -> AbstractAsyncContextManager[object]:
        """
        Lock one callback URL, so that its receipts are handled one after the other.

        Raises:
            TimeoutError: On entering: another receipt held the lock for too long.
        """

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        """Return the history of one callback URL."""

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        """Store the history until the Unix time at which the URL expires."""


def _positive(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"`{attribute.name}` must be a positive whole number.")


@define(eq=False)
class LocalSeenReceipts:
    """
    The receipts of the last *limit* messages in this process, in half a kilobyte each.

    A restart forgets all of them, and other processes do not see them. A receipt that comes again is then new, so
    `on_receipt` must be able to handle it twice.

    Raises:
        ConfigurationError: *limit* is not a positive whole number.
    """

    limit: int = field(default=100_000, validator=_positive)
    _histories: OrderedDict[str, ReceiptHistory] = field(factory=OrderedDict, init=False)
    _locks: dict[str, _CountedLock] = field(factory=dict, init=False)

    def __repr__(self) -> str:
        return f"<LocalSeenReceipts, messages: {len(self._histories)} of {self.limit}, locked: {len(self._locks)}>"

    @asynccontextmanager
    async def lock(self, callback_id: str) -> AsyncIterator[None]:
        """Lock one callback URL, so that its receipts are handled one by one; raise TimeoutError after 10 s."""
        counted = self._locks.setdefault(callback_id, _CountedLock())
        counted.users += 1
        try:
            with anyio.fail_after(LOCK_TIMEOUT_S):
                await counted.lock.acquire()
            try:
                yield
            finally:
                counted.lock.release()
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[callback_id]

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        return self._histories.get(callback_id)

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        """Store the history until *limit* newer ones are stored."""
        self._histories[callback_id] = history
        self._histories.move_to_end(callback_id)
        while len(self._histories) > self.limit:
            self._histories.popitem(last=False)


@define(eq=False)
class _CountedLock:
    """A lock that is deleted with its last user, who holds it or waits for it."""

    lock: asyncio.Lock = field(factory=asyncio.Lock)
    users: int = 0
