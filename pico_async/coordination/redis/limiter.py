"""The limiter of one rate group in one process of a fleet. It grants slots that it has reserved in Redis."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import deque
from contextlib import suppress

from attrs import define

from pico_async.coordination.fair_queue import PRIORITY_AHEAD, WaitingLine
from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import FLEET_LATE_S, MAX_PAUSE_S, PAUSE_S
from pico_async.coordination.redis.client import AVOIDED_FOR_S, RedisUnavailableError, ScriptClient, unavailable
from pico_async.coordination.redis.fallback import FallbackShare
from pico_async.coordination.redis.reservation import LONG_AGO, REFILL_S, ReservationPolicy, SlotRequest
from pico_async.coordination.redis.schedule import FleetSchedule, Member, Reservation

NEVER = float("inf")


@define(eq=False, repr=False)
class RedisSlot:
    """
    Permission to send one request now.

    Attributes:
        due_at: The time of the slot in the schedule, on the loop's clock.
        granted_at: When the slot was granted, on the monotonic clock.
    """

    _limiter: RedisLimiter
    due_at: float
    granted_at: float

    async def renew(self) -> bool:
        """
        Wait for another slot, ahead of all others, because a reserved slot is good only at its time. Return True.

        At one request per second or less, re-date the slot to now and return False. If Pico refuses the request, that
        costs less time than the wait for another slot.

        Raises:
            NotSentError: Redis is away, and there is no fallback share.
        """
        is_another = not self._limiter.is_slow
        if is_another:
            self.due_at = await self._limiter.next_slot(PRIORITY_AHEAD)
        self.granted_at = time.monotonic()
        return is_another

    def answered(self, took_s: float) -> None:
        """Learn nothing: all processes of a fleet use one fixed jitter allowance."""
        # A process cannot hold back the requests of the others that would meet a delayed one at the server. Therefore a
        # learned allowance is no gain: benchmarks/README.md, `fleet_jitter.py`.

    async def refused(self, retry_after_s: float | None) -> None:
        await self._limiter.pause(retry_after_s)

    def give_back(self) -> None:
        self._limiter.put_back(self.due_at)


class RedisLimiter:
    """
    The limiter of one rate group in one process of a fleet.

    A slot is used at its time on Redis's clock or up to `FLEET_LATE_S` later; after that it is dropped.

    Args:
        key: The key of the rate group's schedule in Redis.
        share: The part of the rate that this process uses while Redis is away; None: it sends nothing then.
    """

    def __init__(
        self,
        rate: float,
        scripts: ScriptClient,
        key: str,
        *,
        member: Member,
        share: float | None = None,
        jitter_allowance_s: float | None = None,
    ) -> None:
        self._queue: WaitingLine[float] = WaitingLine()
        # The slots in hand: the times of those that were reserved, the earliest first.
        self._slots: deque[float] = deque()
        self._newest: Reservation | None = None
        self._resume_at = LONG_AGO
        self._schedule = FleetSchedule(rate, scripts, key, member=member, jitter_allowance_s=jitter_allowance_s)
        self._policy = ReservationPolicy()
        self._fallback: FallbackShare | None = None
        if share is not None:
            notice_s = scripts.timeout_s + REFILL_S
            self._fallback = FallbackShare(rate * share, reach_s=self._schedule.reach_s, notice_s=notice_s)
        # While Redis is away: why, and when the next request that waits fails.
        self._fault: str | None = None
        self._fail_at = LONG_AGO
        # Owned by this limiter, because slots belong to no one caller: `aclose` or `abort` ends them.
        self._timer: asyncio.TimerHandle | None = None
        self._reserving: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None

    @property
    def per_s(self) -> float:
        """Requests per second of the whole fleet, or of this process alone while Redis is away."""
        per_s = None if self._fallback is None else self._fallback.per_s
        return 1 / self._schedule.spacing_s if per_s is None else per_s

    @property
    def is_slow(self) -> bool:
        """Whether the slots are a second or more apart."""
        return self._schedule.spacing_s >= 1.0

    async def acquire(self, priority: int) -> RedisSlot:
        due_at = await self.next_slot(priority)
        return RedisSlot(self, due_at, time.monotonic())

    async def next_slot(self, priority: int) -> float:
        """
        Wait for a slot, and return its time in the schedule.

        Raises:
            NotSentError: Redis is away, and there is no fallback share.
        """
        # `_advance` runs after this request is in the queue: it grants a slot that is due now to the first one there.
        asyncio.get_running_loop().call_soon(self._advance)
        try:
            return await self._queue.wait(priority, self.put_back)
        except asyncio.CancelledError:
            if self._slots and not len(self._queue):
                self._start_give_back()
            raise

    def put_back(self, due_at: float) -> None:
        """Take back a slot that was granted and not used. The next request that waits gets it if it is still good."""
        if due_at >= self._resume_at:
            insort(self._slots, due_at)
        self._advance()

    async def pause(self, retry_after_s: float | None) -> None:
        pause_s = min(max(retry_after_s or 0.0, PAUSE_S), MAX_PAUSE_S)
        self._pause_until(_now() + pause_s)
        # Without Redis the pause holds for this process. Pico refuses requests of the others, too, and they pause then.
        with suppress(RedisUnavailableError):
            pause_s = await self._schedule.refuse(pause_s)
            self._pause_until(_now() + pause_s)

    async def aclose(self) -> None:
        """Leave the fleet and return unused slots, unless requests wait."""
        # Each task takes no longer than one call to Redis may.
        while not len(self._queue) and (tasks := self._tasks()):
            await asyncio.wait(tasks)
        if len(self._queue):
            return
        self._stop_timer()
        await self._schedule.give_back(*self._take_unused())
        await self._schedule.leave()

    async def abort(self) -> None:
        """Stop without a call to Redis, unless requests wait."""
        if len(self._queue):
            return
        self._stop_timer()
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _advance(self) -> None:
        """Grant the slots that are due, reserve more if that is due, and set a timer for the next of these events."""
        now = _now()
        while self._slots and self._slots[0] < now - FLEET_LATE_S:
            self._slots.popleft()
            self._policy.slot_expired()
        while self._slots and self._slots[0] <= now and self._queue.serve(self._slots[0]):
            self._slots.popleft()
            self._policy.slot_used()
        self._stop_timer()
        if not len(self._queue):
            return
        slot_at = self._slots[0] if self._slots else NEVER
        reserve_at = self._reserve_if_due(now)
        fail_at = self._fail_if_due(now)  # after the line above: nothing fails while slots are being reserved
        next_at = min(slot_at, reserve_at, fail_at)
        if next_at < NEVER:
            self._timer = asyncio.get_running_loop().call_at(next_at, self._advance)

    def _reserve_if_due(self, now: float) -> float:
        """Start a reservation if it is due. Return when the next one is due, or `NEVER`."""
        if self._reserving is not None:
            return NEVER
        request = self._policy.next_request(now, self._slots, single=self._single(), waiting=len(self._queue))
        if request is None:
            return NEVER
        if request.due_at > now:
            return request.due_at
        self._reserving = asyncio.create_task(self._reserve(request))
        self._reserving.add_done_callback(self._reserved)
        return NEVER

    async def _reserve(self, request: SlotRequest) -> None:
        self._policy.begin(request, _now())
        waiting, held = len(self._queue), len(self._slots)
        try:
            reservation = await self._schedule.reserve(
                request, waiting=waiting, held=held, newest=self._newest, fallback=self._fallback
            )
        except RedisUnavailableError as error:
            self._go_without(str(error), request.wanted)
        else:
            self._add(reservation, request.priority)

    def _reserved(self, reserving: asyncio.Task[None]) -> None:
        self._reserving = None
        if reserving.cancelled():
            return
        if (error := reserving.exception()) is not None:  # a reply in no known form, perhaps of another program's key
            self._go_without(f"an unforeseen {type(error).__name__}", 1)
        self._advance()
        if self._slots and not len(self._queue):
            self._start_give_back()  # all requests were cancelled meanwhile

    def _add(self, reservation: Reservation, priority: Priority) -> None:
        """Take over the slots, pause or invitation that Redis replied."""
        self._fault = None
        if self._fallback is not None:
            # Redis moved the schedule at least to where `fleet_resumes_in_s` said, so the fleet resumes at its end.
            self._slots.extend(self._fallback.rejoin(_now(), fleet_resumes_at=self._schedule.ends_at))
            part = self._schedule.own_spacing_s / self._schedule.spacing_s
            self._fallback.follow_fleet_rate(part, reach_s=self._schedule.reach_s)
        if reservation.pause_until is not None:
            self._pause_until(reservation.pause_until)
        if reservation.ask_again_at is not None:
            self._policy.invite(priority, reservation.ask_again_at)
        if reservation.slots:
            self._slots.extend(slot for slot in reservation.slots if slot >= self._resume_at)
            self._newest = reservation

    def _go_without(self, fault: str, wanted: int) -> None:
        """Use fallback slots while Redis is away, or begin to fail requests."""
        now = _now()
        self._fault = fault
        self._policy.pause(now + AVOIDED_FOR_S)
        self._fail_at = max(self._fail_at, now)
        if self._fallback is not None:
            self._slots.extend(self._fallback.take(wanted, now, reserved_until=self._schedule.ends_at))
            self._newest = None

    def _fail_if_due(self, now: float) -> float:
        """Fail requests while Redis is away and there is no fallback share. Return when the next one fails."""
        if self._fault is None or self._fallback is not None or self._slots or self._reserving is not None:
            return NEVER
        while self._single():  # single sends stand first in the line, and fail at once
            self._queue.fail(unavailable("The rate limit", self._fault))
        if not len(self._queue):
            return NEVER
        if now >= self._fail_at:
            # As slowly as slots are granted: a bulk send must not fail a million messages in one short outage.
            self._queue.fail(unavailable("The rate limit", self._fault))
            self._fail_at = now + self._schedule.spacing_s
        return self._fail_at

    def _single(self) -> int:
        return self._queue.count(PRIORITY_AHEAD) + self._queue.count(Priority.INTERACTIVE)

    def _pause_until(self, moment: float) -> None:
        self._resume_at = max(self._resume_at, moment)
        self._slots = deque(slot for slot in self._slots if slot >= self._resume_at)
        self._advance()

    def _start_give_back(self) -> None:
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._schedule.give_back(*self._take_unused()))

    def _take_unused(self) -> tuple[Reservation | None, int]:
        """Drop all slots in hand. Return the newest reservation, and how many of the slots it can return to Redis."""
        newest, self._newest = self._newest, None
        # After the slots of an earlier reservation, another process may have reserved, so they cannot be returned.
        unused = sum(1 for slot in self._slots if slot > _now())
        self._slots.clear()
        return newest, min(unused, len(newest.slots) if newest is not None else 0)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._reserving, self._returning) if task is not None and not task.done()]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        away = "" if self._fault is None else f", Redis is away: {self._fault}"
        return (
            f"<RedisLimiter {self._schedule.rate_group} {self.per_s:.2f}/s, {len(self._queue)} waiting, "
            f"{len(self._slots)} reserved{away}>"
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
