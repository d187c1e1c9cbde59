"""How far the network bunches what left evenly: learned from how response times spread."""

from __future__ import annotations

from collections import deque

# Where nothing is known yet, and where too little was heard of late.
START_S = 0.010
LEAST_S = 0.002
MOST_S = 0.050
# What counts as of late: after a spike of the network, the pace is back so much later.
WINDOW_S = 4.0
# So many a second are enough, at any rate.
HEARD_PER_S = 40
ENOUGH = 32
# A reply that takes so long tells of the way there when what might meet its request has left already.
TOO_LATE_S = 1.0
# A busy loop reads a reply late now and then, which bunches nothing: one time in twenty-five is not looked at here.
# Where it was the way there that was late, `ArrivalWindow` holds back who would meet it.
LATE_READS = 1 / 25
# A refusal means that the network bunches more than its replies tell.
WIDENED_BY_S = 0.020
NARROWED_PER_S = 0.003


class JitterEstimate:
    """
    Say how many seconds the network may delay one request longer than the next.

    Two response times differ by at least what the ways there differed by, or else by what the ways back did, so their
    spread bounds the bunching; what Pico's own work adds to it makes the guard wider than it need be, never narrower.

    Args:
        fixed_s: Learn nothing, and say this.

    Attributes:
        least_s: How long the quickest of late took, as `at` found it last, or one since then that was quicker still;
            infinity where nothing is known.
    """

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._heard: deque[tuple[float, float]] = deque(maxlen=int(2 * WINDOW_S * HEARD_PER_S))
        self._last_turn_at = float("-inf")
        self.least_s = float("inf")
        self._widened_s = 0.0
        self._widened_at = float("-inf")

    def heard(self, took_s: float, now: float) -> None:
        """Take note of how long after its turn a request had its reply."""
        # By when they left, for those that a stall of the network held back come all at once.
        if self._fixed_s is None and abs(now - took_s - self._last_turn_at) >= 1 / HEARD_PER_S:
            self._last_turn_at = now - took_s
            self._heard.append((now, took_s))
            self.least_s = min(self.least_s, took_s)
            self._forget(now)

    def refused(self, now: float) -> bool:
        """Widen it at once, for a while; False where it cannot be any wider."""
        known_s = self.at(now)
        if self._fixed_s is not None or known_s >= MOST_S:
            return False
        self._widened_s, self._widened_at = min(MOST_S, known_s + WIDENED_BY_S), now
        return True

    def at(self, now: float) -> float:
        """Give it in seconds."""
        if self._fixed_s is not None:
            return self._fixed_s
        self._forget(now)
        took_s = sorted(took_s for _, took_s in self._heard)
        self.least_s = took_s[0] if took_s else float("inf")
        spread_s = took_s[-1 - int(len(took_s) * LATE_READS)] - took_s[0] if took_s else 0.0
        if len(took_s) < ENOUGH or self.least_s >= TOO_LATE_S:
            spread_s = max(spread_s, START_S)
        widened_s = self._widened_s - NARROWED_PER_S * (now - self._widened_at)
        return min(MOST_S, max(LEAST_S, spread_s, widened_s))

    def _forget(self, now: float) -> None:
        while self._heard and now - self._heard[0][0] > WINDOW_S:
            self._heard.popleft()
