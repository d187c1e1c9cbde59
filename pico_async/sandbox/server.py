"""
The sandbox on a socket: uvicorn's HTTP/1.1 protocol in the running loop.

Only uvicorn's protocol is used. Its server installs signal handlers, wakes ten times a second and takes 0.2 s to stop,
which would slow down every test.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from pico_async.sandbox.app import CONNECTION
from pico_async.sandbox.host_check import is_loopback


class TcpConnection:
    """A client's TCP connection, as a fault ends it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        if self._transport.is_closing():
            return
        # A linger of zero seconds makes the kernel answer close() with RST instead of FIN.
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class SandboxProtocol(H11Protocol):
    """uvicorn's protocol, which passes the connection to the application and keeps no access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log: bool = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {CONNECTION: TcpConnection(transport)}


class Requests:
    """The requests in progress, so that they can be cancelled when the server stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[anyio.CancelScope] = set()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. If `cancel` ends it, this returns normally: uvicorn logs any exception."""
        with anyio.CancelScope() as cancel_scope:
            self._scopes.add(cancel_scope)
            try:
                await self._app(scope, receive, send)
            finally:
                self._scopes.discard(cancel_scope)

    def cancel(self) -> None:
        for scope in list(self._scopes):
            scope.cancel()


@asynccontextmanager
async def listening(
    app: ASGIApp, host: str, port: int, *, allow_remote: bool, keep_alive_s: float
) -> AsyncIterator[str]:
    """
    Serve *app* on a socket while the context is open, and yield the base URL.

    At its end every connection is closed, and every request in progress is cancelled. No task is left behind.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(
            f"host={host!r}: the sandbox listens on loopback only, because it has no protection at all. "
            "Pass allow_remote=True if other machines may reach it."
        )
    requests = Requests(app)
    config = uvicorn.Config(
        requests.serve,
        http=SandboxProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]  # annotated int, passed to call_later
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SandboxProtocol(config=config, server_state=state, app_state={}), host, port, backlog=2048
    )
    try:
        name, bound_port = server.sockets[0].getsockname()[:2]
        yield f"http://[{name}]:{bound_port}" if ":" in name else f"http://{name}:{bound_port}"
    finally:
        server.close()
        # Connections first: uvicorn logs nothing if a request ends without a reply after its client disconnected.
        for protocol in list(state.connections):
            protocol.transport.abort()
        await asyncio.sleep(0)
        requests.cancel()
        if state.tasks:
            await asyncio.wait(list(state.tasks))
        await server.wait_closed()
