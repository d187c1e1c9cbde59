"""When the requests that left of late came to Pico, as far as their replies tell."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import inf

from pico_async.coordination.guard import MOST_S

# A turn and its request know one moment this precisely. Where two are so close, either may stand for the other.
SAME_S = 0.001


class Arrivals:
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
        # The latest, in order; one more than the number, for one of them may be taken back.
        self._at: list[float] = []
        self._least_s = inf

    def wait_s(self, now: float) -> float:
        """Say how long from now nobody may leave."""
        if len(self._at) < self._number:
            return 0.0
        return max(0.0, self._at[-self._number] + self._window_s - now)

    def left(self, at: float) -> None:
        """Count one that leaves."""
        insort(self._at, at)
        del self._at[: -self._number - 1]

    def heard(self, left_at: float, took_s: float, least_s: float) -> None:
        """
        Count one from when it came, going by its reply.

        Args:
            took_s: How long after it left its reply was there.
            least_s: How long the quickest of late took, or infinity where nobody knows.
        """
        # Where it is more, it is Pico that takes the time, and not the way there.
        if 0.0 < self._least_s - least_s <= MOST_S:
            # Those before were later than the quickest by more than was known.
            self._at = [at + self._least_s - least_s for at in self._at]
        self._least_s = least_s
        if 0.0 < took_s - least_s <= MOST_S:
            self.not_left(left_at)
            self.left(left_at + took_s - least_s)

    def not_left(self, at: float) -> None:
        """Take one back: it did not leave then."""
        first = bisect_left(self._at, at - SAME_S)
        if first < len(self._at) and self._at[first] <= at + SAME_S:
            del self._at[first]

    def remembers_s(self, now: float) -> float:
        """Say for how long from now one of them counts."""
        return max(0.0, self._at[-1] + self._window_s - now) if self._at else 0.0
