"""
The layers of one message over the fast transport, each alone: the difference between `pico fast` and raw aiohttp.

    python -m benchmarks.layers http://127.0.0.1:8080 transport --concurrency 64

As in `clients.py`, a process measures one layer. `transport` and `session` are the two halves of the whole; `frame`,
`building` and `judging` are parts of `session`. Only `transport` sends anything: the others use a transport that
answers at once. They call the engine's internals, so they change with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from benchmarks.clients import (
    API_KEY,
    BODY,
    HEADERS,
    PATIENCE_S,
    SENDER,
    TEXT,
    TO,
    USERNAME,
    Client,
    Run,
    by_workers,
    command,
    pico,
)

ACCEPTED = b'{"request_id": "lean-0123456789", "token": "lean-0123456789"}'


def outgoing() -> Any:
    """Return the request that all send."""
    from pico_async._engine.http.exchange import HttpRequest
    from pico_async._engine.wire import encode

    headers = {**HEADERS, "Content-Type": "application/json; charset=utf-8"}
    return HttpRequest("POST", "/sms", {}, headers, encode(BODY))


def at_once() -> Any:
    """Return an HTTP transport that answers at once and sends nothing."""
    from pico_async._engine.http.exchange import HttpTransport
    from pico_async._engine.wire import Reply

    class AtOnce(HttpTransport):
        def bind(self, base_url: str, connect_s: float, timeout_s: float) -> None:
            pass

        async def send(self, request: Any, departure: Any) -> Reply:
            await departure.leave(held_up=False)
            return Reply(200, ACCEPTED)

        def failure(self, error: Exception, *, written: bool) -> Any:
            raise error

        async def aclose(self) -> None:
            pass

    return AtOnce()


def departure() -> Any:
    """Return a departure with a slot of a limiter without a rate."""
    from pico_async._engine.endpoints import SEND_SMS, Request
    from pico_async._engine.http.exchange import Departure
    from pico_async._engine.progress import CallProgress
    from pico_async.coordination.local.limiter import LocalLimiter, LocalSlot

    slot = LocalSlot(LocalLimiter(None), float("inf"), None)
    return Departure(Request(SEND_SMS, "/sms"), slot, CallProgress())


@asynccontextmanager
async def transport(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run HTTP alone: one request, the bytes of its reply. The departure, about 2 µs, is in `frame`, too."""
    from pico_async import AiohttpTransport

    fast, request = AiohttpTransport(), outgoing()
    fast.bind(base_url, PATIENCE_S, PATIENCE_S)
    try:

        async def send() -> None:
            reply = await fast.send(request, departure())
            assert reply.status == 200

        yield by_workers(send, concurrency)
    finally:
        await fast.aclose()


@asynccontextmanager
async def frame(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run the HTTP client around a transport: a connection's permit, the timeout, the departure."""
    from pico_async._engine.http.exchange import HttpClient

    client, request = HttpClient(base_url, PATIENCE_S, at_once()), outgoing()

    async def send() -> None:
        await client.connections.acquire(0)
        try:
            reply: Any = await client.exchange(request, departure())
        finally:
            client.connections.release()
        assert reply.status == 200

    yield by_workers(send, concurrency)


@asynccontextmanager
async def session(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run a single send without its transport."""
    async with pico(base_url, concurrency, transport=at_once()) as run:
        yield run


def repeated(once: Callable[[], object]) -> Run:
    """Return the run that calls a function so many times, without waiting."""

    async def run(messages: int) -> None:
        for _ in range(messages):
            once()

    return run


@asynccontextmanager
async def building(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run the step from the arguments to the bytes of the body."""
    from pico_async import SmsMessage
    from pico_async._engine.wire import Account, encode, send_request

    account = Account(USERNAME, SENDER)
    yield repeated(lambda: encode(send_request(SmsMessage(to=TO, text=TEXT), account).body or {}))


@asynccontextmanager
async def judging(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run the step from the bytes of the reply to the value."""
    from pico_async import SmsMessage
    from pico_async._engine.verdict import judge
    from pico_async._engine.wire import Account, Reply, decode, send_request
    from pico_async.models import Accepted

    request = send_request(SmsMessage(to=TO, text=TEXT), Account(USERNAME, SENDER))
    reply = Reply(200, ACCEPTED)

    def judge_and_decode() -> Accepted:
        verdict: Any = judge(request, reply, secrets=[API_KEY])
        return decode(verdict.payload, Accepted)

    yield repeated(judge_and_decode)


class Layer(NamedTuple):
    """
    One layer.

    Attributes:
        what: Its work, for the table.
        sends: Whether its messages reach the server.
    """

    client: Client
    what: str
    sends: bool = False


LAYERS = {
    "transport": Layer(transport, "HTTP by `AiohttpTransport`: one request, the bytes of its reply", sends=True),
    "session": Layer(session, "a single send without its transport; contains the following three"),
    "frame": Layer(frame, "a connection's permit, the timeout, the departure"),
    "building": Layer(building, "checking and making the message, encoding it"),
    "judging": Layer(judging, "parsing and judging the reply, making the value"),
}

if __name__ == "__main__":
    command({name: layer.client for name, layer in LAYERS.items()}, __doc__)
