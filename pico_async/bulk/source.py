"""The input of a blast: any iterable or async iterable, read one item at a time."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, TypeAlias

import anyio

from pico_async._cancellation import cancellations
from pico_async.errors import ConfigurationError, InvalidMessageError, NotSentError, SuppressedError
from pico_async.messages import Message

Item: TypeAlias = Message | InvalidMessageError | SuppressedError
Input: TypeAlias = Iterable[Item] | AsyncIterable[Item]

END = object()


class Source:
    """
    Read the input, and take note of how it ends.

    Attributes:
        error: What it raised, where it ended by that.
        stopped: Why it ended before its time; None while it did not.
    """

    def __init__(self, messages: Input) -> None:
        self.error: BaseException | None = None
        self.stopped: str | None = None
        self._items = _iterator(messages)
        self._read_ahead: deque[object] = deque()

    @property
    def is_async(self) -> bool:
        """Whether reading it may take a while, so that it is read by `anext`, and else by `next`."""
        return isinstance(self._items, AsyncIterator)

    def next(self) -> object:
        """Give the next item, an InvalidMessageError in the place of one, or END."""
        if self._read_ahead:
            return self._read_ahead.popleft()
        try:
            return next(self._items)
        except StopIteration:
            return END
        except BaseException as error:  # noqa: BLE001  it is the input's
            return self._in_its_place(error)

    async def anext(self) -> object:
        """Give the next item, an InvalidMessageError in the place of one, or END."""
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
            return self._in_its_place(error)

    def end(self, error: Exception, why: str) -> None:
        """Let nothing more come, as if the input had raised this."""
        self.error, self.stopped = error, why
        self._read_ahead = deque([END])

    async def ahead(self, count: int) -> list[object]:
        """Give the first items, which come again from `next`; where reading may take a while no more than one."""
        items = []
        for _ in range(1 if self.is_async else count):
            items.append(await self.anext() if self.is_async else self.next())
            if items[-1] is END:
                break
        self._read_ahead.extend(items)
        return items

    async def aclose(self) -> None:
        """End it, where it is a generator that may hold something open: a scope too, so none of ours is around it."""
        if inspect.isasyncgen(self._items):
            try:
                await self._items.aclose()
            except BaseExceptionGroup as errors:
                # A task group in it wraps the GeneratorExit by which Python closes it, which is no error.
                if errors.split(GeneratorExit)[1] is not None:
                    raise

    def _in_its_place(self, error: BaseException) -> object:
        if isinstance(error, InvalidMessageError):
            # map() goes on after it. A generator is at its end, and what it would have given is unknown.
            if _is_spent(self._items):
                self.stopped = (
                    "the input is a generator and made an invalid message, after which Python ends it; "
                    "to go on, make the messages with map(), or catch InvalidMessageError in it and yield the error"
                )
            return error
        if isinstance(error, asyncio.CancelledError):
            # As an Exception: nobody cancelled whoever reads the results.
            error = NotSentError(
                "The input ended because something that it waited for was cancelled. The rest was not sent."
            )
        # The loop gets it once all is settled.
        self.error = raisable(error)
        self.stopped = f"the input raised {type(error).__name__}"
        return END


def raisable(error: BaseException) -> BaseException:
    """
    Return the error, or a RuntimeError in the place of one that would end a loop in silence.

    Python does the same for a generator that raises StopIteration (PEP 479), and not for all others.
    """
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    made = RuntimeError(f"The input raised {type(error).__name__}, which is no end of it.")
    made.__cause__ = error
    return made


def no_message(item: object) -> InvalidMessageError | SuppressedError:
    """Say what is wrong with an item that is no message."""
    if isinstance(item, InvalidMessageError | SuppressedError):
        return item
    return InvalidMessageError(
        f"The input gave a {type(item).__name__} where an SmsMessage, MmsMessage or VoiceMessage belongs."
    )


def is_cancelled() -> bool:
    """
    Return whether a scope around the current task is cancelled, and not only something that the task waited for.
    """
    return anyio.current_effective_deadline() == -math.inf


def _iterator(messages: Any) -> Any:
    if isinstance(messages, AsyncIterable):
        return aiter(messages)
    if isinstance(messages, Iterable) and not isinstance(messages, str | bytes):
        return iter(messages)
    raise ConfigurationError(f"Pass an iterable or async iterable of messages, not {type(messages).__name__}.")


def _is_spent(source: object) -> bool:
    if inspect.isgenerator(source):
        return source.gi_frame is None
    return inspect.isasyncgen(source) and source.ag_frame is None
