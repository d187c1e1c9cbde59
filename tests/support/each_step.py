"""This module cancels a coroutine at each of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.waiting import PATIENCE_S


async def survived(begin: Callable[[], Awaitable[object]], *, most: int = 60) -> list[int]:
    """
    Cancel *begin* after 1, 2, 3 … iterations of the event loop, and return the counts after which it continued.

    It stops at the first count at which *begin* ends before it is cancelled, or at *most*. A coroutine that waits for a
    real server has as many steps as the event loop has iterations meanwhile.
    """
    after: list[int] = []
    for turns in range(1, most):
        task = asyncio.ensure_future(begin())
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            await task
            break
        await asyncio.wait([task], timeout=PATIENCE_S)
        assert task.done(), f"It goes on {PATIENCE_S:g} s after it was cancelled at its step {turns}."
        if not task.cancelled():
            task.result()
            after.append(turns)
    # A coroutine that ends at once is never cancelled, so the test would show nothing.
    assert turns > 2
    return after
