"""The limits as the server saw them: arrivals a second, and the densest second of all."""

from collections import Counter, deque

from attrs import frozen

from pico_async.sandbox.ledger import Arrival, Ledger, Verdict
from pico_async.sandbox.rates import TOLERANCE_S

KEPT_SECONDS = 900
KEPT_TROUBLES = 50
_PIECE = 5_000


@frozen
class Second:
    """How many sends of SMS one second of the sandbox's clock held: carried out, too fast, and otherwise not."""

    number: int
    accepted: int
    refused: int
    other: int


@frozen
class Densest:
    """The most sends of SMS that any half-open second held, and when the first such second began."""

    count: int = 0
    at: float | None = None


class Tally:
    """
    What a ledger's arrivals come to, read on from where it stopped.

    It is read by who looks at it, not written by who sends: a request pays nothing for it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read = 0
        self._window: deque[float] = deque()
        self._seconds: dict[int, Counter[str]] = {}
        self.densest = Densest()
        self.operations: Counter[str] = Counter()
        self.troubles: deque[tuple[int, Arrival]] = deque(maxlen=KEPT_TROUBLES)

    def catch_up(self) -> bool:
        """Read the next arrivals, and say whether there are more: a million take a second, which nobody should wait."""
        arrivals = self._ledger.arrivals[self._read : self._read + _PIECE]
        for number, arrival in enumerate(arrivals, self._read):
            self.operations[arrival.operation] += 1
            if arrival.verdict != Verdict.ACCEPTED:
                self.troubles.append((number, arrival))
            if arrival.operation == "sms.send":
                self._count(arrival)
        self._read += len(arrivals)
        return self._read < len(self._ledger.arrivals)

    @property
    def read(self) -> int:
        """How many arrivals it has read."""
        return self._read

    def seconds(self, first: int | None) -> list[Second]:
        """List the seconds that held anything, from number *first* on; the last 900 of them are kept."""
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
        match arrival.verdict:
            case Verdict.ACCEPTED:
                self._seconds[number]["accepted"] += 1
            case Verdict.REFUSED_RATE:
                self._seconds[number]["refused"] += 1
            case _:
                self._seconds[number]["other"] += 1
