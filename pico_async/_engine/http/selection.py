"""Which carrier takes a session's requests, and whether it takes them to a network."""

from __future__ import annotations

import httpx

from pico_async._engine.http.httpx_transport import HttpxTransport
from pico_async._engine.http.transport import HttpTransport
from pico_async.errors import ConfigurationError


def http_transport_for(transport: object) -> HttpTransport:
    """
    Give the carrier of a transport; httpx's, as the project sets it up, where there is none.

    Raises:
        ConfigurationError: It is no transport, or it speaks HTTP/2.
    """
    if isinstance(transport, httpx.AsyncBaseTransport):
        if _speaks_http2(transport):
            raise ConfigurationError(
                "`transport` must not speak HTTP/2: make it without `http2=True`. Over HTTP/2, httpx cannot tell "
                "whether a request was sent. At Pico's rate HTTP/1.1 is as fast."
            )
        return HttpxTransport(transport)
    if transport is None:
        return HttpxTransport()
    if isinstance(transport, HttpTransport):
        return transport
    raise ConfigurationError(
        "`transport` must be an AiohttpTransport() or an httpx.AsyncBaseTransport, as httpx.AsyncHTTPTransport(), not "
        f"{type(transport).__name__}."
    )


def _speaks_http2(transport: httpx.AsyncBaseTransport) -> bool:
    """Return whether it may speak HTTP/2. httpx shows it nowhere else; a test checks that the attribute is there."""
    return bool(getattr(getattr(transport, "_pool", None), "_http2", False))


def stays_in_process(transport: object) -> bool:
    """
    Say whether a transport reaches no network.

    Those of httpx for tests do not, nor does the sandbox's; one of the user's own says so by an attribute `in_process`.
    """
    known = isinstance(transport, httpx.MockTransport | httpx.ASGITransport)
    return known or getattr(transport, "in_process", False) is True
