"""How far one call is: its limits and hooks, and the events that report it to the session's listeners."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import anyio
from attrs import define, field

from pico_async._engine.endpoints import Request
from pico_async._engine.permission import Permission
from pico_async._engine.verdict import StaleToken, Success, Verdict, shareable
from pico_async._logger import Logger
from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import RateGroup
from pico_async.errors import Outcome, PicoError, RateLimitError
from pico_async.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Event,
    RateRefused,
    Retrying,
    SlotGranted,
    TokenRefreshed,
)

Listener: TypeAlias = Callable[[Event], object]
Value = TypeVar("Value")

logger = Logger("pico_async")

# One count for all sessions, because a listener may serve several.
_calls = itertools.count(1)


@define(eq=False, repr=False)
class CallProgress:
    """
    The limits and hooks of one call, and how far it is.

    Attributes:
        attempts: Number of requests that were begun.
        exchanging: A request may have been written, and its reply has not come.
        in_doubt: If the call ended now, it would be in doubt whether it was carried out.
        ending: Set to end the call after the present attempt.
        scope: Cancels the call. Set by a caller that has a scope already, because a scope for each call costs as much
            as encoding it.
        blast: Number of the bulk send that the call belongs to.
        priority: Decides which waiting call gets the next slot and the next connection.
        deadline: Time on the monotonic clock after which the request must not be sent; None if there is none.
        permission: Asked whether the message may be sent; what it raises ends the call as not sent.
        before_send: Awaited before each slot is acquired, to commit the intent to send (write-ahead). What it raises
            ends the call as not sent.
        on_attempt: Called when an attempt begins, because the wait for its slot is over.
        observed: Emits the call's events; None if nothing listens.
    """

    scope: anyio.CancelScope | None = None
    before_send: Callable[[], Awaitable[object]] | None = field(default=None, kw_only=True)
    on_attempt: Callable[[], object] | None = field(default=None, kw_only=True)
    priority: Priority = field(default=Priority.INTERACTIVE, init=False)
    deadline: float | None = field(default=None, init=False)
    attempts: int = field(default=0, init=False)
    exchanging: bool = field(default=False, init=False)
    in_doubt: bool = field(default=False, init=False)
    ending: bool = field(default=False, init=False)
    blast: int | None = field(default=None, init=False)
    permission: Permission | None = field(default=None, init=False)
    observed: CallEvents | None = field(default=None, init=False)


class Observer:
    """
    Calls the listeners of a session with its events.

    What a listener raises is logged once and changes nothing else; the listener is called with the next event. Only
    KeyboardInterrupt and SystemExit are raised: they end the process.
    """

    def __init__(self, listeners: Sequence[Listener], base_url: str) -> None:
        self._listeners = tuple(listeners)
        self._failed: list[Listener] = []
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)

    async def follow(
        self,
        request: Request,
        progress: CallProgress,
        per_s: Callable[[RateGroup], float | None],
        called: Coroutine[Any, Any, Value],
    ) -> Value:
        """Await the call, and emit its events."""
        observed = CallEvents(self, request, progress, per_s)
        try:
            observed.begin(self._host, self._port)
            value = await called
        except BaseException as error:
            observed.fail(error)
            raise
        finally:
            called.close()  # it was not begun if a listener was interrupted
        progress.in_doubt = True  # an interrupt in a listener would lose the result
        observed.succeed(value)
        progress.in_doubt = False
        return value

    def emit(self, event: Event) -> None:
        """Call all listeners with an event."""
        for listener in self._listeners:
            try:
                listener(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                # Logged once for each listener: what fails for one event is likely to fail for a million.
                if not any(listener is failed for failed in self._failed):
                    self._failed.append(listener)
                    logger.warning(
                        "A listener of `on_event` raised for %s. The call goes on. This is logged only once.",
                        type(event).__name__,
                        exc_info=True,
                    )


class CallEvents:
    """Emits the events of one call."""

    def __init__(
        self, observer: Observer, request: Request, progress: CallProgress, per_s: Callable[[RateGroup], float | None]
    ) -> None:
        self._emit = observer.emit
        self._request = request
        self._progress = progress
        self._per_s = per_s
        self._call = next(_calls)
        self._operation = request.endpoint.operation
        self._rate_group = request.endpoint.rate_group
        self._began_at = self._slot_at = time.monotonic()
        self._waits_since: float | None = None
        self._waited_s = 0.0
        self._trying = False
        self._later_slot: SlotGranted | None = None
        self._status_code: int | None = None
        self._secrets: Sequence[str] = ()

    def begin(self, host: str, port: int) -> None:
        """Emit the start of the call, and observe its steps from now on."""
        self._progress.observed = self
        self._emit(
            CallStarted(
                call=self._call,
                blast=self._progress.blast,
                operation=self._operation,
                rate_group=self._rate_group.value,
                method=self._request.endpoint.method,
                host=host,
                port=port,
            )
        )

    def slot_requested(self) -> None:
        """Start to measure the wait for a slot."""
        self._waits_since = time.monotonic()

    def slot_granted(self, *, is_another: bool = True) -> None:
        """Emit that a slot was granted. Without *is_another*, the call kept its slot, and nothing is emitted."""
        waited_s = self._stop_waiting()
        self._slot_at = time.monotonic()
        if not is_another:
            return
        granted = SlotGranted(
            call=self._call,
            operation=self._operation,
            rate_group=self._rate_group,
            waited_s=waited_s,
            pace=self._per_s(self._rate_group),
        )
        if self._trying:
            # Emitted when the attempt ends. A listener that reports its stack, with the variables of each frame, would
            # now show the headers, because it would be called from within the HTTP library.
            self._emit_later_slot()
            self._later_slot = granted
        else:
            self._emit(granted)

    def attempt_started(self, attempt: int) -> None:
        """Emit that a request is begun."""
        self._trying, self._status_code = True, None
        self._emit(AttemptStarted(call=self._call, operation=self._operation, attempt=attempt))

    def replied(self, status_code: int, secrets: Sequence[str]) -> None:
        """Remember the status of the reply, and the secrets of its request."""
        self._status_code, self._secrets = status_code, secrets

    def attempt_ended(self, verdict: Verdict) -> None:
        """Emit the end of the request."""
        if isinstance(verdict, Success):
            self._end_attempt(Outcome.ACCEPTED, None)
            return
        error = verdict.error if isinstance(verdict, StaleToken) else verdict
        self._end_attempt(error.outcome, type(verdict).__name__)
        if isinstance(verdict, RateLimitError):
            self._emit(
                RateRefused(
                    call=self._call,
                    operation=self._operation,
                    rate_group=self._rate_group.value,
                    retry_after_s=verdict.retry_after,
                )
            )

    def retrying(self, error: PicoError | StaleToken, delay_s: float) -> None:
        """Emit that the call sleeps before its next attempt."""
        self._emit(
            Retrying(
                call=self._call,
                operation=self._operation,
                attempt=self._progress.attempts,
                reason=type(error).__name__,
                delay_s=delay_s,
            )
        )

    def succeed(self, value: object) -> None:
        """Emit the end of a call that returned a value."""
        if self._rate_group is RateGroup.TOKEN:
            self._emit(TokenRefreshed(call=self._call))
        named = shareable(getattr(value, "request_id", None), self._request, secrets=self._secrets)
        self._end(Outcome.ACCEPTED, self._status_code, named, None)

    def fail(self, error: BaseException) -> None:
        """Emit the end of a call that raised or was cancelled."""
        if self._trying:
            self._end_attempt(_outcome(in_doubt=self._progress.exchanging), type(error).__name__)
        if isinstance(error, PicoError):
            self._end(error.outcome, error.status_code, error.request_id, type(error).__name__)
        else:
            self._end(_outcome(in_doubt=self._progress.in_doubt), self._status_code, None, type(error).__name__)

    def _emit_later_slot(self) -> None:
        if self._later_slot is not None:
            granted, self._later_slot = self._later_slot, None
            self._emit(granted)

    def _end_attempt(self, outcome: Outcome, error: str | None) -> None:
        self._emit_later_slot()
        self._trying = False
        self._emit(
            AttemptEnded(
                call=self._call,
                operation=self._operation,
                attempt=self._progress.attempts,
                outcome=outcome,
                status_code=self._status_code,
                error=error,
                duration_s=time.monotonic() - self._slot_at,
            )
        )

    def _end(self, outcome: Outcome, status_code: int | None, request_id: str | None, error: str | None) -> None:
        self._stop_waiting()
        self._emit(
            CallEnded(
                call=self._call,
                blast=self._progress.blast,
                operation=self._operation,
                outcome=outcome,
                status_code=status_code,
                request_id=request_id,
                error=error,
                attempts=self._progress.attempts,
                waited_s=self._waited_s,
                duration_s=time.monotonic() - self._began_at,
            )
        )

    def _stop_waiting(self) -> float:
        waited_s = 0.0 if self._waits_since is None else time.monotonic() - self._waits_since
        self._waits_since = None
        self._waited_s += waited_s
        return waited_s


def _outcome(*, in_doubt: bool) -> Outcome:
    return Outcome.IN_DOUBT if in_doubt else Outcome.NOT_SENT
