"""Select the HTTP transport of a session."""

from __future__ import annotations

from typing import cast

from pico_async._engine.http.exchange import HttpTransport
from pico_async._engine.http.httpx_library import AsyncTransport, library_of
from pico_async._engine.http.httpx_transport import HttpxTransport
from pico_async.errors import ConfigurationError


def http_transport_for(transport: object) -> HttpTransport:
    """
    Return the HTTP transport for the session's `transport` argument; httpx with the client's own settings if None.

    Raises:
        ConfigurationError: The argument is not a transport, or it speaks HTTP/2.
    """
    if library_of(transport) is not None:
        # httpx has no public attribute for it; a test checks this one.
        if getattr(getattr(transport, "_pool", None), "_http2", False):
            raise ConfigurationError(
                "`transport` must not speak HTTP/2. Make it without `http2=True`. Over HTTP/2, httpx cannot tell "
                "whether a request was sent. At Pico's rate HTTP/1.1 is as fast."
            )
        return HttpxTransport(cast(AsyncTransport, transport))
    if transport is None:
        return HttpxTransport()
    if isinstance(transport, HttpTransport):
        return transport
    raise ConfigurationError(
        "`transport` must be an AiohttpTransport(), or a transport of httpx or httpx2 such as "
        f"httpx.AsyncHTTPTransport(), not {type(transport).__name__}."
    )


def stays_in_process(transport: object) -> bool:
    """
    Return whether a transport reaches no network.

    True for the test transports of httpx and httpx2, the sandbox's, and a transport that has `in_process = True`.
    """
    library = library_of(transport)
    known = library is not None and isinstance(transport, (library.MockTransport, library.ASGITransport))
    return known or getattr(transport, "in_process", False) is True
