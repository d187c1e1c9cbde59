"""The sandbox tests share a clock that moves only by hand, clients with a token, and an SMS body."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from pico_async.sandbox import Receipts, Sandbox
from tests.support.waiting import PATIENCE_S


class FakeClock:
    """A clock that moves only when a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[httpx.AsyncClient]]]:
    """Yield a function that opens a client to a sandbox, by default in-process and with a token."""
    async with AsyncExitStack() as stack:

        async def open_client(
            sandbox: Sandbox, base_url: str | None = None, *, token: bool = True, timeout: float = PATIENCE_S
        ) -> httpx.AsyncClient:
            options: dict[str, Any] = {"base_url": base_url or "https://rest.picotw.com", "timeout": timeout}
            if base_url is None:
                options["transport"] = sandbox.transport()
            client = await stack.enter_async_context(
                httpx.AsyncClient(headers={"X-API-Key": sandbox.api_key}, trust_env=False, verify=False, **options)
            )
            if token:
                reply = await client.get(f"/token/{sandbox.username}")
                client.headers["Authorization"] = f"Bearer {reply.json()['token']}"
            return client

        yield open_client


@pytest.fixture
async def served() -> AsyncIterator[tuple[Sandbox, httpx.AsyncClient]]:
    """Yield a sandbox on a socket and a client that has a token."""
    sandbox = Sandbox(rates={}, receipts=Receipts(timeout_s=PATIENCE_S))
    async with (
        sandbox.serve() as base_url,
        httpx.AsyncClient(base_url=base_url, trust_env=False, verify=False, timeout=PATIENCE_S) as client,
    ):
        token = (await client.get("/token/user333", headers={"X-API-Key": sandbox.api_key})).json()["token"]
        client.headers.update({"X-API-Key": sandbox.api_key, "Authorization": f"Bearer {token}"})
        yield sandbox, client


@pytest.fixture
def sms() -> Callable[..., dict[str, Any]]:
    """Return a function that makes the SMS body of the reference, with changes; None removes a field."""

    def make(**changes: Any) -> dict[str, Any]:
        body = {
            "username": "user333",
            "from": "8612345678888",
            "to": "8612345678901",
            "text": "Your verification code is 1234",
            **changes,
        }
        return {name: value for name, value in body.items() if value is not None}

    return make


@pytest.fixture
async def campaign_id(connect, unlimited) -> str:
    pico = await connect(unlimited)
    reply = await pico.post("/campaign", json={"username": "user333", "name": "Campaign"})
    return reply.json()["request_id"]


@pytest.fixture
def unlimited() -> Sandbox:
    return Sandbox(rate_rule=None)
