"""Send many messages at once: read lazily, admitted by a semaphore, told as they finish."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio

from pico_async._boundary import boundary, without_frames
from pico_async._engine.trace import CallTrace
from pico_async.bulk.journal import AHEAD, Journal, JournalEntry
from pico_async.bulk.report import BulkReport, SendResult, Tally
from pico_async.bulk.source import END, Input, Source, is_cancelled, no_message
from pico_async.bulk.sqlite_journal import SqliteJournal
from pico_async.errors import (
    ConfigurationError,
    JournalError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
)
from pico_async.grants import Accepted
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage

if TYPE_CHECKING:
    from pico_async.bulk.told import ToldBlast

Send: TypeAlias = Callable[[Message, CallTrace], Awaitable[Accepted]]
OnResult: TypeAlias = Callable[[SendResult], Awaitable[object] | object]


@boundary
class BulkStream:
    """
    A blast under way: iterate it for the results as they finish, inside `async with`.

    No more than *concurrency* messages are read, in flight or waiting to be taken by the loop, so a slow loop slows
    the blast and memory stays flat. Leaving the `async with` early stops it at once: what was on the wire is in
    doubt, the rest is not sent, and `leftover` tells which.

    The input may give an InvalidMessageError or a SuppressedError in the place of a message: it is that row's result.
    Where the input
    raises anything else, what is in flight is settled and told first; then the loop gets the error.
    """

    def __init__(
        self,
        messages: Input,
        send: Send,
        *,
        concurrency: int,
        stop_after: int | None,
        journal: str | os.PathLike[str] | Journal | None = None,
        account: str = "",
        pace: Callable[[], float | None] = lambda: None,
        told: ToldBlast | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError("`concurrency` must be a whole number from 1.")
        if stop_after is not None and (
            isinstance(stop_after, bool) or not isinstance(stop_after, int) or stop_after < 1
        ):
            raise ConfigurationError("`stop_after` must be a whole number from 1, or None.")
        self._journal = _journal(journal)
        self._account = account
        self._pace = pace
        self._told = told
        self._trace: Callable[[anyio.CancelScope], CallTrace] = CallTrace
        self._held = AsyncExitStack()
        self.leftover: list[SendResult] = []
        """Results that nobody took, of what was in flight when the `async with` was left early."""
        self._source = Source(messages)
        self._send = send
        # A message's place is taken before it is read, and free again when its result is taken.
        self._places = asyncio.BoundedSemaphore(concurrency)
        self._stop_after = stop_after
        self._tally = Tally()
        self._concurrency = concurrency
        self._is_async = self._source.is_async
        self._positions = itertools.count()
        self._reading = asyncio.Lock()
        # A task for each place and not for each message, for to begin one costs more than to encode the message.
        self._workers: set[_Worker] = set()
        self._begun = self._ended = self._idle = 0
        self._taken = True
        self._entered = False
        self._fed = self._stopped = False
        self._results: asyncio.Queue[SendResult | None] = asyncio.Queue()
        self._tasks = anyio.create_task_group()

    @property
    def report(self) -> BulkReport:
        """The numbers as they stand, also after the end."""
        return self._tally.report(self._pace())

    def stop(self, reason: str) -> None:
        """
        End the blast: read no more, drop what waits as not sent, settle what is on the wire.

        The results of both still come.
        """
        if self._stopped:
            return
        if self._tally.stopped is None:
            self._tally.stopped = reason
        self._stopped = True
        for worker in self._workers:
            if worker.trace is not None:
                worker.trace.ending = True
            if worker.trace is None or not worker.trace.on_the_wire:
                worker.scope.cancel()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("This stream was used already: make another one with `pico.stream_bulk(…)`.")
        if self._tally.stopped is not None:
            raise ConfigurationError(f"This stream cannot begin, for {self._tally.stopped}. Nothing was read or sent.")
        self._entered = True
        self._tally = Tally()
        if self._journal is not None:
            run = await self._held.enter_async_context(self._journal.run(self._account))
            self._trace = functools.partial(JournalEntry, run, asyncio.Semaphore(AHEAD))
        self._held.push_async_callback(self._source.aclose)
        await self._tasks.__aenter__()
        if self._told is None:
            self._begin()
            return self
        try:
            self._told.begin(self._concurrency, self._begin)
        except BaseException:
            # A listener was interrupted, and nobody enters: what is held is to be let go here.
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            # The tasks raise nothing, so the group need not see the body's own error, which it would wrap.
            await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._held.aclose()
            while not self._results.empty():
                if (result := self._results.get_nowait()) is not None:
                    self.leftover.append(result)
            self._tally.end()
            if self._told is not None:
                self._told.end(self.report, whole=self._fed)

    async def run_out(self) -> None:
        """Send all there is. Nobody takes the results, so none waits for it."""
        self._taken = False
        async for _ in self:
            pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SendResult:
        if not self._entered:
            raise ConfigurationError("Enter the stream first: `async with pico.stream_bulk(…) as results:`.")
        result = await self._results.get()
        if result is not None:
            self._places.release()
            return result
        self._results.put_nowait(None)  # for whoever asks again
        self._tally.end()
        if self._source.error is not None:
            raise self._source.error
        raise StopAsyncIteration

    def _begin(self) -> None:
        self._begun += 1
        self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        """Send one message after the other, until none is left; more hands come as long as there is work for them."""
        worker = _Worker()
        self._workers.add(worker)
        try:
            with worker.scope:
                while (read := await self._next()) is not None:
                    # One more than there are places would wait in front of them, and each of the others behind it.
                    if not self._idle and self._begun < self._concurrency:
                        self._begin()
                    await self._send_one(worker, *read)
        finally:
            self._workers.discard(worker)
            self._ended += 1
            if self._ended == self._begun:
                self._results.put_nowait(None)

    async def _next(self) -> tuple[int, object] | None:
        """Read the next message once there is a place for it; None where there is none."""
        self._idle += 1
        try:
            await self._places.acquire()
            if self._fed or self._stopped:
                return None
            if self._is_async:
                async with self._reading:
                    item = END if self._fed else await self._source.anext()
            else:
                item = self._source.next()
        finally:
            self._idle -= 1
        if self._source.stopped is not None:
            self._tally.stopped = self._source.stopped
        if item is not END:
            return next(self._positions), item
        self._fed = True
        for worker in self._workers:
            if worker.trace is None:
                worker.scope.cancel()
        return None

    async def _send_one(self, worker: _Worker, index: int, item: object) -> None:
        if not isinstance(item, SmsMessage | MmsMessage | VoiceMessage):
            return self._tell(_failed(index, None, no_message(item), 0))
        worker.trace = trace = self._trace(worker.scope)
        trace.blast = None if self._told is None else self._told.number
        try:
            result = await self._attempt(index, item, trace)
        except asyncio.CancelledError:
            await self._keep(trace, _failed(index, item, _ended(trace), trace.attempts))
            raise
        finally:
            worker.trace = None
        return await self._keep(trace, result)

    async def _attempt(self, index: int, message: Message, trace: CallTrace) -> SendResult:
        if self._stopped:
            return _failed(index, message, _ended(trace), 0)
        try:
            if isinstance(trace, JournalEntry) and (known := await trace.claim(message, index)) is not None:
                return known
            accepted = await self._send(message, trace)
            return _accepted(index, message, accepted, trace.attempts)
        except PicoError as failure:
            error = failure
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            error = _ended(trace, "a cancellation from elsewhere")
        except Exception as failure:  # noqa: BLE001  one message's bad luck must not end the others
            error = _ended(trace, f"an unforeseen {type(failure).__name__}")
        return _failed(index, message, error, trace.attempts)

    async def _keep(self, trace: CallTrace, result: SendResult) -> None:
        if isinstance(trace, JournalEntry):
            try:
                await trace.settle(result)
            except JournalError as error:
                self.stop(f"the journal failed, and has {result.outcome} as in doubt: {error}")
            if isinstance(result.error, JournalError):
                self.stop(f"the journal failed: {result.error}")
        self._tell(result)

    def _tell(self, result: SendResult) -> None:
        self._tally.add(result)
        if self._taken:
            self._results.put_nowait(result)
        else:
            self._places.release()
        if self._stop_after is not None and self._tally.in_a_row >= self._stop_after:
            self.stop(f"{self._stop_after} failures in a row")


class _Worker:
    """One of those who send: what its message's trace is, while it has one, and how to end it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.trace: CallTrace | None = None


async def send_all(stream: BulkStream, on_result: OnResult | None) -> BulkReport:
    """Run the blast to its end."""
    if on_result is not None and not callable(on_result):
        raise ConfigurationError("`on_result` must be a function, async or not, or None.")
    try:
        async with stream as results:
            if on_result is None:
                await results.run_out()
            else:
                async for result in results:
                    await _tell(on_result, result)
    except BaseException as ended:
        # Whoever keeps books by `on_result` must hear of what was in flight, too, also where it was the one to raise.
        with anyio.CancelScope(shield=True):
            for result in stream.leftover:
                try:
                    if on_result is not None:
                        await _tell(on_result, result)
                except Exception as again:  # noqa: BLE001  the first error is raised, and this one told with it
                    ended.add_note(
                        f"on_result raised {type(again).__name__} for message {result.index}, too: {result.outcome}."
                    )
        raise
    return stream.report


async def _tell(on_result: OnResult, result: SendResult) -> None:
    answer = on_result(result)
    if inspect.isawaitable(answer):
        await answer


def _journal(journal: object) -> Journal | None:
    if journal is None or isinstance(journal, Journal):
        return journal
    if isinstance(journal, str | os.PathLike):
        return SqliteJournal(journal)
    raise ConfigurationError(f"`journal` must be a path, a SqliteJournal or a Journal, not {type(journal).__name__}.")


def _accepted(index: int, message: Message, accepted: Accepted, attempts: int) -> SendResult:
    return SendResult(index=index, message=message, outcome=Outcome.ACCEPTED, accepted=accepted, attempts=attempts)


def _failed(index: int, message: Message | None, error: PicoError, attempts: int) -> SendResult:
    without_frames(error)
    return SendResult(index=index, message=message, outcome=error.outcome, error=error, attempts=attempts)


def _ended(trace: CallTrace, by: str = "the end of the blast") -> PicoError:
    if trace.in_doubt:
        return NoResponseError(f"Ended by {by} while on the wire. The message may have been sent.")
    return NotSentError(f"Ended by {by} while it waited. Nothing was sent.")
