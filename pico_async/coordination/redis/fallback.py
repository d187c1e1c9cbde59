"""What a process of a fleet may send by itself, while nobody can say what the others send."""

from __future__ import annotations

import math

from pico_async.coordination.rates import spacing_s

# So far ahead a process that is alone takes its slots, and so often it looks for Redis.
AHEAD_S = 1.0
# The limit's window: what one regime sent must be forgotten before another begins.
WINDOW_S = 1.0


class FallbackShare:
    """
    One process's part of a rate, of which it takes slots while Redis is away.

    Between the fleet's pace and the shares, and between the shares and the fleet's pace, there is a second in which
    nothing is sent: each regime keeps to the limit, and not the two of them together.

    Args:
        rate: The part, in requests a second.
        furthest_s: How far ahead of now the fleet may have reserved when Redis goes.
        hears_after_s: How long another process may take to hear that Redis is back.
    """

    def __init__(self, rate: float, *, furthest_s: float, hears_after_s: float) -> None:
        self._spacing_s = self._own_spacing_s = spacing_s(rate)
        self._furthest_s = furthest_s
        self._hears_after_s = hears_after_s
        self._next_at: float | None = None

    @property
    def per_s(self) -> float | None:
        """How many of its slots are in a second; None while it takes none."""
        return None if self._next_at is None else 1 / self._spacing_s

    @property
    def others_until_s(self) -> float:
        """Seconds from when Redis is back, until when others may go on with their shares, and it is forgotten."""
        # They may hear of Redis by a call that does not end, and then have taken slots for a moment.
        return self._hears_after_s + AHEAD_S + self._spacing_s + WINDOW_S

    def keep_to(self, part: float, *, furthest_s: float) -> None:
        """Take no more than this part of the slots, for the fleet goes no faster: another process has a lower rate."""
        self._spacing_s = self._own_spacing_s / part
        self._furthest_s = furthest_s

    def take(self, wanted: int, now: float, *, reserved_until: float) -> list[float]:
        """Take slots for a moment; the first time, from when the fleet's reservations are used up and forgotten."""
        if self._next_at is None:
            # Nor does a process that is started again and again get a slot each time.
            self._next_at = max(reserved_until, now + self._furthest_s) + WINDOW_S
        start = max(self._next_at, now)
        slots = min(wanted, math.ceil(AHEAD_S / self._spacing_s))
        return self._slots(start, start + slots * self._spacing_s)

    def fleet_begins_in_s(self, now: float) -> float:
        """Say when the fleet's pace may begin again, seconds from now; 0 where this process was not alone."""
        return 0.0 if self._next_at is None else max(self.others_until_s, self._next_at - now + WINDOW_S)

    def rejoin(self, now: float, *, fleet_begins_at: float) -> list[float]:
        """Take the last slots, up to a second before the fleet's pace begins again."""
        if self._next_at is None:
            return []
        slots = self._slots(max(self._next_at, now), fleet_begins_at - WINDOW_S)
        self._next_at = None
        return slots

    def _slots(self, start: float, end: float) -> list[float]:
        count = max(0, math.ceil((end - start) / self._spacing_s))
        self._next_at = start + count * self._spacing_s
        return [start + number * self._spacing_s for number in range(count)]
