"""Send many messages at once: the stream of their results, and the call that takes them all."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio

from pico_async._boundary import boundary
from pico_async.bulk.dispatcher import Dispatcher, Send
from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.outage import OUTAGE_S, Outage
from pico_async.bulk.report import BulkReport, SendResult
from pico_async.bulk.source import Input, Source
from pico_async.errors import ConfigurationError

if TYPE_CHECKING:
    from pico_async.bulk.blast_events import BlastEvents

OnResult: TypeAlias = Callable[[SendResult], Awaitable[object] | object]


@boundary
class BulkStream:
    """
    A blast under way: iterate it for the results as they finish, inside `async with`.

    No more than *concurrency* messages are read, in flight or waiting to be taken by the loop, so a slow loop slows
    the blast and memory stays flat. Leaving the `async with` early stops it at once: what was on the wire is in
    doubt, the rest is not sent, and `leftover` tells which.

    It may be entered in one task, read in another and left in a third, as an async generator or a fixture does; no
    task of yours is ever cancelled by it. One that is dropped without being left stops, too.

    The input may give an InvalidMessageError or a SuppressedError in the place of a message: it is that row's result.
    Where the input raises anything else, what is in flight is settled and told first; then the loop gets the error. One
    that it raises only when it is closed comes out of the `async with`, as a note where that has an error already.
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
        pace: Callable[[], float | None] = lambda: None,
        told: BlastEvents | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError("`concurrency` must be a whole number from 1.")
        if stop_after is not None and (
            isinstance(stop_after, bool) or not isinstance(stop_after, int) or stop_after < 1
        ):
            raise ConfigurationError("`stop_after` must be a whole number from 1, or None.")
        self._pace = pace
        self._entered = self._raised = False
        # The dispatcher knows nothing of the stream, so that a stream that was dropped is collected and stops it.
        self._dispatcher = Dispatcher(
            Source(messages),
            send,
            concurrency=concurrency,
            stop_after=stop_after,
            outage=Outage(outage_s),
            journal=_journal(journal),
            account=account,
            told=told,
        )

    def __del__(self) -> None:
        if getattr(self, "_entered", False):
            self._dispatcher.abandon()

    @property
    def report(self) -> BulkReport:
        """The numbers as they stand, also after the end."""
        return self._dispatcher.tally.report(self._pace())

    @property
    def leftover(self) -> list[SendResult]:
        """Results that nobody took, of what was in flight when the `async with` was left early."""
        return self._dispatcher.leftover

    def stop(self, reason: str) -> None:
        """
        End the blast: read no more, drop what waits as not sent, settle what is on the wire.

        The results of both still come. Where all is sent already, it does nothing.
        """
        self._dispatcher.stop(reason)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("This stream was used already: make another one with `pico.stream_bulk(…)`.")
        self._entered = True
        await self._dispatcher.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._dispatcher.close()
        fault = self._dispatcher.error
        if fault is None or self._raised:
            return
        self._raised = True
        if error is None:
            raise fault
        error.add_note(f"The input, or an interrupt, raised {type(fault).__name__} as the blast ended.")

    async def run_out(self) -> None:
        """Send all there is. Nobody takes the results, so none waits for it."""
        self._dispatcher.keep_results = False
        async for _ in self:
            pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SendResult:
        if not self._entered:
            raise ConfigurationError("Enter the stream first: `async with pico.stream_bulk(…) as results:`.")
        result = await self._dispatcher.take()
        if result is not None:
            return result
        if self._dispatcher.error is not None and not self._raised:
            self._raised = True
            raise self._dispatcher.error
        raise StopAsyncIteration


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
                except BaseException as again:  # noqa: BLE001  the first error is raised, and this one told with it
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
