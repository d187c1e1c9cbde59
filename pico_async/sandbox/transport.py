"""
The sandbox without a socket: an httpx transport that calls the application.

For each ending it raises the exception that a real socket would cause:

| ending | httpx exception |
|---|---|
| refused | ConnectError |
| closed without a reply | RemoteProtocolError |
| reset, with or without half a reply | ReadError |
| no reply within the request's read timeout | ReadTimeout |
"""

import anyio
import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from pico_async.sandbox.app import ConnectionEnded
from pico_async.sandbox.host_check import IN_PROCESS
from pico_async.sandbox.replies import Ending

_EXCEPTIONS: dict[Ending, tuple[type[httpx.TransportError], str]] = {
    Ending.REFUSE: (httpx.ConnectError, "All connection attempts failed"),
    Ending.DROP: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
    Ending.RESET: (httpx.ReadError, "Connection reset by peer"),
    Ending.TRUNCATE: (httpx.ReadError, "Connection reset by peer"),
}


class SandboxTransport(httpx.AsyncBaseTransport):
    """
    Passes requests to one sandbox, whatever host they name.

    It emits no trace events. A request that the client gives up still arrives, as on a real network.

    Attributes:
        in_process: True: no request leaves this process.
    """

    in_process: bool = True

    def __init__(self, app: ASGIApp) -> None:
        async def in_process(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {IN_PROCESS: True}}, receive, send)

        self._inner = httpx.ASGITransport(in_process)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        read_s = request.extensions.get("timeout", {}).get("read")
        try:
            with anyio.fail_after(read_s):
                return await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("No reply within the read timeout", request=request) from error
        except ConnectionEnded as error:
            exception, message = _EXCEPTIONS[error.ending]
            raise exception(message, request=request) from error
