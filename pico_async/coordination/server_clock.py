"""Where a server's clock stands, on the local one."""

from __future__ import annotations

# Clocks of two machines drift apart by less than this.
DRIFT = 1e-4


class ServerClock:
    """
    Tell when, on the local clock, the server's clock stood at a moment.

    Each exchange bounds it: the clock was read after the question left and before the answer came. All exchanges
    together leave the room that the fastest way there and the fastest way back leave, and the middle of it is told. So
    two hosts agree, however far from the server each of them is, but for half the difference of one host's two ways;
    and no delay of a busy loop or network bunches what is timed by it.

    Attributes:
        answer_s: How long the last answer took after what is told to be its moment.
    """

    def __init__(self) -> None:
        self._least_s = float("-inf")
        self._most_s = float("inf")
        self._heard_at = 0.0
        self.answer_s = 0.0

    def heard(self, asked_at: float, answered_at: float, server_s: float) -> float:
        """Take note of an answer, and give the local moment at which the server's clock stood at *server_s*."""
        least, most = asked_at - server_s, answered_at - server_s
        drifted = DRIFT * (answered_at - self._heard_at)
        self._least_s, self._most_s = max(self._least_s - drifted, least), min(self._most_s + drifted, most)
        if self._least_s > self._most_s:  # the server's clock stepped since
            self._least_s, self._most_s = least, most
        self._heard_at = answered_at
        moment = server_s + (self._least_s + self._most_s) / 2
        self.answer_s = answered_at - moment
        return moment
