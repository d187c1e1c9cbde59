"""A server's clock, as it stands on the local clock."""

from __future__ import annotations

from pico_async.coordination.rates import LATE_S

# The clocks of two machines drift apart by less than this.
DRIFT = 1e-4
# After this long, earlier exchanges may have drifted too far to correct one slow exchange.
RECENT_S = 50.0


class ServerClock:
    """
    An estimate of when, on the local clock, the server's clock stood at a moment.

    Each exchange bounds that time: the server read its clock after the question was sent and before the reply arrived.
    Several exchanges narrow the bounds down to the fastest way there and the fastest way back. The estimate is the
    middle. It is wrong by at most half the difference between a host's two ways, however distant the server is. A delay
    of a busy loop or network therefore does not bunch requests that are timed by it.

    Attributes:
        reply_delay_s: How long after the server read its clock the last reply arrived, as estimated.
        reliable: Whether the last estimate may time requests. A single slow exchange may not: the first one also opens
            the connection, so its question takes far longer than its reply.
    """

    def __init__(self) -> None:
        self._least_s = self._most_s = 0.0
        self._updated_at = float("-inf")
        self.reply_delay_s: float = 0.0
        self.reliable: bool = False

    def update(self, asked_at: float, replied_at: float, server_s: float) -> float:
        """Narrow the bounds by one exchange, and return when, locally, the server's clock stood at *server_s*."""
        least_s, most_s = asked_at - server_s, replied_at - server_s
        since_s = replied_at - self._updated_at
        drifted_s = DRIFT * since_s
        narrowed = max(self._least_s - drifted_s, least_s), min(self._most_s + drifted_s, most_s)
        # Bounds that exclude each other mean that the server's clock was set meanwhile.
        agrees = since_s < RECENT_S and narrowed[0] <= narrowed[1]
        self._least_s, self._most_s = narrowed if agrees else (least_s, most_s)
        self._updated_at = replied_at
        self.reliable = agrees or most_s - least_s <= LATE_S
        moment = server_s + (self._least_s + self._most_s) / 2
        self.reply_delay_s = replied_at - moment
        return moment
