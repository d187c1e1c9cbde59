"""
Take the pictures of the sandbox's page for the README, with a real bulk send in a real browser.

    python -m benchmarks.pictures                # a minute; writes benchmarks/outbox.png and benchmarks/limits.png

It needs Debian's Chromium, a font for the Chinese text (as fonts-noto-cjk), and the extra `dev`. The pictures show a
bulk send by `send_bulk`, receipts over loopback, and for the limits a second client that sends more than 30 a second.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from PIL import Image

from pico_async import PicoSession, SmsMessage
from pico_async.sandbox import Receipts, Sandbox
from tests.support.browser import browser

HERE = Path(__file__).parent
SIZE = {"width": 1120, "height": 660}
SENDER = "8612345678888"
MESSAGES = 1000
TEXTS = (
    "Your code is {code}. It is good for five minutes.",
    "驗證碼 {code}，五分鐘內有效。",  # noqa: RUF001  # as a person would write it
    "Parcel {code} is at the counter until Friday, 18:00. Please bring this message and something that says who you "
    "are; after that it goes back to the sender. Questions? Call us.",
    "Your table for four is confirmed for 19:30. See you tonight 🙂",
)


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """Run a server that accepts every receipt, except some of the first tries."""
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                taken += 1
                answer = b"503 Service Unavailable" if taken % 7 == 3 else b"204 No Content"
                writer.write(b"HTTP/1.1 " + answer + b"\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dlr"


async def impatient(base_url: str, sandbox: Sandbox, token: str) -> None:
    """Send 40 a second for some seconds, as a client with a token bucket of 40 does."""
    headers = {"X-API-Key": sandbox.api_key, "Authorization": f"Bearer {token}"}
    body = {"username": sandbox.username, "from": SENDER, "to": "8612345670000", "text": "At once, please"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False) as client:
        for _ in range(6):
            await asyncio.gather(*(client.post("/sms", json=body) for _ in range(40)), asyncio.sleep(1))


def save(shot: bytes, name: str) -> None:
    """Write a picture with a palette: a third of the bytes, and no colour is off by more than some levels."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(HERE / name, optimize=True)
    print(f"{name}: {(HERE / name).stat().st_size / 1024:.0f} KB")


async def main() -> None:
    """Run the bulk send and the second client, and take the pictures."""
    sandbox = Sandbox(
        fault_rate=0.07, fault_kinds=["no-request-id"], seed=4, receipts=Receipts(undelivered=0.06, seed=2)
    )
    async with (
        receiver() as callback,
        sandbox.serve() as base_url,
        PicoSession(
            username=sandbox.username, api_key=sandbox.api_key, base_url=base_url, sender=SENDER, callback=callback
        ) as pico,
        browser(device_scale_factor=1.5) as context,
    ):
        page = await context.new_page()
        await page.set_viewport_size(SIZE)
        await page.goto(base_url)
        messages = [
            SmsMessage(
                to=f"8869{(number * 7919 + 12345678) % 10**8:08}", text=TEXTS[number % 4].format(code=1000 + number)
            )
            for number in range(MESSAGES)
        ]
        blast = asyncio.create_task(pico.send_bulk(messages))
        await blast
        await page.click(".row >> text=Parcel")
        await page.wait_for_selector(".tries li >> nth=0")
        await asyncio.sleep(1.7)
        await page.mouse.move(0, 0)
        save(await page.screenshot(), "outbox.png")
        await page.goto(f"{base_url}/#/limits")
        await impatient(base_url, sandbox, (await pico.token.get()).token)
        await pico.send_bulk(messages[:300])
        await page.wait_for_selector("#chart rect.refused", state="attached")
        save(await page.screenshot(), "limits.png")


if __name__ == "__main__":
    asyncio.run(main())
