"""Inputs and functions of the user's, run in the thread that made the call and not in the event loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterable
from typing import Any

from pico_async.blocking.call import run_in_caller
from pico_async.errors import InvalidMessageError

_END = object()


class CallersInput:
    """
    A plain iterable, read in the caller's thread.

    Attributes:
        can_be_read_ahead: As any plain iterable, and unlike an async one, it is not expected to wait for its items.
    """

    can_be_read_ahead = True

    def __init__(self, messages: Iterable[Any]) -> None:
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the items. Of a generator that InvalidMessageError has ended, raise it; of another input, yield it."""
        items = await run_in_caller(iter, self._messages)
        while True:
            try:
                item = await run_in_caller(next, items, _END)
            except InvalidMessageError as error:
                if inspect.isgenerator(items) and items.gi_frame is None:
                    raise
                item = error
            if item is _END:
                return
            yield item


def read_in_caller(messages: Any) -> Any:
    """Return the input of a bulk send as one that is read in the caller's thread. Reading a list runs no code."""
    if isinstance(messages, Iterable) and not isinstance(messages, list | tuple | str | bytes):
        return CallersInput(messages)
    return messages


def asked_in_caller(suppression: Any) -> Any:
    """Return a function that knows the opt-outs as one that is asked in the caller's thread."""
    if callable(suppression):
        return called_in_caller(suppression)
    if isinstance(suppression, Container) and not isinstance(suppression, Collection):
        return called_in_caller(suppression.__contains__)
    return suppression


def called_in_caller(function: Any) -> Any:
    """Return a function as one that is called in the caller's thread. An async one is awaited in the event loop."""
    if not callable(function) or inspect.iscoroutinefunction(function):
        return function
    return functools.partial(_call, function)


async def _call(function: Callable[..., Any], *args: Any) -> Any:
    answer = await run_in_caller(function, *args)
    return await answer if inspect.isawaitable(answer) else answer
