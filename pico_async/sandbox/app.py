"""
The sandbox as an ASGI application: read a request, let `Cloud` decide, then act.

Whatever waits stands here: jitter before the decision, latency and hangs after it. The decision itself is one
synchronous call, so no two requests are judged at once.
"""

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol
from urllib.parse import parse_qsl

import anyio
from attrs import define
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from pico_async.sandbox.host_check import Door
from pico_async.sandbox.operations import OPERATIONS, Operation
from pico_async.sandbox.replies import Ending, Reply
from pico_async.sandbox.state import Call, Cloud

# Where a server leaves the connection for `_end`: in the ASGI scope's "state".
CONNECTION = "pico_sandbox.connection"


class Connection(Protocol):
    """A client's connection, which a fault may end."""

    def close(self) -> None:
        """End it in order (FIN) once what was written has gone out."""

    def reset(self) -> None:
        """End it at once (RST)."""


class ConnectionEnded(Exception):  # noqa: N818  # an event, translated at the edge
    """Raised where no server is in between, for the in-process transport to translate."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"The sandbox ended the connection: {ending.name.lower()}.")
        self.ending = ending


@define
class Pace:
    """How slow the imitated network and server are, in seconds. It may change between two requests."""

    latency_s: float
    jitter_s: float
    random: Random


class Endpoint:
    """The ASGI endpoint of one operation. No `Request` and no middleware of its own: benchmarks measure clients."""

    def __init__(self, operation: Operation, cloud: Cloud, pace: Pace) -> None:
        self._operation = operation
        self._cloud = cloud
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        call = _call(self._operation, scope, body)
        try:
            if self._pace.jitter_s:
                await anyio.sleep(self._pace.random.uniform(0.0, self._pace.jitter_s))
        finally:
            # A client that gives up while its bytes are on the way does not call them back: they arrive all the same.
            reply = self._cloud.answer(call)
        if self._pace.latency_s:
            await anyio.sleep(self._pace.latency_s)
        if reply.hang_s:
            await _hang(reply.hang_s, receive)
        await _deliver(reply, scope, receive, send)


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body; None if the client left before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _call(operation: Operation, scope: Scope, body: bytes) -> Call:
    api_key = authorization = None
    content_type = ""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            api_key = value.decode("latin-1")
        elif name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"content-type":
            content_type = value.decode("latin-1").lower()
    query = scope["query_string"]
    return Call(
        operation,
        scope["path"],
        body,
        api_key,
        authorization,
        content_type,
        {**dict(parse_qsl(query.decode("latin-1"))), **scope["path_params"]} if query else scope["path_params"],
    )


async def _hang(seconds: float, receive: Receive) -> None:
    """Keep silent for *seconds*, or until the client has left."""
    with anyio.move_on_after(seconds):
        await _departure(receive)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _deliver(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    if reply.ending is not Ending.REPLY:
        await _end(reply, scope, receive, send)
        return
    await send(_start(reply))
    await send({"type": "http.response.body", "body": reply.body})


def _start(reply: Reply) -> dict[str, Any]:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


async def _end(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    if connection is None:
        raise ConnectionEnded(reply.ending)
    match reply.ending:
        case Ending.TRUNCATE:
            await send(_start(reply))
            half = reply.body[: len(reply.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            connection.reset()
        case Ending.RESET:
            connection.reset()
        case _:
            connection.close()
    # A server reports an application that returns without a reply; one whose client has left it forgives.
    await _departure(receive)


def build_app(cloud: Cloud, pace: Pace, control: Iterable[BaseRoute]) -> Starlette:
    """Build the application: the thirteen operations, and *control* routes beside them."""
    routes: list[BaseRoute] = [
        Route(operation.path, Endpoint(operation, cloud, pace), methods=[operation.method]) for operation in OPERATIONS
    ]

    async def no_such_operation(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        reply = cloud.no_such_operation(request.url.path, status)
        return Response(reply.body, reply.status, media_type="application/json")

    app = Starlette(
        routes=routes + list(control),
        middleware=[Middleware(Door)],
        exception_handlers={HTTPException: no_such_operation},
    )
    # A slash too many is an error of the client's, which a redirect would hide.
    app.router.redirect_slashes = False
    return app
