"""One exchange: a connection, a bound in time, the moment of writing, and what a failure proves."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping

import anyio

from pico_async._engine.http.departure import ConnectionLostError, Departure, UncleanError
from pico_async._engine.http.transport import HttpRequest, HttpTransport
from pico_async._engine.wire import Failure, Reply
from pico_async.coordination.fair_queue import FairQueue
from pico_async.errors import PicoError

# The default of httpx and aiohttp. At 30 requests per second, all are used only if a reply takes 3 s. More connections
# cost more processor time for each request.
MAX_CONNECTIONS = 100

# A host that closes each new connection, or writes on it, before the request is sent would be retried without end.
MAX_UNCLEAN = 5

# What HTTP libraries can write. RFC 9110 allows no more, except for obsolete forms.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


class HttpClient:
    """
    Exchanges a request for a reply, or for the reason why there is none.

    Requests wait here for a connection, by priority, and never inside an HTTP library, whose pools become slow with
    many waiting requests.

    Attributes:
        connections: Permits to use one of the connections. A caller of `exchange` holds one.
    """

    def __init__(
        self, base_url: str, timeout_s: float, transport: HttpTransport, tls: ssl.SSLContext | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._transport = transport
        self.connections = FairQueue(MAX_CONNECTIONS)
        self._checked_headers: Mapping[str, str] = {}
        # TCP and TLS get half of the time each. So they end by their own timeouts, whose errors say what hung.
        transport.bind(base_url, timeout_s / 2, timeout_s, tls)

    def __repr__(self) -> str:
        return f"<HttpClient {self.connections!r}>"

    async def exchange(self, request: HttpRequest, departure: Departure) -> Reply | Failure:
        """
        Send one request and return its reply, up to 1 MiB of it. The caller holds one of `connections`.

        Raises:
            PicoError: Raised by the departure: the request must not be sent any more. Nothing was sent.
        """
        if request.headers is not self._checked_headers:
            # An HTTP library would notice it later, when nothing proves any more that the request was not sent.
            if (name := _unwritable(request.headers)) is not None:
                return Failure(f"the header {name} contains a character that no header can contain", sent_nothing=True)
            self._checked_headers = request.headers
        unclean = 0
        while unclean < MAX_UNCLEAN:
            try:
                return await self._exchange(request, departure)
            except ConnectionLostError as lost:
                unclean += isinstance(lost, UncleanError)
                departure.late = True  # the next connection may have to be opened
        return Failure("the host closed each connection, or wrote on it, before the request was sent", True)

    async def _exchange(self, request: HttpRequest, departure: Departure) -> Reply | Failure:
        # Only a bound of the whole ends a reply that trickles in without end. It is an anyio scope, as those around it
        # are: asyncio.timeout interrupts the cleaning up after a scope's cancellation.
        departure.timeout = anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s)
        departure.written = False
        try:
            with departure.timeout:
                if not self._transport.reports_writes:
                    await departure.leave(held_up=False)
                return await self._transport.send(request, departure)
            failure = Failure(
                f"no {'reply' if departure.written else 'connection'} within {self._timeout_s:g} s",
                sent_nothing=not departure.written,
            )
            refused = None
        except asyncio.CancelledError as cancelled:
            # The frames below hold headers and body, and an error report may print the variables of a frame. For the
            # same reason, other errors are raised after their handlers: no error of a library becomes a context.
            raise cancelled.with_traceback(None)  # noqa: B904
        except (PicoError, ConnectionLostError) as error:
            refused = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001  a user's transport may raise anything
            failure, refused = self._transport.failure(error, written=departure.written), None
        if refused is not None:
            raise refused
        return failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _unwritable(headers: Mapping[str, str]) -> str | None:
    """Return the name of a header that cannot be written, or None."""
    return next((name for name, value in headers.items() if not _HEADER_VALUE.fullmatch(value)), None)
