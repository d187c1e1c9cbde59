"""One try of a call on its way through the transport: when its turn was, and whether it may still leave."""

from __future__ import annotations

import time

import anyio

from pico_async._engine.endpoints import Request
from pico_async._engine.progress import CallProgress
from pico_async.coordination.fair_queue import FairQueue
from pico_async.coordination.protocols import Coordinator, LearningCoordinator, Priority
from pico_async.errors import MessageExpiredError

# So late after its turn a request may still leave: no later than a busy loop's timers are, which the guard of the pace
# allows for.
LATE_S = 0.003


class Attempt:
    """
    One try of a call that has its turn.

    Attributes:
        turn_at: When its turn was, on the monotonic clock.
    """

    __slots__ = ("_coordinator", "_deadline", "_learner", "_priority", "_request", "_trace", "turn_at")

    def __init__(
        self,
        request: Request,
        trace: CallProgress,
        coordinator: Coordinator,
        *,
        learner: LearningCoordinator | None,
        priority: Priority,
        deadline: float | None,
    ) -> None:
        self.turn_at = time.monotonic()
        self._request = request
        self._trace = trace
        self._coordinator = coordinator
        self._learner = learner
        self._priority = priority
        self._deadline = deadline

    async def take(self, places: FairQueue) -> bool:
        """
        Take one of the transport's places; say whether the turn may be over by then.

        Raises:
            MessageExpiredError: `expires_in` ran out.
            PicoError: The number has opted out since it was asked for, or nobody can say. Nothing was sent.
        """
        if self._deadline is None:
            return await self._take(places)
        with anyio.move_on_after(self._deadline - time.monotonic()):
            return await self._take(places)
        raise expired(self._request)

    async def leave_late(self) -> bool:
        """
        Let the turn count from now on; False where others had theirs meanwhile.

        Raises:
            MessageExpiredError: `expires_in` ran out.
        """
        in_time = time.monotonic() - self.turn_at <= LATE_S
        if not in_time and self._learner is not None:
            in_time = await self._learner.leave_late(self._request.endpoint.rate_group, self.turn_at)
            if in_time:
                self.turn_at = time.monotonic()
        if in_time:
            self._check_deadline()
        return in_time

    async def turn_again(self) -> None:
        """
        Wait for another turn; ahead of all who had none yet.

        Raises:
            MessageExpiredError: `expires_in` ran out.
            PicoError: There is no turn to be had. Nothing was sent.
        """
        with anyio.move_on_after(None if self._deadline is None else self._deadline - time.monotonic()):
            self._trace.note_wait()
            await self._coordinator.turn(self._request.endpoint.rate_group, Priority.AGAIN)
            self._trace.note_turn()
        self.turn_at = time.monotonic()
        self._check_deadline()

    async def _take(self, places: FairQueue) -> bool:
        permission, asked_for_long = self._trace.permission, False
        if permission is not None and permission.is_stale:
            # Not with a place in hand: a hundred answers that never come would hold all of them.
            await permission.ask()
            asked_for_long = not permission.was_quick
        return await places.take(self._priority) or asked_for_long

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise expired(self._request)

    def note_write(self) -> None:
        """The first byte may be on its way."""
        self._trace.note_write()


def expired(request: Request) -> MessageExpiredError:
    """Make the error of a message that waited for too long."""
    return MessageExpiredError(f"{request}: `expires_in` ran out before its turn. It was not sent.")
