"""
The outbox: the web page at the sandbox's root, and the routes that it uses.

Own invention throughout. No route needs a key, and no request to one is recorded as an arrival:

| route | reply |
|---|---|
| GET / | the page |
| GET /_sandbox/outbox/{file} | its style and its scripts |
| GET /_sandbox/outbox/events | server-sent events; Last-Event-ID resumes |
| GET /_sandbox/outbox/messages/{number} | one message, with its receipts |
| POST /_sandbox/outbox/messages/{number}/receipt | sends the last receipt again |
| GET /_sandbox/settings | the settings |
| POST /_sandbox/settings | changes some of them |
"""

from collections.abc import AsyncIterator
from importlib.resources import files

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from pico_async.sandbox.body import BodyError, read_json, refuse
from pico_async.sandbox.outbox.feed import Cursor, Feed, as_json, as_server_sent
from pico_async.sandbox.receipts.delivery import ReceiptDelivery
from pico_async.sandbox.settings import Settings

_POLL_S = 0.1
_KEEP_ALIVE_S = 15.0
_FILES = {
    "outbox.html": "text/html",
    "outbox.css": "text/css",
    "outbox.js": "text/javascript",
    "list.js": "text/javascript",
    "message.js": "text/javascript",
    "limits.js": "text/javascript",
    "chaos.js": "text/javascript",
    "elements.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The next version of the package serves another page at the same address.
    "Cache-Control": "no-store",
}


def page_routes(feed: Feed, delivery: ReceiptDelivery, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the page for one sandbox."""

    async def show_page(request: Request) -> Response:
        return _static("outbox.html")

    async def show_file(request: Request) -> Response:
        name = request.path_params["file"]
        return _static(name) if name in _FILES else refuse(f"{name!r}: no such file.", 404)

    async def show_events(request: Request) -> Response:
        after = request.headers.get("last-event-id") or request.query_params.get("after")
        stream = _stream(feed, Cursor.parse(after))
        return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)

    async def show_message(request: Request) -> Response:
        try:
            message = feed.message(_number(request))
        except LookupError as error:
            return refuse(str(error), 404)
        return _json(message)

    async def send_again(request: Request) -> Response:
        try:
            delivery.send_again(_number(request))
        except LookupError as error:
            return refuse(str(error), 404)
        except RuntimeError as error:
            return refuse(str(error), 409)
        return _json({"queued": True})

    async def show_settings(request: Request) -> Response:
        return _json(settings.read())

    async def change_settings(request: Request) -> Response:
        try:
            settings.change(await read_json(request))
        except BodyError as error:
            return refuse(str(error), error.status)
        except (TypeError, ValueError, OverflowError) as error:
            return refuse(str(error))
        return _json(settings.read())

    return [
        Route("/", show_page),
        Route("/_sandbox/outbox/events", show_events),
        Route("/_sandbox/outbox/messages/{number}", show_message),
        Route("/_sandbox/outbox/messages/{number}/receipt", send_again, methods=["POST"]),
        Route("/_sandbox/outbox/{file}", show_file),
        Route("/_sandbox/settings", show_settings),
        Route("/_sandbox/settings", change_settings, methods=["POST"]),
    ]


def _number(request: Request) -> int:
    """Return the number of a message; -1, which no message has, for other text. Starlette's own converter raises."""
    text: str = request.path_params["number"]
    return int(text) if len(text) < 16 and text.isascii() and text.isdigit() else -1


def _json(value: object) -> Response:
    return Response(as_json(value), media_type="application/json", headers=_HEADERS)


def _static(name: str) -> Response:
    content = (files(__package__) / "static" / name).read_bytes()
    return Response(content, media_type=_FILES[name], headers=_HEADERS)


async def _stream(feed: Feed, cursor: Cursor | None) -> AsyncIterator[bytes]:
    """
    Yield events for one reader until it leaves.

    It polls ten times a second and is not notified, so that readers cost a send no time.
    """
    event = feed.hello(cursor)
    cursor = event.cursor
    yield b"retry: 500\n\n" + as_server_sent(event)
    settings, statistics = feed.settings, feed.statistics
    silent_s = 0.0
    limits_sent: tuple[int, int | None, float | None] = (-1, None, None)  # arrivals, second, rate
    version = -1
    while True:
        sent = False
        while new := feed.next_messages(cursor) or feed.next_receipts(cursor):
            cursor, sent = new.cursor, True
            yield as_server_sent(new)
            await anyio.lowlevel.checkpoint()
        if version != settings.version:
            version, sent = settings.version, True
            yield as_server_sent(feed.current_settings(cursor))
        while statistics.catch_up():
            await anyio.lowlevel.checkpoint()
        arrivals, second, rate = limits_sent
        if arrivals != statistics.arrivals_read or rate != settings.sms_rate:
            limits_sent = statistics.arrivals_read, int(feed.clock() // 1), settings.sms_rate
            sent = True
            yield as_server_sent(feed.limits(cursor, second))
        silent_s = 0.0 if sent else silent_s + _POLL_S
        if silent_s >= _KEEP_ALIVE_S:
            # A connection that broke silently is noticed only by writing to it.
            silent_s = 0.0
            yield b": still here\n\n"
        await anyio.sleep(_POLL_S)
