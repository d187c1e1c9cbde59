"""
aiohttp's server: one session for the app's life, errors as JSON problems, and delivery receipts.

    app = web.Application()
    app.cleanup_ctx.append(pico_cleanup_ctx())
    handle_errors(app)
    app.router.add_route("*", "/receipts", receipts_handler(on_receipt=delivered))

    async def code(request: web.Request) -> web.Response:
        await get_pico(request).sms.send(…)

Needs the extra: `pip install 'pico-async[aiohttp]'`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

try:
    from aiohttp import web
except ImportError as _error:
    raise ImportError("pico_async.integrations.aiohttp needs aiohttp: pip install 'pico-async[aiohttp]'") from _error

from pico_async.errors import ConfigurationError, PicoError
from pico_async.integrations.problems import problem
from pico_async.receipts.callbacks import CallbackSigner
from pico_async.receipts.deduplication import SeenReceipts
from pico_async.receipts.handler import ConfirmingJournal, OnReceipt, ReceiptHandler
from pico_async.session import PicoSession

PICO: web.AppKey[PicoSession] = web.AppKey("pico", PicoSession)
"""The key of the app's session: `request.app[PICO]`, or `get_pico(request)`, which also works in a subapp."""
_STARTED: web.RequestKey[bool] = web.RequestKey("pico_async_started", bool)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pico_cleanup_ctx(
    session: Callable[[], PicoSession] = PicoSession,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """
    Return a context that keeps one session open while the app runs.

    At the end, sends on the wire are settled, and waiting ones fail as not sent.

    Args:
        session: A function that makes the session when the app starts. By default the environment configures it.
    """

    async def keep_open(app: web.Application) -> AsyncIterator[None]:
        async with session() as app[PICO]:
            yield

    return keep_open


def get_pico(request: web.Request) -> PicoSession:
    """
    Return the session of the app, or of an app that contains it.

    Raises:
        ConfigurationError: No app opened one.
    """
    for app in reversed(request.match_info.apps):
        if PICO in app:
            return app[PICO]
    raise ConfigurationError("The app has no session. Append pico_cleanup_ctx() to its cleanup_ctx.")


def handle_errors(app: web.Application) -> None:
    """
    Answer each `PicoError` that a handler raises with a JSON problem (RFC 9457): the outcome, and no secret.

    The log "pico_async.problems" has the details. If the handler has already started a response, as a stream or a
    websocket, aiohttp logs the error and closes the connection.
    """
    app.middlewares.append(_answer)
    app.on_response_prepare.append(_mark_started)


async def _mark_started(request: web.Request, _: web.StreamResponse) -> None:
    request[_STARTED] = True


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PicoError as error:
        if request.get(_STARTED):
            # aiohttp would write a second response into the first one.
            raise
        reply = problem(error)
    return web.Response(body=reply.content, status=reply.status_code, headers=reply.headers)


def receipts_handler(
    signer: CallbackSigner | None = None,
    *,
    on_receipt: OnReceipt | None = None,
    journal: ConfirmingJournal | None = None,
    seen_receipts: SeenReceipts | None = None,
    public_path: str | None = None,
) -> Handler:
    """
    Return a handler that receives delivery receipts.

    An unsigned, forged, expired or too large request is refused. `on_receipt` is called once for each receipt, and only
    while the status advances. Pico reaches this endpoint at the session's `callback`. The other arguments are those of
    `ReceiptHandler`.

    Args:
        public_path: The path of `callback`, if a proxy changes it.
    """
    receipts = ReceiptHandler(signer, on_receipt=on_receipt, journal=journal, seen_receipts=seen_receipts)

    async def receive(request: web.Request) -> web.Response:
        pieces = request.content.iter_any()
        query = request.rel_url.raw_query_string
        content_type = request.headers.get("Content-Type", "")
        verdict = await receipts.handle(request.method, public_path or request.path, query, pieces, content_type)
        return web.json_response({"receipt": verdict.value}, status=verdict.status_code, headers=verdict.headers)

    return receive
