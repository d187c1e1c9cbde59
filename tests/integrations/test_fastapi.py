"""
The FastAPI and Starlette integrations work with proxies, access checks, websockets, mounted apps and custom lifespans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request

import pico_async.integrations.fastapi as on_fastapi
from pico_async import ConfigurationError, DeliveryReceipt, PicoSession, ServerError
from pico_async.integrations.fastapi import PicoDep
from pico_async.sandbox import Sandbox
from tests.integrations.web_apps import NUMBER, SIGNER, TEXT, client_of, serving

pytestmark = pytest.mark.lower_bounds


async def test_a_proxy_may_change_the_path(tmp_path: Path) -> None:
    """
    Behind a proxy that changes the path, the app passes `public_path`; with uvicorn's `root_path` it needs no setting.
    """
    received: list[DeliveryReceipt] = []
    stripped = FastAPI()
    stripped.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=received.append, public_path="/api/receipts"))
    rooted = FastAPI()
    rooted.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=received.append))

    for app, options in ((stripped, {}), (rooted, {"root_path": "/api"})):
        async with serving(app, **options) as url, client_of() as client:
            signed = SIGNER.sign(f"{url}/api/receipts", "order-17")
            reply = await client.post(signed.replace("/api/", "/"), json={"status": "SENT"})
            assert reply.json() == {"receipt": "handled"}

    assert len(received) == 2


@pytest.mark.parametrize("where", ["app", "router"])
async def test_what_a_fastapi_app_depends_on_is_asked_for_receipts_too(where: str) -> None:
    """An access check that the app or the router depends on also applies to receipts."""

    def guard(knock: Annotated[str, Header()]) -> None:
        if knock != "let me in":
            raise HTTPException(401)

    received: list[DeliveryReceipt] = []
    guards = [Depends(guard)]
    app = FastAPI(dependencies=guards if where == "app" else None)
    router = on_fastapi.receipts_router(SIGNER, on_receipt=received.append)
    app.include_router(router, dependencies=guards if where == "router" else None)

    async with serving(app) as url, client_of() as client:
        signed = SIGNER.sign(f"{url}/receipts", "order-17")
        replies = [
            await client.post(signed, json={"status": "SENT"}, headers={"knock": knock}) for knock in ("", "let me in")
        ]

    assert [reply.status_code for reply in replies] == [401, 200]
    assert len(received) == 1
    assert "/receipts" not in app.openapi()["paths"]


async def test_an_app_without_a_session_is_an_error_that_says_what_to_do() -> None:
    """When no session was opened, the error names `pico_lifespan`, and the reply to the client does not."""
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

    async with serving(app) as url, client_of() as client:
        reply = await client.get(url)

    assert reply.status_code == 500
    assert "pico_lifespan" in str(errors[0])
    assert "pico_lifespan" not in reply.text


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("", [1011, "The message may have been sent"]),
        ("refuses", [403]),
        ("closed", [1000, ""]),
        ("left", []),
    ],
)
async def test_an_error_within_a_websocket_closes_it(
    caplog: pytest.LogCaptureFixture, does: str, expected: list[object]
) -> None:
    """
    An error in a websocket handler closes an open websocket with the error's title.

    A websocket that was not accepted is refused, and one that is closed stays as it is. Only the package logs it.
    """
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

    seen: list[object] = []
    async with serving(app) as url, aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(f"{url}/chat") as chatting:
                if does != "left":
                    closed = await chatting.receive()
                    seen += [closed.data, closed.extra]
        except aiohttp.WSServerHandshakeError as refused:
            seen.append(refused.status)
        await ended.wait()

    assert seen == expected
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["pico_async.problems"]


async def test_the_session_reaches_mounted_apps_websockets_and_lifespans_of_ones_own() -> None:
    """The outer app opens one session in its own lifespan; mounted apps and websockets use this session."""
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
