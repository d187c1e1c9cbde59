"""Where a server's clock stands, on the local one."""

from __future__ import annotations

from pico_async.coordination.rates import LATE_S

# Clocks of two machines drift apart by less than this.
DRIFT = 1e-4
# What was heard longer ago has drifted too far to make up for one exchange that took long.
RECENT_S = 50.0


class ServerClock:
    """
    Tell when, on the local clock, the server's clock stood at a moment.

    Each exchange bounds it: the clock was read after the question left and before the answer came. All exchanges
    together leave the room that the fastest way there and the fastest way back leave, and the middle of it is told. So
    two hosts agree, however far from the server each of them is, but for half the difference of one host's two ways;
    and no delay of a busy loop or network bunches what is timed by it.

    Attributes:
        answer_s: How long the last answer took after what is told to be its moment.
        sure: Whether to time anything by what was told last. Not by a single exchange that took long: a first one
            carries the connection, and so its question takes far longer than its answer.
    """

    def __init__(self) -> None:
        self._least_s = self._most_s = 0.0
        self._heard_at = float("-inf")
        self.answer_s: float = 0.0
        self.sure: bool = False

    def heard(self, asked_at: float, answered_at: float, server_s: float) -> float:
        """Take note of an answer, and give the local moment at which the server's clock stood at *server_s*."""
        least_s, most_s = asked_at - server_s, answered_at - server_s
        since_s = answered_at - self._heard_at
        drifted_s = DRIFT * since_s
        known = max(self._least_s - drifted_s, least_s), min(self._most_s + drifted_s, most_s)
        # If there is no room left, the server's clock stepped since.
        recent = since_s < RECENT_S and known[0] <= known[1]
        self._least_s, self._most_s = known if recent else (least_s, most_s)
        self._heard_at = answered_at
        self.sure = recent or most_s - least_s <= LATE_S
        moment = server_s + (self._least_s + self._most_s) / 2
        self.answer_s = answered_at - moment
        return moment
