"""The input of a blast: any iterable or async iterable, read one item at a time."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Self, TypeAlias

import anyio

from pico_async.errors import ConfigurationError, InvalidMessageError, NotSentError
from pico_async.messages import Message

Input: TypeAlias = Iterable[Message | InvalidMessageError] | AsyncIterable[Message | InvalidMessageError]

END = object()


class Source:
    """
    Read the input, and take note of how it ends.

    Attributes:
        error: What it raised, where it ended by that.
        stopped: Why it ended before its time; None while it did not.
    """

    def __init__(self, messages: Input) -> None:
        self.error: Exception | None = None
        self.stopped: str | None = None
        self._items = _reader(messages)

    async def next(self) -> object:
        """Give the next item, an InvalidMessageError in the place of one, or END."""
        try:
            return await self._items.__anext__()
        except StopAsyncIteration:
            return END
        except InvalidMessageError as error:
            # map() goes on after it. A generator is at its end, and what it would have given is unknown.
            if _is_spent(self._items):
                self.stopped = (
                    "the input is a generator and made an invalid message, after which Python ends it; "
                    "catch InvalidMessageError in it and yield the error to go on"
                )
            return error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            # As an Exception: nobody cancelled whoever reads the results.
            return self._broken(
                NotSentError(
                    "The input ended because something that it waited for was cancelled. The rest was not sent."
                )
            )
        except Exception as error:  # noqa: BLE001  it is the input's, and the loop gets it once all is settled
            return self._broken(error)

    async def aclose(self) -> None:
        """End it, where it is a generator that may hold something open."""
        if inspect.isasyncgen(self._items):
            with anyio.CancelScope(shield=True):
                await self._items.aclose()

    def _broken(self, error: Exception) -> object:
        self.error = error
        self.stopped = f"the input raised {type(error).__name__}"
        return END


def is_cancelled() -> bool:
    """
    Say whether the blast is cancelled, or only something that this task waited for was.

    A task of the group that ends as cancelled cancels all the others, so it may do that only where they are, too.
    """
    return anyio.current_effective_deadline() == -math.inf


def _reader(messages: Any) -> AsyncIterator[object]:
    if isinstance(messages, AsyncIterable):
        return aiter(messages)
    if isinstance(messages, Iterable) and not isinstance(messages, str | bytes):
        return _Reader(iter(messages))
    raise ConfigurationError(f"Pass an iterable or async iterable of messages, not {type(messages).__name__}.")


class _Reader:
    """Read an iterator as if it were an async one. A generator of our own would end with the first error."""

    def __init__(self, source: Iterator[object]) -> None:
        self.source = source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        try:
            return next(self.source)
        except StopIteration:
            raise StopAsyncIteration from None


def _is_spent(source: AsyncIterator[object]) -> bool:
    if isinstance(source, _Reader):
        return inspect.isgenerator(source.source) and source.source.gi_frame is None
    return inspect.isasyncgen(source) and source.ag_frame is None
