"""A queue whose head holds the turn: by priority, then first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from itertools import count


class FairQueue:
    """
    A lock that is handed on in order.

    No newcomer overtakes its equals: the turn passes straight to the next one in line, and is free only when nobody
    waits.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()
        self._gone = 0

    @asynccontextmanager
    async def head(self, priority: int) -> AsyncIterator[None]:
        """Wait in line, then hold the head of it. The lower the priority's number, the earlier."""
        await self._stand(priority)
        try:
            yield
        finally:
            self._pass_on()

    async def _stand(self, priority: int) -> None:
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the very moment of the cancellation: it belongs to the next one.
            if turn.done() and not turn.cancelled():
                self._pass_on()
            else:
                self._forget_one()
            raise

    def _forget_one(self) -> None:
        # In a long pause thousands may come and go while the head stays, and nobody would take them from the heap.
        self._gone += 1
        if self._gone > 64 and self._gone > len(self._waiting) // 2:
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapify(self._waiting)
            self._gone = 0

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
