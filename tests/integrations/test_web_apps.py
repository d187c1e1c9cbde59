"""The integrations of FastAPI, Starlette and aiohttp behave alike, with real servers and real sockets."""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import pico_async.integrations.aiohttp as on_aiohttp
import pico_async.integrations.fastapi as on_fastapi
import pico_async.integrations.starlette as on_starlette
from pico_async import DeliveryReceipt, PicoSession, SmsMessage, SqliteJournal
from pico_async.integrations.fastapi import PicoDep
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.integrations.web_apps import NUMBER, SIGNER, TEXT, Make, client_of, maker, serving

pytestmark = pytest.mark.lower_bounds

App: TypeAlias = Callable[[Make, list[DeliveryReceipt], Path], AbstractAsyncContextManager[str]]


def fastapi_app(make: Make, received: list[DeliveryReceipt], journal: Path) -> AbstractAsyncContextManager[str]:
    app = FastAPI(lifespan=on_fastapi.pico_lifespan(make))
    on_fastapi.handle_errors(app)
    app.include_router(
        on_fastapi.receipts_router(SIGNER, on_receipt=received.append, journal=SqliteJournal(journal)), prefix="/pico"
    )

    @app.post("/codes")
    async def code(to: str, pico: PicoDep) -> dict[str, str | None]:
        return {"request_id": (await pico.sms.send(to, TEXT)).request_id}

    return serving(app)


def starlette_app(make: Make, received: list[DeliveryReceipt], journal: Path) -> AbstractAsyncContextManager[str]:
    async def code(request: Request) -> Response:
        accepted = await on_starlette.get_pico(request).sms.send(request.query_params["to"], TEXT)
        return JSONResponse({"request_id": accepted.request_id})

    receipts = on_starlette.receipts_route(SIGNER, on_receipt=received.append, journal=SqliteJournal(journal))
    routes = [Route("/codes", code, methods=["POST"]), Mount("/pico", routes=[receipts])]
    app = Starlette(routes=routes, lifespan=on_starlette.pico_lifespan(make))
    on_starlette.handle_errors(app)
    return serving(app)


@asynccontextmanager
async def aiohttp_app(make: Make, received: list[DeliveryReceipt], journal: Path) -> AsyncIterator[str]:
    app = web.Application()
    app.cleanup_ctx.append(on_aiohttp.pico_cleanup_ctx(make))
    on_aiohttp.handle_errors(app)
    receive = on_aiohttp.receipts_handler(SIGNER, on_receipt=received.append, journal=SqliteJournal(journal))
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


async def test_one_session_serves_the_app_for_its_life(app: App, tmp_path: Path) -> None:
    """All requests of an app share one session and one token, and the session is closed with the app."""
    sandbox, made = Sandbox(rate_rule=None), []

    async with sandbox.serve() as pico_url:

        def make() -> PicoSession:
            made.append(maker(sandbox, pico_url)())
            return made[-1]

        async with app(make, [], tmp_path / "blast.db") as url, client_of(url) as client:
            replies = [await client.post("/codes", params={"to": f"861234567890{last}"}) for last in range(5)]

    assert [reply.status_code for reply in replies] == [200] * 5
    assert len(made) == 1
    assert sandbox.ledger.token_requests == 1
    assert "closed" in repr(made[0])


@pytest.mark.parametrize(
    ("to", "fault", "status", "outcome", "again"),
    [
        ("not a number", None, 422, "not_sent", False),
        (NUMBER, "no listener", 503, "not_sent", True),
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
    """
    The reply for an error shows the outcome of the message. Neither the reply nor the log shows the number, the text or
    the key.
    """
    caplog.set_level(logging.INFO, "pico_async")
    sandbox = Sandbox(rate_rule=None, faults=[fault] if isinstance(fault, FaultRule) else [])

    async with sandbox.serve() as pico_url:
        api_key = "another-key" if fault == "another key" else sandbox.api_key
        where = "http://127.0.0.1:9" if fault == "no listener" else pico_url
        make = maker(sandbox, where, retries=0, api_key=api_key)
        async with app(make, [], tmp_path / "blast.db") as url, client_of(url) as client:
            reply = await client.post("/codes", params={"to": to})

    received = reply.json()
    assert (reply.status_code, received["status"]) == (status, status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert (received["outcome"], received["may_send_again"]) == (outcome, again)
    assert ("retry-after" in reply.headers) == (status == 503)
    assert [record.name for record in caplog.records].count("pico_async.problems") == 1
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("pico_async"))
    for secret in (NUMBER, "735914", api_key, "not a number", "Bearer", pico_url):
        assert secret not in reply.text
        assert secret == pico_url or secret not in logged


async def test_a_receipt_settles_what_was_in_doubt(app: App, tmp_path: Path) -> None:
    """
    A message that was accepted before the connection was lost is in doubt. Its receipt settles the message and calls
    `on_receipt` once.
    """
    sandbox = Sandbox(rate_rule=None, faults=[FaultRule(Fault.ACCEPT_THEN_DROP)])
    received: list[DeliveryReceipt] = []
    journal = tmp_path / "blast.db"

    async with sandbox.serve() as pico_url, app(maker(sandbox, pico_url), received, journal) as url:
        async with maker(sandbox, pico_url, f"{url}/pico/receipts")() as pico:
            report = await pico.send_bulk([SmsMessage(to=NUMBER, text=TEXT, key="order-17")], journal=journal)
        before = await SqliteJournal(journal).in_doubt()
        callback = sandbox.ledger.accepted[0].callback
        assert callback is not None
        async with client_of() as client:
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
    assert [record.index for record in before] == [0]
    assert await SqliteJournal(journal).in_doubt() == []
    assert [reply.status_code for reply in replies] == [200, 200, 200, 409, 403, 403, 413, 405]
    assert set(replies[-1].headers["allow"].split(", ")) >= {"GET", "POST", "PUT"}
    assert [(receipt.key, receipt.extra) for receipt in received] == [("order-17", {"to": NUMBER})]


# --- the path that was signed ---------------------------------------------------------------------


def receipts_of(received: list[DeliveryReceipt]) -> Route:
    return on_starlette.receipts_route(SIGNER, on_receipt=received.append)


def fastapi_with_root_path(received: list[DeliveryReceipt]) -> FastAPI:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newest FastAPI would rather have the server know it
        app = FastAPI(root_path="/api")
    app.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=received.append))
    return app


def mounted(received: list[DeliveryReceipt]) -> Starlette:
    return Starlette(routes=[Mount("/hooks", app=Starlette(routes=[Mount("/pico", routes=[receipts_of(received)])]))])


def fastapi_in_fastapi(received: list[DeliveryReceipt]) -> FastAPI:
    inner, outer = FastAPI(), FastAPI()
    inner.include_router(on_fastapi.receipts_router(SIGNER, on_receipt=received.append), prefix="/v1")
    outer.mount("/hooks", inner)
    return outer


@pytest.mark.parametrize(
    ("make", "options", "signed", "asked"),
    [
        (fastapi_with_root_path, {}, "/api/receipts", "/receipts"),
        (fastapi_with_root_path, {}, "/api/receipts", "/api/receipts"),
        (mounted, {}, "/hooks/pico/receipts", "/hooks/pico/receipts"),
        (mounted, {"root_path": "/api"}, "/api/hooks/pico/receipts", "/hooks/pico/receipts"),
        (fastapi_in_fastapi, {}, "/hooks/v1/receipts", "/hooks/v1/receipts"),
        (fastapi_in_fastapi, {"root_path": "/api"}, "/api/hooks/v1/receipts", "/hooks/v1/receipts"),
    ],
    ids=[
        "root_path of the app, cut off by the proxy",
        "root_path of the app, left by the proxy",
        "mounted twice",
        "mounted, and root_path of the server",
        "an app in an app",
        "an app in an app, and root_path of the server",
    ],
)
async def test_the_path_is_that_which_the_proxy_in_front_got(
    make: Callable[[list[DeliveryReceipt]], Starlette], options: dict[str, str], signed: str, asked: str
) -> None:
    """A URL signed for its public path is valid, whatever is mounted and whatever prefix is removed."""
    received: list[DeliveryReceipt] = []
    query = SIGNER.sign(f"https://shop.example{signed}", "order-17").partition("?")[2]

    async with serving(make(received), **options) as url, client_of(url) as client:
        reply = await client.post(f"{asked}?{query}", json={"status": "DELIVRD"})
        forged = await client.post(f"{asked}?{query}x", json={"status": "DELIVRD"})

    assert (reply.status_code, forged.status_code) == (200, 403)
    assert [receipt.key for receipt in received] == ["order-17"]


@asynccontextmanager
async def serving_aiohttp(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_aiohttp_app_within_another_takes_the_whole_path() -> None:
    """A handler in an app within two others takes a URL that is signed for the whole path."""
    received: list[DeliveryReceipt] = []
    inner, middle, outer = web.Application(), web.Application(), web.Application()
    inner.router.add_route("*", "/receipts", on_aiohttp.receipts_handler(SIGNER, on_receipt=received.append))
    middle.add_subapp("/pico", inner)
    outer.add_subapp("/hooks", middle)

    async with serving_aiohttp(outer) as url, client_of(url) as client:
        reply = await client.post(SIGNER.sign(f"{url}/hooks/pico/receipts", "order-17"), json={"status": "DELIVRD"})

    assert reply.status_code == 200
    assert [receipt.key for receipt in received] == ["order-17"]


@pytest.mark.parametrize("framework", ["starlette", "aiohttp"])
async def test_a_proxy_that_cuts_off_a_prefix_is_allowed_for_by_public_path(framework: str) -> None:
    """With `public_path`, a URL is valid although a proxy removes a prefix of its path."""
    received: list[DeliveryReceipt] = []
    app = web.Application()
    handler = on_aiohttp.receipts_handler(SIGNER, on_receipt=received.append, public_path="/api/receipts")
    app.router.add_route("*", "/receipts", handler)
    route = on_starlette.receipts_route(SIGNER, on_receipt=received.append, public_path="/api/receipts")
    served = serving(Starlette(routes=[route])) if framework == "starlette" else serving_aiohttp(app)
    query = SIGNER.sign("https://shop.example/api/receipts", "order-17").partition("?")[2]

    async with served as url, client_of(url) as client:
        reply = await client.post(f"/receipts?{query}", json={"status": "DELIVRD"})

    assert reply.status_code == 200
    assert [receipt.key for receipt in received] == ["order-17"]


# --- the form of a receipt ------------------------------------------------------------------------

RECEIPT = '{"status": "undelivered", "reason": "功能"}'


REQUESTS: dict[str, dict[str, Any]] = {
    "Big5": {"content": RECEIPT.encode("big5"), "headers": {"content-type": "application/json"}},
    "GBK": {"content": RECEIPT.encode("gbk")},
    "UTF-16": {"content": RECEIPT.encode("utf-16")},
    "wrapped": {"json": {"code": 0, "data": [{"status": "undelivered", "reason": "功能"}]}},
    "a form": {"data": {"status": "undelivered", "reason": "功能"}},
    "a form in parts": {"files": {"status": (None, "undelivered"), "reason": (None, "功能")}},
    "a form with brackets": {"data": {"data[status]": "undelivered", "data[reason]": "功能"}},
    "gzip": {"content": gzip.compress(RECEIPT.encode()), "headers": {"content-encoding": "gzip"}},
    "deflate": {"content": zlib.compress(RECEIPT.encode()), "headers": {"content-encoding": "deflate"}},
    "gzip without a word": {"content": gzip.compress(RECEIPT.encode())},
    "XML": {"content": "<r><status>undelivered</status><reason>功能</reason></r>".encode()},
}


async def test_a_receipt_is_read_in_any_form(app: App, tmp_path: Path) -> None:
    """A receipt is read in JSON, XML, a form and in parts, packed or not, and in each charset of the region."""
    received: list[DeliveryReceipt] = []
    sandbox = Sandbox()

    async with (
        app(maker(sandbox, "http://127.0.0.1:9"), received, tmp_path / "blast.db") as url,
        client_of(url) as client,
    ):
        replies = {
            form: await client.post(SIGNER.sign(f"{url}/pico/receipts", form), **request)
            for form, request in REQUESTS.items()
        }

    assert {form: reply.status_code for form, reply in replies.items()} == dict.fromkeys(REQUESTS, 200)
    read = {receipt.key: (receipt.status, (receipt.error or "")[:2]) for receipt in received}
    assert read == dict.fromkeys(REQUESTS, ("undelivered", "功能"))
    assert len(received) == len(REQUESTS)
