"""Requests over HTTP/2, which a transport of the user's may speak: many at once on one connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from pico_async._engine.httpx_carrier import HttpTransport, HttpxCarrier, Watch
from pico_async._engine.transport import AT_ONCE_S, Departing, Outgoing
from pico_async._engine.wire import Failure, Reply


def speaks_http2(transport: HttpTransport) -> bool:
    """Say whether it may. httpx tells it nowhere else; a test holds it there."""
    return bool(getattr(getattr(transport, "_pool", None), "_http2", False))


class Http2Carrier(HttpxCarrier):
    """
    Carry requests by an httpx transport that may speak HTTP/2.

    It lets them in one by one: httpcore numbers a request before it tells that it writes, and while that one waited for
    its turn, the next to come would get the same number, and neither an answer of its own.
    """

    def __init__(self, transport: HttpTransport) -> None:
        super().__init__(transport)
        self._entrance = asyncio.Lock()
        self._heard_at = 0.0

    async def carry(self, outgoing: Outgoing, departure: Departing, watch: Watch | None = None) -> Reply:
        """Send one request and read its reply."""
        entering = _Entering(departure, self._entrance)
        await entering.enter()
        try:
            return await super().carry(outgoing, entering, watch or self._watch)
        except BaseException:
            if entering.age_s >= 0.9 * self._timeout_s and self._heard_at <= entering.left_at:
                # Its time is over, and nobody got an answer since it left: httpcore would keep such a connection.
                with anyio.CancelScope(shield=True), suppress(Exception):
                    await self._connections.aclose()
            raise
        finally:
            entering.let_in()

    def failure(self, error: Exception, *, written: bool) -> Failure:
        """Say what it means that `carry` raised this."""
        if isinstance(error, _NeverBegunError):
            return Failure("the host closed the connection, and had not begun with this by its own word", True)
        return super().failure(error, written=written)

    def _watch(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "http2.receive_response_headers.complete":
            self._heard_at = time.monotonic()
        # By its name, for httpx loads httpcore only with the first transport.
        elif event == "http2.receive_response_headers.failed" and (
            type(told["exception"]).__name__ == "ConnectionNotAvailable"
        ):
            raise _NeverBegunError


class _Entering:
    """A request that waits to be let in, and lets the next one in when it has left."""

    def __init__(self, departure: Departing, entrance: asyncio.Lock) -> None:
        self._departure = departure
        self._entrance = entrance
        self._inside = False
        self._began_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self._began_at

    @property
    def left_at(self) -> float:
        """When it left, on the monotonic clock."""
        return self._departure.left_at

    async def enter(self) -> None:
        """Wait until the one before has left."""
        await self._entrance.acquire()
        self._inside = True

    async def leave(self, *, held_up: bool) -> None:
        """Leave. It was held up where it waited, here or inside httpcore, for a connection or another one's answer."""
        await self._departure.leave(held_up=held_up or self.age_s > AT_ONCE_S)
        self.let_in()

    def let_in(self) -> None:
        """Let the next one in. Twice does nothing."""
        if self._inside:
            self._inside = False
            self._entrance.release()


class _NeverBegunError(Exception):
    """
    A request came after the last one that the host worked on, by its own word (RFC 9113, 6.8).

    httpcore would send it again: without end, and without a turn.
    """
