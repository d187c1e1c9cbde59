"""Estimate the jitter: how much later one request may arrive than the next one that was sent after it."""

from __future__ import annotations

from collections import deque

# Used until enough replies came.
INITIAL_S = 0.010
MIN_S = 0.002
MAX_S = 0.050
# Replies of this time count. After a burst of jitter, the rate recovers within it.
WINDOW_S = 4.0
# More replies per second add nothing, at any rate.
SAMPLES_PER_S = 40
ENOUGH_SAMPLES = 32
# If the fastest reply takes this long, requests that could collide have been sent before its delay is known.
TOO_SLOW_S = 1.0
# A busy event loop reads some replies late, which is no jitter of the network: one in twenty-five is ignored here. If
# such a request was delayed on its way, `ArrivalWindow` holds back the requests that could collide with it.
LATE_READS = 1 / 25
# A refusal shows that the jitter is larger than the replies tell.
WIDENED_BY_S = 0.020
NARROWED_PER_S = 0.003


class JitterEstimate:
    """
    Learn the jitter allowance from the spread of the response times.

    Two response times differ by at least as much as the two ways to the server, or else as the two ways back. So their
    spread is an upper bound of the jitter. The server's own work makes the estimate larger, never smaller.

    Args:
        fixed_s: Learn nothing, and return this.

    Attributes:
        fastest_s: The fastest recent response time; infinity if unknown.
    """

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=int(2 * WINDOW_S * SAMPLES_PER_S))
        self._last_sent_at = float("-inf")
        self.fastest_s: float = float("inf")
        self._widened_s = 0.0
        self._widened_at = float("-inf")

    def __repr__(self) -> str:
        return f"<JitterEstimate fastest {self.fastest_s * 1e3:.1f} ms, {len(self._samples)} samples>"

    def add(self, took_s: float, now: float) -> None:
        """Record that a reply came *took_s* after its request was sent."""
        # Sampled by send times: after a stall of the network, many replies come at once.
        if self._fixed_s is None and abs(now - took_s - self._last_sent_at) >= 1 / SAMPLES_PER_S:
            self._last_sent_at = now - took_s
            self._samples.append((now, took_s))
            self.fastest_s = min(self.fastest_s, took_s)

    def widen(self, now: float) -> bool:
        """Raise the allowance for a while, after a refusal. Return False if it is at its maximum already."""
        known_s = self.allowance_s(now)
        if self._fixed_s is not None or known_s >= MAX_S:
            return False
        self._widened_s, self._widened_at = min(MAX_S, known_s + WIDENED_BY_S), now
        return True

    def allowance_s(self, now: float) -> float:
        """Return the jitter allowance in seconds."""
        if self._fixed_s is not None:
            return self._fixed_s
        while self._samples and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        took_s = sorted(took_s for _, took_s in self._samples)
        self.fastest_s = took_s[0] if took_s else float("inf")
        spread_s = took_s[-1 - int(len(took_s) * LATE_READS)] - took_s[0] if took_s else 0.0
        if len(took_s) < ENOUGH_SAMPLES or self.fastest_s >= TOO_SLOW_S:
            spread_s = max(spread_s, INITIAL_S)
        widened_s = self._widened_s - NARROWED_PER_S * (now - self._widened_at)
        return min(MAX_S, max(MIN_S, spread_s, widened_s))
