"""Cancels something at each step of its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def survived(begin: Callable[[], Awaitable[object]], *, most: int = 60) -> list[int]:
    """
    Begin it again and again, cancel it a turn of the loop later each time, and give the turns after which it went on.

    It goes so far until it ends by itself before it is cancelled, or *most* turns.
    """
    after: list[int] = []
    for turns in range(1, most):
        task = asyncio.ensure_future(begin())
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            await task
            break
        await asyncio.wait([task], timeout=10)
        if not task.cancelled():
            after.append(turns)
    # One that ends at once would be cancelled nowhere.
    assert turns > 2
    return after
