"""
Measure what a call of the blocking client costs beside an awaited one.

    python -m benchmarks.blocking

One thread, or one task, sends one message after the other, without a limit, to a server on this machine that only
answers. The two take turns in one process, some messages each, so that what else the machine does meets both alike.
Of each, the turn with the lowest median counts, because what else happens can only add to it. What is more are two
changes of thread, there and back, and a task for the call.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks.lean_pico import lean_pico
from pico_async import PicoSession, Rates
from pico_async.blocking import Pico

TURNS = 20
MESSAGES = 100
NUMBER = "8612345678901"


async def awaited_s(pico: PicoSession) -> list[float]:
    """Return how long each message of one turn took, awaited."""
    took = []
    for _ in range(MESSAGES):
        began_at = time.perf_counter()
        await pico.sms.send(NUMBER, "hi")
        took.append(time.perf_counter() - began_at)
    return took


def blocking_s(pico: Pico) -> list[float]:
    """Return how long each message of one turn took, blocking."""
    took = []
    for _ in range(MESSAGES):
        began_at = time.perf_counter()
        pico.sms.send(NUMBER, "hi")
        took.append(time.perf_counter() - began_at)
    return took


def main() -> None:
    """Measure, and print the two medians and their difference."""
    with lean_pico() as base_url, asyncio.Runner() as runner:
        settings = {"username": "user333", "api_key": "key", "sender": "Pico", "base_url": base_url}
        session = PicoSession(**settings, rates=Rates(sms=None))  # type: ignore[arg-type]
        with Pico(**settings, rates=Rates(sms=None)) as pico:  # type: ignore[arg-type]
            awaited, blocking = list[float](), list[float]()
            for _ in range(TURNS):
                awaited.append(statistics.median(runner.run(awaited_s(session))) * 1000)
                blocking.append(statistics.median(blocking_s(pico)) * 1000)
            runner.run(session.aclose())
    more = min(blocking) - min(awaited)
    print(f"awaited {min(awaited):.2f} ms, blocking {min(blocking):.2f} ms: {more:.2f} ms more")


if __name__ == "__main__":
    main()
