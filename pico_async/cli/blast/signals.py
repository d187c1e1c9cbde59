"""The signals that end a bulk send: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import anyio
from attrs import define, field

from pico_async.bulk.sender import BulkStream

if TYPE_CHECKING:
    from pico_async.cli.blast.progress import Display


class InterruptedEarlyError(Exception):
    """A signal, of this number, came before the first message, so nothing was sent."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


@define(eq=False)
class StopSignals:
    """
    Stop a bulk send on SIGINT, SIGTERM or SIGHUP.

    - Before the first message, the first signal cancels everything.
    - After it, the first signal stops reading and sending, and waits for the requests in flight.
    - A second signal, or the end of the grace period, cancels that wait: the requests in flight are in doubt.
    """

    _display: Display
    _grace_s: float
    first: int | None = field(default=None, init=False)
    scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)
    _stream: BulkStream | None = field(default=None, init=False)

    @property
    def has_begun(self) -> bool:
        """Whether anything may have been sent."""
        return self._stream is not None

    def begin(self, stream: BulkStream) -> None:
        """Stop this stream at the next signal; before this call there is nothing to wait for."""
        self._stream = stream

    @contextmanager
    def handled(self) -> Iterator[None]:
        """
        Handle the signals until the context ends.

        The context outlasts the sending: a third Ctrl-C must not cut off the end of the report.
        """
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        # Windows has no SIGHUP; and nohup ignores it on purpose.
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
            numbers.append(hangup)

        def on_signal(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._stop, number)

        # The loops of Windows have no signal handlers, so Python's own are used.
        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _stop(self, number: int) -> None:
        if self.first is not None:
            self.scope.cancel()
            return
        self.first = number
        if self._stream is None:
            self.scope.cancel()
            return
        if self._grace_s > 0:
            self._display.print(
                f"Stopping: waiting up to {self._grace_s:g} s for the requests in flight. "
                "Ctrl-C again leaves them in doubt."
            )
        else:
            self._display.print("Stopping: the requests in flight are left in doubt.")
        self._stream.stop("interrupted")
        asyncio.get_running_loop().call_later(self._grace_s, self.scope.cancel)
