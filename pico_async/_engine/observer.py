"""What a session's listeners hear: each call and each blast, told as events. Imported where somebody listens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pico_async._engine.endpoints import Request
from pico_async._engine.progress import CallProgress
from pico_async._engine.verdict import StaleToken, Success, Verdict, tellable
from pico_async._logger import Logger
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

# One count for all sessions: a listener may serve several.
_calls = itertools.count(1)


class Observer:
    """
    Tell a session's listeners what happens.

    What a listener raises harms nothing but itself: the first time it is logged, and the listener hears the next event
    as before. KeyboardInterrupt and SystemExit go their way: they end the process, whatever it was doing.
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
        trace: CallProgress,
        pace: Callable[[RateGroup], float | None],
        called: Coroutine[Any, Any, Value],
    ) -> Value:
        """Await the call, and tell its beginning, its steps and its end."""
        story = ToldCall(self, request, trace, pace)
        try:
            story.begin(self._host, self._port)
            value = await called
        except BaseException as error:
            story.fail(error)
            raise
        finally:
            called.close()  # where a listener was interrupted, it was not begun
        trace.in_doubt = True  # an interrupt in a listener would take the answer with it
        story.succeed(value)
        trace.in_doubt = False
        return value

    def tell(self, event: Event) -> None:
        """Call all listeners."""
        for listener in self._listeners:
            try:
                listener(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                # Each once: what fails for one event is likely to fail for the million that follow.
                if not any(listener is failed for failed in self._failed):
                    self._failed.append(listener)
                    logger.warning(
                        "A listener of `on_event` raised, for %s; the call goes on. This is told only once.",
                        type(event).__name__,
                        exc_info=True,
                    )


class ToldCall:
    """One call, from its beginning to its end."""

    def __init__(
        self, observer: Observer, request: Request, trace: CallProgress, pace: Callable[[RateGroup], float | None]
    ) -> None:
        self._tell = observer.tell
        self._request = request
        self._trace = trace
        self._pace = pace
        self._call = next(_calls)
        self._operation = request.endpoint.operation
        self._rate_group = request.endpoint.rate_group
        self._began_at = self._turn_at = time.monotonic()
        self._waits_since: float | None = None
        self._waited_s = 0.0
        self._trying = False
        self._turn_again: SlotGranted | None = None
        self._status_code: int | None = None
        self._secrets: Sequence[str] = ()

    def begin(self, host: str, port: int) -> None:
        """Tell it, and hear of each step from now on."""
        self._trace.story = self
        self._tell(
            CallStarted(
                call=self._call,
                blast=self._trace.blast,
                operation=self._operation,
                rate_group=self._rate_group.value,
                method=self._request.endpoint.method,
                host=host,
                port=port,
            )
        )

    def waits(self) -> None:
        """It asks for a turn."""
        self._waits_since = time.monotonic()

    def takes_turn(self) -> None:
        """It has one."""
        waited_s = self._stop_waiting()
        self._turn_at = time.monotonic()
        taken = SlotGranted(
            call=self._call,
            operation=self._operation,
            rate_group=self._rate_group.value,
            waited_s=waited_s,
            pace=self._pace(self._rate_group),
        )
        if self._trying:
            # It is the HTTP library that waits for it. A listener that reports its stack, with the locals of each
            # frame, would show the headers: so it is told when the attempt ends.
            self._tell_turn_again()
            self._turn_again = taken
        else:
            self._tell(taken)

    def tries(self, attempt: int) -> None:
        """A request is begun."""
        self._trying, self._status_code = True, None
        self._tell(AttemptStarted(call=self._call, operation=self._operation, attempt=attempt))

    def hears(self, status_code: int, secrets: Sequence[str]) -> None:
        """A reply came, for a request that was made with these."""
        self._status_code, self._secrets = status_code, secrets

    def judges(self, verdict: Verdict) -> None:
        """The request is over."""
        if isinstance(verdict, Success):
            self._end_attempt(Outcome.ACCEPTED, None)
            return
        error = verdict.error if isinstance(verdict, StaleToken) else verdict
        self._end_attempt(error.outcome, type(verdict).__name__)
        if isinstance(verdict, RateLimitError):
            self._tell(
                RateRefused(
                    call=self._call,
                    operation=self._operation,
                    rate_group=self._rate_group.value,
                    retry_after_s=verdict.retry_after,
                )
            )

    def retries(self, error: PicoError | StaleToken, delay_s: float) -> None:
        """It sleeps before the next turn."""
        self._tell(
            Retrying(
                call=self._call,
                operation=self._operation,
                attempt=self._trace.attempts,
                reason=type(error).__name__,
                delay_s=delay_s,
            )
        )

    def succeed(self, value: object) -> None:
        """Tell the end of a call that gave a value."""
        if self._rate_group is RateGroup.TOKEN:
            self._tell(TokenRefreshed(call=self._call))
        named = tellable(getattr(value, "request_id", None), self._request, secrets=self._secrets)
        self._end(Outcome.ACCEPTED, self._status_code, named, None)

    def fail(self, error: BaseException) -> None:
        """Tell the end of a call that raised, or was cancelled."""
        if self._trying:
            self._end_attempt(_outcome(in_doubt=self._trace.on_the_wire), type(error).__name__)
        if isinstance(error, PicoError):
            self._end(error.outcome, error.status_code, error.request_id, type(error).__name__)
        else:
            self._end(_outcome(in_doubt=self._trace.in_doubt), self._status_code, None, type(error).__name__)

    def _tell_turn_again(self) -> None:
        if self._turn_again is not None:
            taken, self._turn_again = self._turn_again, None
            self._tell(taken)

    def _end_attempt(self, outcome: Outcome, error: str | None) -> None:
        self._tell_turn_again()
        self._trying = False
        self._tell(
            AttemptEnded(
                call=self._call,
                operation=self._operation,
                attempt=self._trace.attempts,
                outcome=outcome,
                status_code=self._status_code,
                error=error,
                duration_s=time.monotonic() - self._turn_at,
            )
        )

    def _end(self, outcome: Outcome, status_code: int | None, request_id: str | None, error: str | None) -> None:
        self._stop_waiting()
        self._tell(
            CallEnded(
                call=self._call,
                blast=self._trace.blast,
                operation=self._operation,
                outcome=outcome,
                status_code=status_code,
                request_id=request_id,
                error=error,
                attempts=self._trace.attempts,
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
