"""A running bulk send: one task reads the input and starts a task for each message."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import TypeAlias, TypeVar

import anyio
from attrs import define, field

from pico_async._cancellation import cancellations
from pico_async._engine.progress import CallProgress
from pico_async.bulk.bulk_events import BulkEvents
from pico_async.bulk.delivery import Delivery, failure_result
from pico_async.bulk.feed import Feed
from pico_async.bulk.journal.entry import MAX_WAITING_AS_SENDING, JournalEntry
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.outage import Outage
from pico_async.bulk.report import SendResult, Totals
from pico_async.bulk.source import END, Source, invalid_item, is_cancelled, raisable
from pico_async.errors import ConfigurationError, JournalError, MessageExpiredError, PicoError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage, deadline
from pico_async.models import Accepted

Value = TypeVar("Value")
Send: TypeAlias = Callable[[Message, CallProgress], Awaitable[Accepted]]

_CANCELLED = "its tasks were cancelled by other code"
_CANCELLED_ELSEWHERE = "a cancellation from elsewhere"
_STOPPED = "the end of the bulk send"


class State(StrEnum):
    """How far a bulk send is."""

    NEW = "not begun"
    OPENING = "opening"
    RUNNING = "running"
    STOPPING = "stopping"
    """No more is read, and each message ends after its present exchange."""
    ENDED = "ended"


@define(kw_only=True, eq=False, repr=False)
class Dispatcher:
    """
    Reads the input, sends its messages, and queues a result for each message that was begun.

    It owns its tasks: one that runs the bulk send, one that reads, and one for each message that was begun. It enters
    its cancel scopes in these only, so the caller may begin, read and close it in three different tasks. The input, and
    the journal, are opened and closed within one task each, because they may hold a scope open.

    Attributes:
        keep_results: If False, results are counted and dropped.
        leftover: Results that were not taken before it was closed.
    """

    _source: Source
    _send: Send
    _concurrency: int
    _stop_after: int | None
    _outage: Outage
    _journal: Journal | None
    _account: str
    _events: BulkEvents | None
    state: State = field(default=State.NEW, init=False)
    keep_results: bool = field(default=True, init=False)
    totals: Totals = field(factory=Totals, init=False)
    leftover: list[SendResult] = field(factory=list, init=False)
    _feed: Feed = field(init=False)
    _indices: Iterator[int] = field(factory=itertools.count, init=False)
    _new_progress: Callable[[anyio.CancelScope], CallProgress] = field(default=CallProgress, init=False)
    _running: asyncio.Task[None] | None = field(default=None, init=False)
    _opened: asyncio.Event = field(factory=asyncio.Event, init=False)
    _may_read: asyncio.Event = field(factory=asyncio.Event, init=False)
    _tasks: set[asyncio.Task[SendResult]] = field(factory=set, init=False)
    _deliveries: set[Delivery] = field(factory=set, init=False)
    _results: asyncio.Queue[SendResult | None] = field(factory=asyncio.Queue, init=False)
    _error: BaseException | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._feed = Feed(self._source, concurrency=self._concurrency, outage=self._outage, journal=self._journal)

    @property
    def has_begun(self) -> bool:
        """Whether `begin` started it."""
        return self._running is not None

    def status(self) -> str:
        """Return its state and its present numbers in one line, for a repr."""
        report, exchanging = self.totals.report(None), sum(each.progress.exchanging for each in self._deliveries)
        why = "" if report.stopped is None else f" because {report.stopped}"
        accepted = f"{report.accepted + report.skipped} of {report.total} accepted"
        return f"{self.state}{why}: {accepted}, {exchanging} being exchanged, {len(self._tasks) - exchanging} waiting"

    async def begin(self) -> None:
        """Open the journal and begin to read; raise, with nothing sent, if that fails or it was stopped before."""
        self._require_not_stopped()
        self.state = State.OPENING
        self.totals = Totals()
        self._running = asyncio.create_task(self._run())
        try:
            await self._opened.wait()
        except BaseException:
            self._running.cancel()
            await self.close()
            raise
        if self.state is State.ENDED:
            await self.close()
            if (error := self.take_error()) is not None:
                raise error
            self._require_not_stopped()
        # Reading starts when the caller next awaits something.
        self._may_read.set()

    def stop(self, reason: str) -> None:
        """Stop the bulk send: read no more, drop waiting messages as not sent, and complete exchanges."""
        if self.state in (State.STOPPING, State.ENDED) or (self._feed.exhausted and not self._tasks):
            return
        self.state = State.STOPPING
        self.totals.stopped = self.totals.stopped or reason
        for delivery in self._deliveries:
            delivery.progress.ending = True
            if not delivery.progress.exchanging:
                delivery.scope.cancel()
        self._feed.interrupt()

    def cancel(self) -> None:
        """Stop the bulk send at once: messages being exchanged are in doubt, waiting messages are not sent."""
        self.stop("the stream was left")
        for delivery in self._deliveries:
            delivery.scope.cancel()
        self._feed.interrupt()

    def abandon(self) -> None:
        """Cancel the bulk send from any thread, because its stream was garbage-collected."""
        if self._running is not None and not self._running.done():
            with suppress(RuntimeError):  # the loop is closed
                self._running.get_loop().call_soon_threadsafe(self.cancel)

    async def take(self) -> SendResult | None:
        """Return the next result and free its capacity, or return None if no more come."""
        result = await self._results.get()
        if result is None:
            self._results.put_nowait(None)  # for the next call
        else:
            self._feed.release()
        return result

    def take_error(self) -> BaseException | None:
        """Return, once, what the input or an interrupt raised: it is to be raised to the caller."""
        error, self._error = self._error, None
        return error

    async def close(self) -> None:
        """
        Cancel the bulk send, wait for its end, and keep the results that were not taken as `leftover`.

        If the caller is cancelled meanwhile, the cancellation is raised afterwards, as by a TaskGroup.
        """
        self.cancel()
        cancelled: asyncio.CancelledError | None = None
        # Without the shield, a cancelled scope around the caller would cancel this wait again and again.
        with anyio.CancelScope(shield=True):
            while self._running is not None and not self._running.done():
                try:
                    await asyncio.wait([self._running])
                except asyncio.CancelledError as error:
                    cancelled = error
        while not self._results.empty():
            if (result := self._results.get_nowait()) is not None:
                self.leftover.append(result)
        self._results.put_nowait(None)
        if cancelled is not None:
            raise cancelled

    async def _run(self) -> None:
        events = None
        with self._stopping_on_error():
            async with self._opened_journal():
                if (events := self._events) is not None:
                    # What a listener adds to the context, such as a span, applies to the tasks of this bulk send alone.
                    events.begin(self._concurrency)
                if self.state is State.OPENING:
                    self.state = State.RUNNING
                self._opened.set()
                await self._may_read.wait()
                reading = asyncio.create_task(self._read())
                while not reading.done() or self._tasks:
                    try:
                        await asyncio.wait([reading, *self._tasks])
                    except asyncio.CancelledError:
                        self.stop(_CANCELLED)
        self.totals.end()
        if events is not None:
            with self._stopping_on_error():
                events.end(self.totals.report(None), whole=self._feed.exhausted)
        self.state = State.ENDED
        self._results.put_nowait(None)
        self._opened.set()

    @asynccontextmanager
    async def _opened_journal(self) -> AsyncIterator[None]:
        if self._journal is None:
            yield
            return
        async with self._journal.run(self._account) as run:
            self._new_progress = functools.partial(JournalEntry, run, asyncio.Semaphore(MAX_WAITING_AS_SENDING))
            yield

    @contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        """Stop the bulk send if the block raises, and keep the error for the caller until all results are taken."""
        try:
            yield
        except asyncio.CancelledError:
            self.stop(_CANCELLED)
        except BaseException as error:  # noqa: BLE001  raised to the caller by `take_error`
            self._fail(error)

    async def _read(self) -> None:
        """Read the input until its end or the stop, and close it in the same task: it may hold a scope open."""
        with self._stopping_on_error():
            while self.state is State.RUNNING:
                item = await self._feed.next()
                self.totals.stopped = self.totals.stopped or self._source.stopped
                if item is END:
                    self._keep_error(self._source.error)
                    break
                self._start(next(self._indices), item)
        with self._stopping_on_error():
            await self._source.aclose()

    def _start(self, index: int, item: object) -> None:
        if not isinstance(item, SmsMessage | MmsMessage | VoiceMessage):
            self._report(failure_result(index, None, invalid_item(item)))
            return
        scope = anyio.CancelScope()
        progress = self._new_progress(scope)
        progress.bulk_send = None if self._events is None else self._events.number
        delivery = Delivery(index, item, progress, scope)
        self._deliveries.add(delivery)
        task = asyncio.create_task(self._deliver(delivery))
        self._tasks.add(task)
        # The callback runs once however the task ends, so each message that was begun is reported once.
        task.add_done_callback(functools.partial(self._done, delivery))

    def _done(self, delivery: Delivery, task: asyncio.Task[SendResult]) -> None:
        self._tasks.discard(task)
        self._deliveries.discard(delivery)
        if not task.cancelled() and task.exception() is None:
            self._report(task.result())
            return
        # Other code cancelled the task before its first step, or KeyboardInterrupt came between two later steps.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        self._report(delivery.failed(delivery.ended(_CANCELLED_ELSEWHERE)))

    async def _deliver(self, delivery: Delivery) -> SendResult:
        result: SendResult | None = None
        with delivery.scope:
            try:
                result = await self._send_until_decided(delivery)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                result = delivery.failed(delivery.ended(_CANCELLED_ELSEWHERE))
        # The outcome is known now, and nothing may end the task before the outcome is committed.
        self._deliveries.discard(delivery)
        if result is None:
            result = delivery.failed(delivery.ended(_STOPPED))
        if isinstance(delivery.progress, JournalEntry):
            await self._settle(delivery.progress, result)
        return result

    async def _send_until_decided(self, delivery: Delivery) -> SendResult:
        message, progress = delivery.message, delivery.progress
        if self.state is not State.RUNNING:
            return delivery.failed(delivery.ended(_STOPPED))
        if isinstance(progress, JournalEntry):
            known = await self._returned_or_raised(delivery, lambda: progress.claim(message, delivery.index))
            if known is not None:
                return known if isinstance(known, SendResult) else delivery.failed(known)
        failed_at = math.inf
        while True:
            began_at = time.monotonic()
            outcome = await self._returned_or_raised(delivery, lambda: self._send(message, progress))
            if isinstance(outcome, Accepted):
                self._outage.accepted(began_at)
                return delivery.accepted(outcome)
            failed_at = min(failed_at, time.monotonic())
            decision = self._outage.decide(outcome, began_at, failed_at)
            if decision.stop is not None:
                self.stop(decision.stop)
            pause_s = decision.retry_after_s
            if pause_s is None or self.state is not State.RUNNING:
                return delivery.failed(outcome)
            if (expires_at := deadline(message)) is not None:
                pause_s = min(pause_s, expires_at - time.monotonic())
                if pause_s <= 0:
                    error = MessageExpiredError(f"`expires_in` ran out while it could not be sent. {outcome}")
                    return delivery.failed(error)
            try:
                await asyncio.sleep(pause_s)
            except asyncio.CancelledError:
                # The cause of the failure says more than that the bulk send was stopped.
                return delivery.failed(outcome)

    async def _returned_or_raised(self, delivery: Delivery, step: Callable[[], Awaitable[Value]]) -> Value | PicoError:
        """Await one step of a message. Return its value, or its error as one of this package; raise a cancellation."""
        try:
            return await step()
        except PicoError as error:
            return error
        except asyncio.CancelledError:
            if is_cancelled() or cancellations():
                raise
            return delivery.ended(_CANCELLED_ELSEWHERE)
        except Exception as error:  # noqa: BLE001  one message's failure must not end the others
            return delivery.ended(f"an unforeseen {type(error).__name__}")
        except BaseException as error:  # noqa: BLE001  raised to the caller by `take_error`
            self._fail(error)
            return delivery.ended(type(error).__name__)

    async def _settle(self, entry: JournalEntry, result: SendResult) -> None:
        try:
            await entry.settle(result)
        except JournalError as error:
            self.stop(f"the journal failed, and says in doubt of a message that is {result.outcome}: {error}")
        except asyncio.CancelledError:
            # The result is known nevertheless, and a SqliteJournal completes its commit.
            self.stop(_CANCELLED)
        if isinstance(result.error, JournalError):
            self.stop(f"the journal failed: {result.error}")

    def _report(self, result: SendResult) -> None:
        self.totals.add(result)
        if self.keep_results:
            self._results.put_nowait(result)
        else:
            self._feed.release()
        if self._stop_after is not None and self.totals.failures_in_a_row >= self._stop_after:
            self.stop(f"{self._stop_after} failures in a row")

    def _fail(self, error: BaseException) -> None:
        self._keep_error(raisable(error))
        self.stop(f"it was ended by {type(error).__name__}")

    def _keep_error(self, error: BaseException | None) -> None:
        if self._error is None:
            self._error = error

    def _require_not_stopped(self) -> None:
        if self.totals.stopped is not None:
            raise ConfigurationError(f"This stream cannot begin: {self.totals.stopped}. Nothing was read or sent.")
