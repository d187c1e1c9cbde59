"""How many retries all calls of a session may make while retries do not help."""

from __future__ import annotations

# The numbers of botocore's standard retry mode. For this client they mean:
# * 100 retries may be under way at once. A bulk send has begun 64 messages, which may all be refused together.
# * With two retries a call, the budget lasts while up to three attempts in ten fail. If more fail, Pico is in trouble.
# * An empty budget needs five successes for one retry, and 500 (17 s at 30 a second) to be full again.
# botocore takes twice as much for a retry after a timeout. That would allow only 50 retries at once.
CAPACITY = 500
RETRY_COST = 5
SUCCESS_GAIN = 1


class RetryBudget:
    """
    Allow retries freely while they succeed, and hardly any while they fail.

    Without a budget, an outage is answered with three times the requests. The budget bounds the retries of all calls
    together, not those of one call. A retry that fails or is cancelled costs its share until later successes return it.

    Attributes:
        spent: What retries have taken and successes have not returned.
    """

    def __init__(self) -> None:
        self.spent = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {CAPACITY - self.spent}/{CAPACITY}>"

    def take(self) -> bool:
        """Take the cost of one retry. Return False, and take nothing, if it is not available."""
        if self.spent > CAPACITY - RETRY_COST:
            return False
        self.spent += RETRY_COST
        return True

    def give_back(self, *, retried: bool) -> None:
        """
        Record a success.

        A retry that succeeds returns its own cost, but not that of earlier retries. A first attempt returns a little.
        """
        self.spent = max(0, self.spent - (RETRY_COST if retried else SUCCESS_GAIN))
