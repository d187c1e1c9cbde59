"""The input of a bulk send: any iterable or async iterable, read one item at a time."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, TypeAlias

import anyio

from pico_async._cancellation import cancellations
from pico_async.errors import ConfigurationError, InvalidMessageError, NotSentError, Reason, SuppressedError
from pico_async.messages import Message

Item: TypeAlias = Message | InvalidMessageError | SuppressedError
Input: TypeAlias = Iterable[Item] | AsyncIterable[Item]
"""What a bulk send takes: messages, and errors in the place of those that could not be made."""

END = object()


class Source:
    """
    Reads the input, and records how it ends.

    Attributes:
        error: What the input raised, if that ended it.
        stopped: Why the input ended early; None if it did not.
    """

    def __init__(self, messages: Input) -> None:
        self.error: BaseException | None = None
        self.stopped: str | None = None
        self._items = _iterator(messages)
        self._can_be_read_ahead = getattr(messages, "can_be_read_ahead", not self.is_async)
        self._read_ahead: deque[object] = deque()

    @property
    def is_async(self) -> bool:
        """Whether the input is read by `anext`, because reading may take a while, and not by `next`."""
        return isinstance(self._items, AsyncIterator)

    def next(self) -> object:
        """Return the next item, or an InvalidMessageError in its place, or END."""
        if self._read_ahead:
            return self._read_ahead.popleft()
        try:
            return next(self._items)
        except StopIteration:
            return END
        except BaseException as error:  # noqa: BLE001  the input raised it
            return self._after_error(error)

    async def anext(self) -> object:
        """Return the next item, or an InvalidMessageError in its place, or END."""
        if self._read_ahead:
            return self._read_ahead.popleft()
        since = cancellations()
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            return END
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and (is_cancelled() or cancellations() > since):
                raise
            return self._after_error(error)

    def end(self, error: Exception, why: str) -> None:
        """End the input, as if it had raised *error*."""
        self.error, self.stopped = error, why
        self._read_ahead = deque([END])

    async def ahead(self, count: int) -> list[object]:
        """Return up to *count* first items, which `next` returns again. An input that may wait is read for one only."""
        items = []
        for _ in range(count if self._can_be_read_ahead else 1):
            items.append(await self.anext() if self.is_async else self.next())
            if items[-1] is END:
                break
        self._read_ahead.extend(items)
        return items

    async def aclose(self) -> None:
        """Close an async generator. It may hold a scope open, so no other scope may surround this call."""
        if inspect.isasyncgen(self._items):
            try:
                await self._items.aclose()
            except BaseExceptionGroup as errors:
                # Python closes a generator by a GeneratorExit. A task group inside wraps it; that is no error.
                if errors.split(GeneratorExit)[1] is not None:
                    raise

    def _after_error(self, error: BaseException) -> object:
        if isinstance(error, InvalidMessageError):
            # map() continues after the error. A generator has ended, and its further items are unknown.
            if _is_finished(self._items):
                self.stopped = (
                    "the input is a generator and raised InvalidMessageError, which ends it. "
                    "Make the messages with map(), or catch it in the generator and yield the error"
                )
            return error
        if isinstance(error, asyncio.CancelledError):
            # Converted to an Exception, because the reader of the results was not cancelled.
            error = NotSentError(
                "The input ended because something that it waited for was cancelled. The rest was not sent."
            )
        # Raised to the caller after all messages that were begun are settled.
        self.error = raisable(error)
        self.stopped = f"the input raised {type(error).__name__}"
        return END


def raisable(error: BaseException) -> BaseException:
    """
    Return the error, or a RuntimeError instead of one that would end a loop silently.

    Python does the same for a generator that raises StopIteration (PEP 479), but not for other iterators.
    """
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    made = RuntimeError(f"The input raised {type(error).__name__}, which is not how an input ends.")
    made.__cause__ = error
    return made


def invalid_item(item: object) -> InvalidMessageError | SuppressedError:
    if isinstance(item, InvalidMessageError | SuppressedError):
        return item
    return InvalidMessageError(
        f"The input gave a {type(item).__name__} where an SmsMessage, MmsMessage or VoiceMessage belongs.",
        reason=Reason.TYPE,
    )


def is_cancelled() -> bool:
    """Return whether a scope around the current task is cancelled, and not only something that the task awaited."""
    return anyio.current_effective_deadline() == -math.inf


def _iterator(messages: Any) -> Any:
    if isinstance(messages, AsyncIterable):
        return aiter(messages)
    if isinstance(messages, Iterable) and not isinstance(messages, str | bytes):
        return iter(messages)
    raise ConfigurationError(f"Pass an iterable or async iterable of messages, not {type(messages).__name__}.")


def _is_finished(source: object) -> bool:
    if inspect.isgenerator(source):
        return source.gi_frame is None
    return inspect.isasyncgen(source) and source.ag_frame is None
