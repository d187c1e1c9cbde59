"""When one process reserves its next slots in Redis, and how many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pico_async.coordination.protocols import Priority

# A fleet reserves this far ahead, all its processes together. With 0.2 s each process makes about ten calls a second
# at any rate, and a single send hardly waits longer than that, however many slots bulk sends have reserved.
LOOKAHEAD_S = 0.2
# The next slots are requested this long before the last one is due, so that a reply from another continent is in time.
REFILL_S = 0.1
# A process that used all its slots asks for 1.25 times as many. Redis gives it its fair part at most.
GROWTH = 1.25

LONG_AGO = float("-inf")


class SlotRequest(NamedTuple):
    """
    A request for slots.

    Attributes:
        wanted: How many slots.
        priority: INTERACTIVE slots may be reserved further ahead than BULK slots.
        invited: Whether the last reply of Redis named a time to ask again, and this is that request.
        due_at: When to make the request.
    """

    wanted: int
    priority: Priority
    invited: bool
    due_at: float


class ReservationPolicy:
    """Decides when to reserve slots, and how many, from how many were used since the last request."""

    def __init__(self) -> None:
        self._used = 0
        self._some_expired = False
        self._counted_from = LONG_AGO
        self._not_before = dict.fromkeys(Priority, LONG_AGO)
        self._invited: set[Priority] = set()

    def slot_used(self) -> None:
        self._used += 1

    def slot_expired(self) -> None:
        """Record that a slot passed unused, so more slots than now are not needed."""
        self._some_expired = True

    def next_request(self, now: float, slots: Sequence[float], *, single: int, waiting: int) -> SlotRequest | None:
        """
        Return the next request for slots, or None if those in hand are enough.

        1. More single sends wait than there are slots: one slot for each of them, as soon as Redis allows.
        2. At most half of the wanted slots are in hand: the rest, shortly before the last slot in hand is due.
           Wanted is one slot for each waiting request, or for each that is expected within `LOOKAHEAD_S`.
        3. Otherwise none.

        Args:
            slots: The slots in hand, the earliest first.
            single: How many single sends wait.
            waiting: How many requests wait, single sends included.
        """
        missing = single - len(slots)
        if missing > 0:
            return self._request(missing, Priority.INTERACTIVE, LONG_AGO)
        expected_per_s = self._used / max(now - self._counted_from, REFILL_S) * (1.0 if self._some_expired else GROWTH)
        missing = max(waiting, math.ceil(expected_per_s * LOOKAHEAD_S)) - len(slots)
        if missing < max(1, len(slots)):
            return None
        return self._request(missing, Priority.BULK, slots[-1] - REFILL_S if slots else LONG_AGO)

    def begin(self, request: SlotRequest, now: float) -> None:
        """Count used slots from now on, when this request is made."""
        self._used, self._some_expired, self._counted_from = 0, False, now
        self._invited.discard(request.priority)

    def invite(self, priority: Priority, ask_again_at: float) -> None:
        """Make the next request of this priority at the time for which Redis invited it."""
        self._not_before[priority] = ask_again_at
        self._invited.add(priority)

    def pause(self, until: float) -> None:
        """Make no request before this time, because Redis is away."""
        self._not_before = dict.fromkeys(Priority, until)

    def _request(self, wanted: int, priority: Priority, due_at: float) -> SlotRequest:
        return SlotRequest(wanted, priority, priority in self._invited, max(due_at, self._not_before[priority]))

    def __repr__(self) -> str:
        expired = ", some expired" if self._some_expired else ""
        invited = "".join(f", invited: {priority.name}" for priority in sorted(self._invited))
        return f"<ReservationPolicy {self._used} slots used since the last request{expired}{invited}>"
