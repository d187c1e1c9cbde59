"""
What reached the sandbox, and what it carried out: the truth that a client's own report is held against.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from pico_async.sandbox.rates import TOLERANCE_S


class Verdict(StrEnum):
    """What became of one request."""

    ACCEPTED = "accepted"  # carried out, whatever the client was then told
    REFUSED_RATE = "refused-rate"
    REJECTED = "rejected"  # 400 or 417
    UNAUTHORISED = "unauthorised"
    DUPLICATE = "duplicate"  # the repeated-submission rule
    DROPPED = "dropped"  # a fault kept it from being carried out


@frozen
class Arrival:
    """
    One request that reached the sandbox, in order of arrival.

    Attributes:
        at: When, in seconds on the sandbox's clock.
        operation: As "sms.send"; "unknown" for a path that the reference does not have.
        to: Destination, for a send whose body named one.
        verdict: A `Verdict`.
        request_id: What the reply carries, or would have carried; None for a reply without one.
        kind: "sms", "mms" or "voice"; None for what is no send.
        fault: The fault that befell it, as "accept-then-drop"; None for an honest reply.
    """

    at: float
    operation: str
    to: str | None
    verdict: str
    request_id: str | None = None
    kind: str | None = None
    fault: str | None = None


@frozen(kw_only=True)
class Message:
    """
    One message that was carried out, with what the request said.

    `extra` holds the body's fields that the reference does not list for the operation: Pico's handling of them is
    not documented, the sandbox ignores them, and a client has no reason to send any. A template's variables are not
    filled: how Pico fills them is not documented.
    """

    at: float
    kind: str
    to: str
    request_id: str
    sender: str | None = None
    text: str | None = field(default=None, repr=False)
    template_id: str | None = None
    media_url: str | None = None
    callback: str | None = None
    lang: str | None = None
    extra: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def content(self) -> str:
        """What the handset would get: two messages to one number with one content are duplicates."""
        return "\n".join(part for part in (self.text, self.template_id, self.media_url) if part)


class Ledger:
    """
    Arrivals and accepted messages since the sandbox was made.

    The two lists are the ledger's own: read them, do not change them.
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.accepted: list[Message] = []
        self._accepted_before: list[int] = []
        self._verdicts: Counter[str] = Counter()
        self._operations: Counter[str] = Counter()

    @classmethod
    def from_rows(cls, arrivals: Iterable[Mapping[str, Any]], accepted: Iterable[Mapping[str, Any]]) -> "Ledger":
        """
        Rebuild a ledger from the two lists of `GET /_sandbox/ledger`, to ask it the same questions elsewhere.

        Lists that were fetched piece by piece (`since`) are to be joined first.
        """
        ledger = cls()
        messages = {row["request_id"]: Message(**row) for row in accepted}
        for row in arrivals:
            ledger.record(Arrival(**row), messages.get(row["request_id"]))
        return ledger

    def record(self, arrival: Arrival, message: Message | None = None) -> None:
        """Write one arrival down, with the message that it brought about."""
        self._accepted_before.append(len(self.accepted))
        self.arrivals.append(arrival)
        self._verdicts[arrival.verdict] += 1
        self._operations[arrival.operation] += 1
        if message is not None:
            self.accepted.append(message)

    @property
    def token_requests(self) -> int:
        """How often a token was asked for, granted or not."""
        return self._operations["token.get"]

    @property
    def refusals(self) -> int:
        """How many requests were refused for their rate, injected refusals included."""
        return self._verdicts[Verdict.REFUSED_RATE]

    def counts(self) -> dict[str, int]:
        """How many arrivals there were of each verdict."""
        return {str(verdict): self._verdicts[verdict] for verdict in Verdict}

    def sent_to(self, number: str) -> list[Message]:
        """List the messages accepted for *number*, oldest first; a leading "+" is dropped."""
        number = number.removeprefix("+")
        return [message for message in self.accepted if message.to == number]

    def duplicates(self) -> dict[tuple[str, str, str], int]:
        """Count what was accepted more than once, by (kind, to, content)."""
        seen = Counter((message.kind, message.to, message.content) for message in self.accepted)
        return {message: count for message, count in seen.items() if count > 1}

    def densest(self, window_s: float = 1.0, operation: str = "sms.send") -> int:
        """
        Count the most arrivals that any half-open window of *window_s* seconds holds.

        Every arrival of the operation counts, also a refused one: this is what the client asked for. Two arrivals
        exactly *window_s* apart are not in one window.
        """
        times = [arrival.at for arrival in self.arrivals if arrival.operation == operation]
        most = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= window_s - TOLERANCE_S:
                first += 1
            most = max(most, last - first + 1)
        return most

    def arrival_of(self, message: int) -> Arrival:
        """Give the arrival that brought message number *message* of `accepted`."""
        return self.arrivals[bisect_right(self._accepted_before, message) - 1]

    def accepted_since(self, arrival: int) -> int:
        """Say at which index of `accepted` the messages begin that came with arrival number *arrival* or later."""
        return self._accepted_before[arrival] if arrival < len(self._accepted_before) else len(self.accepted)
