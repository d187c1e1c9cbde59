"""How many retries a session may make while they do not help: one quota for all of its calls."""

from __future__ import annotations

# The numbers of botocore's standard retry mode, which has met more outages than this client will. For this one:
# * 100 retries may be under way at once, so the 64 messages that a blast has in flight may be refused together.
# * With two retries a call, the quota holds where up to three tries in ten fail; beyond that Pico is in trouble.
# * Once it is empty, it takes five successes to earn one retry, and 500 (17 s at 30 a second) to fill it.
# botocore asks twice as much for a retry after a timeout. That would have 50 at once, fewer than a blast needs.
CAPACITY = 500
RETRY_COST = 5
SUCCESS_GAIN = 1


class RetryBudget:
    """
    Let calls try again freely while that helps, and hardly at all while it does not.

    Without it, an outage is answered with three times the requests. It bounds the retries of all calls together, not
    those of one. What a retry took that failed, or was cancelled, is gone; only successes bring it back.
    """

    def __init__(self) -> None:
        self._left = CAPACITY

    def take(self) -> bool:
        """Take what one retry costs; False where that is not there, and nothing is taken."""
        if self._left < RETRY_COST:
            return False
        self._left -= RETRY_COST
        return True

    def give_back(self, *, retried: bool) -> None:
        """
        Take note of a success.

        A retry that succeeds gives back what itself took, and not what the failed ones before it did; a first try gives
        a little. It never holds more than at its start.
        """
        self._left = min(CAPACITY, self._left + (RETRY_COST if retried else SUCCESS_GAIN))
