"""Send requests over httpx: on the session's own connections, or with a transport of the user's."""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from typing import Any, cast

import anyio
import httpx
from anyio.streams.tls import TLSStream

from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async._engine.hosts import proxy_for
from pico_async._engine.http.exchange import (
    AT_ONCE_S,
    KEEPALIVE_EXPIRY_S,
    Departure,
    HttpRequest,
    HttpTransport,
    is_readable,
)
from pico_async._engine.http.httpx_library import AsyncTransport, library_of
from pico_async._engine.http.tls import context_for
from pico_async._engine.wire import MAX_REPLY_BYTES, Failure, Reply, reply_of
from pico_async._logger import harmless
from pico_async.errors import ConfigurationError

# httpcore logs each step of a request, at DEBUG.
_LOGGERS = [
    logging.getLogger(f"{library}.{part}")
    for library in ("httpcore", "httpcore2")
    for part in ("connection", "http11", "proxy", "socks")
]
_is_ours: ContextVar[bool] = ContextVar("pico_async_is_ours", default=False)


class HttpxTransport(HttpTransport):
    """
    Call an httpx transport directly, without an httpx client.

    A client would follow redirects, keep cookies, read credentials from the environment and log URLs. It would also
    cost a fifth more.

    Args:
        transport: A transport of the user's, of httpx or httpx2, which manages its connections. None: one transport of
            httpx for each connection.
    """

    def __init__(self, transport: AsyncTransport | None = None) -> None:
        # The libraries have the same names. What one of them makes is of no use to the other.
        self._library: Any = library_of(transport) or httpx
        # Only the library's own transport reports when it writes.
        self.reports_writes = transport is None or isinstance(transport, self._library.AsyncHTTPTransport)
        if self.reports_writes:
            _spare_the_search_for_sniffio()
        self._given = transport
        self._headers: tuple[Mapping[str, str], httpx.Headers] = ({}, self._library.Headers())

    def bind(self, base_url: str, connect_s: float, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._base_url = base_url
        self._connect_s = connect_s
        self._timeout_s = timeout_s
        proxy = proxy_for(base_url)
        self._connections = _Connections(proxy, context_for(tls, base_url, proxy)) if self._given is None else None
        # The HTTP client bounds the whole exchange, so the session's own needs no timer for each read and write.
        bounds = (None, connect_s) if self._given is None else (timeout_s, connect_s)
        self._phases = httpx.Timeout(bounds[0], connect=bounds[1]).as_dict()
        self._url = lru_cache(maxsize=32)(self._library.URL)

    async def send(self, request: HttpRequest, departure: Departure) -> Reply:
        with _harmless_logging():
            return await self._send(request, departure)

    async def _send(self, request: HttpRequest, departure: Departure) -> Reply:
        # Only a user's transport may let the request wait for a connection. So only then the wait is measured.
        waits_inside, asked_at = self._given is not None, time.monotonic()
        connection: Any = cast(_Connections, self._connections).take() if self._given is None else self._given
        held_up = False
        in_handshake: Any = None
        used: Any = None
        cancelled_before = 0

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal held_up, in_handshake, used, cancelled_before
            if event.endswith("send_request_headers.started"):
                # A tunnel begins with a CONNECT request to the proxy.
                if info["request"].method != b"CONNECT":
                    in_handshake = None
                    used = _in_use(connection, trace)
                    held_up = held_up or (waits_inside and time.monotonic() - asked_at > AT_ONCE_S)
                    await departure.leave(held_up=held_up, is_clean=partial(_is_clean, used))
            elif event.endswith("send_request_headers.failed"):
                # httpcore could not encode the request, and wrote nothing of it. The error is compared by name, because
                # httpx imports httpcore only with the first transport.
                if type(info["exception"]).__name__ == "LocalProtocolError":
                    departure.written = False
            elif event == "connection.connect_tcp.started":
                held_up = True
                cancelled_before = cancellations()
            elif event == "connection.connect_tcp.complete":
                in_handshake = info["return_value"]
                # anyio before 4.16 drops a cancellation that comes in the moment in which the connection opens.
                await end_if_cancelled(cancelled_before)
            elif event == "connection.start_tls.complete":
                in_handshake = None

        try:
            reply = await _read(await connection.handle_async_request(self._request(request, trace)))
            if used is not None and _has_read_more(used):
                await used.aclose()
        except BaseException:
            if self._connections is not None and self._connections.proxied:
                # httpcore keeps a failed tunnel without TLS open.
                with anyio.CancelScope(shield=True), suppress(Exception):
                    await connection.aclose()
            raise
        else:
            return reply
        finally:
            if in_handshake is not None:
                # httpcore does not close the socket of a cancelled handshake.
                with anyio.CancelScope(shield=True):
                    await in_handshake.aclose()
            if self._connections is not None:
                self._connections.give_back(connection, departure.left_at)

    def failure(self, error: Exception, *, written: bool) -> Failure:
        library = self._library
        if not isinstance(error, library.TransportError):
            # It proves nothing: a user's transport may raise it after it sent the request in another way.
            return Failure(f"the transport failed ({type(error).__name__})", sent_nothing=False)
        before_writing = isinstance(error, (library.ConnectError, library.ConnectTimeout, library.PoolTimeout))
        proved = not written if self.reports_writes else before_writing
        return Failure(_reason(error, library, self._timeout_s, self._connect_s), proved)

    async def aclose(self) -> None:
        with _harmless_logging():
            await cast(_Connections, self._connections if self._given is None else self._given).aclose()

    def _request(self, request: HttpRequest, trace: Any) -> httpx.Request:
        known, headers = self._headers
        if known is not request.headers:
            headers = self._library.Headers(request.headers)
            self._headers = (request.headers, headers)
        made: httpx.Request = self._library.Request(
            request.method,
            self._url(f"{self._base_url}{request.path}"),
            params=request.query or None,
            headers=headers,
            content=request.content,
            extensions={"timeout": self._phases, "trace": trace},
        )
        return made


class _Connections:
    """
    Connections to Pico, each in a transport of its own. The one that was used last is used next.

    In one pool, httpcore checks every idle connection twice for each request, by system calls. With 64 connections,
    that is more than half of the cost of a request.
    """

    def __init__(self, proxy: str | None, tls: ssl.SSLContext) -> None:
        self.proxied = proxy is not None
        self._idle: list[tuple[float, httpx.AsyncBaseTransport]] = []
        self._expired: list[httpx.AsyncBaseTransport] = []
        self._proxy: httpx.Proxy | None = None
        self._tls = tls
        self._closing: asyncio.Task[None] | None = None
        if proxy is not None:
            # Checked now, so that an invalid proxy is reported once and not by each send.
            fault = False
            try:
                self._proxy = httpx.Proxy(proxy)
                if self._proxy.url.scheme == "https":
                    # Otherwise httpx would load other CA certificates for the proxy, again for each connection.
                    self._proxy.ssl_context = self._tls
                self._new()
            except (ImportError, ValueError, httpx.InvalidURL):
                fault = True
            if fault:
                raise ConfigurationError(
                    "httpx cannot use the proxy that the environment names. It takes http:// and https://, and "
                    "socks5:// with `pip install httpx[socks]`. Name another one, or this host in NO_PROXY."
                )

    def take(self) -> httpx.AsyncBaseTransport:
        """Return an idle connection, or a new one."""
        fresh_from = time.monotonic() - KEEPALIVE_EXPIRY_S
        while self._idle and self._idle[-1][0] < fresh_from:
            self._expired.append(self._idle.pop()[1])
        return self._idle.pop()[1] if self._idle else self._new()

    def give_back(self, connection: httpx.AsyncBaseTransport, left_at: float) -> None:
        """Keep a connection whose request left at *left_at*. If that failed, it is closed, and opens itself again."""
        self._idle.append((left_at, connection))
        if self._closing is None or self._closing.done():
            # Owned by this object: `aclose` ends it.
            self._closing = asyncio.create_task(self._close_expired())

    async def aclose(self) -> None:
        """Close all connections. None is in use any more."""
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
            if self._idle:
                oldest = min(left_at for left_at, _ in self._idle)
                await asyncio.sleep(oldest + KEEPALIVE_EXPIRY_S - time.monotonic())

    def _new(self) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._tls, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY_S), proxy=self._proxy
        )


def _in_use(transport: Any, trace: Any) -> Any:
    """
    Return httpcore's connection on which the request with this trace is about to be written, or None.

    httpx and httpcore have no public way to it, so this reads private attributes; a test checks that they exist. It
    finds nothing in another transport.
    """
    found = None
    for asked in getattr(getattr(transport, "_pool", None), "_requests", ()):
        if asked.request.extensions.get("trace") is trace:
            found = asked.connection
    # Connections through proxies, and the one that opens TCP and TLS, wrap another connection.
    while found is not None and not hasattr(found, "_h11_state"):
        found = getattr(found, "_connection", None)
    return found


async def _is_clean(connection: Any) -> bool:
    """
    Return whether nothing has come on httpcore's connection since its last reply. Without a connection, return True.

    httpcore itself checks only the socket, and before the wait for a slot. Bytes that were read together with the reply
    may be in the buffers of h11, TLS and anyio.
    """
    if connection is None:
        return True
    network = connection._network_stream
    if connection._h11_state.trailing_data != (b"", False):
        return False
    return await _has_only_tickets(network) if isinstance(network._stream, TLSStream) else not _has_unread(network)


def _has_read_more(connection: Any) -> bool:
    """Return whether more than the last reply was read from the socket."""
    return connection._h11_state.trailing_data != (b"", False) or _is_buffered(connection._network_stream)


async def _has_only_tickets(network: Any) -> bool:
    """
    Read what has come over TLS, and return whether it contained no data.

    The session tickets of TLS 1.3 come after the handshake. If only tickets came, `read` raises SSLWantReadError.
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
    """Return whether the socket, or a buffer above it, contains unread bytes."""
    return _is_buffered(network) or is_readable(network.get_extra_info("socket"))


def _is_buffered(network: Any) -> bool:
    """Return whether a buffer of TLS or anyio contains unread bytes."""
    stream = network._stream
    while isinstance(stream, TLSStream):
        if stream._read_bio.pending:
            return True
        stream = stream.transport_stream
    # A Unix socket has no protocol, and so no buffer.
    return bool(getattr(getattr(stream, "_protocol", None), "read_queue", ()))


async def _read(response: httpx.Response) -> Reply:
    content = bytearray()
    try:
        # `aiter_bytes` would decompress without a bound, and block the loop meanwhile. `aiter_raw` refuses a reply that
        # the user's transport has read already.
        async for chunk in response.stream:  # type: ignore[union-attr]  # an async transport returns no other
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                break
    finally:
        await response.aclose()
    return reply_of(response.status_code, response.headers, bytes(content))


def _reason(error: Exception, library: Any, timeout_s: float, connect_s: float) -> str:
    match error:
        case library.ConnectTimeout():
            return f"no connection within {connect_s:g} s"
        case library.PoolTimeout():
            return f"no free connection within {timeout_s:g} s"
        case library.ConnectError():
            # It comes from the operating system or TLS, and contains hosts and certificates, but no request.
            return f"no connection ({' '.join(str(error).split())[:200] or type(error).__name__})"
        case library.ProxyError():
            return "the proxy gave no connection"
        case library.ReadTimeout():
            return f"no reply within {timeout_s:g} s"
        case library.WriteTimeout():
            return f"the host did not take the request within {timeout_s:g} s"
        case library.LocalProtocolError():
            return "the request cannot be written"
        case library.RemoteProtocolError():
            return "the host closed the connection, or sent what is not HTTP, instead of a reply"
        case library.NetworkError():
            return "the connection broke"
    return f"the exchange failed ({type(error).__name__})"


@cache
def _spare_the_search_for_sniffio() -> None:
    """
    Make httpcore take asyncio for the library of this transport's requests; for other clients, it detects it as before.

    It would try `import sniffio` four times for each message. If sniffio is not installed, Python searches all its
    folders each time, which takes a third of the message's CPU time.
    """
    for name in ("httpcore._synchronization", "httpcore._backends.auto"):
        # Both are private, so another version of httpcore may lack them, and then nothing is spared.
        with suppress(ImportError):
            module: Any = importlib.import_module(name)
            if detect := getattr(module, "current_async_library", None):
                module.current_async_library = partial(_async_library, detect)


def _async_library(detect: Callable[[], str]) -> str:
    return "asyncio" if _is_ours.get() else detect()


class _HarmlessFilter(logging.Filter):
    """Handles httpcore's log records of this transport itself, and drops what the application's handlers raise."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for a record that is not of this transport. Handle another one here, and return False."""
        if not _is_ours.get():
            return True
        handled = _is_ours.set(False)
        try:
            with harmless():
                logging.getLogger(record.name).handle(record)
        finally:
            _is_ours.reset(handled)
        return False


_HARMLESS = _HarmlessFilter()


@contextmanager
def _harmless_logging() -> Iterator[None]:
    """Run httpcore's code. What a filter or handler of its log records raises has no effect on the request."""
    for logger in _LOGGERS:
        # Each time, because the application may set up logging again; and first, because another filter may raise.
        if _HARMLESS not in logger.filters:
            logger.filters.insert(0, _HARMLESS)
    ours = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(ours)
