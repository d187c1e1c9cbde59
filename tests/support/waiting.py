"""This module waits for an event in another process, or in another task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# The limit of a wait that might never end. It measures nothing: no test passes or fails by its speed.
PATIENCE_S = 60.0


def wait_until(happened: Callable[[], object], what: str = "what the test waits for", every_s: float = 0.05) -> None:
    """Wait until *happened* returns a true value; the test fails after `PATIENCE_S`."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < give_up_at, f"It never came to this: {what}."
        time.sleep(every_s)


async def until(happened: Callable[[], object], what: str = "what the test waits for") -> None:
    """Wait until *happened* returns a true value, while other tasks run; the test fails after `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.005)
