"""
These programs send for the tests of the rate, each in a process of its own.

    python -m tests.stories.pace_programs NAME URL

In the tests' process, garbage collections would delay the client for longer than its jitter allowance covers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

from pico_async import PicoSession, SmsMessage
from tests.support.sandbox_process import KEY

CODE = "a chatbot's code"
SEEN = 20


def messages(count: int, named: str) -> Iterator[SmsMessage]:
    return (SmsMessage(f"86123456{number:05}", f"{named} {number}") for number in range(count))


def session(base_url: str) -> PicoSession:
    return PicoSession(username="user333", api_key=KEY, sender="8612345678888", base_url=base_url)


async def two_sessions(base_url: str) -> list[int]:
    """Send in bulk over two sessions that share no object, and return how many messages of each were accepted."""
    async with session(base_url) as one, session(base_url) as other:
        reports = await asyncio.gather(one.send_bulk(messages(38, "one")), other.send_bulk(messages(38, "other")))
    return [report.accepted for report in reports]


async def single_send(base_url: str) -> None:
    """Send a code while 256 messages of a bulk send wait, once the bulk send has brought `SEEN` results."""
    async with session(base_url) as pico, pico.stream_bulk(messages(1000, "news"), concurrency=256) as results:
        for _ in range(SEEN):
            await anext(results)
        await pico.sms.send("8612345678901", CODE)


if __name__ == "__main__":
    program = {"two_sessions": two_sessions, "single_send": single_send}[sys.argv[1]]
    sys.stdout.write(json.dumps(asyncio.run(program(sys.argv[2]))))
