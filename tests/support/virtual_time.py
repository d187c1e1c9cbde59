"""Time that moves only when everybody sleeps, for tests that wait for nothing."""

from __future__ import annotations

import selectors
import time
from typing import Any


class VirtualClock:
    """A monotonic clock that moves only when everybody sleeps."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


class VirtualSelector(selectors.DefaultSelector):
    """Where nothing is ready, turn the clock to the next timer and do not wait for it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(None if timeout is None else 0)
        # A turn of the loop costs a little, as a real one does: a timer set for "now" would else come for ever.
        self._clock.now += 1e-6 if ready or not timeout else max(timeout, 1e-6)
        return ready
