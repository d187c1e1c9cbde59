"""The slots that one process uses while Redis is away and no process knows what the others send."""

from __future__ import annotations

import math

from pico_async.coordination.rates import spacing_s

# A process without Redis takes slots this far ahead, and calls Redis again before it takes more.
AHEAD_S = 1.0
# The window of the limit: all that was sent in one mode must be outside of it before the other mode begins.
WINDOW_S = 1.0


class FallbackShare:
    """
    One process's part of a rate, used while Redis is away.

    Nothing is sent for one second between the fleet's slots and the fallback slots, and again on the way back. Each
    mode alone keeps the limit, and the two together in one second would not.

    Args:
        rate: The part, in requests per second.
        reach_s: How far ahead the fleet may have reserved slots when Redis goes away.
        notice_s: How long another process may take to notice that Redis is back.
    """

    def __init__(self, rate: float, *, reach_s: float, notice_s: float) -> None:
        self._spacing_s = self._own_spacing_s = spacing_s(rate)
        self._reach_s = reach_s
        self._notice_s = notice_s
        # None while the fleet's slots are used.
        self._next_at: float | None = None

    @property
    def per_s(self) -> float | None:
        """The slots per second; None while none are used."""
        return None if self._next_at is None else 1 / self._spacing_s

    @property
    def others_alone_s(self) -> float:
        """How many seconds after Redis is back other processes may still use, or have just used, fallback slots."""
        # A process may notice it by a call that only times out, after it has taken slots once more.
        return self._notice_s + AHEAD_S + self._spacing_s + WINDOW_S

    def slow_down(self, part: float, *, reach_s: float) -> None:
        """Use only this part of the slots, because the fleet has a lower rate than this process was given."""
        self._spacing_s = self._own_spacing_s / part
        self._reach_s = reach_s

    def take(self, wanted: int, now: float, *, reserved_until: float) -> list[float]:
        """
        Return the times of the next slots, for at most `AHEAD_S`.

        The first time, they begin one second after all slots that the fleet may have reserved.
        """
        if self._next_at is None:
            # The whole reach counts even for a process that has just started: one that restarts again and again must
            # not get a slot each time.
            self._next_at = max(reserved_until, now + self._reach_s) + WINDOW_S
        start = max(self._next_at, now)
        slots = min(wanted, math.ceil(AHEAD_S / self._spacing_s))
        return self._slots(start, start + slots * self._spacing_s)

    def fleet_resumes_in_s(self, now: float) -> float:
        """Return how many seconds from now the fleet's slots may begin again; 0 if no fallback slot was used."""
        return 0.0 if self._next_at is None else max(self.others_alone_s, self._next_at - now + WINDOW_S)

    def rejoin(self, now: float, *, fleet_resumes_at: float) -> list[float]:
        """End the fallback, and return the times of its last slots, up to one second before the fleet's slots."""
        if self._next_at is None:
            return []
        slots = self._slots(max(self._next_at, now), fleet_resumes_at - WINDOW_S)
        self._next_at = None
        return slots

    def _slots(self, start: float, end: float) -> list[float]:
        count = max(0, math.ceil((end - start) / self._spacing_s))
        self._next_at = start + count * self._spacing_s
        return [start + number * self._spacing_s for number in range(count)]
