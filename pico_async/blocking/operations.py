"""Make each operation of an async class a blocking one, with the same arguments and the same documentation."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakSet

from attrs import field, frozen

from pico_async._boundary import without_frames
from pico_async.blocking.bulk import BulkStream
from pico_async.blocking.callbacks import asked_in_caller, called_in_caller, read_in_caller
from pico_async.blocking.loop_thread import LoopThread
from pico_async.bulk import sender
from pico_async.session import PicoSession

Value = TypeVar("Value")
Method = TypeVar("Method", bound=Callable[..., Any])

# What an argument of this name is replaced by.
_CALLBACKS: dict[str, Callable[[Any], Any]] = {
    "messages": read_in_caller,
    "suppression": asked_in_caller,
    "on_result": called_in_caller,
}


@frozen(eq=False)
class Running:
    """What a Pico has in one process: a session, the thread that it runs in, and the streams in use."""

    session: PicoSession
    thread: LoopThread
    streams: WeakSet[BulkStream] = field(factory=WeakSet)


class HasOperations(Protocol):
    """A Pico, or one of its resources."""

    def _target(self) -> tuple[Running, Any]:
        """Return what runs in this process, and the async object that has the methods."""


def blocking(method: Callable[..., Coroutine[Any, Any, Value]]) -> Callable[[Method], Method]:
    """
    Give a method the body and the documentation of a coroutine function: it makes the call, and waits for its end.

    The method itself has the signature, and no body, because type checkers derive none from that of another method.
    """

    def run(running: Running, coroutine: Coroutine[Any, Any, Value]) -> Value:
        return running.thread.run(coroutine)

    return lambda signature: _operation(signature, method, run)


def streaming(method: Callable[..., sender.BulkStream]) -> Callable[[Method], Method]:
    """Give a method the body and the documentation of a function that returns a stream of results."""

    async def make(*args: Any, **kwargs: Any) -> sender.BulkStream:
        return method(*args, **kwargs)

    make.__doc__ = method.__doc__

    def run(running: Running, coroutine: Coroutine[Any, Any, sender.BulkStream]) -> BulkStream:
        stream = BulkStream(running.thread, running.thread.run(coroutine))
        running.streams.add(stream)
        return stream

    return lambda signature: _operation(signature, make, run)


def _operation(
    declared: Method,
    method: Callable[..., Coroutine[Any, Any, Any]],
    run: Callable[[Running, Coroutine[Any, Any, Any]], Any],
) -> Method:
    signature = inspect.signature(declared)
    callbacks = {name: prepare for name, prepare in _CALLBACKS.items() if name in signature.parameters}

    @functools.wraps(declared)
    def operation(self: HasOperations, /, *args: Any, **kwargs: Any) -> Any:
        try:
            running, target = self._target()
            arguments = signature.bind(target, *args, **kwargs)
            for name in callbacks.keys() & arguments.arguments.keys():
                arguments.arguments[name] = callbacks[name](arguments.arguments[name])
            coroutine = method(*arguments.args, **arguments.kwargs)
            # A function of the caller's runs on top of this frame, and an error reporter in it may show the variables.
            del args, kwargs, arguments
            return run(running, coroutine)
        except BaseException as error:  # noqa: BLE001  it is raised again
            failure = error
        # As `boundary` does.
        without_frames(failure)
        try:
            raise failure
        finally:
            del failure

    operation.__doc__ = method.__doc__
    return cast(Method, operation)
