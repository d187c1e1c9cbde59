"""
The sandbox as an ASGI application: parse a request, let `Cloud` decide, then send the reply.

All waiting is done here: jitter before the decision, latency and hangs after it. The decision itself is one synchronous
call, so that requests are decided one by one.
"""

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol
from urllib.parse import parse_qsl

import anyio
from attrs import define, frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from pico_async.sandbox.host_check import HostCheck
from pico_async.sandbox.operations import OPERATIONS, Operation
from pico_async.sandbox.replies import Ending, Reply
from pico_async.sandbox.state import Call, Cloud

# Key in the ASGI scope's "state", under which a server passes the connection.
CONNECTION = "pico_sandbox.connection"


class Connection(Protocol):
    """A client's connection, as a fault ends it."""

    def close(self) -> None:
        """Close it (FIN) after the written bytes were sent."""

    def reset(self) -> None:
        """Reset it at once (RST)."""


class ConnectionEnded(Exception):  # noqa: N818  # the transport translates it
    """A fault ended the connection. Raised in-process, where there is no connection to close."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"The sandbox ended the connection: {ending.name.lower()}.")
        self.ending: Ending = ending


@define
class Delays:
    """Delays of the imitated network and server. They may change between two requests."""

    latency_s: float
    jitter_s: float
    random: Random


@frozen(eq=False)
class Endpoint:
    """The ASGI endpoint of one operation."""

    _operation: Operation
    _cloud: Cloud
    _delays: Delays

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        call = _parse_call(self._operation, scope, body)
        try:
            if self._delays.jitter_s:
                await anyio.sleep(self._delays.random.uniform(0.0, self._delays.jitter_s))
        finally:
            # On a real network a request arrives even if its client gives up meanwhile.
            reply = self._cloud.answer(call)
        if self._delays.latency_s:
            await anyio.sleep(self._delays.latency_s)
        if reply.hang_s:
            with anyio.move_on_after(reply.hang_s):
                await _wait_for_disconnect(receive)
        if reply.ending is not Ending.REPLY:
            await _end_connection(reply, scope, receive, send)
            return
        await send(_response_start(reply))
        await send({"type": "http.response.body", "body": reply.body})


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body; None if the client disconnected before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _parse_call(operation: Operation, scope: Scope, body: bytes) -> Call:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    return Call(
        operation,
        scope["path"],
        body,
        headers.get(b"x-api-key"),
        headers.get(b"authorization"),
        headers.get(b"content-type", "").lower(),
        {**query, **scope["path_params"]},
    )


async def _wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _response_start(reply: Reply) -> dict[str, Any]:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


async def _end_connection(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    if connection is None:
        raise ConnectionEnded(reply.ending)
    match reply.ending:
        case Ending.TRUNCATE:
            await send(_response_start(reply))
            half = reply.body[: len(reply.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            connection.reset()
        case Ending.RESET:
            connection.reset()
        case _:
            connection.close()
    # uvicorn logs an error if an application returns without a reply, unless the client has disconnected.
    await _wait_for_disconnect(receive)


def build_app(cloud: Cloud, delays: Delays, control: Iterable[BaseRoute]) -> Starlette:
    """Return the application: the thirteen operations, and the *control* routes."""
    routes: list[BaseRoute] = [
        Route(operation.path, Endpoint(operation, cloud, delays), methods=[operation.method])
        for operation in OPERATIONS
    ]

    async def no_such_operation(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        reply = cloud.no_such_operation(request.url.path, status)
        return Response(reply.body, reply.status, media_type="application/json")

    app = Starlette(
        routes=routes + list(control),
        middleware=[Middleware(HostCheck)],
        exception_handlers={HTTPException: no_such_operation},
    )
    # A path with one slash too many is a mistake of the client, which a redirect would hide.
    app.router.redirect_slashes = False
    return app
