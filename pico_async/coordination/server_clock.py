"""Where a server's clock stands, on the local one."""

from __future__ import annotations

# Clocks of two machines drift apart by less than this.
DRIFT = 1e-4


class ServerClock:
    """
    Tell when, on the local clock, the server's clock stood at a moment: late by the fastest answer, and never early.

    An answer that was slow to come says only that the clock stood there some time ago. So the fastest one counts, and
    no delay of a busy loop or network bunches what is timed by it.

    Attributes:
        round_trip_s: How long the last answer took.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._heard_at = 0.0
        self.round_trip_s = 0.0

    def heard(self, asked_at: float, answered_at: float, server_s: float) -> float:
        """Take note of an answer, and give the local moment at which the server's clock stood at *server_s*."""
        earliest, latest = asked_at - server_s, answered_at - server_s
        offset_s = latest
        if self._offset_s is not None:
            known = self._offset_s + DRIFT * (answered_at - self._heard_at)
            # Below `earliest`, the clock stepped back since.
            offset_s = min(known, latest) if known >= earliest else latest
        self._offset_s, self._heard_at, self.round_trip_s = offset_s, answered_at, answered_at - asked_at
        return server_s + offset_s
