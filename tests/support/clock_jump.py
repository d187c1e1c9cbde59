"""
This module moves a clock forward, so that a test need not wait for a long timeout.

A request over a real socket can take seconds on a busy machine. So its timeout is long, and the test jumps over it as
soon as the request hangs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.waiting import until

# A timeout of a request over a real socket that no busy machine exceeds.
LONG_S = 60.0


def jump(seconds: float = LONG_S) -> None:
    """Move the clock of the running event loop forward; each timer that is due within *seconds* fires at once."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + seconds  # type: ignore[method-assign]


async def jump_when(happened: Callable[[], object], seconds: float = LONG_S) -> None:
    """Wait until *happened* returns a true value, and then move the clock of the running event loop forward."""
    await until(happened)
    jump(seconds)


class MonotonicClock:
    """The monotonic clock of this process during one test, which event loops and libraries read, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        true_clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: true_clock() + self._ahead_s)

    def jump(self, seconds: float) -> None:
        """Move the clock forward."""
        self._ahead_s += seconds
