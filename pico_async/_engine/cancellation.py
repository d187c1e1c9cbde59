"""How often a task was asked to end: by this, a cancellation that a library took for its own is noticed."""

from __future__ import annotations

import asyncio


def cancellations() -> int:
    """Give the requests to end the current task that are not yet answered; 0 outside of any task."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
