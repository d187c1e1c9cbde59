"""The same verbs in FastAPI, Starlette and aiohttp: real servers, real sockets, one session for the app's life."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import aiohttp
import httpx
import pytest
import uvicorn
from aiohttp import web
from fastapi import Depends, FastAPI, Header, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import pico_async.integrations.aiohttp as on_aiohttp
import pico_async.integrations.fastapi as on_fastapi
import pico_async.integrations.starlette as on_starlette
from pico_async import (
    CallbackSigner,
    ConfigurationError,
    DeliveryReceipt,
    PicoSession,
    ServerError,
    SmsMessage,
    SqliteJournal,
)
from pico_async.integrations.fastapi import PicoDep
from pico_async.sandbox import Fault, FaultRule, Sandbox

NUMBER = "8612345670042"
TEXT = "Your code is 735914"
SECRET = "a-secret-of-32-characters-or-so-"
SIGNER = CallbackSigner([SECRET])

Make: TypeAlias = Callable[[], PicoSession]
App: TypeAlias = Callable[[Make, list[DeliveryReceipt], Path], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Run uvicorn on a free port, with the app's lifespan; leave when it has ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="on", **options)
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


def fastapi_app(make: Make, told: list[DeliveryReceipt], journal: Path) -> AbstractAsyncContextManager[str]:
    app = FastAPI(lifespan=on_fastapi.pico_lifespan(make))
    on_fastapi.handle_errors(app)
    app.include_router(
        on_fastapi.receipts_router(SIGNER, on_receipt=told.append, journal=SqliteJournal(journal)), prefix="/pico"
    )

    @app.post("/codes")
    async def code(to: str, pico: PicoDep) -> dict[str, str | None]:
        return {"request_id": (await pico.sms.send(to, TEXT)).request_id}

    return serving(app)


def starlette_app(make: Make, told: list[DeliveryReceipt], journal: Path) -> AbstractAsyncContextManager[str]:
    async def code(request: Request) -> Response:
        accepted = await on_starlette.get_pico(request).sms.send(request.query_params["to"], TEXT)
        return JSONResponse({"request_id": accepted.request_id})

    receipts = on_starlette.receipts_route(SIGNER, on_receipt=told.append, journal=SqliteJournal(journal))
    routes = [Route("/codes", code, methods=["POST"]), Mount("/pico", routes=[receipts])]
    app = Starlette(routes=routes, lifespan=on_starlette.pico_lifespan(make))
    on_starlette.handle_errors(app)
    return serving(app)


@asynccontextmanager
async def aiohttp_app(make: Make, told: list[DeliveryReceipt], journal: Path) -> AsyncIterator[str]:
    app = web.Application()
    app.cleanup_ctx.append(on_aiohttp.pico_cleanup_ctx(make))
    on_aiohttp.handle_errors(app)
    receive = on_aiohttp.receipts_handler(SIGNER, on_receipt=told.append, journal=SqliteJournal(journal))
    app.router.add_route("*", "/pico/receipts", receive)

    async def code(request: web.Request) -> web.Response:
        accepted = await on_aiohttp.get_pico(request).sms.send(request.query["to"], TEXT)
        return web.json_response({"request_id": accepted.request_id})

    app.router.add_post("/codes", code)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(params=[fastapi_app, starlette_app, aiohttp_app], ids=["fastapi", "starlette", "aiohttp"])
def app(request: pytest.FixtureRequest) -> App:
    made: App = request.param
    return made


def maker(sandbox: Sandbox, base_url: str, callback: str | None = None, **more: Any) -> Make:
    settings = {
        "username": sandbox.username,
        "api_key": sandbox.api_key,
        "sender": "PICO",
        "base_url": base_url,
        **more,
    }
    return lambda: PicoSession(callback=callback, callback_signer=SIGNER, **settings)


async def test_one_session_serves_the_app_for_its_life(app: App, tmp_path: Path) -> None:
    """All requests share one token; the session is closed with the app."""
    sandbox, made = Sandbox(rate_rule=None), []

    async with sandbox.serve() as pico_url:

        def make() -> PicoSession:
            made.append(maker(sandbox, pico_url)())
            return made[-1]

        async with app(make, [], tmp_path / "blast.db") as url, httpx.AsyncClient(base_url=url) as client:
            replies = [await client.post("/codes", params={"to": f"861234567890{last}"}) for last in range(5)]

    assert [reply.status_code for reply in replies] == [200] * 5
    assert len(made) == 1
    assert sandbox.ledger.token_requests == 1
    assert "closed" in repr(made[0])


@pytest.mark.parametrize(
    ("to", "fault", "status", "outcome", "again"),
    [
        ("not a number", None, 422, "not_sent", False),
        (NUMBER, "nobody listens", 503, "not_sent", True),
        (NUMBER, FaultRule(Fault.BAD_REQUEST), 502, "rejected", False),
        (NUMBER, FaultRule(Fault.RATE_LIMITED), 503, "rejected", True),
        (NUMBER, "another key", 500, "rejected", False),
        (NUMBER, FaultRule(Fault.ACCEPT_THEN_DROP), 504, "in_doubt", False),
    ],
    ids=["invalid", "not sent", "rejected", "too fast", "unauthorised", "in doubt"],
)
async def test_an_error_is_a_problem_that_gives_nothing_away(
    app: App,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    to: str,
    fault: FaultRule | str | None,
    status: int,
    outcome: str,
    again: bool,
) -> None:
    """It says what became of the message, and neither the number, the text, the key nor Pico's words. No log does."""
    caplog.set_level(logging.INFO, "pico_async")
    sandbox = Sandbox(rate_rule=None, faults=[fault] if isinstance(fault, FaultRule) else [])

    async with sandbox.serve() as pico_url:
        api_key = "another-key" if fault == "another key" else sandbox.api_key
        where = "http://127.0.0.1:9" if fault == "nobody listens" else pico_url
        make = maker(sandbox, where, retries=0, api_key=api_key)
        async with app(make, [], tmp_path / "blast.db") as url, httpx.AsyncClient(base_url=url) as client:
            reply = await client.post("/codes", params={"to": to})

    told = reply.json()
    assert (reply.status_code, told["status"]) == (status, status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert (told["outcome"], told["may_send_again"]) == (outcome, again)
    assert ("retry-after" in reply.headers) == (status == 503)
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("pico_async")]
    assert len(logged) == 1
    for secret in (NUMBER, "735914", api_key, "not a number", "Bearer", pico_url):
        assert secret not in reply.text
        assert secret == pico_url or secret not in logged[0]


async def test_a_receipt_settles_what_was_in_doubt(app: App, tmp_path: Path) -> None:
    """Accepted, then cut off: the blast cannot know, the receipt does; and it is told once."""
    sandbox = Sandbox(rate_rule=None, faults=[FaultRule(Fault.ACCEPT_THEN_DROP)])
    told: list[DeliveryReceipt] = []
    journal = tmp_path / "blast.db"

    async with sandbox.serve() as pico_url, app(maker(sandbox, pico_url), told, journal) as url:
        async with maker(sandbox, pico_url, f"{url}/pico/receipts")() as pico:
            report = await pico.send_bulk([SmsMessage(to=NUMBER, text=TEXT, key="order-17")], journal=journal)
        before = await SqliteJournal(journal).in_doubt()
        callback = sandbox.ledger.accepted[0].callback
        assert callback is not None
        async with httpx.AsyncClient() as client:
            form = {"status": "DELIVRD", "to": NUMBER}
            replies = [
                await client.post(callback, data=form),
                await client.post(callback, json=form),
                await client.get(f"{callback}&status=DELIVRD"),
                await client.post(callback, json={"status": "FAILED"}),
                await client.post(callback.replace("pico=", "pico=A"), json=form),
                await client.post(callback.partition("?")[0], json=form),
                await client.post(callback, content=b"x" * 70_000),
                await client.delete(callback),
            ]

    assert report.in_doubt == 1
    assert [record.position for record in before] == [0]
    assert await SqliteJournal(journal).in_doubt() == []
    assert [reply.status_code for reply in replies] == [200, 200, 200, 409, 403, 403, 413, 405]
    assert set(replies[-1].headers["allow"].split(", ")) >= {"GET", "POST", "PUT"}
    assert [(receipt.key, receipt.extra) for receipt in told] == [("order-17", {"to": NUMBER})]


async def test_a_proxy_may_change_the_path(tmp_path: Path) -> None:
    """Then the app says what the outside sees; uvicorn's root_path needs no word."""
    told: list[DeliveryReceipt] = []
    stripped = FastAPI()
    stripped.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=told.append, public_path="/api/receipts"))
    rooted = FastAPI()
    rooted.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=told.append))

    for app, options in ((stripped, {}), (rooted, {"root_path": "/api"})):
        async with serving(app, **options) as url, httpx.AsyncClient() as client:
            signed = SIGNER.sign(f"{url}/api/receipts", "order-17")
            reply = await client.post(signed.replace("/api/", "/"), json={"status": "SENT"})
            assert reply.json() == {"receipt": "taken"}

    assert len(told) == 2


@pytest.mark.parametrize("where", ["app", "router"])
async def test_what_a_fastapi_app_depends_on_is_asked_for_receipts_too(where: str) -> None:
    """A guard of the app's own must not be left out without a word."""

    def guard(knock: Annotated[str, Header()]) -> None:
        if knock != "let me in":
            raise HTTPException(401)

    told: list[DeliveryReceipt] = []
    guards = [Depends(guard)]
    app = FastAPI(dependencies=guards if where == "app" else None)
    router = on_fastapi.receipts_router(SIGNER, on_receipt=told.append)
    app.include_router(router, dependencies=guards if where == "router" else None)

    async with serving(app) as url, httpx.AsyncClient() as client:
        signed = SIGNER.sign(f"{url}/receipts", "order-17")
        replies = [
            await client.post(signed, json={"status": "SENT"}, headers={"knock": knock}) for knock in ("", "let me in")
        ]

    assert [reply.status_code for reply in replies] == [401, 200]
    assert len(told) == 1
    assert "/receipts" not in app.openapi()["paths"]


async def test_what_an_app_lacks_is_told_with_what_to_do() -> None:
    """No session was opened: the error names the way to open one."""
    app = FastAPI()
    on_fastapi.handle_errors(app)
    errors: list[Exception] = []

    @app.get("/")
    async def root(request: Request) -> None:
        try:
            on_fastapi.get_pico(request)
        except ConfigurationError as error:
            errors.append(error)
            raise

    async with serving(app) as url, httpx.AsyncClient() as client:
        reply = await client.get(url)

    assert reply.status_code == 500
    assert "pico_lifespan" in str(errors[0])
    assert "pico_lifespan" not in reply.text


@pytest.mark.parametrize("path", ["/stream", "/socket"])
async def test_an_error_within_an_answer_of_aiohttps_writes_no_second_one(path: str) -> None:
    """It would stand in the middle of the stream, or of the websocket's frames: the connection is closed."""

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
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    await runner.cleanup()

    assert answer.count(b"HTTP/1.1") == 1
    assert b"problem" not in answer


@pytest.mark.parametrize("does", ["", "refuses", "closed", "left"])
async def test_an_error_within_a_websocket_closes_it(caplog: pytest.LogCaptureFixture, does: str) -> None:
    """Whoever closed it before, and also where it was not yet accepted; the server has no mistake to log."""
    app, ended = FastAPI(), asyncio.Event()
    on_fastapi.handle_errors(app)

    @app.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        try:
            if does != "refuses":
                await websocket.accept()
            if does == "closed":
                await websocket.close()
            if does == "left":
                await websocket.receive()
        finally:
            ended.set()
        raise ServerError("Pico failed.")

    async with serving(app) as url, aiohttp.ClientSession() as client:
        with suppress(aiohttp.WSServerHandshakeError):
            async with client.ws_connect(f"{url}/chat") as chatting:
                if does == "":
                    told = await chatting.receive()
                    assert (told.data, told.extra) == (1011, "The message may have been sent")
        async with asyncio.timeout(20):
            await ended.wait()

    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["pico_async.problems"]


async def test_the_session_reaches_mounted_apps_websockets_and_lifespans_of_ones_own() -> None:
    """It is opened once, by the app that runs."""
    sandbox, seen = Sandbox(rate_rule=None), []

    def make() -> PicoSession:
        return PicoSession(username="user333", api_key=sandbox.api_key, sender="PICO", transport=sandbox.transport())

    inner = FastAPI()

    @inner.post("/codes")
    async def code(to: str, pico: PicoDep) -> None:
        await pico.sms.send(to, TEXT)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with on_fastapi.open_pico(app, make) as pico:
            yield {"pico": pico}

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/inner", inner)

    @outer.websocket("/chat")
    async def chat(websocket: WebSocket, pico: PicoDep) -> None:
        seen.append(pico)
        await websocket.accept()
        await websocket.close()

    async with serving(outer) as url, aiohttp.ClientSession() as client:
        async with client.post(f"{url}/inner/codes", params={"to": NUMBER}) as reply:
            status = reply.status
        async with client.ws_connect(f"{url}/chat") as chatting:
            await chatting.receive()

    assert status == 200
    assert len(sandbox.ledger.sent_to(NUMBER)) == 1
    assert isinstance(seen[0], PicoSession)


async def test_an_aiohttp_app_within_an_app_has_its_session() -> None:
    """That of the outermost which opened one; and where none did, the error says how."""
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
            async with httpx.AsyncClient() as client:
                url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
                reply = await client.request(ask, url, params={"to": NUMBER})
            await runner.cleanup()

    assert len(sandbox.ledger.sent_to(NUMBER)) == 1
    assert "pico_cleanup_ctx" in reply.text
