"""Waits for something that happens in another process, or on another task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# A bound for a wait that has no end by itself. It is no measure: nothing passes or fails by being quicker.
PATIENCE_S = 60.0


def wait_until(happened: Callable[[], object], what: str = "what the test waits for", every_s: float = 0.02) -> None:
    """Ask again and again until it has happened."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < give_up_at, f"It never came to this: {what}."
        time.sleep(every_s)


async def until(happened: Callable[[], object], what: str = "what the test waits for") -> None:
    """Ask again and again, while other tasks run, until it has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.005)
