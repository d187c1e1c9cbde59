"""
The clients that are compared, with one interface, and what one message costs each.

    python -m benchmarks.clients http://127.0.0.1:8080 aiohttp --concurrency 64 --seconds 1

A process measures one client at one concurrency, and ends. So no client pays for what another has imported or left
behind. The packages of a client are imported only if it is chosen.

All have in common:

- each request has one message in its body;
- there is one shared session;
- as many workers as the concurrency says await one send after the other;
- no exchange comes near the timeout, because a repeated message would be counted twice.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from benchmarks.lean_pico import allow_many_connections

API_KEY = "key-0123456789"
USERNAME = "user333"
SENDER = "8612345678888"
TO = "8612345678901"
TEXT = "Your code is 1234"

# A raw client sends the same headers and body as pico_async.
HEADERS = {"X-API-Key": API_KEY, "Authorization": "Bearer lean-0123456789"}
BODY = {"username": USERNAME, "from": SENDER, "to": TO, "text": TEXT}

PATIENCE_S = 60.0

# The last batch of the warm-up determines how many messages are measured, so it must not be too short. The first batch
# opens connections and imports, so it counts only if a second one would take too long.
SHORTEST_BATCH_S = 0.25
LONGEST_BATCH_S = 1.5

# Sends so many messages at the concurrency that it was made for.
Run: TypeAlias = Callable[[int], Awaitable[None]]
Client: TypeAlias = Callable[[str, int], AbstractAsyncContextManager[Run]]


def by_workers(send: Callable[[], Awaitable[object]], concurrency: int) -> Run:
    """Return the run in which so many workers await one send after the other."""

    async def run(messages: int) -> None:
        left = iter(range(messages))

        async def work() -> None:
            for _ in left:
                await send()

        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work())

    return run


# --- raw clients: no token, no limiter, no verdict; they check the status and `request_id` alone


@asynccontextmanager
async def raw_httpx(base_url: str, concurrency: int, **options: Any) -> AsyncIterator[Run]:
    """Run httpx with its defaults: 100 connections, of which 20 are kept alive."""
    import httpx

    async with httpx.AsyncClient(headers=HEADERS, timeout=PATIENCE_S, **options) as client:

        async def send() -> None:
            answer = await client.post(f"{base_url}/sms", json=BODY)
            assert answer.status_code == 200
            assert answer.json()["request_id"]

        yield by_workers(send, concurrency)


def raw_httpx_raised(base_url: str, concurrency: int) -> AbstractAsyncContextManager[Run]:
    """Run httpx with a connection for each worker, all kept alive."""
    import httpx

    return raw_httpx(
        base_url,
        concurrency,
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
    )


@asynccontextmanager
async def raw_aiohttp(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run aiohttp with a connection for each worker."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector, timeout=timeout) as client:

        async def send() -> None:
            async with client.post(f"{base_url}/sms", json=BODY) as answer:
                assert answer.status == 200
                assert (await answer.json())["request_id"]

        yield by_workers(send, concurrency)


# --- peers, set up as in their documentation


@asynccontextmanager
async def twilio(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run Twilio's async client: one aiohttp session with its default connector, 100 connections kept alive."""
    from twilio.http.async_http_client import AsyncTwilioHttpClient
    from twilio.rest import Client as TwilioClient

    async with AsyncTwilioHttpClient(timeout=PATIENCE_S) as http_client:
        client = TwilioClient("AC0123456789", "token", http_client=http_client)
        client.api.base_url = base_url

        async def send() -> None:
            message = await client.messages.create_async(to=TO, from_=SENDER, body=TEXT)
            assert message.sid

        yield by_workers(send, concurrency)


@asynccontextmanager
async def telnyx(base_url: str, concurrency: int) -> AsyncIterator[Run]:
    """Run Telnyx's async client with its defaults: httpx with its own limits, a timeout of a minute, two retries."""
    from telnyx import AsyncTelnyx

    async with AsyncTelnyx(api_key=API_KEY, base_url=base_url) as client:

        async def send() -> None:
            answer = await client.messages.send(to=TO, from_=SENDER, text=TEXT)
            assert answer.data is not None
            assert answer.data.id

        yield by_workers(send, concurrency)


# --- pico_async: token, limiter, write-ahead hook, verdict and retries as always; only the rate is lifted


def pico_session(base_url: str, **options: Any) -> Any:
    """Make a session without a rate."""
    from pico_async import PicoSession, Rates

    return PicoSession(
        username=USERNAME,
        api_key=API_KEY,
        sender=SENDER,
        base_url=base_url,
        timeout=PATIENCE_S,
        rates=Rates(sms=None),
        **options,
    )


@asynccontextmanager
async def pico(base_url: str, concurrency: int, **options: Any) -> AsyncIterator[Run]:
    """Run single sends."""
    async with pico_session(base_url, **options) as session:

        async def send() -> None:
            accepted = await session.sms.send(to=TO, text=TEXT)
            assert accepted.request_id

        yield by_workers(send, concurrency)


@asynccontextmanager
async def pico_bulk(base_url: str, concurrency: int, **options: Any) -> AsyncIterator[Run]:
    """Run a bulk send, without a journal."""
    from pico_async import SmsMessage

    async with pico_session(base_url, **options) as session:

        async def run(messages: int) -> None:
            report = await session.send_bulk(
                (SmsMessage(to=TO, text=TEXT) for _ in range(messages)), concurrency=concurrency
            )
            assert report.accepted == messages, report

        yield run


def pico_fast(base_url: str, concurrency: int) -> AbstractAsyncContextManager[Run]:
    """Run single sends over aiohttp."""
    from pico_async import AiohttpTransport

    return pico(base_url, concurrency, transport=AiohttpTransport())


def pico_fast_bulk(base_url: str, concurrency: int) -> AbstractAsyncContextManager[Run]:
    """Run a bulk send over aiohttp."""
    from pico_async import AiohttpTransport

    return pico_bulk(base_url, concurrency, transport=AiohttpTransport())


CLIENTS: dict[str, Client] = {
    "httpx": raw_httpx,
    "httpx, limits raised": raw_httpx_raised,
    "aiohttp": raw_aiohttp,
    "twilio": twilio,
    "telnyx": telnyx,
    "pico": pico,
    "pico, bulk": pico_bulk,
    "pico fast": pico_fast,
    "pico fast, bulk": pico_fast_bulk,
}


# --- measuring


@dataclass(frozen=True)
class Cost:
    """
    The cost of some messages.

    Attributes:
        messages: How many were measured.
        warm_up: How many were sent before, unmeasured.
        cpu_s: Processor time of this process, for all of them.
        wall_s: Time by the clock, for all of them.
    """

    messages: int
    warm_up: int
    cpu_s: float
    wall_s: float


async def timed(run: Run, messages: int) -> tuple[float, float]:
    """Carry out a run, and return its seconds of processor time and by the clock."""
    gc.collect()
    began_cpu, began = time.process_time(), time.perf_counter()
    await run(messages)
    return time.process_time() - began_cpu, time.perf_counter() - began


async def measure(client: Client, base_url: str, concurrency: int, seconds: float) -> Cost:
    """
    Warm a client up, then measure as many messages as it sends in about so many seconds.

    However slow the client is, each worker sends at least eight messages, or two if eight would be over 2,000 in total.
    """
    # If all begin together, httpx with raised limits takes up to twice as long for the first hundreds of messages.
    least = max(2 * concurrency, min(8 * concurrency, 2000))
    async with client(base_url, concurrency) as run:
        batch = warm_up = max(concurrency, 100)
        _, took_s = await timed(run, batch)
        while (warm_up == batch and took_s < LONGEST_BATCH_S) or took_s < SHORTEST_BATCH_S:
            batch *= 2 if took_s < SHORTEST_BATCH_S else 1
            _, took_s = await timed(run, batch)
            warm_up += batch
        messages = max(least, round(seconds * batch / took_s))
        return Cost(messages, warm_up, *await timed(run, messages))


def run_in(loop: str, coroutine: Any) -> Any:
    """Run a coroutine in an event loop of that name."""
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


def command(clients: Mapping[str, Client], description: str | None) -> None:
    """Measure one of the clients, as the command line says, and print what it cost as JSON."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("client", choices=clients)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    chosen = parser.parse_args()
    allow_many_connections()
    cost = run_in(chosen.loop, measure(clients[chosen.client], chosen.base_url, chosen.concurrency, chosen.seconds))
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    command(CLIENTS, __doc__)
