"""Statistics of the arrivals: sends per second, the densest second, and the requests that were not accepted."""

from collections import Counter, deque

from attrs import frozen

from pico_async.sandbox.ledger import Arrival, Ledger, Verdict
from pico_async.sandbox.rates import TOLERANCE_S

KEPT_SECONDS = 900
KEPT_FAILED = 50
_BATCH = 5_000
_KINDS: dict[str, str] = {Verdict.ACCEPTED: "accepted", Verdict.REFUSED_RATE: "refused"}


@frozen
class Second:
    """Sends of SMS in one second of the sandbox's clock: accepted, refused as too fast, and otherwise failed."""

    number: int
    accepted: int
    refused: int
    other: int


@frozen
class Densest:
    """The most sends of SMS in any half-open second, and when the first such second began."""

    count: int = 0
    at: float | None = None


class Statistics:
    """
    Statistics of a ledger's arrivals.

    They are computed when somebody reads them, so that they cost a request no time.

    Attributes:
        arrivals_read: Arrivals of the ledger that are counted so far.
        densest: The densest second.
        operations: Arrivals by operation.
        failed: The last requests that were not accepted, each with its number in the ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._window: deque[float] = deque()
        self._seconds: dict[int, Counter[str]] = {}
        self.arrivals_read: int = 0
        self.densest: Densest = Densest()
        self.operations: Counter[str] = Counter()
        self.failed: deque[tuple[int, Arrival]] = deque(maxlen=KEPT_FAILED)

    def catch_up(self) -> bool:
        """Count the next 5,000 arrivals, and return whether there are more: a million at once take a second."""
        arrivals = self._ledger.arrivals[self.arrivals_read : self.arrivals_read + _BATCH]
        for number, arrival in enumerate(arrivals, self.arrivals_read):
            self.operations[arrival.operation] += 1
            if arrival.verdict != Verdict.ACCEPTED:
                self.failed.append((number, arrival))
            if arrival.operation == "sms.send":
                self._count(arrival)
        self.arrivals_read += len(arrivals)
        return self.arrivals_read < len(self._ledger.arrivals)

    def seconds(self, first: int | None) -> list[Second]:
        """Return the seconds with any send, from number *first* on. Only the last 900 of them are kept."""
        return [
            Second(number, counted["accepted"], counted["refused"], counted["other"])
            for number, counted in self._seconds.items()
            if first is None or number >= first
        ]

    def _count(self, arrival: Arrival) -> None:
        window, at = self._window, arrival.at
        while window and at - window[0] >= 1.0 - TOLERANCE_S:
            window.popleft()
        window.append(at)
        if len(window) > self.densest.count:
            self.densest = Densest(len(window), window[0])
        number = int(at // 1)
        if number not in self._seconds:
            self._seconds[number] = Counter()
            while len(self._seconds) > KEPT_SECONDS:
                del self._seconds[next(iter(self._seconds))]
        self._seconds[number][_KINDS.get(arrival.verdict, "other")] += 1
