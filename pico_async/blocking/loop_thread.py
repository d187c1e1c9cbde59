"""One event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from pico_async.blocking.call import Call, Caller
from pico_async.errors import ConfigurationError, NotSentError

Value = TypeVar("Value")


class LoopThread:
    """
    Carries out the calls of any number of threads in one event loop. The thread starts with the first call.

    It is a daemon: for another one, Python would wait at the exit before anything could stop it. It belongs to the
    process that made it. anyio's portal is not used: an interrupt while it starts, or starts a call, would leave its
    thread running, or its call unknown.
    """

    def __init__(self) -> None:
        # Held while a call is handed over, so that each one comes before the stop. The garbage collector may hand over
        # another one meanwhile.
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._stopped = False
        # Set once the loop runs, or the thread has ended without one.
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        # Owned by this object: its thread ends after them.
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self,
        coroutine: Coroutine[Any, Any, Value],
        caller: Caller | None = None,
        *,
        on_lost: Callable[[Value], object] | None = None,
    ) -> Value:
        """
        Run a coroutine in the event loop, and return or raise as it does.

        An interrupt of the waiting thread, as KeyboardInterrupt, cancels the call. It is raised after the call has
        ended, with a note that says how.

        Args:
            on_lost: Called with the value of a call that an interrupt came too late to cancel.

        Raises:
            ConfigurationError: The thread was stopped, is another process's, or is the present one.
            NotSentError: The thread cannot be started.
        """
        caller = caller or Caller()
        call = Call(coroutine, caller)
        try:
            self._hand_over(call)
            caller.wait(call)
        except (ConfigurationError, NotSentError):
            call.discard()
            raise
        except BaseException as interrupt:
            self._cancel(call, caller)
            interrupt.add_note(call.ending())
            if on_lost is not None and call.error is None:
                on_lost(call.result())
            raise
        return call.result()

    def get(self, function: Callable[[], Value]) -> Value:
        """Return what a function returns in the event loop, or here if there is none."""

        async def got() -> Value:
            return function()

        return function() if self._usable_loop() is None else self.run(got())

    def start_soon(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine without waiting for its end, if the loop runs."""
        loop = self._usable_loop()
        if loop is not None:
            with self._lock:
                if not self._stopped:
                    loop.call_soon_threadsafe(self._begin, Call(coroutine, Caller()))
                    return
        coroutine.close()

    def stop(self) -> None:
        """Stop the thread, and wait for the end of its calls."""
        loop, thread = self._usable_loop(), self._thread
        if loop is None or thread is None:
            return
        with self._lock:
            self._stopped = True
            loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    def _usable_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop if it can be asked: it runs, in this process and in another thread."""
        is_elsewhere = self._process == os.getpid() and self._thread is not threading.current_thread()
        return self._loop if is_elsewhere else None

    def _hand_over(self, call: Call[Any]) -> None:
        if self._process != os.getpid():
            raise ConfigurationError(
                "This was made before the process was forked, and belongs to the parent process. Make another one here."
            )
        if self._thread is threading.current_thread():
            raise ConfigurationError(
                "This call was made in Pico's own event loop, as by an `on_event` function, and would wait for itself. "
                "Make it in another thread."
            )
        with self._lock:
            if self._stopped:
                raise ConfigurationError("The program is ending, and the thread of Pico has ended. Nothing was sent.")
            self._running_loop().call_soon_threadsafe(self._begin, call, context=copy_context())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, and start the thread if there is none."""
        fault = "it ended at once"
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="pico_async.blocking", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                fault = str(error)
            else:
                self._thread = thread
        if self._thread is not None:
            self._started.wait()
        if self._loop is None:
            self._thread = None
            self._started.clear()
            raise NotSentError(f"The thread of Pico could not be started: {fault}. Nothing was sent.")
        return self._loop

    def _cancel(self, call: Call[Any], caller: Caller) -> None:
        """Cancel a call, which may not have begun, and wait for its end."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call.cancel)
                caller.wait(call)
                return
        except RuntimeError:  # the loop is closed
            pass
        call.discard()

    def _begin(self, call: Call[Any]) -> None:
        call.begin()
        if call.task is not None:
            self._tasks.add(call.task)
            call.task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self._serve())
        finally:
            self._loop = None
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._stop.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)


def _new_loop() -> asyncio.AbstractEventLoop:
    """
    Return an event loop whose selector is not shared with a forked child.

    An epoll object is shared: a child that drops a socket of the parent's loop would also drop it for the parent.
    """
    if not hasattr(selectors, "PollSelector"):
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(selectors.PollSelector())
