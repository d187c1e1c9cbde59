"""One exchange: its timeout, the HTTP library, the moment before the first byte, and what a failure proves."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
from attrs import define, field

from pico_async._engine.endpoints import Method, Request
from pico_async._engine.progress import CallProgress
from pico_async._engine.wire import Failure, Reply, encode
from pico_async._version import __version__
from pico_async.coordination.fair_queue import FairQueue
from pico_async.coordination.protocols import Slot
from pico_async.coordination.token_cache import Secret
from pico_async.errors import MessageExpiredError, PicoError

# The default of httpx and aiohttp. At 30 requests per second, all are used only if a reply takes 3 s. More connections
# cost more processor time for each request.
MAX_CONNECTIONS = 100

# A host that closes each new connection, or writes on it, before the request is sent would be retried without end.
MAX_UNCLEAN = 5

# uvicorn and node close an idle connection after 5 s. A request that meets the closing is in doubt, so the client
# closes first: it counts from when its last request left, and the host begins to count later.
KEEPALIVE_EXPIRY_S = 4.0

# A request may leave up to this long after its slot was granted. A busy loop's timers are at most so late. The jitter
# allowance includes it: response times are measured from the grant, and the 13 ms of a fleet are 10 ms and these 3.
SLOT_FRESH_S = 0.003

# An idle connection is there within this time, also on a busy loop. After more, it had to be opened or waited for.
AT_ONCE_S = 0.0005

IsClean: TypeAlias = Callable[[], Awaitable[bool]]


@define(eq=False, repr=False)
class HttpRequest:
    """
    One request. It has no repr, so none shows its headers or its content.

    Attributes:
        headers: One mapping for all requests with one token, so that a transport may cache what it makes of it.
    """

    method: Method
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes


class Headers:
    """Makes the HTTP requests of one API key. The key and the tokens were checked before."""

    def __init__(self, api_key: Secret) -> None:
        self._api_key = api_key
        # The headers of requests without and with a body, and their token.
        self._known: dict[bool, tuple[str | None, Mapping[str, str]]] = {}

    def http_request(self, request: Request, token: Secret | None) -> HttpRequest:
        """
        Return the HTTP request, with its headers and its encoded body.

        Raises:
            InvalidMessageError: The body contains an unpaired surrogate.
        """
        has_body = request.body is not None
        bearer = None if token is None else token.value
        known = self._known.get(has_body)
        if known is None or known[0] != bearer:
            headers = {
                "X-API-Key": self._api_key.value,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"pico-async/{__version__}",
            }
            if bearer is not None:
                headers["Authorization"] = f"Bearer {bearer}"
            if has_body:
                headers["Content-Type"] = "application/json; charset=utf-8"
            known = self._known[has_body] = (bearer, headers)
        content = encode(request.body) if request.body is not None else b""
        return HttpRequest(request.endpoint.method, request.path, request.query, known[1], content)


class HttpTransport(ABC):
    """
    One HTTP library, used by one session.

    Attributes:
        reports_writes: It calls `Departure.leave` right before it writes. Without that, each request that was begun may
            have been written.
    """

    reports_writes = True

    @abstractmethod
    def bind(self, base_url: str, connect_s: float, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        """
        Serve one session.

        Args:
            tls: The CA certificates, and perhaps a client certificate, in place of those of the environment.

        Raises:
            ConfigurationError: It serves another one.
        """

    @abstractmethod
    async def send(self, request: HttpRequest, departure: Departure) -> Reply:
        """Send one request and return its reply, up to 1 MiB of it. Raise as the library does."""

    @abstractmethod
    def failure(self, error: Exception, *, written: bool) -> Failure:
        """Return what an exception of `send` means."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""


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
        # TCP and TLS get half of the time each, so each times out before the whole exchange, and is named.
        transport.bind(base_url, timeout_s / 2, timeout_s, tls)

    def __repr__(self) -> str:
        return f"<HttpClient {self.connections!r}>"

    async def exchange(self, request: HttpRequest, departure: Departure) -> Reply | Failure:
        """
        Send one request and return its reply, up to 1 MiB of it. The caller holds one of `connections`.

        Raises:
            PicoError: Raised by the departure: the request must not be sent any more. Nothing was sent.
        """
        unclean = 0
        while unclean < MAX_UNCLEAN:
            try:
                return await self._exchange(request, departure)
            except ConnectionLostError as lost:
                unclean += isinstance(lost, UncleanError)
                departure.held_up = True  # the next connection may have to be opened
        return Failure("the host closed each connection, or wrote on it, before the request was sent", True)

    async def _exchange(self, request: HttpRequest, departure: Departure) -> Reply | Failure:
        # A reply that trickles in without end meets no other timeout than that of the whole exchange. It is an anyio
        # scope, because those around it are: asyncio.timeout would interrupt their cleaning up after a cancellation.
        departure.timeout = anyio.CancelScope(deadline=anyio.current_time() + self._timeout_s)
        departure.written = False
        # No error is raised inside a handler: the library's error would become its context, with headers and body in
        # its frames, and an error report may print the variables of a frame.
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
            raise cancelled.with_traceback(None)  # noqa: B904
        except (PicoError, ConnectionLostError) as error:
            refused = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001  a user's transport may raise anything
            failure, refused = self._transport.failure(error, written=departure.written), None
        if refused is not None:
            raise refused
        return failure

    async def aclose(self) -> None:
        await self._transport.aclose()


class ConnectionLostError(Exception):
    """The request must not be written on this connection. Nothing of it was written. It is sent on another one."""


class WaitedTooLongError(ConnectionLostError):
    """The open connection waited for a slot until its host may have closed it."""


class UncleanError(ConnectionLostError):
    """Something came on the connection that no request asked for: a byte, its end, or an error."""


@define(eq=False, repr=False)
class Departure:
    """
    One request on its way out. Until `leave` returns, it is certain that nothing was sent.

    Attributes:
        token: The token that the request is sent with; None for a token request.
        held_up: The request may have waited since its slot was granted.
        written: The first byte may have been sent.
        left_at: When the request was written, on the monotonic clock.
        timeout: Bounds one exchange, but not the wait for another slot. The HTTP client sets it.
    """

    request: Request
    slot: Slot
    progress: CallProgress
    token: Secret | None = field(default=None, kw_only=True)
    held_up: bool = field(default=False, kw_only=True)
    written: bool = field(default=False, init=False)
    left_at: float = field(default=-math.inf, init=False)
    timeout: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    async def leave(self, *, held_up: bool, is_clean: IsClean | None = None) -> None:
        """
        Wait until the request may be written. After that, nothing proves that it was not sent.

        The HTTP transport calls this with the connection open, right before it writes the first byte.

        Args:
            held_up: The request had to wait since its slot was granted, such as for a connection to open. Together with
                the requests that were sent meanwhile, it could exceed the rate at Pico.
            is_clean: Returns whether nothing came on the connection since its last reply. HTTP/1.1 has no request IDs,
                so anything that came would be taken for the reply to this request. No other task runs between the
                function's last look at the socket and the write. Pass None if this cannot be known.

        Raises:
            ConnectionLostError: The connection must not be used.
            MessageExpiredError: The message's `expires_in` ran out. Nothing was sent.
            PicoError: There is no other slot to be had. Nothing was sent.
        """
        # `self.written` is already true if aiohttp calls this twice: it writes a repeatable request again if the host
        # closed the connection that was kept.
        if held_up or self.held_up or self.written:
            if time.monotonic() - self.slot.granted_at > SLOT_FRESH_S:
                await self._renew_slot()
            if self.progress.deadline is not None and time.monotonic() >= self.progress.deadline:
                raise expired(self.request)
        if is_clean is not None and not await is_clean():
            raise UncleanError
        # If the task was about to wake, a cancellation of its scope reaches it one turn of the loop late. Wait for one
        # that is pending: after this line, a cancellation no longer proves that nothing was sent.
        while anyio.current_effective_deadline() == -math.inf:  # noqa: ASYNC110  the next turn has no event
            await asyncio.sleep(0)
        self.written = True
        self.left_at = time.monotonic()
        self.progress.exchanging = self.progress.in_doubt = True

    async def _renew_slot(self) -> None:
        # The wait for a slot is not a part of the exchange.
        waits_from, left_s = time.monotonic(), self.timeout.deadline - anyio.current_time()
        self.timeout.deadline = math.inf
        observed, deadline = self.progress.observed, self.progress.deadline
        if observed is not None:
            observed.slot_requested()
        with anyio.move_on_after(None if deadline is None else deadline - time.monotonic()) as expiry:
            is_another = await self.slot.renew()
            if observed is not None:
                observed.slot_granted(is_another=is_another)
        if expiry.cancelled_caught:
            raise expired(self.request)
        self.timeout.deadline = anyio.current_time() + left_s
        if not self.written and time.monotonic() - waits_from > KEEPALIVE_EXPIRY_S:
            raise WaitedTooLongError


def expired(request: Request) -> MessageExpiredError:
    return MessageExpiredError(f"{request}: `expires_in` ran out before it could be sent. Nothing was sent.")


def is_readable(socket: Any) -> bool:
    """
    Return at once whether the socket has a byte, the end of the connection or an error to read.

    Args:
        socket: A socket, or asyncio's view of one. None counts as closed.
    """
    descriptor = -1 if socket is None else socket.fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # Windows, where `select` accepts any descriptor
        return any(select.select([descriptor], [], [descriptor], 0))
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(0))
