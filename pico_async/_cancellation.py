"""
How often a task was asked to end: by this, a cancellation that a library took for its own is noticed.

Python 3.11's `asyncio.wait_for` drops one that comes as its own work is done. redis-py writes each command in one, and
who waits for a connection of psycopg's pool waits in one: what asks again and again would never end, and a message that
was cancelled would go out all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio.lowlevel

Value = TypeVar("Value")


def cancellations() -> int:
    """Give the requests to end the current task that are not yet answered; 0 outside of any task."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def end_if_cancelled(since: int) -> None:
    """
    End the current task where it was asked to end since then, and the one that was awaited has dropped it.

    Args:
        since: What `cancellations` gave then.

    Raises:
        asyncio.CancelledError: The task was asked to end.
    """
    if cancellations() > since:
        # A scope of anyio's says it once more here, in the words by which it knows its own.
        await anyio.lowlevel.checkpoint()
        raise asyncio.CancelledError


@asynccontextmanager
async def cancellable() -> AsyncIterator[None]:
    """
    End the current task where it was asked to end meanwhile, whether what it waited for came, or went wrong.

    Raises:
        asyncio.CancelledError: The task was asked to end, and a library has dropped that.
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
    Wait for a library's answer, `cancellable` all the while.

    Raises:
        asyncio.CancelledError: The task was asked to end.
    """
    async with cancellable():
        return await answer
