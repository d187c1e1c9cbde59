"""The ledger: each request that reached the sandbox, and each message that it carried out."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from pico_async.sandbox.rates import TOLERANCE_S


class Verdict(StrEnum):
    """Result of one request."""

    ACCEPTED = "accepted"  # carried out, whatever the reply was
    REFUSED_RATE = "refused-rate"
    REJECTED = "rejected"  # 400 or 417
    UNAUTHORISED = "unauthorised"
    DUPLICATE = "duplicate"  # the repeated-submission rule
    DROPPED = "dropped"  # a fault prevented it


@frozen
class Arrival:
    """
    One request that reached the sandbox.

    Attributes:
        at: Time of arrival, in seconds on the sandbox's clock.
        operation: As "sms.send"; "unknown" for a path that is not in the reference.
        to: Destination, for a send whose body named one.
        verdict: A `Verdict`.
        request_id: The reply's, also if the reply was lost; None for a reply without one.
        kind: "sms", "mms" or "voice"; None for other operations.
        fault: The fault that struck it, such as "accept-then-drop"; None for a true reply.
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
    One message that was carried out, with the fields of its request.

    `extra` has the fields of the body that the reference does not list for the operation. The sandbox ignores them,
    because Pico's handling of them is not documented. Variables of a template are not filled for the same reason.
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
        """The content for the handset: two messages to one number with equal content are duplicates."""
        return "\n".join(part for part in (self.text, self.template_id, self.media_url) if part)


class Ledger:
    """
    Arrivals and accepted messages since the sandbox was made, each in order of arrival.

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
        Return a ledger made from the two lists of `GET /_sandbox/ledger`.

        Join lists first that were fetched in parts (`since`).
        """
        ledger = cls()
        messages = {row["request_id"]: Message(**row) for row in accepted}
        for row in arrivals:
            ledger.record(Arrival(**row), messages.get(row["request_id"]))
        return ledger

    def record(self, arrival: Arrival, message: Message | None = None) -> None:
        """Add one arrival, and its message if it was carried out."""
        self._accepted_before.append(len(self.accepted))
        self.arrivals.append(arrival)
        self._verdicts[arrival.verdict] += 1
        self._operations[arrival.operation] += 1
        if message is not None:
            self.accepted.append(message)

    @property
    def token_requests(self) -> int:
        """How many requests for a token there were, granted or not."""
        return self._operations["token.get"]

    @property
    def refusals(self) -> int:
        """How many requests were refused because they came too fast, injected refusals included."""
        return self._verdicts[Verdict.REFUSED_RATE]

    def counts(self) -> dict[str, int]:
        return {str(verdict): self._verdicts[verdict] for verdict in Verdict}

    def sent_to(self, number: str) -> list[Message]:
        """Return the messages accepted for *number*, oldest first; a leading "+" is dropped."""
        number = number.removeprefix("+")
        return [message for message in self.accepted if message.to == number]

    def duplicates(self) -> dict[tuple[str, str, str], int]:
        """Return how often each message was accepted that was accepted more than once, by (kind, to, content)."""
        seen = Counter((message.kind, message.to, message.content) for message in self.accepted)
        return {message: count for message, count in seen.items() if count > 1}

    def densest(self, window_s: float = 1.0, operation: str = "sms.send") -> int:
        """
        Return the most arrivals of one operation in any half-open window of *window_s* seconds.

        Refused arrivals count, too, because the client sent them. Two arrivals exactly *window_s* apart are not in one
        window.
        """
        times = [arrival.at for arrival in self.arrivals if arrival.operation == operation]
        most = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= window_s - TOLERANCE_S:
                first += 1
            most = max(most, last - first + 1)
        return most

    def arrival_of(self, message: int) -> Arrival:
        """Return the arrival of message number *message* of `accepted`."""
        return self.arrivals[bisect_right(self._accepted_before, message) - 1]

    def accepted_since(self, arrival: int) -> int:
        """Return the index in `accepted` of the first message that came with arrival number *arrival* or later."""
        return self._accepted_before[arrival] if arrival < len(self._accepted_before) else len(self.accepted)
