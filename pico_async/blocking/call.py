"""One call of another thread, carried out in the event loop, and the thread that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from pico_async._boundary import without_frames
from pico_async.bulk.source import raisable

Value = TypeVar("Value")

_NOTHING_SENT = "The call had not begun. Nothing was sent."


class Caller:
    """
    A thread that waits for its calls. While it waits, it runs the user's functions that the calls need.

    So an input, a `suppression` function and an `on_result` function run in the thread that made the call: with its
    database connection and its transaction, and where no event loop runs. Django refuses queries where one does.
    """

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Request | Call[Any]] = SimpleQueue()

    def wait(self, call: Call[Any]) -> None:
        """Run what is requested until the call has ended."""
        while (item := self._inbox.get()) is not call:
            if isinstance(item, _Request):
                item.run()

    def notify(self, call: Call[Any]) -> None:
        """End the wait for this call."""
        self._inbox.put(call)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in this thread the next time it waits, and return or raise as the function does."""
        request = _Request(function, args)
        self._inbox.put(request)
        return await request.answer


_caller: ContextVar[Caller] = ContextVar("pico_async_caller")


async def run_in_caller(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function of the user's in the thread that made the present call."""
    return await _caller.get().run(function, *args)


class _Request:
    """A function that a call needs to have run in its caller's thread. It has no repr: its arguments may be numbers."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        """Run the function in the present thread, unless its caller was cancelled."""
        if self.answer.cancelled():
            return
        try:
            value = self._function(*self._args)
        except Exception as error:  # noqa: BLE001  it is raised in the event loop
            self._settle(self._raise, raisable(error))
        except BaseException:
            # An interrupt ends the call, and would end the event loop.
            self._settle(self.answer.cancel)
            raise
        else:
            self._settle(self._return, value)

    def _settle(self, step: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(step, *args)

    def _return(self, value: object) -> None:
        if not self.answer.done():
            self.answer.set_result(value)

    def _raise(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Call(Generic[Value]):
    """
    One call: begun and cancelled in the event loop, awaited by its caller's thread. It has no repr.

    Attributes:
        task: Carries it out; None before it begins.
        error: What it raised; None if it returned a value.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Value], caller: Caller) -> None:
        self._coroutine = coroutine
        self._caller = caller
        self._ended = False
        self._value: Value | None = None
        self.task: asyncio.Task[None] | None = None
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Begin, unless it was cancelled before."""
        if not self._ended:
            self.task = asyncio.create_task(self._run())
            self.task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancel it, also before it began. If it has ended, notify the caller again, who may have missed it."""
        if self._ended:
            self._caller.notify(self)
        elif self.task is not None:
            self.task.cancel()
        else:
            self._end(None)

    def discard(self) -> None:
        """End a call that cannot begin."""
        self._ended = True
        self._coroutine.close()
        self.error = asyncio.CancelledError()

    def result(self) -> Value:
        """Return or raise as the coroutine did."""
        if self.error is None:
            return cast(Value, self._value)
        try:
            raise self.error
        finally:
            self.error = None  # its traceback holds this frame

    def ending(self) -> str:
        """Return how a call ended that its caller no longer waits for."""
        if self.error is None:
            return f"The call was complete before it could be cancelled: {self._value!r}"
        if isinstance(self.error, asyncio.CancelledError):
            return "\n".join(getattr(self.error, "__notes__", [])) or _NOTHING_SENT
        return f"The call had ended: {type(self.error).__name__}: {self.error}"

    async def _run(self) -> None:
        _caller.set(self._caller)
        try:
            self._value = await self._coroutine
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread; an interrupt would end the loop
            self.error = error
            without_frames(error)

    def _end(self, task: asyncio.Task[None] | None) -> None:
        if task is None or task.cancelled():  # before its first step
            self.discard()
        self._ended = True
        self._caller.notify(self)
