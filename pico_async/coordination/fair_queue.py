"""Who waits, in order: by priority, then first come, first served."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Given = TypeVar("Given")


class WaitingLine(Generic[Given]):
    """People in a line, each of whom is given something once. The lower a priority's number, the earlier."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[Given]]] = []
        self._arrivals = count()
        self._counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def count(self, priority: int) -> int:
        """Count who waits with this priority."""
        return self._counts[priority]

    async def stand(self, priority: int, pass_on: Callable[[Given], None]) -> Given:
        """
        Wait in line.

        Args:
            pass_on: Takes what was given in the very moment of a cancellation: it belongs to the next one.
        """
        turn: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._arrivals), turn))
        self._counts[priority] += 1
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._counts[priority] -= 1
                self._forget()
            elif turn.exception() is None:
                pass_on(turn.result())
            raise

    def give(self, what: Given) -> bool:
        """Give it to the first in line; False where nobody waits."""
        turn = self._first()
        if turn is not None:
            turn.set_result(what)
        return turn is not None

    def refuse(self, error: Exception) -> None:
        """End the wait of the first in line with an error."""
        turn = self._first()
        if turn is not None:
            turn.set_exception(error)

    def _first(self) -> asyncio.Future[Given] | None:
        while self._waiting:
            priority, _, turn = heappop(self._waiting)
            if not turn.done():
                self._counts[priority] -= 1
                return turn
        return None

    def _forget(self) -> None:
        # In a long pause thousands may come and go while nobody is given anything, and stay in the heap.
        if len(self._waiting) > 64 and len(self._waiting) > 2 * len(self):
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapify(self._waiting)


class FairQueue:
    """
    Places that are handed on in order; one place makes it a lock.

    No newcomer overtakes its equals: a place passes straight to the next one in line, and is free only when nobody
    waits.
    """

    def __init__(self, places: int = 1) -> None:
        self._free = places
        self._line: WaitingLine[None] = WaitingLine()

    async def take(self, priority: int) -> bool:
        """Take a place, which `give_back` ends; say whether it had to be waited for."""
        if self._free:
            self._free -= 1
            return False
        await self._line.stand(priority, self.give_back)
        return True

    def give_back(self, _: None = None) -> None:
        """Pass a place on to the next one in line."""
        if not self._line.give(None):
            self._free += 1
