"""Bulk send from synchronous code: a stream of results."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from pico_async._boundary import boundary
from pico_async.blocking.call import Caller
from pico_async.blocking.loop_thread import LoopThread
from pico_async.bulk import sender
from pico_async.bulk.report import BulkReport, SendResult
from pico_async.errors import ConfigurationError


@boundary
class BulkStream:
    """
    A running bulk send. Iterate it inside `with` to get the results as they finish, in one thread at a time.

    The messages are sent in the background. The input is read, and a `suppression` function is asked, in your thread,
    while it waits for a result. At most *concurrency* messages are between the input and your loop. A slow loop
    therefore slows the bulk send, and memory use does not grow.

    Leaving the `with` early stops the bulk send at once. Messages whose request was being exchanged are in doubt, the
    others are not sent, and `leftover` has their results. A stream that is garbage-collected without being left stops,
    too.
    """

    def __init__(self, thread: LoopThread, stream: sender.BulkStream) -> None:
        self._thread = thread
        self._stream = stream
        # One for all its calls: what was requested between two results waits for the second one.
        self._caller = Caller()
        # Results that an interrupt kept from the loop.
        self._untaken: deque[SendResult] = deque()
        self._has_begun = self._has_ended = False

    def __repr__(self) -> str:
        return self._thread.get(self._stream.__repr__)

    @property
    def report(self) -> BulkReport:
        """The present numbers, also after the end."""
        return self._thread.get(lambda: self._stream.report)

    @property
    def leftover(self) -> list[SendResult]:
        """Results of the messages in flight that were not taken before the `with` was left."""
        return [*self._untaken, *self._stream.leftover]

    def stop(self, reason: str) -> None:
        """
        Stop the bulk send: read no more, drop waiting messages as not sent, and complete the exchanges under way.

        The results of all of these still come. If everything was sent already, this does nothing. Any thread may call
        it.
        """
        self._thread.get(lambda: self._stream.stop(reason))

    def __enter__(self) -> Self:
        self._thread.run(self._stream.__aenter__(), self._caller)
        self._has_begun = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._thread.run(self._stream.__aexit__(kind, error, traceback), self._caller)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SendResult:
        if not self._has_begun:
            raise ConfigurationError("Enter the stream first: `with pico.stream_bulk(…) as results:`.")
        if self._untaken:
            return self._untaken.popleft()
        if self._has_ended:
            raise StopIteration
        try:
            return self._thread.run(self._stream.__anext__(), self._caller, on_lost=self._untaken.append)
        except StopAsyncIteration:
            raise StopIteration from None

    def end(self) -> None:
        """End the bulk send because its Pico is being closed. The loop over the results gets those that are left."""
        if self._has_begun and not self._has_ended:
            self.__exit__(None, None, None)
            self._untaken.extend(self._stream.leftover)
            self._stream.leftover.clear()
