"""A blast at work: one task reads the input and starts a task for each message."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from pico_async._boundary import without_frames
from pico_async._cancellation import cancellations
from pico_async._engine.progress import CallProgress
from pico_async.bulk.journal.protocols import AHEAD, Journal, JournalEntry
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.outage import REFUSED_IN_A_ROW, Outage
from pico_async.bulk.report import SendResult, Tally
from pico_async.bulk.source import END, Source, is_cancelled, no_message, raisable
from pico_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    JournalError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
    SuppressedError,
)
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage, deadline
from pico_async.models import Accepted

if TYPE_CHECKING:
    from pico_async.bulk.blast_events import BlastEvents

Value = TypeVar("Value")
Send: TypeAlias = Callable[[Message, CallProgress], Awaitable[Accepted]]

_CANCELLED = "its tasks were cancelled by other code"


class Dispatcher:
    """
    Read the input, send its messages, and queue a result for each message that was begun.

    It owns its tasks: one that runs the blast, one that reads, and one for each message in flight. No task of the
    caller's holds a scope of it, so it may be begun in one task, read in another and closed in a third. What the input
    and the journal hold open is entered and left in one task each.

    Attributes:
        keep_results: Where False, results are counted and dropped, because nobody takes them.
        tally: Their numbers.
        leftover: Results that nobody had taken when it was closed.
        error: What the input, or an interrupt within the blast, raised. It is the caller's.
    """

    def __init__(
        self,
        source: Source,
        send: Send,
        *,
        concurrency: int,
        stop_after: int | None,
        outage: Outage,
        journal: Journal | None,
        account: str,
        told: BlastEvents | None,
    ) -> None:
        self._source = source
        self._send = send
        self._concurrency = concurrency
        self._stop_after = stop_after
        self._outage = outage
        self._journal = journal
        self._account = account
        self._told = told
        self._trace: Callable[[anyio.CancelScope], CallProgress] = CallProgress
        # A message's place is taken before it is read, and free again when its result is taken.
        self._places = asyncio.BoundedSemaphore(concurrency)
        self._positions = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[SendResult]] = set()
        self._scopes: dict[CallProgress, anyio.CancelScope] = {}
        self._waits_for_input = self._was_interrupted = False
        self._opened, self._entered = asyncio.Event(), asyncio.Event()
        self._is_open = False
        self._stopped = self._read_all = False
        self._unmatched = isinstance(journal, SqliteJournal)
        self._results: asyncio.Queue[SendResult | None] = asyncio.Queue()
        self.keep_results = True
        self.tally = Tally()
        self.error: BaseException | None = None
        self.leftover: list[SendResult] = []

    async def begin(self) -> None:
        """
        Open the journal and begin to read.

        Raises:
            ConfigurationError: It was stopped before. Nothing was read or sent.
            Exception: The journal could not be opened. Nothing was read or sent.
        """
        self._require_not_stopped()
        self.tally = Tally()
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.create_task(self._run())
        try:
            await self._opened.wait()
        except BaseException:
            self._running.cancel()
            await self.close()
            raise
        if not self._is_open:
            await self.close()
            if self.error is not None:
                raise self.error
            self._require_not_stopped()
        # Nothing is read before the caller's next wait.
        self._entered.set()

    def stop(self, reason: str) -> None:
        """End the blast: read no more, drop what waits as not sent, settle what is on the wire."""
        if self._stopped or (self._read_all and not self._sending):
            return
        self._stopped = True
        if self.tally.stopped is None:
            self.tally.stopped = reason
        for trace, scope in self._scopes.items():
            trace.ending = True
            if not trace.exchanging:
                scope.cancel()
        self._interrupt_reading()

    def cancel(self) -> None:
        """End the blast at once: what is on the wire is in doubt, what waits is not sent."""
        self.stop("the stream was left")
        for scope in self._scopes.values():
            scope.cancel()
        self._interrupt_reading()

    def abandon(self) -> None:
        """Cancel it, from any thread: its stream was collected as garbage."""
        if self._running is not None and not self._running.done() and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.cancel)

    async def take(self) -> SendResult | None:
        """Take the next result, and make room for another message; None where no more come."""
        result = await self._results.get()
        if result is None:
            self._results.put_nowait(None)  # for whoever asks again
        else:
            self._places.release()
        return result

    async def close(self) -> None:
        """
        Cancel it, wait for its end, and keep the results that nobody took as `leftover`.

        Where the caller is cancelled meanwhile, that is raised afterwards, as a TaskGroup does.
        """
        self.cancel()
        cancelled: asyncio.CancelledError | None = None
        # Without it, a cancelled scope around the caller would cancel this wait again and again.
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
        began = False
        try:
            async with self._journalled():
                began = True
                if self._told is not None:
                    # Whatever a listener puts into the context, a span perhaps, is there for the blast's tasks alone.
                    self._told.begin(self._concurrency)
                self._is_open = True
                self._opened.set()
                await self._entered.wait()
                self._reading = asyncio.create_task(self._read())
                while not self._reading.done() or self._sending:
                    try:
                        await asyncio.wait([self._reading, *self._sending])
                    except asyncio.CancelledError:
                        self.stop(_CANCELLED)
        except asyncio.CancelledError:
            self.stop(_CANCELLED)
        except BaseException as error:  # noqa: BLE001  raised for the caller, once all results are taken
            self._fail(error)
        self.tally.end()
        if began and self._told is not None:
            try:
                self._told.end(self.tally.report(None), whole=self._read_all)
            except BaseException as error:  # noqa: BLE001  as above
                self._fail(error)
        self._results.put_nowait(None)
        self._opened.set()

    @asynccontextmanager
    async def _journalled(self) -> AsyncIterator[None]:
        if self._journal is None:
            yield
            return
        async with self._journal.run(self._account) as run:
            self._trace = functools.partial(JournalEntry, run, asyncio.Semaphore(AHEAD))
            yield

    async def _read(self) -> None:
        """Read the input until its end or the stop, and close it: in one task, for it may hold a scope of its own."""
        try:
            while not self._stopped and (item := await self._next()) is not END:
                self._start(next(self._positions), item)
        except asyncio.CancelledError:
            self.stop(_CANCELLED)
        except BaseException as error:  # noqa: BLE001  raised for the caller, once all results are taken
            self._fail(error)
        try:
            await self._source.aclose()
        except asyncio.CancelledError:
            self.stop(_CANCELLED)
        except BaseException as error:  # noqa: BLE001  as above
            self._fail(error)

    async def _next(self) -> object:
        """Read the next item once there is a place for it."""
        self._waits_for_input = True
        try:
            await self._outage.wait()
            await self._places.acquire()
            if self._unmatched:
                await self._match_journal()
            item = await self._source.anext() if self._source.is_async else self._source.next()
        finally:
            self._waits_for_input = False
        if self.tally.stopped is None:
            self.tally.stopped = self._source.stopped
        if item is END:
            self._read_all = True
            self.error = self.error or self._source.error
        return item

    async def _match_journal(self) -> None:
        """Compare the first messages with the journal, before any of them is sent."""
        if not isinstance(self._journal, SqliteJournal):
            return
        ahead = await self._source.ahead(self._concurrency)
        first = [item for item in ahead if isinstance(item, SmsMessage | MmsMessage | VoiceMessage)]
        try:
            await self._journal.require_match(first)
        except JournalError as error:
            self._source.end(error, "the journal is that of other messages")
        # Of a bad first row nothing is known: the next one tells.
        self._unmatched = not first

    def _interrupt_reading(self) -> None:
        # Once: a second cancellation would break into the input's cleaning up. Nor where the input's own code is what
        # stops the blast, for it would hit whatever the input waits for next.
        if self._reading is None:
            return
        if self._waits_for_input and not self._was_interrupted and self._reading is not asyncio.current_task():
            self._was_interrupted = True
            self._reading.cancel()

    def _start(self, index: int, item: object) -> None:
        if not isinstance(item, SmsMessage | MmsMessage | VoiceMessage):
            self._report(_failed(index, None, no_message(item), 0))
            return
        scope = anyio.CancelScope()
        trace = self._trace(scope)
        trace.blast = None if self._told is None else self._told.number
        self._scopes[trace] = scope
        sending = asyncio.create_task(self._send_one(index, item, trace, scope))
        self._sending.add(sending)
        # Whatever ends the task, its callback runs once, so each message that was begun is reported once.
        sending.add_done_callback(functools.partial(self._sent, index, item, trace))

    def _sent(self, index: int, message: Message, trace: CallProgress, sending: asyncio.Task[SendResult]) -> None:
        self._sending.discard(sending)
        self._scopes.pop(trace, None)
        if not sending.cancelled() and sending.exception() is None:
            self._report(sending.result())
            return
        # Other code cancelled it before its first step, or an interrupt came between two others.
        if not sending.cancelled() and (error := sending.exception()) is not None:
            self._fail(error)
        self._report(_failed(index, message, _ended(trace, "a cancellation from elsewhere"), trace.attempts))

    async def _send_one(
        self, index: int, message: Message, trace: CallProgress, scope: anyio.CancelScope
    ) -> SendResult:
        result: SendResult | None = None
        with scope:
            try:
                result = await self._attempt(index, message, trace)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                result = _failed(index, message, _ended(trace, "a cancellation from elsewhere"), trace.attempts)
        # From here on the outcome is known, and nothing ends the task before it is committed.
        self._scopes.pop(trace, None)
        if result is None:
            result = _failed(index, message, _ended(trace), trace.attempts)
        if isinstance(trace, JournalEntry):
            await self._settle(trace, result)
        return result

    async def _attempt(self, index: int, message: Message, trace: CallProgress) -> SendResult:
        if self._stopped:
            return _failed(index, message, _ended(trace), 0)
        if isinstance(trace, JournalEntry):
            known = await self._outcome_of(trace, lambda: trace.claim(message, index))
            if isinstance(known, SendResult):
                return known
            if known is not None:
                return _failed(index, message, known, 0)
        failed_at = math.inf
        while True:
            began_at = time.monotonic()
            outcome = await self._outcome_of(trace, lambda: self._send(message, trace))
            if isinstance(outcome, Accepted):
                self._outage.end(began_at)
                self._outage.note_acceptance()
                return SendResult(
                    index=index, message=message, outcome=Outcome.ACCEPTED, accepted=outcome, attempts=trace.attempts
                )
            failed_at = min(failed_at, time.monotonic())
            pause_s = self._judge(outcome, began_at, failed_at)
            if pause_s > 0 and (expires_at := deadline(message)) is not None:
                pause_s = min(pause_s, expires_at - time.monotonic())
                if pause_s <= 0:
                    outcome = MessageExpiredError(f"`expires_in` ran out while it could not be sent. {outcome}")
            if pause_s <= 0:
                return _failed(index, message, outcome, trace.attempts)
            try:
                await asyncio.sleep(pause_s)
            except asyncio.CancelledError:
                # Its own cause says more than that the blast has ended.
                return _failed(index, message, outcome, trace.attempts)

    async def _outcome_of(self, trace: CallProgress, step: Callable[[], Awaitable[Value]]) -> Value | PicoError:
        """Call one step of a message, await it, and return what either raises."""
        try:
            return await step()
        except PicoError as error:
            return error
        except asyncio.CancelledError:
            if is_cancelled() or cancellations():
                raise
            return _ended(trace, "a cancellation from elsewhere")
        except Exception as error:  # noqa: BLE001  one message's bad luck must not end the others
            return _ended(trace, f"an unforeseen {type(error).__name__}")
        except BaseException as error:  # noqa: BLE001  raised for the caller, once all results are taken
            self._fail(error)
            return _ended(trace, type(error).__name__)

    def _judge(self, error: PicoError, began_at: float, failed_at: float) -> float:
        """
        Return after how many seconds to send the message again, by what is to blame; 0 where it is given up.

        1. The message itself: it is given up.
        2. The account or the set-up, which are the same for all: it is given up, and where no other got through since
           it began, the blast stops.
        3. What may pass and is no message's own (no token, no Redis, no connection): the message waits, and with it
           the reading. Where it fails again although one that began after it first failed got through, it is given up.
           Where nothing gets through for too long, the blast stops.
        4. What may have been sent is given up, but does not show that others get through: the reading waits as above.
        5. A refusal shows that Pico can be reached: the message is given up. Many in a row that are no message's own,
           as of HTTP 403, stop the blast.
        """
        if isinstance(error, MessageExpiredError | InvalidMessageError | SuppressedError | JournalError):
            return 0.0
        if isinstance(error, AuthenticationError | ConfigurationError):
            if self._outage.ended_at < began_at:
                self.stop(f"nothing else can be sent either: {str(error).rstrip('.')}")
            return 0.0
        if isinstance(error, InDoubtError):
            if error.attempts != 0:  # else another delivery has the message, and no request was made
                self._note_outage(error)
            return 0.0
        if not isinstance(error, NotSentError):
            self._outage.end(began_at)
            if self._outage.note_refusal(error.status_code):
                self.stop(f"Pico refused {REFUSED_IN_A_ROW} messages in a row, as it may all: {str(error).rstrip('.')}")
            return 0.0
        if self._outage.passed_at > failed_at:
            return 0.0
        self._note_outage(error)
        return 0.0 if self._stopped else self._outage.pause_s

    def _note_outage(self, error: PicoError) -> None:
        self._outage.begin()
        if self._outage.is_too_long:
            self.stop(f"nothing could be sent for {self._outage.bound_s:g} s: {str(error).rstrip('.')}")

    async def _settle(self, entry: JournalEntry, result: SendResult) -> None:
        try:
            await entry.settle(result)
        except JournalError as error:
            self.stop(f"the journal failed, and has {result.outcome} as in doubt: {error}")
        except asyncio.CancelledError:
            # The result is known all the same. A journal of ours goes on with its commit.
            self.stop(_CANCELLED)
        if isinstance(result.error, JournalError):
            self.stop(f"the journal failed: {result.error}")

    def _report(self, result: SendResult) -> None:
        self.tally.add(result)
        if self.keep_results:
            self._results.put_nowait(result)
        else:
            self._places.release()
        if self._stop_after is not None and self.tally.in_a_row >= self._stop_after:
            self.stop(f"{self._stop_after} failures in a row")

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = raisable(error)
        self.stop(f"it was ended by {type(error).__name__}")

    def _require_not_stopped(self) -> None:
        if self.tally.stopped is not None:
            raise ConfigurationError(f"This stream cannot begin, for {self.tally.stopped}. Nothing was read or sent.")


def _failed(index: int, message: Message | None, error: PicoError, attempts: int) -> SendResult:
    without_frames(error)
    return SendResult(index=index, message=message, outcome=error.outcome, error=error, attempts=attempts)


def _ended(trace: CallProgress, by: str = "the end of the blast") -> PicoError:
    if trace.in_doubt:
        return NoResponseError(f"Ended by {by} while on the wire. The message may have been sent.")
    return NotSentError(f"Ended by {by} while it waited. Nothing was sent.")
