"""One exchange: a place, a bound in time, the moment of writing, and what a failure proves."""

from __future__ import annotations

import asyncio
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

import anyio
from attrs import define

from pico_async._engine.endpoints import Method
from pico_async._engine.wire import Failure, Reply
from pico_async.coordination.fair_queue import FairQueue
from pico_async.errors import PicoError

# uvicorn and node close an idle connection after 5 s. A request that meets the closing is in doubt, so ours close
# first. It is counted from when the last request left: what lies between that and the next one, wherever it is
# measured, is no less than what the host has idled, however long the way there takes.
KEEPALIVE_EXPIRY_S = 4.0

# What an open connection takes to be there, on a busy loop too.
AT_ONCE_S = 0.0005

# As httpx and aiohttp have it. 30 a second need them all only where a reply takes 3 s, and with more of them each
# request costs the processor more.
MAX_CONNECTIONS = 100

# A host that closes, or writes on, each new connection before a request is there would be tried without end.
MAX_UNCLEAN = 5


# What each HTTP library can write. RFC 9110 allows no more, but for what is obsolete.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


@define(eq=False, repr=False)
class Outgoing:
    """
    One request on its way out. It has no repr, so none shows its headers or its content.

    Attributes:
        headers: One mapping for all requests with one token, so that a carrier may keep what it makes of it.
    """

    method: Method
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes


class Attempt(Protocol):
    """What the transport asks of whoever wants the exchange."""

    async def take(self, places: FairQueue) -> bool:
        """
        Take one of the transport's places; say whether that took so long that the turn may be over.

        Raises:
            PicoError: It must not leave any more. Nothing was sent.
        """

    async def leave_late(self) -> bool:
        """
        Let the turn count from now on; False where it is over.

        Raises:
            PicoError: It must not leave any more. Nothing was sent.
        """

    async def turn_again(self) -> None:
        """
        Wait for another turn.

        Raises:
            PicoError: It must not leave any more. Nothing was sent.
        """

    def note_write(self) -> None:
        """The first byte may be on its way."""


IsClean: TypeAlias = Callable[[], Awaitable[bool]]


class ConnectionLostError(Exception):
    """The request must not be written on this connection. Nothing was; it leaves on another one."""


class WaitedTooLongError(ConnectionLostError):
    """The connection was open, and waited for a turn until its host may have closed it."""


class UncleanError(ConnectionLostError):
    """Something has come on the connection that no request asked for: a byte, its end, or an error."""


class Departing(Protocol):
    """What a carrier asks of a request that is on its way out."""

    @property
    def left_at(self) -> float:
        """When it left, on the monotonic clock."""

    def take_back(self) -> None:
        """The HTTP library could not encode the request after all, and has written nothing of it."""

    async def leave(self, *, held_up: bool, is_clean: IsClean | None = None) -> None:
        """
        Called with the connection open, right before the first byte is written.

        Args:
            held_up: It had to wait since its turn, for the connection to open perhaps. A request that comes so late
                would meet those which left meanwhile on open connections, and Pico would see more than the pace gave.
            is_clean: Returns whether nothing has come on the connection since its last reply, in the socket and in
                what the HTTP library has read. HTTP/1.1 has no request IDs: what has come would be read as the reply
                to this request. It ends with a look at the socket, and no other task runs between that look and the
                write. None: it cannot be known.

        Raises:
            ConnectionLostError: The connection must not be used.
        """


class Departure:
    """
    The moment in which one request leaves: the last one that proves that nothing was sent.

    Attributes:
        written: The first byte may be on its way.
        left_at: When it left, on the monotonic clock.
    """

    __slots__ = ("_attempt", "_held_up", "_scope", "left_at", "written")

    def __init__(self, attempt: Attempt, scope: anyio.CancelScope, *, held_up: bool) -> None:
        self._attempt = attempt
        self._held_up = held_up
        self._scope = scope
        self.written = False
        self.left_at = float("-inf")

    def take_back(self) -> None:
        """The HTTP library could not encode the request after all, and has written nothing of it."""
        self.written = False

    async def leave(self, *, held_up: bool, is_clean: IsClean | None = None) -> None:
        """Take another turn where it was held up; then nothing proves any more that it was not sent."""
        if (held_up or self._held_up or self.written) and not await self._attempt.leave_late():
            # That wait is the pace's, not a part of the exchange.
            waits_from = time.monotonic()
            left_s = self._scope.deadline - anyio.current_time()
            self._scope.deadline = math.inf
            await self._attempt.turn_again()
            self._scope.deadline = anyio.current_time() + left_s
            if not self.written and time.monotonic() - waits_from > KEEPALIVE_EXPIRY_S:
                raise WaitedTooLongError
        if is_clean is not None and not await is_clean():
            raise UncleanError
        # A cancellation by a scope comes a turn of the loop late where the task was about to wake. Here is the last
        # moment in which it still proves that nothing was sent, so one that is on its way is awaited.
        while anyio.current_effective_deadline() == -math.inf:  # noqa: ASYNC110  the next turn has no event
            await asyncio.sleep(0)
        self.written = True
        self.left_at = time.monotonic()
        self._attempt.note_write()


class Carrier(ABC):
    """
    What carries requests over HTTP: one HTTP library, bound to one session.

    Attributes:
        tells_writes: It calls `Departure.leave` in the last moment before it writes. Of one that does not, whatever was
            begun may be written.
    """

    tells_writes = True

    @abstractmethod
    def bind(self, base_url: str, connect_s: float, timeout_s: float) -> None:
        """
        Serve one session.

        Raises:
            ConfigurationError: It serves another one.
        """

    @abstractmethod
    async def carry(self, outgoing: Outgoing, departure: Departing) -> Reply:
        """Send one request and read its reply, up to 1 MiB of it. It raises as its library does."""

    @abstractmethod
    def failure(self, error: Exception, *, written: bool) -> Failure:
        """Say what it means that `carry` raised this."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""


class Transport:
    """
    Exchange one request for one reply, or for the reason why there is none.

    Requests wait in front of it, by priority, for one of its places; never inside an HTTP library, whose pools become
    slow with what waits in them.
    """

    def __init__(self, base_url: str, timeout_s: float, carrier: Carrier) -> None:
        self._timeout_s = timeout_s
        self._carrier = carrier
        self._places = FairQueue(MAX_CONNECTIONS)
        self._checked: Mapping[str, str] = {}
        # TCP and TLS get half of the time each: so they end by their own timeouts, which say what it was that hung,
        # before the bound of the whole, which does not.
        carrier.bind(base_url, timeout_s / 2, timeout_s)

    async def exchange(self, outgoing: Outgoing, attempt: Attempt) -> Reply | Failure:
        """
        Send one request and read its reply, up to 1 MiB of it.

        Raises:
            PicoError: What the attempt raised in place of taking a place, or another turn. Nothing was sent.
        """
        if outgoing.headers is not self._checked:
            # An HTTP library would find it out later, when nothing proves any more that it was not sent.
            if (name := _unwritable(outgoing.headers)) is not None:
                return Failure(f"the header {name} holds what no header can hold", sent_nothing=True)
            self._checked = outgoing.headers
        held_up = await attempt.take(self._places)
        try:
            unclean = 0
            while unclean < MAX_UNCLEAN:
                try:
                    return await self._exchange(outgoing, attempt, held_up=held_up)
                except ConnectionLostError as lost:
                    unclean += isinstance(lost, UncleanError)
                    held_up = True  # on another connection
            return Failure("the host closed each connection, or wrote on it, before the request was there", True)
        finally:
            self._places.give_back()

    async def _exchange(self, outgoing: Outgoing, attempt: Attempt, *, held_up: bool) -> Reply | Failure:
        # Each read and write could be bounded by itself, but only this bounds a reply that drips in for ever. It is a
        # scope, as those around it are, for an asyncio.timeout breaks into the cleaning up after a scope's
        # cancellation.
        scope = anyio.CancelScope(deadline=asyncio.get_running_loop().time() + self._timeout_s)
        departure = Departure(attempt, scope, held_up=held_up)
        try:
            with scope:
                if not self._carrier.tells_writes:
                    await departure.leave(held_up=False)
                return await self._carrier.carry(outgoing, departure)
            failure = Failure(
                f"no {'reply' if departure.written else 'connection'} within {self._timeout_s:g} s",
                sent_nothing=not departure.written,
            )
            refused = None
        except asyncio.CancelledError as cancelled:
            # The frames below hold the headers and the body, and an error report may print a frame's locals. For the
            # same reason the others are told after their handlers: no error of a library lives on in a context.
            raise cancelled.with_traceback(None)  # noqa: B904
        except (PicoError, ConnectionLostError) as error:
            refused = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001  a transport of the user's may raise anything
            failure, refused = self._carrier.failure(error, written=departure.written), None
        if refused is not None:
            raise refused
        return failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()


def _unwritable(headers: Mapping[str, str]) -> str | None:
    """Return the name of a header that cannot be written, or None."""
    return next((name for name, value in headers.items() if not _HEADER_VALUE.fullmatch(value)), None)
