"""What was seen of each message's delivery: by this it is known which receipt is news."""

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
from pico_async.receipts.receipt import DeliveryStatus

# A sender that repeats itself must not fill the memory while the app hangs.
LONGEST_WAIT_S = 10.0


@frozen
class ReceiptHistory:
    """
    What is remembered of one message's receipts.

    Attributes:
        status: The furthest that they told.
        words: Digests of all that were taken.
    """

    status: DeliveryStatus
    digests: tuple[bytes, ...]


@runtime_checkable
class SeenReceipts(Protocol):
    """Remember which receipts were taken: `LocalSeenReceipts` in one process, `RedisSeenReceipts` in all of them."""

    def lock(self, callback_id: str) -> AbstractAsyncContextManager[object]:
        """
        Let one receipt of a message go after the other.

        Raises:
            TimeoutError: On entering: its turn did not come.
        """
        ...

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        """Return what was seen at one callback URL."""
        ...

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        """Remember it, until the Unix time at which the URL expires."""
        ...


def _positive(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"`{attribute.name}` must be a positive whole number.")


@define(eq=False)
class LocalSeenReceipts:
    """
    Remember the receipts of this process, of the last *limit* messages, in half a kilobyte each.

    What is forgotten, as all is in a restart, or what another process was told, is news when it comes again: so let
    `on_receipt` take it twice.

    Raises:
        ConfigurationError: *limit* is no positive number.
    """

    limit: int = field(default=100_000, validator=_positive)
    _histories: OrderedDict[str, ReceiptHistory] = field(factory=OrderedDict, init=False, repr=False)
    _locks: dict[str, _CountedLock] = field(factory=dict, init=False, repr=False)

    @asynccontextmanager
    async def lock(self, callback_id: str) -> AsyncIterator[None]:
        """
        Let one receipt of a message go after the other.

        Raises:
            TimeoutError: Its turn did not come.
        """
        turn = self._locks.setdefault(callback_id, _CountedLock())
        turn.waiting += 1
        try:
            with anyio.fail_after(LONGEST_WAIT_S):
                await turn.lock.acquire()
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._locks[callback_id]

    async def get(self, callback_id: str) -> ReceiptHistory | None:
        """Return what was seen at one callback URL."""
        return self._histories.get(callback_id)

    async def put(self, callback_id: str, history: ReceiptHistory, expires_at: int) -> None:
        """Remember it."""
        self._histories[callback_id] = history
        self._histories.move_to_end(callback_id)
        while len(self._histories) > self.limit:
            self._histories.popitem(last=False)


@define(eq=False)
class _CountedLock:
    lock: asyncio.Lock = field(factory=asyncio.Lock)
    waiting: int = 0
