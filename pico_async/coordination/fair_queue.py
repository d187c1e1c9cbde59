"""Queues that are served by priority, then first come first served."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

# Before all priorities: a caller that had a slot and could not use it.
PRIORITY_AHEAD = -1

Item = TypeVar("Item")


class WaitingLine(Generic[Item]):
    """Callers that wait, each for one item. A lower priority number is served first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[Item]]] = []
        self._arrivals = count()
        self._counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def __repr__(self) -> str:
        return f"<WaitingLine {len(self)} waiting>"

    def count(self, priority: int) -> int:
        return self._counts[priority]

    async def wait(self, priority: int, pass_on: Callable[[Item], None]) -> Item:
        """
        Wait for an item.

        Args:
            pass_on: Called with the item if the caller is cancelled in the moment in which it gets one.
        """
        promised: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._arrivals), promised))
        self._counts[priority] += 1
        try:
            return await promised
        except asyncio.CancelledError:
            if promised.cancelled():
                self._counts[priority] -= 1
                self._drop_cancelled()
            elif promised.exception() is None:
                pass_on(promised.result())
            raise

    def serve(self, item: Item) -> bool:
        """Hand the item to the first caller in the line. Return False if none waits."""
        promised = self._pop_first() if self._waiting else None
        if promised is not None:
            promised.set_result(item)
        return promised is not None

    def fail(self, error: Exception) -> None:
        promised = self._pop_first()
        if promised is not None:
            promised.set_exception(error)

    def _pop_first(self) -> asyncio.Future[Item] | None:
        while self._waiting:
            priority, _, promised = heappop(self._waiting)
            if not promised.done():
                self._counts[priority] -= 1
                return promised
        return None

    def _drop_cancelled(self) -> None:
        # In a long pause, thousands of callers may come and be cancelled without one being served.
        if len(self._waiting) > 64 and len(self._waiting) > 2 * len(self):
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapify(self._waiting)


class FairQueue:
    """
    A semaphore that is acquired by priority, then first come first served. With one permit it is a lock.

    A permit passes directly to the next caller in the line, so no new caller overtakes those that wait.
    """

    def __init__(self, permits: int = 1) -> None:
        self._free = permits
        self._line: WaitingLine[None] = WaitingLine()

    def __repr__(self) -> str:
        return f"<FairQueue {self._free} free, {len(self._line)} waiting>"

    async def acquire(self, priority: int) -> bool:
        """Acquire a permit, which `release` returns. Return whether the caller had to wait."""
        if self._free:
            self._free -= 1
            return False
        await self._line.wait(priority, lambda _: self.release())
        return True

    def release(self) -> None:
        if not self._line.serve(None):
            self._free += 1
