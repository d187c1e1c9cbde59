"""How a bulk send waits while no message can be sent, and what follows from each failure."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import suppress

from attrs import frozen

from pico_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    JournalError,
    MessageExpiredError,
    NotSentError,
    PicoError,
    RateLimitError,
    SuppressedError,
)

OUTAGE_S = 60.0

# v0.4 documents 400, 401 and 417. By RFC 9110, 15.5, these others usually concern the account, the URL or the host. But
# a 403 may concern one destination or one text, so a single one proves nothing.
REFUSES_ALL = frozenset({402, 403, 404, 405, 407, 421, 426})
REFUSED_IN_A_ROW = 30

# The longest pause is as long as the outage so far, within these bounds. Each pause is random, from half of that to all
# of it.
SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 5.0


@frozen(kw_only=True)
class Decision:
    """
    What follows from a message's failure.

    Attributes:
        retry_after_s: Seconds until the message is sent again; None if it is given up.
        stop: Why the bulk send stops; None if it continues.
    """

    retry_after_s: float | None = None
    stop: str | None = None


GIVE_UP = Decision()


class Outage:
    """
    A period in which no message is sent, because there is no token, no Redis or no connection, or Pico accepts no more.

    It begins with such a failure, and ends with the next message that Pico accepts, or refuses for another reason than
    its rate or the account. If a message still fails so after *bound_s* seconds, the bulk send stops.
    """

    def __init__(self, bound_s: float) -> None:
        if isinstance(bound_s, bool) or not isinstance(bound_s, int | float) or not 0 <= bound_s < math.inf:
            raise ConfigurationError("`outage_s` must be a number of seconds, from 0.")
        self._bound_s = bound_s
        self._since: float | None = None
        self._over = asyncio.Event()
        # When Pico last accepted or refused a message, and the latest start of a call that it accepted or refused.
        self._reached_at = self._latest_start = -math.inf
        self._refused_in_a_row = 0

    async def wait(self) -> None:
        """Wait for the end of the outage, for one pause at most. Return at once if there is none."""
        if self._since is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._over.wait()

    def accepted(self, began_at: float) -> None:
        """Record that Pico accepted a message whose call began at this time of the monotonic clock."""
        self._end(began_at)
        self._refused_in_a_row = 0

    def decide(self, error: PicoError, began_at: float, failed_at: float) -> Decision:
        """
        Record a message's failure, and return what follows from it.

        | cause of the failure           | the message | the bulk send                                              |
        |--------------------------------|-------------|------------------------------------------------------------|
        | the message itself             | is given up | continues                                                  |
        | the account or the settings    | is given up | stops, unless a message reached Pico since this call began |
        | no token, Redis or connection  | is retried  | pauses reading; stops if the outage lasts too long         |
        | requests came too fast         | is retried  | pauses reading; stops if the outage lasts too long         |
        | the same, but not for all      | is given up | continues: a message that was begun later reached Pico     |
        | in doubt after a request       | is given up | pauses as above                                            |
        | in doubt without a request     | is given up | continues: in the ledger, another delivery has the message |
        | refused by Pico                | is given up | stops after 30 in a row that concern no single message     |
        | the journal                    | is given up | is stopped by its dispatcher                               |

        Args:
            began_at: When the failed call began, on the monotonic clock.
            failed_at: When the message first failed.
        """
        if isinstance(error, MessageExpiredError | InvalidMessageError | SuppressedError | JournalError):
            return GIVE_UP
        cause = str(error).rstrip(".")
        if isinstance(error, AuthenticationError | ConfigurationError):
            if self._reached_at >= began_at:
                return GIVE_UP
            return Decision(stop=f"nothing else can be sent either: {cause}")
        if isinstance(error, InDoubtError):
            return GIVE_UP if error.attempts == 0 else Decision(stop=self._begin(cause))
        if isinstance(error, NotSentError | RateLimitError):
            if self._latest_start > failed_at:
                return GIVE_UP
            stop = self._begin(cause)
            return Decision(retry_after_s=self._pause_s()) if stop is None else Decision(stop=stop)
        self._end(began_at)
        self._refused_in_a_row = self._refused_in_a_row + 1 if error.status_code in REFUSES_ALL else 0
        if self._refused_in_a_row < REFUSED_IN_A_ROW:
            return GIVE_UP
        return Decision(stop=f"Pico refused {REFUSED_IN_A_ROW} messages in a row, so it may refuse all: {cause}")

    def _begin(self, cause: str) -> str | None:
        """Begin the outage, or return why to stop if it has lasted too long."""
        if self._since is None:
            self._since = time.monotonic()
            self._over.clear()
        if time.monotonic() - self._since < self._bound_s:
            return None
        return f"nothing could be sent for {self._bound_s:g} s: {cause}"

    def _end(self, began_at: float) -> None:
        self._reached_at = time.monotonic()
        self._latest_start = max(self._latest_start, began_at)
        self._since = None
        self._over.set()

    def _pause_s(self) -> float:
        lasted_s = 0.0 if self._since is None else time.monotonic() - self._since
        longest_s = min(max(lasted_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        return random.uniform(longest_s / 2, longest_s)  # noqa: S311  jitter is no secret
