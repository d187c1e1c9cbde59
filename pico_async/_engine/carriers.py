"""Which carrier takes a session's requests."""

from __future__ import annotations

from pico_async._engine.httpx_carrier import HttpTransport, HttpxCarrier
from pico_async._engine.transport import Carrier
from pico_async.errors import ConfigurationError


def carrier_for(transport: object) -> Carrier:
    """
    Give the carrier of a transport; httpx's, as the project sets it up, where there is none.

    Raises:
        ConfigurationError: It is no transport.
    """
    if isinstance(transport, HttpTransport):
        # Few speak it.
        from pico_async._engine.http2_carrier import Http2Carrier, speaks_http2

        return Http2Carrier(transport) if speaks_http2(transport) else HttpxCarrier(transport)
    if transport is None:
        return HttpxCarrier()
    if isinstance(transport, Carrier):
        return transport
    raise ConfigurationError(
        "`transport` must be an AiohttpTransport() or an httpx.AsyncBaseTransport, as httpx.AsyncHTTPTransport(), not "
        f"{type(transport).__name__}."
    )
