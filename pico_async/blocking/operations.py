"""Make a coroutine function a method that waits for its end, documented as that of the async client."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from attrs import field, frozen

from pico_async._boundary import without_frames
from pico_async.blocking.bulk import BulkStream
from pico_async.blocking.loop_thread import LoopThread
from pico_async.session import PicoSession

P = ParamSpec("P")
Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=type)


@frozen(eq=False)
class Running:
    """What a Pico has in one process: a session, the thread that it runs in, and the streams in use."""

    session: PicoSession
    thread: LoopThread
    streams: WeakSet[BulkStream] = field(factory=WeakSet)


class HasOperations(Protocol):
    """A Pico, or one of its resources."""

    def _open(self) -> Running:
        """Return what runs in this process."""


Owner = TypeVar("Owner", bound=HasOperations)


def blocking(
    method: Callable[Concatenate[Owner, P], Coroutine[Any, Any, Value]],
) -> Callable[Concatenate[Owner, P], Value]:
    """Return a method that runs this coroutine function in Pico's event loop, and returns when it is done."""

    @functools.wraps(method)
    def operation(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> Value:
        try:
            running = self._open()
            call = method(self, *args, **kwargs)
            # A function of the caller's runs on top of this frame, and an error reporter in it may show the variables.
            del args, kwargs
            return running.thread.run(call)
        except BaseException as error:  # noqa: BLE001  it is raised again
            failure = error
        # As `boundary` does.
        without_frames(failure)
        try:
            raise failure
        finally:
            del failure

    return operation


def documented_as(documented: type) -> Callable[[Kind], Kind]:
    """Return a decorator that gives the methods of a class the documentation of those of another class."""

    def document(kind: Kind) -> Kind:
        for name, member in vars(kind).items():
            if inspect.isfunction(member) and member.__doc__ is None and not name.startswith("_"):
                member.__doc__ = getattr(documented, name).__doc__
        return kind

    return document
