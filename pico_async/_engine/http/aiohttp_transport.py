"""Send requests over aiohttp, which needs a third of the processor time of httpx."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

try:
    import aiohttp
    from yarl import URL
except ImportError as error:
    raise ImportError("AiohttpTransport needs aiohttp: pip install 'pico-async[fast]'") from error

from pico_async._engine.hosts import proxy_for
from pico_async._engine.http.exchange import (
    AT_ONCE_S,
    KEEPALIVE_EXPIRY_S,
    Departure,
    HttpRequest,
    HttpTransport,
    is_readable,
)
from pico_async._engine.http.tls import context_for
from pico_async._engine.wire import MAX_REPLY_BYTES, Failure, Reply, reply_of
from pico_async.errors import ConfigurationError

LARGE = 2**20
# The loop needs one turn to notice data in a socket, one to read it, and two to pass an error through the TLS layers.
TURNS_TO_READ = 5
# How often to look at the socket: the session tickets of TLS 1.3 make it readable without data. Servers usually send
# two, and more may come between two looks.
LOOKS = 5
# How many tokens have a client session of their own: enough for those of requests that are under way.
TOKENS_KEPT = 8

# aiohttp passes no argument of the caller to its connector.
_departure: ContextVar[Departure] = ContextVar("_departure")


class AiohttpTransport(HttpTransport):
    """
    The fast transport, for an account with a raised rate, or where processor time is scarce. It needs the extra `fast`.

        async with PicoSession(transport=AiohttpTransport(), rates=Rates(sms=500)) as pico: ...

    It is as certain about what was sent as the session's own transport. It serves one session and is closed with it.
    """

    def __init__(self) -> None:
        self._base_url: str | None = None
        self._connector: aiohttp.BaseConnector | None = None
        self._sessions: dict[int, tuple[Mapping[str, str], aiohttp.ClientSession]] = {}
        self._process = os.getpid()
        # What a forked process has of its parent. It is kept, because aiohttp closes what is collected: over TLS, it
        # would write on the parent's sockets.
        self._inherited: object = None

    def bind(self, base_url: str, connect_s: float, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        if self._process != os.getpid():
            self._process, self._inherited = os.getpid(), (self._connector, self._sessions, self._inherited)
            self._base_url, self._connector, self._sessions = None, None, {}
        if self._base_url is not None:
            raise ConfigurationError("This AiohttpTransport serves another session. Make one for each.")
        self._base_url = base_url
        self._connect_s = connect_s
        named = proxy_for(base_url)
        proxy = _proxy(named)
        self._proxy = None if proxy is None else proxy.with_user(None)
        self._for_proxy = _authorization(proxy)
        self._in_tunnel = base_url.startswith("https:")
        self._tls = context_for(tls, base_url, named)
        self._parsed = lru_cache(maxsize=32)(partial(URL, encoded=True))

    async def send(self, request: HttpRequest, departure: Departure) -> Reply:
        headers = request.headers
        _, session = self._sessions.get(id(headers)) or self._open(headers)
        current = _departure.set(departure)
        try:
            response = await session.request(
                request.method,
                self._url(request),
                data=_body(request.content),
                **self._proxied(headers),
                allow_redirects=False,
            )
            try:
                return await _read(response)
            finally:
                response.release()
        finally:
            _departure.reset(current)

    def failure(self, error: Exception, *, written: bool) -> Failure:
        return Failure(_reason(error, self._connect_s), sent_nothing=not written)

    async def aclose(self) -> None:
        while self._sessions:
            self._forget_oldest()
        if self._connector is not None:
            await self._connector.close()

    def _open(self, headers: Mapping[str, str]) -> tuple[Mapping[str, str], aiohttp.ClientSession]:
        """Return a client session for these headers. Merging them for each request would cost 5 % of processor time."""
        if self._connector is None:
            # Not in `bind`, because only now the loop is known.
            self._connector = _Connector(limit=0, keepalive_timeout=KEEPALIVE_EXPIRY_S, ssl=self._tls)
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            # aiohttp sends a client session's headers to a proxy in its CONNECT request: key and token, in the clear.
            headers=headers if self._proxy is None else None,
            cookie_jar=aiohttp.DummyCookieJar(),
            # aiohttp would decompress without a bound, and block the loop meanwhile.
            auto_decompress=False,
            # The HTTP client bounds the whole exchange.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            proxy=self._proxy,
        )
        if len(self._sessions) >= TOKENS_KEPT:
            self._forget_oldest()
        self._sessions[id(headers)] = opened = (headers, session)
        return opened

    def _proxied(self, headers: Mapping[str, str]) -> dict[str, Any]:
        if self._proxy is None:
            return {}
        if self._in_tunnel:
            return {"headers": headers, "proxy_headers": self._for_proxy}
        return {"headers": {**headers, **self._for_proxy}}

    def _forget_oldest(self) -> None:
        # The connections belong to the connector and stay open.
        self._sessions.pop(next(iter(self._sessions)))[1].detach()

    def _url(self, request: HttpRequest) -> URL:
        url = self._parsed(f"{self._base_url}{request.path}")
        return url.with_query(request.query) if request.query else url


class _Connector(aiohttp.TCPConnector):
    """Call the departure when a connection is open. aiohttp writes on it before the next turn of the loop."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._process = os.getpid()
        self._left_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def __del__(self, *args: Any) -> None:
        """Close what was left open; in a forked process nothing, for its sockets are the parent's, too."""
        if self._process == os.getpid():
            super().__del__(*args)

    async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        """Return an open connection when the request may be written."""
        departure = _departure.get()
        asked_at = time.monotonic()
        while True:
            connection = await super().connect(req, *args, **kwargs)
            is_clean = partial(_is_clean, connection.protocol)
            left_at = self._left_at.get(connection.protocol)
            try:
                # aiohttp itself counts the keep-alive time from the reply.
                if left_at is None or (asked_at - left_at < KEEPALIVE_EXPIRY_S and await is_clean()):
                    await departure.leave(held_up=time.monotonic() - asked_at > AT_ONCE_S, is_clean=is_clean)
                    self._left_at[connection.protocol] = departure.left_at
                    return connection
            except BaseException:
                # The host may have closed the connection while it waited for a slot.
                connection.close()
                raise
            connection.close()


async def _is_clean(protocol: Any) -> bool:
    """
    Return whether nothing has come on a connection since its last reply.

    aiohttp itself checks only what the loop has read, and not a partial head in its parser. The parser is private; a
    test checks that it still reports this.
    """
    if not protocol.is_connected():
        return False
    socket = protocol.transport.get_extra_info("socket")
    # The session tickets of TLS 1.3 come after the handshake and contain no data. asyncio removes them from what it
    # reads.
    looks = LOOKS if protocol.transport.get_extra_info("sslcontext") is not None else 1
    while is_readable(socket):
        looks -= 1
        if not looks:
            return False
        for _ in range(TURNS_TO_READ):
            await asyncio.sleep(0)
    return protocol.is_connected() and not protocol.should_close and _at_rest(protocol)


def _at_rest(protocol: Any) -> bool:
    """Return whether the parser has not begun a further reply. There is no parser before the first request."""
    # At rest, `feed_eof` returns None and changes nothing. If a reply has begun, it returns that, or raises.
    try:
        return protocol._parser is None or protocol._parser.feed_eof() is None
    except Exception:  # noqa: BLE001  aiohttp has many errors for a broken reply
        return False


def _proxy(named: str | None) -> URL | None:
    if named is None:
        return None
    try:
        proxy = URL(named)
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https"):
        raise ConfigurationError(
            "aiohttp cannot use the proxy that the environment names. It takes http:// and https://. Name another "
            "one, or this host in NO_PROXY."
        )
    return proxy


def _authorization(proxy: URL | None) -> dict[str, str]:
    """Return the proxy's header, in UTF-8 as httpx's. aiohttp uses Latin-1, and some of its versions omit it (3.11)."""
    if proxy is None or (proxy.user is None and proxy.password is None):
        return {}
    credentials = f"{proxy.user or ''}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(credentials).decode()}"}


def _body(content: bytes) -> aiohttp.Payload | None:
    if not content:
        return None
    # For a large body, aiohttp warns that writing bytes at once takes long; it writes a file in parts. For plain bytes,
    # it would look up the payload class each time.
    return aiohttp.BytesIOPayload(io.BytesIO(content)) if len(content) > LARGE else aiohttp.BytesPayload(content)


async def _read(response: aiohttp.ClientResponse) -> Reply:
    content = bytearray()
    while chunk := await response.content.readany():
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            response.close()
            break
    return reply_of(response.status, response.headers, bytes(content))


def _reason(error: Exception, connect_s: float) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {connect_s:g} s"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return "the proxy gave no connection"
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            # These errors come from the operating system and TLS. They contain hosts and certificates, but no request.
            return f"no connection ({' '.join(str(error).split())[:200]})"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return "the host closed the connection, or sent what is not HTTP, instead of a reply"
        case aiohttp.ClientConnectionError() | OSError():
            return "the connection broke"
    return f"the exchange failed ({type(error).__name__})"
