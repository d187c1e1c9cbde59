"""
The sandbox on a socket: uvicorn's HTTP/1.1 protocol in the running loop.

Only uvicorn's protocol is used, not its server: that one installs signal handlers, ticks ten times a second and
takes 0.2 s to end, which a test suite pays on every test.
"""

import asyncio
import ipaddress
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


class TcpConnection:
    """A client's TCP connection, as a fault may end it."""

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
    """uvicorn's protocol, which shows the application its connection and keeps no access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.app_state = {CONNECTION: TcpConnection(transport)}


class Requests:
    """The requests that are being served, so that they can be ended with the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[anyio.CancelScope] = set()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; ended by `cancel`, it returns like any other: uvicorn logs what is raised."""
        with anyio.CancelScope() as cancel_scope:
            self._scopes.add(cancel_scope)
            try:
                await self._app(scope, receive, send)
            finally:
                self._scopes.discard(cancel_scope)

    def cancel(self) -> None:
        """End every request that is still being served."""
        for scope in list(self._scopes):
            scope.cancel()


def is_loopback(host: str) -> bool:
    """Say whether *host* can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def listening(
    app: ASGIApp, host: str, port: int, *, allow_remote: bool, keep_alive_s: float
) -> AsyncIterator[str]:
    """
    Serve *app* on a socket for as long as the context lasts, and yield the base URL.

    Leaving it closes every connection and ends every request that is still being served; no task is left behind.

    Raises:
        ValueError: *host* is not loopback, and *allow_remote* is not set.
        OSError: The port cannot be had.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(
            f"host={host!r}: the sandbox listens on loopback only, since it has no protection at all. "
            "Pass allow_remote=True where others may reach it."
        )
    requests = Requests(app)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await requests.serve(scope, receive, send)

    config = uvicorn.Config(
        application,
        http=SandboxProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]  # annotated int, handed to call_later
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
        # In this order: a request whose client has left may return without a reply, and uvicorn says nothing.
        for protocol in list(state.connections):
            protocol.transport.abort()
        await asyncio.sleep(0)
        requests.cancel()
        if state.tasks:
            await asyncio.wait(list(state.tasks))
        await server.wait_closed()
