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
except ImportError as error:
    raise ImportError("pico_async.integrations.aiohttp needs aiohttp: pip install 'pico-async[aiohttp]'") from error

from pico_async.errors import ConfigurationError, PicoError
from pico_async.integrations.problems import problem
from pico_async.receipts.callbacks import CallbackSigner
from pico_async.receipts.deduplication import SeenReceipts
from pico_async.receipts.handler import ConfirmingJournal, OnReceipt, ReceiptHandler
from pico_async.session import PicoSession

PICO: web.AppKey[PicoSession] = web.AppKey("pico", PicoSession)
"""Under which the app holds its session: `request.app[PICO]`, or `get_pico(request)` also in an app within an app."""
_BEGUN: web.RequestKey[bool] = web.RequestKey("pico_async_begun", bool)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pico_cleanup_ctx(
    session: Callable[[], PicoSession] = PicoSession,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """
    Make the context that holds one session open for as long as the app runs.

    Leaving it settles what is on the wire and ends what waits as not sent.

    Args:
        session: Makes the session, once the app starts; from the environment as it is.
    """

    async def hold(app: web.Application) -> AsyncIterator[None]:
        async with session() as app[PICO]:
            yield

    return hold


def get_pico(request: web.Request) -> PicoSession:
    """
    Give the session of the app, or of the one that it is within.

    Raises:
        ConfigurationError: No app opened one.
    """
    for app in reversed(request.match_info.apps):
        if PICO in app:
            return app[PICO]
    raise ConfigurationError("The app has no session: append pico_cleanup_ctx() to its cleanup_ctx.")


def handle_errors(app: web.Application) -> None:
    """
    Answer what `PicoError` leaves a handler with a JSON problem (RFC 9457): what became of it, and no secret.

    The log "pico_async.problems" has what the caller is not told. Where the handler's own answer has begun, as a
    stream or a websocket, aiohttp logs the error and closes the connection.
    """
    app.middlewares.append(_answer)
    app.on_response_prepare.append(_begin)


async def _begin(request: web.Request, _: web.StreamResponse) -> None:
    request[_BEGUN] = True


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PicoError as error:
        if request.get(_BEGUN):
            # aiohttp would write the second answer into the first one.
            raise
        told = problem(error)
    return web.Response(body=told.content, status=told.status_code, headers=told.headers)


def receipts_handler(
    signer: CallbackSigner | None = None,
    *,
    on_receipt: OnReceipt | None = None,
    journal: ConfirmingJournal | None = None,
    seen_receipts: SeenReceipts | None = None,
    public_path: str | None = None,
) -> Handler:
    """
    Make the handler at which delivery receipts arrive.

    What is not signed, forged, expired or too large is refused; each receipt is told once, and only forward. The
    address under which Pico reaches it is the session's `callback`.

    Args:
        signer: That of the session which sends; made of `PICO_CALLBACK_SECRETS` where None, as the session's is.
        on_receipt: Called, and awaited where it is async, with each `DeliveryReceipt` that is news.
        journal: A `SqliteJournal` or a `PostgresLedger`: its message of the receipt's key is in doubt no more.
        seen_receipts: Where duplicates are recognised; in this process alone where None. See `RedisSeenReceipts`.
        public_path: The path of `callback`, where a proxy in front makes another one of it.
    """
    handler = ReceiptHandler(signer, on_receipt=on_receipt, journal=journal, seen_receipts=seen_receipts)

    async def receive(request: web.Request) -> web.Response:
        pieces = request.content.iter_any()
        query = request.rel_url.raw_query_string
        content_type = request.headers.get("Content-Type", "")
        verdict = await handler.handle(request.method, public_path or request.path, query, pieces, content_type)
        return web.json_response({"receipt": verdict.value}, status=verdict.status_code, headers=verdict.headers)

    return receive
