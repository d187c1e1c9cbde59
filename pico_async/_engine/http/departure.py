"""The moment in which a request is written."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
from attrs import define, field

from pico_async._engine.endpoints import Request
from pico_async._engine.progress import CallProgress
from pico_async.coordination.protocols import Slot
from pico_async.errors import MessageExpiredError

# uvicorn and node close an idle connection after 5 s. A request that meets the closing is in doubt, so the client
# closes first. The time counts from when the last request left, so it is no shorter than the host's own idle time.
KEEPALIVE_EXPIRY_S = 4.0

# A slot may be used so late. Timers of a busy loop are no later, and the jitter allowance covers it.
LATE_S = 0.003

IsClean: TypeAlias = Callable[[], Awaitable[bool]]


class ConnectionLostError(Exception):
    """The request must not be written on this connection. Nothing was; it is sent on another one."""


class WaitedTooLongError(ConnectionLostError):
    """The open connection waited for a slot until its host may have closed it."""


class UncleanError(ConnectionLostError):
    """Something came on the connection that no request asked for: a byte, its end, or an error."""


@define(eq=False, repr=False)
class Departure:
    """
    The moment in which one request is written: the last one that proves that nothing was sent.

    Attributes:
        late: The request may have waited since its slot was granted.
        written: The first byte may have been sent.
        left_at: When the request was written, on the monotonic clock.
        timeout: Bounds one exchange, but not the wait for another slot. The HTTP client sets it.
    """

    _request: Request
    slot: Slot
    _progress: CallProgress
    late: bool = field(default=False, kw_only=True)
    written: bool = field(default=False, init=False)
    left_at: float = field(default=-math.inf, init=False)
    timeout: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    def take_back(self) -> None:
        """Record that the HTTP library could not encode the request, and wrote nothing of it."""
        self.written = False

    async def leave(self, *, held_up: bool, is_clean: IsClean | None = None) -> None:
        """
        Return when the request may be written. From then on, nothing proves that it was not sent.

        The HTTP transport calls this with the connection open, right before it writes the first byte.

        Args:
            held_up: The request had to wait since its slot was granted, as for a connection to open. Together with the
                requests that were sent meanwhile, it could exceed the rate at Pico.
            is_clean: Returns whether nothing came on the connection since its last reply. HTTP/1.1 has no request IDs,
                so it would be read as the reply to this request. No other task runs between its last look at the
                socket and the write. None if it cannot be known.

        Raises:
            ConnectionLostError: The connection must not be used.
            MessageExpiredError: The message's `expires_in` ran out. Nothing was sent.
            PicoError: There is no other slot to be had. Nothing was sent.
        """
        if held_up or self.late or self.written:
            if time.monotonic() - self.slot.granted_at > LATE_S:
                await self._renew_slot()
            if self._progress.deadline is not None and time.monotonic() >= self._progress.deadline:
                raise expired(self._request)
        if is_clean is not None and not await is_clean():
            raise UncleanError
        # A scope's cancellation comes one turn of the loop late if the task was about to wake. This is the last moment
        # in which it proves that nothing was sent, so a pending one is awaited.
        while anyio.current_effective_deadline() == -math.inf:  # noqa: ASYNC110  the next turn has no event
            await asyncio.sleep(0)
        self.written = True
        self.left_at = time.monotonic()
        self._progress.exchanging = self._progress.in_doubt = True

    async def _renew_slot(self) -> None:
        # The wait for a slot is not a part of the exchange.
        waits_from, left_s = time.monotonic(), self.timeout.deadline - anyio.current_time()
        self.timeout.deadline = math.inf
        observed, deadline = self._progress.observed, self._progress.deadline
        if observed is not None:
            observed.slot_requested()
        with anyio.move_on_after(None if deadline is None else deadline - time.monotonic()) as expiry:
            is_another = await self.slot.renew()
            if observed is not None:
                observed.slot_granted(is_another=is_another)
        if expiry.cancelled_caught:
            raise expired(self._request)
        self.timeout.deadline = anyio.current_time() + left_s
        if not self.written and time.monotonic() - waits_from > KEEPALIVE_EXPIRY_S:
            raise WaitedTooLongError


def expired(request: Request) -> MessageExpiredError:
    """Return the error of a message that waited too long."""
    return MessageExpiredError(f"{request}: `expires_in` ran out before its slot was granted. It was not sent.")
