"""When the requests that left of late came to Pico, as far as their replies tell."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from math import inf

# How much later than the quickest one may have come. Where it is more, it is Pico that takes the time, and not the way
# there. More than a guard gets: a stall of 50 ms and a little jitter come together.
LATE_S = 0.070
# A turn and its request know one moment this precisely. Where two are so close, either may stand for the other.
SAME_S = 0.001


class ArrivalWindow:
    """
    Say when one more may leave, so that no window holds more than its number.

    A request is counted from when it left, and from when it came once its reply tells that it was held up on its way:
    what leaves a window after it must not meet it there.

    Args:
        number: How many may come within any window.
        window_s: How long a window is.
    """

    def __init__(self, number: int, window_s: float) -> None:
        self._number = number
        self._window_s = window_s
        # Of what left within a window and a little, in that order: when, and when it came.
        self._left: list[float] = []
        self._came: list[float] = []
        # When they came, in order.
        self._in_order: list[float] = []
        self._least_s = inf

    def wait_s(self, now: float) -> float:
        """Say how long from now nobody may leave."""
        if len(self._in_order) < self._number:
            return 0.0
        return max(0.0, self._in_order[-self._number] + self._window_s - now)

    def left(self, at: float) -> None:
        """Count one that leaves now."""
        del self._in_order[: bisect_left(self._in_order, at - self._window_s)]
        old = bisect_left(self._left, at - self._window_s - LATE_S)
        del self._left[:old], self._came[:old]
        self._left.append(at)
        self._came.append(at)
        insort(self._in_order, at)

    def heard(self, left_at: float, took_s: float, least_s: float) -> None:
        """
        Count one from when it came, going by its reply.

        Args:
            left_at: When it left.
            took_s: How long after that its reply was there.
            least_s: How long the quickest of late took, or infinity where nobody knows.
        """
        quicker_s = self._least_s - least_s
        self._least_s = least_s
        if 0.0 < quicker_s <= LATE_S:
            # Those before were later than the quickest by more than was known.
            self._came = [at + quicker_s for at in self._came]
            self._in_order = [at + quicker_s for at in self._in_order]
        if 0.0 < took_s - least_s <= LATE_S and (place := self._find(left_at)) is not None:
            self._forget(self._came[place])
            self._came[place] = left_at + took_s - least_s
            insort(self._in_order, self._came[place])

    def not_left(self, at: float) -> None:
        """Take one back: it did not leave then."""
        if (place := self._find(at)) is not None:
            self._forget(self._came[place])
            del self._left[place], self._came[place]

    def remembers_s(self, now: float) -> float:
        """Say for how long from now one of them counts."""
        return max(0.0, self._in_order[-1] + self._window_s - now) if self._in_order else 0.0

    def _find(self, left_at: float) -> int | None:
        first, end = bisect_left(self._left, left_at - SAME_S), bisect_right(self._left, left_at + SAME_S)
        # Of some that left together, one that was not late yet.
        return min(range(first, end), key=self._came.__getitem__, default=None)

    def _forget(self, came_at: float) -> None:
        place = bisect_left(self._in_order, came_at)
        # It may have come more than a window ago.
        if place < len(self._in_order) and self._in_order[place] == came_at:
            del self._in_order[place]
