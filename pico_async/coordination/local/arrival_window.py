"""Keep any time window at the server to a number of requests."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import inf
from operator import attrgetter

from attrs import define

# A reply that is later than this says more about the server's work than about the way to it. It is above the largest
# jitter allowance, because a stall of 50 ms and a little jitter come together.
MAX_DELAY_S = 0.070

_arrived_at = attrgetter("arrived_at")


@define(eq=False)
class SentRequest:
    """
    One request that used a slot.

    Attributes:
        sent_at: When it was sent, on the monotonic clock.
        arrived_at: When it reached the server: its send time, until its reply shows a delay.
    """

    sent_at: float
    arrived_at: float


class ArrivalWindow:
    """
    Compute how long to wait so that no window at the server holds more than *limit* requests.

    Each request counts from its send time. If its reply shows a delay on the way, it counts from its estimated arrival.
    So a request that is sent one window later cannot share a window with it.

    Args:
        limit: Requests that one window may hold.
        window_s: Length of the window in seconds.
    """

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._recent: list[SentRequest] = []  # by arrival, oldest first
        self._fastest_s = inf

    def __repr__(self) -> str:
        return f"<ArrivalWindow {len(self._recent)}/{self._limit} in {self._window_s:g} s>"

    def wait_s(self, now: float) -> float:
        """Return how many seconds must pass before one more request fits."""
        if len(self._recent) < self._limit:
            return 0.0
        return max(0.0, self._recent[-self._limit].arrived_at + self._window_s - now)

    def occupied_s(self, now: float) -> float:
        """Return how many seconds must pass until the window is empty."""
        return max(0.0, self._recent[-1].arrived_at + self._window_s - now) if self._recent else 0.0

    def add(self, now: float) -> SentRequest:
        """Record a request that is sent now, and forget those that no window can hold, even if they were delayed."""
        del self._recent[: bisect_left(self._recent, now - self._window_s - MAX_DELAY_S, key=_arrived_at)]
        request = SentRequest(now, now)
        insort(self._recent, request, key=_arrived_at)
        return request

    def remove(self, request: SentRequest) -> None:
        """Remove a request that was not sent after all."""
        if request in self._recent:
            self._recent.remove(request)

    def observe_reply(self, request: SentRequest, took_s: float, fastest_s: float) -> None:
        """
        Re-date a request by the delay that its reply shows.

        Args:
            took_s: How long after its send time the reply came.
            fastest_s: How long the fastest recent reply took; infinity if unknown.
        """
        faster_by_s, self._fastest_s = self._fastest_s - fastest_s, fastest_s
        if 0.0 < faster_by_s <= MAX_DELAY_S:
            # A faster reply shows that all earlier requests were delayed by more than was known.
            for earlier in self._recent:
                earlier.arrived_at += faster_by_s
        if 0.0 < took_s - fastest_s <= MAX_DELAY_S and request in self._recent:
            self._recent.remove(request)
            request.arrived_at = request.sent_at + took_s - fastest_s
            insort(self._recent, request, key=_arrived_at)
