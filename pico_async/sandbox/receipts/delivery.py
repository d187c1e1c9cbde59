"""Sends the delivery receipts: plans them as messages are accepted, and tries each until its receiver takes it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random

import anyio
import httpx
from attrs import define, field, frozen

from pico_async.sandbox.ledger import Ledger, Message
from pico_async.sandbox.receipts.receipt import Receipts, Status, plan, retry_after_s, split_callback, write
from pico_async.sandbox.receipts.targets import Carrier, RefusedAddressError

CONCURRENCY = 16
_LOOK_S = 0.05


@frozen(kw_only=True)
class Try:
    """
    One try to hand over one receipt.

    Attributes:
        at: When it ended, on the sandbox's clock.
        status: What the receipt says.
        number: 1 for the first try.
        is_copy: Whether it is a receipt that was sent before: a duplicate, or one sent again by hand.
        result: The status of the answer, as "204", or why there was none.
        taken: Whether the answer was 2xx.
    """

    at: float
    status: Status
    number: int
    is_copy: bool
    result: str
    taken: bool


@define
class Track:
    """
    What became of one message's receipts.

    `state` is "off" (receipts were off), "none" (the message named no callback), "waiting", "sent", "delivered",
    "undelivered" (the receiver took a receipt that says so), "retrying", "failed" (given up) or "refused" (not sent
    there).
    """

    state: str
    tries: list[Try] = field(factory=list)
    last: Status = Status.DELIVERED

    def advance(self, state: str) -> None:
        """Go on to *state*; what a receiver was told last about the message stands, whatever follows."""
        if self.state not in ("delivered", "undelivered") or state in ("delivered", "undelivered"):
            self.state = state


@define(eq=False)
class _Errand:
    """A receipt that is to be sent: when, on both clocks, and how often it was tried."""

    number: int
    message: Message
    status: Status
    due: float
    due_really: float
    is_copy: bool = False
    tried: int = 0


class Postman:
    """
    The receipts of one sandbox, sent by `run` as they come due in real time, or by `deliver` on the sandbox's clock.

    It reads the ledger on by itself, so that a send pays nothing for it.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float], epoch: float, receipts: Receipts | None) -> None:
        self.changed: list[int] = []
        self._ledger = ledger
        self._clock = clock
        self._epoch = epoch
        self._receipts = receipts
        self._random = Random(receipts.seed if receipts else None)  # noqa: S311  # it must repeat, not surprise
        self._read = 0
        self._tracks: dict[int, Track] = {}
        self._errands: list[tuple[float, int, _Errand]] = []
        self._order = count()
        self._wakers: set[asyncio.Event] = set()

    @property
    def receipts(self) -> Receipts | None:
        """How receipts are sent; None where they are not."""
        return self._receipts

    def switch(self, receipts: Receipts | None) -> None:
        """
        Send them otherwise from now on, or no more.

        What was accepted while they were off gets none; what is still to be sent waits until they are on again.
        """
        self.look()
        if receipts is not None and (self._receipts is None or receipts.seed != self._receipts.seed):
            self._random = Random(receipts.seed)  # noqa: S311
        self._receipts = receipts
        for waker in self._wakers:
            waker.set()

    def track(self, number: int) -> Track:
        """Say what became of the receipts of message *number* of the ledger."""
        if number in self._tracks:
            return self._tracks[number]
        if self._ledger.accepted[number].callback is None:
            return Track("none")
        return Track("waiting" if number >= self._read and self._receipts is not None else "off")

    def look(self) -> None:
        """Plan the receipts of what was accepted since the last look."""
        accepted = self._ledger.accepted
        if self._receipts is None:
            self._read = len(accepted)
            return
        while self._read < len(accepted):
            number, message = self._read, accepted[self._read]
            self._read += 1
            if message.callback is None:
                continue
            planned = plan(self._receipts, self._random)
            told = next(receipt.status for receipt in planned if receipt.status is not Status.SENT)
            self._tracks[number] = Track("waiting", last=told)
            for receipt in planned:
                self._put(
                    number, message, receipt.status, message.at + receipt.after_s, receipt.after_s, receipt.is_copy
                )

    def again(self, number: int) -> None:
        """
        Send the last receipt of message *number* once more, now.

        Raises:
            LookupError: There is no such message, or it named no callback.
            RuntimeError: Receipts are off.
        """
        if not 0 <= number < len(self._ledger.accepted):
            raise LookupError("no such message.")
        message = self._ledger.accepted[number]
        if message.callback is None:
            raise LookupError("this message named no callback.")
        if self._receipts is None:
            raise RuntimeError("receipts are off: turn them on first.")
        self.look()
        track = self._tracks.setdefault(number, Track("waiting"))
        self._put(number, message, track.last, self._clock(), 0.0, is_copy=bool(track.tries))
        for waker in self._wakers:
            waker.set()

    async def run(self) -> None:
        """Send what comes due, in real time, until cancelled; then nothing of it is left."""
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            while True:
                waker.clear()
                if self._receipts is None:
                    await waker.wait()
                else:
                    await self._run_with(self._receipts, waker)
        finally:
            self._wakers.discard(waker)

    async def _run_with(self, receipts: Receipts, waker: asyncio.Event) -> None:
        places = anyio.Semaphore(CONCURRENCY)
        under_way: set[_Errand] = set()
        try:
            async with Carrier(receipts) as carrier, anyio.create_task_group() as group:
                while self._receipts is receipts:
                    self.look()
                    while self._receipts is receipts and self._is_due():
                        await places.acquire()
                        # Only now: who is cancelled while it waits must not have one in its hand.
                        errand = self._take_due()
                        if errand is None:
                            places.release()
                            break
                        under_way.add(errand)
                        group.start_soon(self._try_in_place, carrier, errand, places, under_way)
                    wait_s = _LOOK_S
                    if self._errands:
                        wait_s = min(wait_s, max(0.0, self._errands[0][0] - time.monotonic()))
                    waker.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(waker.wait(), wait_s)
        finally:
            # The server was closed in the middle of these: they stay to be sent, should there be a next one.
            for errand in under_way:
                self._enqueue(errand)

    async def deliver(self, *, everything: bool) -> int:
        """Send what is due on the sandbox's clock, one after the other; with *everything*, wait for nothing."""
        if self._receipts is None:
            raise RuntimeError("Receipts are off: make the sandbox with receipts=Receipts().")
        self.look()
        tried = 0
        async with Carrier(self._receipts) as carrier:
            while errand := self._next_due(self._clock(), everything=everything):
                try:
                    await self._try(carrier, errand)
                except BaseException:
                    self._enqueue(errand)
                    raise
                tried += 1
        return tried

    def _put(self, number: int, message: Message, status: Status, due: float, in_s: float, is_copy: bool) -> None:
        self._enqueue(_Errand(number, message, status, due, time.monotonic() + in_s, is_copy))
        self.changed.append(number)

    def _enqueue(self, errand: _Errand) -> None:
        heappush(self._errands, (errand.due_really, next(self._order), errand))

    def _is_due(self) -> bool:
        return bool(self._errands) and self._errands[0][0] <= time.monotonic()

    def _take_due(self) -> _Errand | None:
        return heappop(self._errands)[2] if self._is_due() else None

    def _next_due(self, now: float, *, everything: bool) -> _Errand | None:
        found = min(self._errands, key=lambda entry: (entry[2].due, entry[1]), default=None)
        if found is None or (found[2].due > now and not everything):
            return None
        self._errands.remove(found)
        heapify(self._errands)
        return found[2]

    async def _try_in_place(
        self, carrier: Carrier, errand: _Errand, places: anyio.Semaphore, under_way: set[_Errand]
    ) -> None:
        await self._try(carrier, errand)
        under_way.discard(errand)
        places.release()

    async def _try(self, carrier: Carrier, errand: _Errand) -> None:
        callback, sent_at = errand.message.callback or "", self._epoch + self._clock()
        target = split_callback(callback)[2]
        letter = write(carrier.receipts.form, target, errand.message, errand.status, sent_at)
        taken = refused = False
        try:
            status = await carrier.post(callback, letter)
            taken, result = 200 <= status < 300, str(status)
        except RefusedAddressError as error:
            refused, result = True, str(error)
        except TimeoutError:
            result = f"no answer within {carrier.receipts.timeout_s:g} s"
        except (OSError, httpx.HTTPError) as error:
            result = f"not reached ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001  # of the caller's own transport, or of a URL that no client takes
            result = f"failed with {type(error).__name__}"
        errand.tried += 1
        track = self._tracks[errand.number]
        track.tries.append(
            Try(
                at=self._clock(),
                status=errand.status,
                number=errand.tried,
                is_copy=errand.is_copy,
                result=result,
                taken=taken,
            )
        )
        if taken:
            track.advance(errand.status.value.lower())
        elif refused:
            track.advance("refused")
        else:
            wait_s = retry_after_s(carrier.receipts, errand.tried)
            track.advance("failed" if wait_s is None else "retrying")
            if wait_s is not None:
                errand.due, errand.due_really = self._clock() + wait_s, time.monotonic() + wait_s
                self._enqueue(errand)
        self.changed.append(errand.number)
