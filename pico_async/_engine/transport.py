"""One exchange over HTTP: the only module that knows httpx."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias

import anyio
import httpx
from attrs import frozen

from pico_async._engine.endpoints import Method
from pico_async._engine.wire import Failure, Reply, retry_after_s
from pico_async.errors import ConfigurationError

HttpTransport: TypeAlias = httpx.AsyncBaseTransport

MAX_REPLY_BYTES = 1024 * 1024

# uvicorn and node close an idle connection after 5 s. A request that meets the closing is in doubt, so ours close
# first.
KEEPALIVE_EXPIRY_S = 4.0

# Failures that happen before a connection is there to write on.
_BEFORE_WRITING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@frozen(eq=False, repr=False)
class Outgoing:
    """One request on its way out. It has no repr, so none shows its headers or its content."""

    method: Method
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """
    Exchange one request for one reply, or for the reason why there is none.

    It calls an httpx transport directly, for a client would follow redirects, keep cookies, read proxies and
    credentials from the environment and log addresses.
    """

    def __init__(self, base_url: str, timeout_s: float, transport: HttpTransport | None = None) -> None:
        self._base_url = base_url
        self._timeout_s = timeout_s
        # TCP and TLS get half of the time each: so they end by their own timeouts, which say what it was that hung,
        # before the bound of the whole, which does not.
        self._connect_s = timeout_s / 2
        self._phases = httpx.Timeout(timeout_s, connect=self._connect_s).as_dict()
        if transport is not None and not isinstance(transport, HttpTransport):
            raise ConfigurationError(
                f"`transport` must be an httpx.AsyncBaseTransport, as httpx.AsyncHTTPTransport(), not "
                f"{type(transport).__name__}."
            )
        self._connections = _Given(transport) if transport is not None else _Connections()
        # Of the transports, only httpx's own tells when it writes. With another, whatever was begun may be written.
        self._tells_writes = transport is None or isinstance(transport, httpx.AsyncHTTPTransport)

    async def exchange(self, outgoing: Outgoing, on_write: Callable[[], None]) -> Reply | Failure:
        """
        Send one request and read its reply, up to 1 MiB of it.

        Args:
            on_write: Called once the first byte may have been written, before it is.
        """
        written = False
        in_handshake: Any = None

        async def trace(event: str, told: dict[str, Any]) -> None:
            nonlocal written, in_handshake
            if event == "connection.connect_tcp.complete":
                in_handshake = told["return_value"]
            elif event == "connection.start_tls.complete":
                in_handshake = None
            elif event.endswith("send_request_headers.started"):
                in_handshake = None
                # A cancellation by a scope comes a turn of the loop late where the task was about to wake. Here is the
                # last moment in which it still proves that nothing was sent, so one that is on its way is awaited.
                while anyio.current_effective_deadline() == -math.inf:  # noqa: ASYNC110  the next turn has no event
                    await asyncio.sleep(0)
                written = True
                on_write()

        if not self._tells_writes:
            on_write()
        connection = await self._connections.take()
        try:
            # httpx bounds each read and write; only this bounds a reply that drips in for ever. It is a scope, as those
            # around it are, for an asyncio.timeout breaks into the cleaning up after a scope's cancellation.
            with anyio.move_on_after(self._timeout_s):
                return await self._read(await connection.handle_async_request(self._request(outgoing, trace)))
            sent_nothing = self._tells_writes and not written
            failure = Failure(
                f"no {'connection' if sent_nothing else 'reply'} within {self._timeout_s:g} s", sent_nothing
            )
        except asyncio.CancelledError as cancelled:
            # The frames below hold the headers and the body, and an error report may print a frame's locals. For the
            # same reason a failure is returned after its handler: no error of httpx's lives on in a context.
            raise cancelled.with_traceback(None)  # noqa: B904
        except httpx.TransportError as error:
            failure = Failure(
                _reason(error, self._timeout_s, self._connect_s), not written and isinstance(error, _BEFORE_WRITING)
            )
        except Exception as error:  # noqa: BLE001  a transport of the user's may raise anything, and it may have written
            failure = Failure(f"the transport failed ({type(error).__name__})", sent_nothing=False)
        finally:
            if in_handshake is not None:
                # httpcore loses the socket of a handshake that is cancelled.
                with anyio.CancelScope(shield=True):
                    await in_handshake.aclose()
            self._connections.give_back(connection)
        return failure

    def _request(self, outgoing: Outgoing, trace: Callable[..., Awaitable[None]]) -> httpx.Request:
        return httpx.Request(
            outgoing.method,
            f"{self._base_url}{outgoing.path}",
            params=outgoing.query or None,
            headers=outgoing.headers,
            content=outgoing.content,
            extensions={"timeout": self._phases, "trace": trace},
        )

    async def _read(self, response: httpx.Response) -> Reply:
        content = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_REPLY_BYTES:
                    break
        finally:
            await response.aclose()
        if _has_more(response):
            await response.extensions["network_stream"].aclose()
        return Reply(
            response.status_code,
            bytes(content[:MAX_REPLY_BYTES]),
            retry_after=retry_after_s(response.headers.get("retry-after"), datetime.now(UTC)),
            truncated=len(content) > MAX_REPLY_BYTES,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()


class _Connections:
    """
    Connections to Pico, each in a transport of its own; the one that was used last is used next.

    In one pool, httpcore asks every idle connection, twice and by system calls, whether it is still there, at each
    request: with 64 of them that is more than half of what a request costs. Nor does a request queue here, where its
    wait would not be seen: requests queue for their pace, and in a blast's semaphore.
    """

    def __init__(self) -> None:
        self._idle: deque[tuple[float, HttpTransport]] = deque()
        # Reading the system's certificates takes longer than a request, so all share what was read once.
        self._tls = httpx.create_ssl_context()

    async def take(self) -> HttpTransport:
        """Give one that is free, or a new one. Those that idled too long are closed meanwhile, two at a time."""
        # No more of them, for a request that has its turn must not wait for the farewells of a whole blast.
        for _ in range(2):
            if self._idle and time.monotonic() - self._idle[0][0] > KEEPALIVE_EXPIRY_S:
                with suppress(Exception):
                    await self._idle.popleft()[1].aclose()
        if self._idle:
            return self._idle.pop()[1]
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY_S))

    def give_back(self, connection: HttpTransport) -> None:
        """Take one back. What failed on it has closed it; it opens itself again."""
        self._idle.append((time.monotonic(), connection))

    async def aclose(self) -> None:
        """Close them all. None is in use by then."""
        while self._idle:
            await self._idle.pop()[1].aclose()


class _Given:
    """The user's own transport, which minds its connections itself."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    async def take(self) -> HttpTransport:
        """Give it."""
        return self._transport

    def give_back(self, connection: HttpTransport) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Close it."""
        await self._transport.aclose()


def _has_more(response: httpx.Response) -> bool:
    """
    Say whether bytes came together with the reply that are not a part of it.

    h11 keeps them, and httpcore takes them for the answer to the next request: one message's acceptance would be told
    of another. httpx shows them nowhere, so this goes where they are; a test holds it there. With a transport of
    another make it finds nothing.
    """
    part: Any = response.stream
    for name in ("_httpcore_stream", "_stream", "_connection", "_h11_state"):
        part = getattr(part, name, None)
    return part is not None and bool(part.trailing_data[0])


def _reason(error: httpx.TransportError, timeout_s: float, connect_s: float) -> str:
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {connect_s:g} s"
        case httpx.PoolTimeout():
            return f"no free connection within {timeout_s:g} s"
        case httpx.ConnectError():
            return f"no connection ({_own_words(error)})"
        case httpx.ReadTimeout():
            return f"no reply within {timeout_s:g} s"
        case httpx.WriteTimeout():
            return f"the host did not take the request within {timeout_s:g} s"
        case httpx.RemoteProtocolError():
            return "the host closed the connection, or sent what is not HTTP, instead of a reply"
        case httpx.NetworkError():
            return "the connection broke"
    return f"the exchange failed ({type(error).__name__})"


def _own_words(error: httpx.TransportError) -> str:
    # Connection errors come from the operating system and TLS: they know hosts and certificates, no request.
    return " ".join(str(error).split())[:200] or type(error).__name__
