"""Requests over httpx: the session's own connections, or a transport of the user's."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, cast

import anyio
import httpx
from anyio.streams.tls import TLSStream

from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async._engine.hosts import proxy_for
from pico_async._engine.http.departure import KEEPALIVE_EXPIRY_S, Departure
from pico_async._engine.http.readable import is_readable
from pico_async._engine.http.tls import trusted
from pico_async._engine.http.transport import AT_ONCE_S, HttpRequest, HttpTransport
from pico_async._engine.wire import MAX_REPLY_BYTES, Failure, Reply, reply_of
from pico_async._logger import harmless_library
from pico_async.errors import ConfigurationError

# Failures that happen before a connection is there to write on.
_BEFORE_WRITING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class HttpxTransport(HttpTransport):
    """
    Carry requests by calling an httpx transport directly.

    A client would follow redirects, keep cookies, read credentials from the environment, log addresses, and cost a
    fifth more.

    Args:
        transport: The user's own, which minds its connections itself; None: as many of one connection as it takes.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # Of the transports, only httpx's own tells when it writes.
        self.reports_writes = transport is None or isinstance(transport, httpx.AsyncHTTPTransport)
        self._given = transport
        self._headers: tuple[Mapping[str, str], httpx.Headers] = ({}, httpx.Headers())

    def bind(self, base_url: str, connect_s: float, timeout_s: float) -> None:
        """Serve one session."""
        self._base_url = base_url
        self._connect_s = connect_s
        self._timeout_s = timeout_s
        self._connections = _Connections(proxy_for(base_url)) if self._given is None else None
        # Of the session's own, the whole is bounded as each read and write would be; theirs cost a timer each.
        bounds = (None, connect_s) if self._given is None else (timeout_s, connect_s)
        self._phases = httpx.Timeout(bounds[0], connect=bounds[1]).as_dict()
        self._url = lru_cache(maxsize=32)(httpx.URL)

    async def send(self, request: HttpRequest, departure: Departure) -> Reply:
        """Send one request and read its reply."""
        with harmless_library():
            return await self._send(request, departure)

    async def _send(self, request: HttpRequest, departure: Departure) -> Reply:
        held_up = False
        in_handshake: Any = None
        used: Any = None
        cancelled_before = 0

        async def trace(event: str, told: dict[str, Any]) -> None:
            nonlocal held_up, in_handshake, used, cancelled_before
            if event.endswith("send_request_headers.started"):
                # A proxy is asked to connect by a request of its own.
                if told["request"].method != b"CONNECT":
                    in_handshake = None
                    used = _in_use(connection, trace)
                    late = held_up or time.monotonic() - asked_at > AT_ONCE_S
                    await departure.leave(held_up=late, is_clean=partial(_is_clean, used))
            elif event.endswith("send_request_headers.failed"):
                # By its name, for httpx loads httpcore only with the first transport.
                if type(told["exception"]).__name__ == "LocalProtocolError":
                    departure.take_back()
            elif event == "connection.connect_tcp.started":
                held_up = True
                cancelled_before = cancellations()
            elif event == "connection.connect_tcp.complete":
                in_handshake = told["return_value"]
                # anyio before 4.16 loses one that comes in the moment in which the connection is there.
                await end_if_cancelled(cancelled_before)
            elif event == "connection.start_tls.complete":
                in_handshake = None

        # In a pool of the user's own it may have to wait for one of its connections.
        asked_at = math.inf if self._given is None else time.monotonic()
        connection = self._given or cast(_Connections, self._connections).take()
        try:
            reply = await _read(await connection.handle_async_request(self._request(request, trace)))
            if used is not None and _has_read_more(used):
                await used.aclose()
        except BaseException:
            if self._connections is not None and self._connections.proxied:
                # httpcore keeps what is left of a tunnel without TLS.
                with anyio.CancelScope(shield=True), suppress(Exception):
                    await connection.aclose()
            raise
        else:
            return reply
        finally:
            if in_handshake is not None:
                # httpcore loses the socket of a handshake that is cancelled.
                with anyio.CancelScope(shield=True):
                    await in_handshake.aclose()
            if self._connections is not None:
                self._connections.give_back(connection, departure.left_at)

    def failure(self, error: Exception, *, written: bool) -> Failure:
        """Say what it means that `send` raised this."""
        if not isinstance(error, httpx.TransportError):
            return Failure(f"the transport failed ({type(error).__name__})", sent_nothing=False)
        proved = not written if self.reports_writes else isinstance(error, _BEFORE_WRITING)
        return Failure(_reason(error, self._timeout_s, self._connect_s), proved)

    async def aclose(self) -> None:
        """Close the connections."""
        with harmless_library():
            await (self._given or cast(_Connections, self._connections)).aclose()

    def _request(self, request: HttpRequest, trace: Any) -> httpx.Request:
        known, headers = self._headers
        if known is not request.headers:
            headers = httpx.Headers(request.headers)
            self._headers = (request.headers, headers)
        return httpx.Request(
            request.method,
            self._url(f"{self._base_url}{request.path}"),
            params=request.query or None,
            headers=headers,
            content=request.content,
            extensions={"timeout": self._phases, "trace": trace},
        )


class _Connections:
    """
    Connections to Pico, each in a transport of its own; the one that was used last is used next.

    In one pool, httpcore asks every idle connection, twice and by system calls, whether it is still there, at each
    request: with 64 of them that is more than half of what a request costs.
    """

    def __init__(self, proxy: str | None) -> None:
        self.proxied = proxy is not None
        self._idle: list[tuple[float, httpx.AsyncBaseTransport]] = []
        self._expired: list[httpx.AsyncBaseTransport] = []
        self._proxy: httpx.Proxy | None = None
        self._tls = trusted()
        self._closing: asyncio.Task[None] | None = None
        if proxy is not None:
            # What is no proxy for httpx is told now, and not by each send.
            try:
                self._proxy = httpx.Proxy(proxy)
                if self._proxy.url.scheme == "https":
                    # It would be trusted by other authorities than Pico is, which would be read for each connection.
                    self._proxy.ssl_context = self._tls
                self._new()
            except (ImportError, ValueError, httpx.InvalidURL):
                fault = True
            else:
                fault = False
            if fault:
                raise ConfigurationError(
                    "httpx cannot use the proxy that the environment names: it takes http:// and https://, and "
                    "socks5:// with `pip install httpx[socks]`. Name another one, or this host in NO_PROXY."
                )

    def take(self) -> httpx.AsyncBaseTransport:
        """Give one that is free, or a new one."""
        fresh_from = time.monotonic() - KEEPALIVE_EXPIRY_S
        while self._idle and self._idle[-1][0] < fresh_from:
            self._expired.append(self._idle.pop()[1])
        return self._idle.pop()[1] if self._idle else self._new()

    def give_back(self, connection: httpx.AsyncBaseTransport, left_at: float) -> None:
        """Take one back, whose request left at that time. What failed on it has closed it; it opens itself again."""
        self._idle.append((left_at, connection))
        if self._closing is None or self._closing.done():
            # Owned by this: `aclose` ends it.
            self._closing = asyncio.create_task(self._close_expired())

    async def aclose(self) -> None:
        """Close them all. None is in use by then."""
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.wait([self._closing])
        for connection in [*self._expired, *(connection for _, connection in self._idle)]:
            await connection.aclose()
        self._expired.clear()
        self._idle.clear()

    async def _close_expired(self) -> None:
        while self._idle or self._expired:
            fresh_from = time.monotonic() - KEEPALIVE_EXPIRY_S
            self._expired += [connection for left_at, connection in self._idle if left_at < fresh_from]
            self._idle = [(left_at, connection) for left_at, connection in self._idle if left_at >= fresh_from]
            while self._expired:
                with suppress(Exception):
                    await self._expired.pop().aclose()
            await asyncio.sleep(KEEPALIVE_EXPIRY_S / 4)

    def _new(self) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._tls, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY_S), proxy=self._proxy
        )


def _in_use(transport: Any, trace: Any) -> Any:
    """
    Return httpcore's connection that the request with this trace is about to be written on, or None.

    httpx and httpcore show it nowhere, so this goes where it is; a test checks that it is still there. In a transport
    of another make it finds nothing.
    """
    found = None
    for asked in getattr(getattr(transport, "_pool", None), "_requests", ()):
        if asked.request.extensions.get("trace") is trace:
            found = asked.connection
    # Those of proxies, and the one that opens TCP and TLS, hold another.
    while found is not None and not hasattr(found, "_h11_state"):
        found = getattr(found, "_connection", None)
    return found


async def _is_clean(connection: Any) -> bool:
    """
    Return whether nothing has come on one of httpcore's connections since its last reply; True where there is none.

    httpcore itself looks at the socket alone, and before the wait for a turn. What was read together with the reply is
    kept by h11, by TLS and by anyio.
    """
    if connection is None:
        return True
    network = connection._network_stream
    if connection._h11_state.trailing_data != (b"", False):
        return False
    return await _has_only_tickets(network) if isinstance(network._stream, TLSStream) else not _has_unread(network)


def _has_read_more(connection: Any) -> bool:
    """Return whether more was read of the socket than the last reply."""
    return connection._h11_state.trailing_data != (b"", False) or _is_kept(connection._network_stream)


async def _has_only_tickets(network: Any) -> bool:
    """
    Let TLS read what is there, and return whether it was no data.

    The session tickets of TLS 1.3 come after the handshake. TLS wants more after them.
    """
    tls, ssl_object = network._stream, network.get_extra_info("ssl_object")
    try:
        while True:
            try:
                ssl_object.read(1)
            except ssl.SSLWantReadError:
                if not _has_unread(network):
                    return True
            else:
                return False
            tls._read_bio.write(await tls.transport_stream.receive())
    except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return False


def _has_unread(network: Any) -> bool:
    """Return whether something lies in the socket, or was read of it and handed to nobody."""
    return _is_kept(network) or is_readable(network.get_extra_info("socket"))


def _is_kept(network: Any) -> bool:
    """Return whether TLS or anyio holds what was read of the socket and handed to nobody."""
    stream = network._stream
    while isinstance(stream, TLSStream):
        if stream._read_bio.pending:
            return True
        stream = stream.transport_stream
    # A Unix socket has no protocol: it is read by the one who asks.
    return bool(getattr(getattr(stream, "_protocol", None), "read_queue", ()))


async def _read(response: httpx.Response) -> Reply:
    content = bytearray()
    try:
        # Not by `aiter_bytes`, which unpacks what comes without a bound, and holds the loop for as long as that takes;
        # nor by `aiter_raw`, which refuses a reply that the user's transport has read.
        async for chunk in response.stream:  # type: ignore[union-attr]  # an asynchronous transport gives no other
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                break
    finally:
        await response.aclose()
    return reply_of(response.status_code, response.headers, bytes(content))


def _reason(error: httpx.TransportError, timeout_s: float, connect_s: float) -> str:
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {connect_s:g} s"
        case httpx.PoolTimeout():
            return f"no free connection within {timeout_s:g} s"
        case httpx.ConnectError():
            return f"no connection ({_own_words(error)})"
        case httpx.ProxyError():
            return "the proxy gave no connection"
        case httpx.ReadTimeout():
            return f"no reply within {timeout_s:g} s"
        case httpx.WriteTimeout():
            return f"the host did not take the request within {timeout_s:g} s"
        case httpx.LocalProtocolError():
            return "the request cannot be written"
        case httpx.RemoteProtocolError():
            return "the host closed the connection, or sent what is not HTTP, instead of a reply"
        case httpx.NetworkError():
            return "the connection broke"
    return f"the exchange failed ({type(error).__name__})"


def _own_words(error: httpx.TransportError) -> str:
    # Connection errors come from the operating system and TLS: they know hosts and certificates, no request.
    return " ".join(str(error).split())[:200] or type(error).__name__
