"""This module makes time move only while all tasks sleep, so that tests wait for nothing."""

from __future__ import annotations

import selectors
import time
from typing import Any


class VirtualClock:
    """A monotonic clock that moves only while all tasks sleep."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


class VirtualSelector(selectors.DefaultSelector):
    """A selector that, where nothing is ready, moves the clock to the next timer instead of waiting for it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(None if timeout is None else 0)
        # Each loop iteration takes a little time, as in reality; else a timer set for "now" would repeat for ever.
        self._clock.now += 1e-6 if ready or not timeout else max(timeout, 1e-6)
        return ready
