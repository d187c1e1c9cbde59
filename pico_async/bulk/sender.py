"""Bulk send: the stream of its results, and the call that reads the stream to its end."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

import anyio

from pico_async._boundary import boundary
from pico_async.bulk.bulk_events import BulkEvents
from pico_async.bulk.dispatcher import Dispatcher, Send
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.outage import OUTAGE_S, Outage
from pico_async.bulk.report import BulkReport, SendResult
from pico_async.bulk.source import Input, Source
from pico_async.errors import ConfigurationError

OnResult: TypeAlias = Callable[[SendResult], Awaitable[object] | object]
"""What `on_result` takes: called with each result of a bulk send, and awaited if it is async."""


@boundary
class BulkStream:
    """
    A running bulk send. Iterate it inside `async with` to get the results as they finish.

    At most *concurrency* messages are between the input and your loop: read, begun, or with a result that the loop has
    not taken. A slow loop therefore slows the bulk send, and memory use does not grow.

    Leaving the `async with` early stops the bulk send at once. Messages whose request was being exchanged are in doubt,
    the others are not sent, and `leftover` has their results.

    It can be entered, read and left in three different tasks, such as those of a fixture. It never cancels a task of
    yours. A stream that is garbage-collected without being left stops, too.

    The input may yield an InvalidMessageError or a SuppressedError instead of a message: it becomes the result. If the
    input raises anything else, messages that were begun are completed and reported first; then the loop gets the error.
    If the input raises only while it is closed, the `async with` raises that; if its block raised already, it becomes a
    note of the block's error.
    """

    def __init__(
        self,
        messages: Input,
        send: Send,
        *,
        concurrency: int,
        stop_after: int | None,
        outage_s: float = OUTAGE_S,
        journal: str | os.PathLike[str] | Journal | None = None,
        account: str = "",
        per_s: Callable[[], float | None] = lambda: None,
        events: BulkEvents | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError("`concurrency` must be a whole number from 1.")
        if stop_after is not None and (
            isinstance(stop_after, bool) or not isinstance(stop_after, int) or stop_after < 1
        ):
            raise ConfigurationError("`stop_after` must be a whole number from 1, or None.")
        self._per_s = per_s
        # The dispatcher has no reference to the stream. So a dropped stream is collected, and its `__del__` stops this.
        self._dispatcher = Dispatcher(
            source=Source(messages),
            send=send,
            concurrency=concurrency,
            stop_after=stop_after,
            outage=Outage(outage_s),
            journal=_journal(journal),
            account=account,
            events=events,
        )

    def __del__(self) -> None:
        if hasattr(self, "_dispatcher"):
            self._dispatcher.abandon()

    def __repr__(self) -> str:
        return f"<BulkStream, {self._dispatcher.status()}>" if hasattr(self, "_dispatcher") else "<BulkStream>"

    @property
    def report(self) -> BulkReport:
        """The present numbers, also after the end."""
        return self._dispatcher.totals.report(self._per_s())

    @property
    def leftover(self) -> list[SendResult]:
        """Results of the messages that were begun and not taken before the `async with` was left."""
        return self._dispatcher.leftover

    def stop(self, reason: str) -> None:
        """
        Stop the bulk send: read no more, drop waiting messages as not sent, and complete the exchanges under way.

        The results of all of these still come. If everything was sent already, this does nothing.
        """
        self._dispatcher.stop(reason)

    async def __aenter__(self) -> Self:
        if self._dispatcher.has_begun:
            raise ConfigurationError("This stream was used already: make another one with `pico.stream_bulk(…)`.")
        await self._dispatcher.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._dispatcher.close()
        own = self._dispatcher.take_error()
        if own is None:
            return
        if error is None:
            raise own
        error.add_note(f"The input, or an interrupt, raised {type(own).__name__} as the bulk send ended.")

    async def drain(self) -> None:
        """Send everything and drop the results."""
        self._dispatcher.keep_results = False
        async for _ in self:
            pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SendResult:
        if not self._dispatcher.has_begun:
            raise ConfigurationError("Enter the stream first: `async with pico.stream_bulk(…) as results:`.")
        result = await self._dispatcher.take()
        if result is not None:
            return result
        if (error := self._dispatcher.take_error()) is not None:
            raise error
        raise StopAsyncIteration


async def send_all(stream: BulkStream, on_result: OnResult | None) -> BulkReport:
    """Run the bulk send to its end, and return its numbers."""
    if on_result is not None and not callable(on_result):
        raise ConfigurationError("`on_result` must be a function, async or not, or None.")
    try:
        async with stream as results:
            if on_result is None:
                await results.drain()
            else:
                async for result in results:
                    await _call(on_result, result)
    except BaseException as ended:
        # A caller that records results in `on_result` needs those of all messages that were begun, even if it raised.
        with anyio.CancelScope(shield=True):
            for result in stream.leftover:
                try:
                    if on_result is not None:
                        await _call(on_result, result)
                except BaseException as again:  # noqa: BLE001  the first error is raised, with this one as a note
                    ended.add_note(
                        f"on_result raised {type(again).__name__} for message {result.index}, too: {result.outcome}."
                    )
        raise
    return stream.report


async def _call(on_result: OnResult, result: SendResult) -> None:
    answer = on_result(result)
    if inspect.isawaitable(answer):
        await answer


def _journal(journal: object) -> Journal | None:
    if journal is None or isinstance(journal, Journal):
        return journal
    if isinstance(journal, str | os.PathLike):
        return SqliteJournal(journal)
    raise ConfigurationError(f"`journal` must be a path, a SqliteJournal or a Journal, not {type(journal).__name__}.")
