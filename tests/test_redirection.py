"""`pico_sandbox.install()` sends the sessions of an app to the sandbox, however a test client runs the app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient as AiohttpClient, TestServer
from fastapi import FastAPI
from starlette.testclient import TestClient

from pico_async import Accepted, ConfigurationError, PicoSession, Rates, SmsMessage
from pico_async._engine import live
from pico_async.integrations import aiohttp as on_aiohttp
from pico_async.integrations.fastapi import PicoDep, open_pico, pico_lifespan
from pico_async.sandbox import Sandbox
from pico_async.testing import PicoSandbox
from tests.support.waiting import wait_until

TO = "8612345678901"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[PicoSandbox]:
    """Install a sandbox, in an environment with another host and without credentials."""
    for name in ("PICO_USERNAME", "PICO_API_KEY", "PICO_SENDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PICO_BASE_URL", "http://127.0.0.1:1")  # a sandbox that was left running, perhaps
    with PicoSandbox() as sandbox:
        sandbox.install()
        yield sandbox


def fastapi_app() -> FastAPI:
    app = FastAPI(lifespan=pico_lifespan())

    @app.post("/codes")
    async def code(to: str, pico: PicoDep) -> Accepted:
        return await pico.sms.send(to, "Your code is 4711")

    return app


def test_a_client_that_runs_the_lifespan(installed: PicoSandbox) -> None:
    """The session that a lifespan opens uses the sandbox, in the event loop of Starlette's test client."""
    with TestClient(fastapi_app()) as client:
        replies = [client.post("/codes", params={"to": TO}) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [200] * 3
    assert installed.otp_for(TO) == "4711"
    assert installed.ledger.token_requests == 1


def test_a_client_that_runs_no_lifespan(installed: PicoSandbox) -> None:
    """Without the lifespan, the app has a session all the same, although each request has an event loop of its own."""
    client = TestClient(fastapi_app())

    replies = [client.post("/codes", params={"to": TO}) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [200] * 3
    assert len(installed.sent_to(TO)) == 3


async def test_a_client_of_httpx(installed: PicoSandbox) -> None:
    """httpx's ASGI transport, which runs no lifespan, needs no more than the installed sandbox."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(fastapi_app()), base_url="http://test") as client:
        reply = await client.post("/codes", params={"to": TO})

    assert reply.status_code == 200
    assert installed.otp_for(TO) == "4711"


async def test_a_client_of_aiohttp(installed: PicoSandbox) -> None:
    """An aiohttp app that is tested by aiohttp's client uses the sandbox."""

    async def code(request: web.Request) -> web.Response:
        accepted = await on_aiohttp.get_pico(request).sms.send(TO, "Your code is 4711")
        return web.json_response(accepted.to_dict())

    app = web.Application()
    app.cleanup_ctx.append(on_aiohttp.pico_cleanup_ctx())
    app.add_routes([web.post("/codes", code)])

    async with AiohttpClient(TestServer(app)) as client:
        reply = await client.post("/codes")

        assert reply.status == 200
    assert installed.otp_for(TO) == "4711"


def test_the_apps_settings_stay(installed: PicoSandbox) -> None:
    """A session keeps its sender, callback, suppression and listeners, and none of its credentials is used."""
    events: list[object] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        session = PicoSession(
            username="shop",
            api_key="a-real-key",
            sender="SHOP",
            callback="http://testserver/receipts",
            suppression={"886912345678"},
            rates=Rates(sms=0.001),
            on_event=events.append,
        )
        async with open_pico(app, lambda: session):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/news")
    async def news(pico: PicoDep) -> list[str]:
        report = await pico.send_bulk([SmsMessage(TO, "a"), SmsMessage(TO, "b"), SmsMessage("886912345678", "c")])
        return [str(report.accepted), str(report.suppressed)]

    with TestClient(app) as client:
        assert client.post("/news").json() == ["2", "1"]

    assert [(message.sender, message.callback) for message in installed.messages] == [
        ("SHOP", "http://testserver/receipts")
    ] * 2
    assert events


def test_a_session_of_the_module_follows_the_sandbox_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A session that lives as long as its module, made before any test, uses the sandbox of each test in turn. After the
    last one it would reach Pico again, which a test must not.
    """
    monkeypatch.setattr(live, "refusal", lambda: "It would send for real.")
    session = PicoSession(username="shop", api_key="a-real-key", sender="SHOP")
    assert session.sms is session.sms
    texts = []
    for text in ("one", "two"):
        with PicoSandbox() as sandbox:
            sandbox.install()
            for _ in range(2):
                asyncio.run(session.sms.send(TO, text))
            texts.append([message.text for message in sandbox.messages])

    assert texts == [["one", "one"], ["two", "two"]]
    with pytest.raises(ConfigurationError, match="for real"):
        asyncio.run(session.sms.send(TO, "three"))
    assert "_engine" not in vars(PicoSession)


def test_one_session_in_many_threads(installed: PicoSandbox) -> None:
    """One session serves several threads at once, each with an event loop of its own."""
    session = PicoSession()

    def send(number: int) -> str:
        return asyncio.run(session.sms.send(f"86123456789{number:02}", "hello")).request_id

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(send, range(40)))

    assert sorted(ids) == sorted(message.request_id for message in installed.messages)
    assert len(set(ids)) == 40


async def test_sessions_with_a_target_of_their_own_are_left_alone(installed: PicoSandbox) -> None:
    """A session with a transport for tests, or with a loopback host, goes where it is told."""
    other, served = Sandbox(), Sandbox()
    async with (
        served.serve() as base_url,
        PicoSession(username="user333", api_key=other.api_key, sender="P", transport=other.transport()) as one,
        PicoSession(username="user333", api_key=served.api_key, sender="P", base_url=base_url) as two,
        installed.session() as three,
    ):
        for session in (one, two, three):
            await session.sms.send(TO, "hello")

    assert [len(sandbox.ledger.accepted) for sandbox in (other, served, installed)] == [1, 1, 1]


def test_a_closed_session_stays_closed_in_another_loop(installed: PicoSandbox) -> None:
    """A session that was closed sends nothing in another event loop either."""
    session = PicoSession()

    async def use_and_close() -> None:
        async with session:
            await session.sms.send(TO, "hello")

    asyncio.run(use_and_close())

    with pytest.raises(ConfigurationError, match="closed"):
        asyncio.run(session.sms.send(TO, "hello"))


def test_two_sandboxes_the_latest_one_applies(installed: PicoSandbox) -> None:
    """The sandbox that was installed last applies until it is closed; then the one before applies again."""
    session = PicoSession()
    with PicoSandbox() as inner:
        inner.install()
        asyncio.run(session.sms.send(TO, "inner"))
    asyncio.run(session.sms.send(TO, "outer"))

    assert [message.text for message in inner.messages] == ["inner"]
    assert [message.text for message in installed.messages] == ["outer"]


def test_what_is_under_way_ends_with_the_sandbox() -> None:
    """A call that waits in another thread when the sandbox is closed ends, and the thread with it."""
    sandbox = PicoSandbox()
    sandbox.install()
    session = PicoSession()

    async def hang() -> str:
        try:
            await session.sms.send(TO, "hello")
        except Exception as error:  # noqa: BLE001
            return type(error).__name__
        return "sent"

    with ThreadPoolExecutor(1) as threads, sandbox.fault("hang-before-accept") as rule:
        hanging = threads.submit(asyncio.run, hang())
        wait_until(lambda: sandbox.ledger.token_requests)
        sandbox.close()

        assert hanging.result(timeout=30) in ("NoResponseError", "NotSentError")
    assert rule.matches("sms.send", TO) is False
