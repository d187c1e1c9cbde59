"""
Starlette: one session for the app's life, errors as JSON problems, and the route for delivery receipts.

    app = Starlette(lifespan=pico_lifespan(), routes=[Route("/codes", code, methods=["POST"]), receipts_route()])
    handle_errors(app)

    async def code(request: Request) -> Response:
        await get_pico(request).sms.send(…)

For FastAPI, `pico_async.integrations.fastapi` has the same with its dependency and its router.
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
except ImportError as error:
    raise ImportError("pico_async.integrations.starlette needs starlette: pip install starlette") from error

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
    Make the lifespan of an app that needs no other: one session, open for as long as the app runs.

    Args:
        session: Makes the session, once the app starts; from the environment as it is.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with open_pico(app, session) as pico:
            # Where the app is mounted in another one, its own state is out of reach, and this is not.
            yield {"pico": pico}

    return lifespan


@asynccontextmanager
async def open_pico(app: Starlette, session: Callable[[], PicoSession] = PicoSession) -> AsyncIterator[PicoSession]:
    """
    Open the app's session within a lifespan of your own, and close it at the end.

        @asynccontextmanager
        async def lifespan(app):
            async with open_pico(app), database:
                yield

    Leaving it settles what is on the wire and ends what waits as not sent.
    """
    async with session() as pico:
        app.state.pico = pico
        try:
            yield pico
        finally:
            del app.state.pico


def get_pico(connection: HTTPConnection) -> PicoSession:
    """
    Give the app's session, to a request or a websocket.

    Raises:
        ConfigurationError: The app opened none.
    """
    pico = getattr(connection.app.state, "pico", None) or getattr(connection.state, "pico", None)
    if not isinstance(pico, PicoSession):
        raise ConfigurationError(
            "The app has no session: make it with lifespan=pico_lifespan(), or enter open_pico(app) in its own."
        )
    return pico


def handle_errors(app: Starlette) -> None:
    """
    Answer what `PicoError` leaves a handler with a JSON problem (RFC 9457): what became of it, and no secret.

    The log "pico_async.problems" has what the caller is not told. A websocket is closed with the problem's title.
    """
    app.add_exception_handler(PicoError, _answer)


# Starlette takes no answer for a websocket, and its types do not know it.
async def _answer(connection: HTTPConnection, error: Exception) -> Response:
    told = problem(error if isinstance(error, PicoError) else PicoError(""))
    if not isinstance(connection, WebSocket):
        return Response(told.content, told.status_code, dict(told.headers))
    with suppress(RuntimeError, WebSocketDisconnect):  # it is closed already, or the other side has left
        await connection.close(_INTERNAL_ERROR, told.body["title"])
    return None  # type: ignore[return-value]


def _path_outside(request: Request) -> str:
    """Give the path that the proxy in front got: it may take off what the app is told of as its `root_path`."""
    # Of an app that is mounted in another one, `root_path` grows by the mount, which is in the path.
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
    Make the route at which delivery receipts arrive.

    What is not signed, forged, expired or too large is refused; each receipt is told once, and only forward. The
    address under which Pico reaches it is the session's `callback`.

    Args:
        signer: That of the session which sends; made of `PICO_CALLBACK_SECRETS` where None, as the session's is.
        on_receipt: Called, and awaited where it is async, with each `DeliveryReceipt` that is news.
        journal: A `SqliteJournal` or a `PostgresLedger`: its message of the receipt's key is in doubt no more.
        seen_receipts: Where duplicates are recognised; in this process alone where None. See `RedisSeenReceipts`.
        public_path: The path of `callback`, where a proxy in front makes another one of it. Not needed where the app or
            the server is told so as `root_path`.
    """
    handler = ReceiptHandler(signer, on_receipt=on_receipt, journal=journal, seen_receipts=seen_receipts)

    async def receive(request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        verdict = await handler.handle(
            request.method,
            public_path or _path_outside(request),
            query,
            request.stream(),
            request.headers.get("content-type", ""),
        )
        return JSONResponse({"receipt": verdict.value}, verdict.status_code, verdict.headers)

    return Route(path, receive, methods=METHODS, include_in_schema=False)
