"""The aiohttp integration works with responses that have begun and with nested apps."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

import pico_async.integrations.aiohttp as on_aiohttp
from pico_async import ConfigurationError, ServerError
from pico_async.sandbox import Sandbox
from tests.integrations.web_apps import NUMBER, TEXT, client_of, maker
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.lower_bounds


@pytest.mark.parametrize("path", ["/stream", "/socket"])
async def test_an_error_within_an_answer_of_aiohttps_writes_no_second_one(path: str) -> None:
    """
    An error after a response has begun closes the connection. A second response would be written into the stream or
    between the websocket's frames.
    """

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one")
        raise ServerError("Pico failed.")

    async def chat(request: web.Request) -> web.StreamResponse:
        await web.WebSocketResponse().prepare(request)
        raise ServerError("Pico failed.")

    app = web.Application()
    on_aiohttp.handle_errors(app)
    app.add_routes([web.get("/stream", stream), web.get("/socket", chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade if path == '/socket' else ''}\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    await runner.cleanup()

    assert answer.count(b"HTTP/1.1") == 1
    assert b"problem" not in answer


async def test_an_aiohttp_app_within_an_app_has_its_session() -> None:
    """
    A nested app uses the session of the outer app that opened it. Where no app opened a session, the error names
    `pico_cleanup_ctx`.
    """
    sandbox = Sandbox(rate_rule=None)
    outer, inner, lonely = web.Application(), web.Application(), web.Application()

    async def code(request: web.Request) -> web.Response:
        await on_aiohttp.get_pico(request).sms.send(request.query["to"], TEXT)
        return web.Response()

    async def none(request: web.Request) -> web.Response:
        try:
            on_aiohttp.get_pico(request)
        except ConfigurationError as error:
            return web.Response(text=str(error))
        return web.Response()

    async with sandbox.serve() as pico_url:
        outer.cleanup_ctx.append(on_aiohttp.pico_cleanup_ctx(maker(sandbox, pico_url)))
        inner.router.add_post("/codes", code)
        lonely.router.add_get("/", none)
        outer.add_subapp("/inner", inner)
        for app, path, ask in ((outer, "/inner/codes", "POST"), (lonely, "/", "GET")):
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with client_of() as client:
                url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
                reply = await client.request(ask, url, params={"to": NUMBER})
            await runner.cleanup()

    assert len(sandbox.ledger.sent_to(NUMBER)) == 1
    assert "pico_cleanup_ctx" in reply.text
