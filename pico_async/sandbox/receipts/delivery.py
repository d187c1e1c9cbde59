"""Delivery of receipts: they are planned as messages are accepted, and each is tried until its target takes it."""

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
from pico_async.sandbox.receipts.targets import ReceiptSender, RefusedAddressError

CONCURRENCY = 16
_POLL_S = 0.05


@frozen(kw_only=True)
class Try:
    """
    One try to deliver one receipt.

    Attributes:
        at: When the try ended, on the sandbox's clock.
        is_copy: Whether the receipt was sent before: it is a duplicate, or was sent again by hand.
        result: HTTP status of the reply, such as "204", or the reason why there is none.
    """

    at: float
    status: Status
    number: int
    is_copy: bool
    result: str
    acknowledged: bool


@define
class Progress:
    """
    How far the receipts of one message are.

    | state | meaning |
    |---|---|
    | off | receipts were off when the message was accepted |
    | none | the message has no callback |
    | waiting | no receipt was tried yet |
    | sent, delivered, undelivered | the target acknowledged a receipt with this status |
    | retrying | the last try failed; the next one waits |
    | failed | all tries failed |
    | refused | the target is not allowed |
    """

    state: str
    tries: list[Try] = field(factory=list)
    last: Status = Status.DELIVERED

    def advance(self, state: str) -> None:
        """Set the state. Once the target acknowledged a final status, only another final status replaces it."""
        if self.state not in ("delivered", "undelivered") or state in ("delivered", "undelivered"):
            self.state = state


@define(eq=False)
class _PendingReceipt:
    """A receipt to deliver, and when: *due* on the sandbox's clock, *due_monotonic* in real time."""

    number: int
    message: Message
    status: Status
    due: float
    due_monotonic: float
    is_copy: bool = False
    tried: int = 0


class ReceiptDelivery:
    """
    The receipts of one sandbox.

    `run` delivers them as they come due in real time, `deliver` as they come due on the sandbox's clock. Both read the
    ledger themselves, so that receipts cost a send no time.

    Attributes:
        changed: Number of a message for each change of its receipts, oldest first; it only grows.
        receipts: The settings; None if receipts are off. `configure` changes them.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float], epoch: float, receipts: Receipts | None) -> None:
        self.changed: list[int] = []
        self._ledger = ledger
        self._clock = clock
        self._epoch = epoch
        self.receipts: Receipts | None = receipts
        self._random = Random(receipts.seed if receipts else None)  # noqa: S311  # draws are repeatable, not secret
        self._planned_messages = 0
        self._progress: dict[int, Progress] = {}
        self._pending: list[tuple[float, int, _PendingReceipt]] = []
        self._order = count()
        self._wake_events: set[asyncio.Event] = set()

    @property
    def pending(self) -> int:
        """How many planned receipts wait for their first or next try."""
        return len(self._pending)

    def configure(self, receipts: Receipts | None) -> None:
        """
        Change the settings; None turns receipts off.

        A message that is accepted while they are off gets no receipts. Pending receipts wait until they are on again.
        """
        self.plan_new()
        if receipts is not None and (self.receipts is None or receipts.seed != self.receipts.seed):
            self._random = Random(receipts.seed)  # noqa: S311
        self.receipts = receipts
        self._wake()

    def progress(self, number: int) -> Progress:
        """Return how far the receipts of message *number* of the ledger are."""
        if number in self._progress:
            return self._progress[number]
        if self._ledger.accepted[number].callback is None:
            return Progress("none")
        return Progress("waiting" if number >= self._planned_messages and self.receipts is not None else "off")

    def plan_new(self) -> None:
        """Plan the receipts of the messages that were accepted since the last call."""
        accepted = self._ledger.accepted
        if self.receipts is None:
            self._planned_messages = len(accepted)
            return
        while self._planned_messages < len(accepted):
            number, message = self._planned_messages, accepted[self._planned_messages]
            self._planned_messages += 1
            if message.callback is None:
                continue
            planned = plan(self.receipts, self._random)
            last = next(receipt.status for receipt in planned if receipt.status is not Status.SENT)
            self._progress[number] = Progress("waiting", last=last)
            for receipt in planned:
                due = message.at + receipt.after_s
                self._add(number, message, receipt.status, due, receipt.after_s, receipt.is_copy)

    def send_again(self, number: int) -> None:
        """
        Make the last receipt of message *number* due now, once more.

        Raises:
            LookupError: There is no such message, or it has no callback.
            RuntimeError: Receipts are off.
        """
        if not 0 <= number < len(self._ledger.accepted):
            raise LookupError("no such message.")
        message = self._ledger.accepted[number]
        if message.callback is None:
            raise LookupError("this message has no callback.")
        if self.receipts is None:
            raise RuntimeError("receipts are off: turn them on first.")
        self.plan_new()
        progress = self._progress.setdefault(number, Progress("waiting"))
        self._add(number, message, progress.last, self._clock(), 0.0, is_copy=bool(progress.tries))
        self._wake()

    async def run(self) -> None:
        """Deliver receipts as they come due in real time, until cancelled. No task is left behind."""
        wake = asyncio.Event()
        self._wake_events.add(wake)
        try:
            while True:
                wake.clear()
                if self.receipts is None:
                    await wake.wait()
                else:
                    await self._run_with(self.receipts, wake)
        finally:
            self._wake_events.discard(wake)

    async def deliver(self, *, everything: bool) -> int:
        """Deliver what is due on the sandbox's clock, one after the other; with *everything*, do not wait for it."""
        if self.receipts is None:
            raise RuntimeError("Receipts are off: make the sandbox with receipts=Receipts().")
        self.plan_new()
        tried = 0
        async with ReceiptSender(self.receipts) as sender:
            while receipt := self._pop_due_by_clock(self._clock(), everything=everything):
                try:
                    await self._try(sender, receipt)
                except BaseException:
                    self._push(receipt)
                    raise
                tried += 1
        return tried

    async def _run_with(self, receipts: Receipts, wake: asyncio.Event) -> None:
        semaphore = anyio.Semaphore(CONCURRENCY)
        in_flight: set[_PendingReceipt] = set()

        async def try_and_release(receipt: _PendingReceipt) -> None:
            await self._try(sender, receipt)
            in_flight.discard(receipt)
            semaphore.release()

        try:
            async with ReceiptSender(receipts) as sender, anyio.create_task_group() as group:
                while self.receipts is receipts:
                    self.plan_new()
                    while self.receipts is receipts and self._is_due():
                        await semaphore.acquire()
                        # Taken only after the wait: a receipt that is held while the task is cancelled would be lost.
                        if not self._is_due():
                            semaphore.release()
                            break
                        receipt = heappop(self._pending)[2]
                        in_flight.add(receipt)
                        group.start_soon(try_and_release, receipt)
                    wait_s = _POLL_S
                    if self._pending:
                        wait_s = min(wait_s, max(0.0, self._pending[0][0] - time.monotonic()))
                    wake.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wake.wait(), wait_s)
        finally:
            # The server was closed during these tries: the receipts stay pending for the next server.
            for receipt in in_flight:
                self._push(receipt)

    def _wake(self) -> None:
        for event in self._wake_events:
            event.set()

    def _add(self, number: int, message: Message, status: Status, due: float, in_s: float, is_copy: bool) -> None:
        self._push(_PendingReceipt(number, message, status, due, time.monotonic() + in_s, is_copy))
        self.changed.append(number)

    def _push(self, receipt: _PendingReceipt) -> None:
        heappush(self._pending, (receipt.due_monotonic, next(self._order), receipt))

    def _is_due(self) -> bool:
        return bool(self._pending) and self._pending[0][0] <= time.monotonic()

    def _pop_due_by_clock(self, now: float, *, everything: bool) -> _PendingReceipt | None:
        first = min(self._pending, key=lambda entry: (entry[2].due, entry[1]), default=None)
        if first is None or (first[2].due > now and not everything):
            return None
        self._pending.remove(first)
        heapify(self._pending)
        return first[2]

    async def _try(self, sender: ReceiptSender, receipt: _PendingReceipt) -> None:
        callback, sent_at = receipt.message.callback or "", self._epoch + self._clock()
        target = split_callback(callback)[2]
        request = write(sender.receipts.form, target, receipt.message, receipt.status, sent_at)
        acknowledged = refused = False
        try:
            status = await sender.post(callback, request)
            acknowledged, result = 200 <= status < 300, str(status)
        except RefusedAddressError as error:
            refused, result = True, str(error)
        except TimeoutError:
            result = f"no reply within {sender.receipts.timeout_s:g} s"
        except (OSError, httpx.HTTPError) as error:
            result = f"not reached ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001  # of the user's own transport, or of a URL that httpx does not take
            result = f"failed with {type(error).__name__}"
        receipt.tried += 1
        progress = self._progress[receipt.number]
        progress.tries.append(
            Try(
                at=self._clock(),
                status=receipt.status,
                number=receipt.tried,
                is_copy=receipt.is_copy,
                result=result,
                acknowledged=acknowledged,
            )
        )
        if acknowledged:
            progress.advance(receipt.status.value.lower())
        elif refused:
            progress.advance("refused")
        else:
            wait_s = retry_after_s(sender.receipts, receipt.tried)
            progress.advance("failed" if wait_s is None else "retrying")
            if wait_s is not None:
                receipt.due, receipt.due_monotonic = self._clock() + wait_s, time.monotonic() + wait_s
                self._push(receipt)
        self.changed.append(receipt.number)
