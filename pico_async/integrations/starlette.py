"""
Starlette: one session for the app's life, errors as JSON problems, and the route for delivery receipts.

    app = Starlette(lifespan=pico_lifespan(), routes=[Route("/codes", code, methods=["POST"]), receipts_route()])
    handle_errors(app)

    async def code(request: Request) -> Response:
        await get_pico(request).sms.send(…)

For FastAPI, `pico_async.integrations.fastapi` has the same, with a dependency and a router.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, TypeAlias

try:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as _error:
    raise ImportError("pico_async.integrations.starlette needs starlette: pip install starlette") from _error

from pico_async._engine import live
from pico_async.errors import ConfigurationError, PicoError
from pico_async.integrations.problems import problem
from pico_async.receipts.callbacks import CallbackSigner
from pico_async.receipts.deduplication import SeenReceipts
from pico_async.receipts.handler import METHODS, ConfirmingJournal, OnReceipt, ReceiptHandler
from pico_async.session import PicoSession

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]

_INTERNAL_ERROR = 1011  # RFC 6455, 7.4.1


def pico_lifespan(session: Callable[[], PicoSession] = PicoSession) -> Lifespan:
    """
    Return a lifespan that keeps one session open while the app runs.

    Args:
        session: A function that makes the session when the app starts. By default the environment configures it.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with open_pico(app, session) as pico:
            # An app that is mounted in this one sees this lifespan state, but not `app.state`.
            yield {"pico": pico}

    return lifespan


@asynccontextmanager
async def open_pico(app: Starlette, session: Callable[[], PicoSession] = PicoSession) -> AsyncIterator[PicoSession]:
    """
    Open the app's session within your own lifespan, and close it at the end.

        @asynccontextmanager
        async def lifespan(app):
            async with open_pico(app), database:
                yield

    At the end, sends on the wire are settled, and waiting ones fail as not sent.
    """
    async with session() as pico:
        app.state.pico = pico
        try:
            yield pico
        finally:
            del app.state.pico


def get_pico(connection: HTTPConnection) -> PicoSession:
    """
    Return the session of the app that received a request or a websocket.

    Raises:
        ConfigurationError: The app opened none.
    """
    app = connection.app
    # Some test clients do not run the app's lifespan.
    pico = getattr(app.state, "pico", None) or getattr(connection.state, "pico", None) or live.session()
    if not isinstance(pico, PicoSession):
        raise ConfigurationError(
            "The app has no session. Make the app with lifespan=pico_lifespan(), or enter open_pico(app) in its own."
        )
    return pico


def handle_errors(app: Starlette) -> None:
    """
    Answer each `PicoError` that a handler raises with a JSON problem (RFC 9457): the outcome, and no secret.

    The log "pico_async.problems" has the details. A websocket is closed with the problem's title.
    """
    app.add_exception_handler(PicoError, _answer)


# For a websocket, Starlette expects no answer, but its types require one.
async def _answer(connection: HTTPConnection, error: Exception) -> Response:
    reply = problem(error if isinstance(error, PicoError) else PicoError(""))
    if not isinstance(connection, WebSocket):
        return Response(reply.content, reply.status_code, dict(reply.headers))
    with suppress(RuntimeError, WebSocketDisconnect):  # it is closed already
        await connection.close(_INTERNAL_ERROR, reply.body["title"])
    return None  # type: ignore[return-value]


def _public_path(request: Request) -> str:
    """Return the path that a proxy in front of the app received. It may remove a prefix, which is the `root_path`."""
    # In a mounted app, `root_path` also contains the mount's path, which is already in the path.
    root = str(request.scope.get("app_root_path", request.scope.get("root_path", ""))).rstrip("/")
    path: str = request.scope["path"]
    return path if path.startswith(f"{root}/") else f"{root}{path}"


def receipts_route(
    signer: CallbackSigner | None = None,
    path: str = "/receipts",
    *,
    on_receipt: OnReceipt | None = None,
    journal: ConfirmingJournal | None = None,
    seen_receipts: SeenReceipts | None = None,
    public_path: str | None = None,
) -> Route:
    """
    Return a route that receives delivery receipts.

    An unsigned, forged, expired or too large request is refused. `on_receipt` is called once for each receipt, and only
    while the status advances. Pico reaches this endpoint at the session's `callback`. The other arguments are those of
    `ReceiptHandler`.

    Args:
        public_path: The path of `callback`, if a proxy changes it. It is not needed if the app or the server has the
            removed prefix as its `root_path`.
    """
    receipts = ReceiptHandler(signer, on_receipt=on_receipt, journal=journal, seen_receipts=seen_receipts)

    async def receive(request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        verdict = await receipts.handle(
            request.method,
            public_path or _public_path(request),
            query,
            request.stream(),
            request.headers.get("content-type", ""),
        )
        return JSONResponse({"receipt": verdict.value}, verdict.status_code, verdict.headers)

    return Route(path, receive, methods=METHODS, include_in_schema=False)
