"""A blast's wait while nothing can be sent, for a cause that is no message's own."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import suppress

from pico_async.errors import ConfigurationError

OUTAGE_S = 60.0

# v0.4 documents 400, 401 and 417. By RFC 9110, 15.5, these others are more often about the account, the address or the
# host than about one message, but a 403 may be about one destination, or one text. So it is their number that tells.
REFUSES_ALL = frozenset({402, 403, 404, 405, 407, 421, 426})
REFUSED_IN_A_ROW = 30

# Each pause is as long as the outage so far, within these bounds: soon back after a blip, and at most a few requests a
# second while it lasts.
SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 5.0


class Outage:
    """
    How long nothing has been sent for want of a token, of Redis or of a connection.

    It begins with a failure and ends with the next message that reaches Pico.

    Args:
        bound_s: How long to wait for its end.

    Attributes:
        ended_at: When a message last reached Pico, on the monotonic clock.
        passed_at: When the last of the messages began that reached Pico, on the monotonic clock.

    Raises:
        ConfigurationError: That is no number of seconds.
    """

    def __init__(self, bound_s: float) -> None:
        if isinstance(bound_s, bool) or not isinstance(bound_s, int | float) or not 0 <= bound_s < math.inf:
            raise ConfigurationError("`outage_s` must be a number of seconds, from 0.")
        self.bound_s = bound_s
        self.ended_at = self.passed_at = -math.inf
        self._since: float | None = None
        self._over = asyncio.Event()
        self._refused_in_a_row = 0

    @property
    def is_too_long(self) -> bool:
        """Whether it has lasted for as long as is waited for."""
        return self._since is not None and time.monotonic() - self._since >= self.bound_s

    @property
    def pause_s(self) -> float:
        """Seconds until the next try."""
        lasted_s = 0.0 if self._since is None else time.monotonic() - self._since
        longest_s = min(max(lasted_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        return random.uniform(longest_s / 2, longest_s)  # noqa: S311  jitter is no secret

    def begin(self) -> None:
        """Note that a message could not be sent."""
        if self._since is None:
            self._since = time.monotonic()
            self._over.clear()

    def end(self, began_at: float) -> None:
        """Note that a message reached Pico that began then."""
        self.ended_at = time.monotonic()
        self.passed_at = max(self.passed_at, began_at)
        self._since = None
        self._over.set()

    def note_refusal(self, status_code: int | None) -> bool:
        """Note that Pico refused a message; say whether it seems to refuse whatever this account sends."""
        self._refused_in_a_row = self._refused_in_a_row + 1 if status_code in REFUSES_ALL else 0
        return self._refused_in_a_row >= REFUSED_IN_A_ROW

    def note_acceptance(self) -> None:
        """Note that Pico accepted a message."""
        self._refused_in_a_row = 0

    async def wait(self) -> None:
        """Wait for its end, for one pause at most. Return at once where there is none."""
        if self._since is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pause_s):
                    await self._over.wait()
