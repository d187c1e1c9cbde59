"""
Notice a cancellation that a library has dropped, by the task's count of cancellation requests.

Python 3.11's `asyncio.wait_for` drops a cancellation that comes while the awaited work completes. redis-py writes each
command in a `wait_for`, and psycopg's pool waits for a connection in one. Without this check, a loop of such calls
would never end, and a message would be sent although its call was cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio.lowlevel

Value = TypeVar("Value")


def cancellations() -> int:
    """Return the number of pending cancellation requests of the current task; 0 outside of a task."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def end_if_cancelled(since: int) -> None:
    """
    Raise if the current task was cancelled since then, and a library dropped the cancellation.

    Args:
        since: The result of `cancellations()` at that time.

    Raises:
        asyncio.CancelledError: The task was cancelled.
    """
    if cancellations() > since:
        # An anyio scope raises its own cancellation here, by which it recognises it.
        await anyio.lowlevel.checkpoint()
        raise asyncio.CancelledError


@asynccontextmanager
async def cancellable() -> AsyncIterator[None]:
    """
    Raise if the current task was cancelled within the block, whether the block succeeds or fails.

    Raises:
        asyncio.CancelledError: The task was cancelled, and a library dropped the cancellation.
    """
    since = cancellations()
    try:
        yield
    except Exception:
        await end_if_cancelled(since)
        raise
    await end_if_cancelled(since)


async def unless_cancelled(answer: Awaitable[Value]) -> Value:
    """
    Await a library's answer as `cancellable` does.

    Raises:
        asyncio.CancelledError: The task was cancelled.
    """
    async with cancellable():
        return await answer
