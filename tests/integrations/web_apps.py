"""The tests of the web apps share this server and this factory of sessions."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, TypeAlias

import httpx
import uvicorn

from pico_async import CallbackSigner, PicoSession
from pico_async.sandbox import Sandbox
from tests.support.waiting import PATIENCE_S

NUMBER = "8612345670042"
TEXT = "Your code is 735914"
SECRET = "a-secret-of-32-characters-or-so-"
SIGNER = CallbackSigner([SECRET])

Make: TypeAlias = Callable[[], PicoSession]


class Server(uvicorn.Server):
    """A server that ends as soon as it gets the signal; uvicorn's own checks for it ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.ended.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.ended.set()


def client_of(url: str = "") -> httpx.AsyncClient:
    """Make a client of a server without TLS: to load the CA certificates takes longer than most of its requests."""
    return httpx.AsyncClient(base_url=url, verify=False, timeout=PATIENCE_S)


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Run uvicorn on a free port, with the app's lifespan, and wait until uvicorn has ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="on", **options)
        server = Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.ended.set()


def maker(sandbox: Sandbox, base_url: str, callback: str | None = None, **more: Any) -> Make:
    settings = {
        "username": sandbox.username,
        "api_key": sandbox.api_key,
        "sender": "PICO",
        "base_url": base_url,
        "timeout": PATIENCE_S,
        **more,
    }
    return lambda: PicoSession(callback=callback, callback_signer=SIGNER, **settings)
