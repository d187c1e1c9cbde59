"""
The outbox: the web page at the sandbox's root, and what it asks of the sandbox.

Own invention throughout. None of it needs a key or is an arrival:

    GET  /                                        the page
    GET  /_sandbox/outbox/{file}                  its style and its scripts
    GET  /_sandbox/outbox/events                  what happens, as server-sent events; Last-Event-ID resumes
    GET  /_sandbox/outbox/messages/{number}       one message, with its receipts
    POST /_sandbox/outbox/messages/{number}/receipt   send its last receipt again
    GET  /_sandbox/settings                       how the sandbox is set
    POST /_sandbox/settings                       change some of it
"""

from collections.abc import AsyncIterator
from functools import cache
from importlib.resources import files

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from pico_async.sandbox.body import BodyError, read_json, refuse
from pico_async.sandbox.outbox.feed import Cursor, Feed, as_json, as_server_sent
from pico_async.sandbox.receipts.delivery import Postman
from pico_async.sandbox.settings import Dials

_LOOK_S = 0.1
_ALIVE_S = 15.0
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
    # The next version of the package is another page at the same address.
    "Cache-Control": "no-store",
}


@cache
def _file(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()


def page_routes(feed: Feed, postman: Postman, dials: Dials) -> list[BaseRoute]:
    """Make the routes of the page for one sandbox's parts."""

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
            postman.again(_number(request))
        except LookupError as error:
            return refuse(str(error), 404)
        except RuntimeError as error:
            return refuse(str(error), 409)
        return _json({"queued": True})

    async def show_settings(request: Request) -> Response:
        return _json(dials.read())

    async def change_settings(request: Request) -> Response:
        try:
            dials.change(await read_json(request))
        except BodyError as error:
            return refuse(str(error), error.status)
        except (TypeError, ValueError, OverflowError) as error:
            return refuse(str(error))
        return _json(dials.read())

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
    """Read the number of a message; -1, which none has, for anything else. Starlette's own reading fails at some."""
    named: str = request.path_params["number"]
    return int(named) if len(named) < 16 and named.isascii() and named.isdigit() else -1


def _json(value: object) -> Response:
    return Response(as_json(value), media_type="application/json", headers=_HEADERS)


def _static(name: str) -> Response:
    return Response(_file(name), media_type=_FILES[name], headers=_HEADERS)


async def _stream(feed: Feed, cursor: Cursor | None) -> AsyncIterator[bytes]:
    """
    Tell one reader what happens, in batches, until it leaves.

    It looks ten times a second, rather than be told: so a send pays nothing, however many are looking.
    """
    event = feed.begin(cursor)
    cursor = event.cursor
    yield b"retry: 500\n\n" + as_server_sent(event)
    silent_s = 0.0
    told: tuple[int, int | None, float | None] = (-1, None, None)  # arrivals, second, rate
    changes = -1
    while True:
        sent = False
        while news := feed.next_messages(cursor) or feed.next_receipts(cursor):
            cursor, sent = news.cursor, True
            yield as_server_sent(news)
            await anyio.lowlevel.checkpoint()
        if changes != feed.dials.changes:
            changes, sent = feed.dials.changes, True
            yield as_server_sent(feed.settings(cursor))
        while feed.tally.catch_up():
            await anyio.lowlevel.checkpoint()
        read, second, rate = told
        if read != feed.tally.read or rate != feed.dials.sms_rate:
            told = feed.tally.read, int(feed.clock() // 1), feed.dials.sms_rate
            sent = True
            yield as_server_sent(feed.limits(cursor, second))
        silent_s = 0.0 if sent else silent_s + _LOOK_S
        if silent_s >= _ALIVE_S:
            # A reader that is gone without a word is found out by writing to it.
            silent_s = 0.0
            yield b": still here\n\n"
        await anyio.sleep(_LOOK_S)
