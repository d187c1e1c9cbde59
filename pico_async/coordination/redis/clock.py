"""A server's clock, as seen from the local clock."""

from __future__ import annotations

from pico_async.coordination.rates import FLEET_LATE_S

# The clocks of two machines drift apart by less than this.
DRIFT = 1e-4
# After this long, the clocks may have drifted so far that earlier calls say too little to correct a slow one.
RECENT_S = 50.0


class ServerClock:
    """
    Estimates the local time at which the server's clock showed a given time.

    Each call to Redis gives two bounds: the server read its clock after the call was sent and before its reply came.
    Several calls narrow the bounds down to the fastest way there and the fastest way back. The estimate is the middle.
    The error is at most half the difference between the two ways, however distant the server is. So a delay of a busy
    loop or network does not bunch requests that are timed by it.

    Attributes:
        reply_delay_s: The estimated time between the server's reading of its clock and the arrival of the last reply.
        reliable: Whether the last estimate may time requests. That of a single slow call may not: the first one also
            opens the connection, so it takes far longer than its reply.
    """

    def __init__(self) -> None:
        self._least_s = self._most_s = 0.0
        self._updated_at = float("-inf")
        self.reply_delay_s: float = 0.0
        self.reliable: bool = False

    def update(self, asked_at: float, replied_at: float, server_s: float) -> float:
        """Narrow the bounds by one call, and return the local time at which the server's clock showed *server_s*."""
        least_s, most_s = asked_at - server_s, replied_at - server_s
        since_s = replied_at - self._updated_at
        drifted_s = DRIFT * since_s
        narrowed = max(self._least_s - drifted_s, least_s), min(self._most_s + drifted_s, most_s)
        # Bounds that exclude each other mean that the server's clock was set meanwhile.
        agrees = since_s < RECENT_S and narrowed[0] <= narrowed[1]
        self._least_s, self._most_s = narrowed if agrees else (least_s, most_s)
        self._updated_at = replied_at
        self.reliable = agrees or most_s - least_s <= FLEET_LATE_S
        moment = server_s + (self._least_s + self._most_s) / 2
        self.reply_delay_s = replied_at - moment
        return moment
