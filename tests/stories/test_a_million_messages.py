"""This test checks that a stream of any length runs in constant memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

STREAM = """
import asyncio, gc, resource, sys, time
import httpx
from pico_async import PicoSession, Rates, SmsMessage

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

class Instant(httpx.AsyncBaseTransport):

    in_process = True

    async def handle_async_request(self, request):
        return httpx.Response(200, json={"request_id": "r", "token": "t"})

async def main(count):
    messages = (SmsMessage("8612345678901", f"hello {n}", key=str(n)) for n in range(count))
    rates = Rates(sms=None)
    async with PicoSession(username="u", api_key="k", sender="s", transport=Instant(), rates=rates) as pico:
        async with pico.stream_bulk(messages) as results:
            seen = accepted = 0
            async for result in results:
                seen += 1
                accepted += result.ok
                if seen == count // 10:
                    gc.collect()
                    before = resident_bytes()
            gc.collect()
            print(accepted, resident_bytes() - before)

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "count", [10_000, pytest.param(1_000_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])]
)
def test_memory_stays_flat(count: int) -> None:
    """The memory of a process grows by less than 2 MiB between the first tenth of a stream and its end."""
    ran = subprocess.run([sys.executable, "-c", STREAM, str(count)], capture_output=True, text=True, check=True)

    accepted, growth = map(int, ran.stdout.split())
    assert accepted == count
    assert growth < 2 * 1024 * 1024
