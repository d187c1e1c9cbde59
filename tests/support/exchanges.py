"""Exchanges of an HTTP client without an engine: a departure whose slot is always too old, and one exchange with it."""

from __future__ import annotations

from pico_async._engine.endpoints import SEND_SMS, Request
from pico_async._engine.http.exchange import Departure, HttpClient, HttpRequest, IsClean
from pico_async._engine.progress import CallProgress
from pico_async._engine.wire import Failure, Reply
from pico_async.coordination.protocols import Priority


class OldSlot:
    """A slot that was granted long ago, so that each delay needs another one."""

    granted_at = float("-inf")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    async def renew(self) -> bool:
        await self._asked.slot_again()
        return True

    def answered(self, took_s: float) -> None:
        pass

    async def refused(self, retry_after_s: float | None) -> None:
        pass

    def release(self) -> None:
        pass


class Asked(Departure):
    """A departure that records its writes, and how often another slot was acquired."""

    def __init__(self, priority: Priority = Priority.INTERACTIVE) -> None:
        self.priority = priority
        self.slots_again = 0
        self.writes = 0
        super().__init__(Request(SEND_SMS, "/sms"), OldSlot(self), CallProgress())

    @property
    def wrote(self) -> bool:
        return self.writes > 0

    async def leave(self, *, held_up: bool, is_clean: IsClean | None = None) -> None:
        await super().leave(held_up=held_up, is_clean=is_clean)
        self.writes += 1

    async def slot_again(self) -> None:
        """Acquire another slot."""
        self.slots_again += 1


async def exchange_with(client: HttpClient, request: HttpRequest, departure: Departure) -> Reply | Failure:
    """Acquire a connection, run one exchange, and release the connection."""
    priority = departure.priority if isinstance(departure, Asked) else Priority.INTERACTIVE
    departure.late = await client.connections.acquire(priority) or departure.late
    try:
        return await client.exchange(request, departure)
    finally:
        client.connections.release()
