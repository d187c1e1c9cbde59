"""The pace of one rate group, shared by many processes: slots are reserved ahead, and handed out as they fall due."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from attrs import frozen

from pico_async._logger import Logger
from pico_async.coordination.fair_queue import AHEAD, WaitingLine
from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import LATE_S, MAX_PAUSE_S, PAUSE_S, SLOWED_FOR_S, SLOWED_TO, spacing_s
from pico_async.coordination.redis.client import AVOIDED_FOR_S, Link, RedisUnavailableError, microseconds, not_sent
from pico_async.coordination.redis.clock import ServerClock
from pico_async.coordination.redis.fallback import FallbackShare

# How far ahead a fleet reserves, all its processes together: with 0.2 s each makes some ten calls a second, at any
# rate, and a single send never waits for much longer than this.
LOOKAHEAD_S = 0.2
# The next slots are asked for while so much is left, so that the answer is there in time, from another continent even.
REFILL_S = 0.1
# How a process feels its way from what it takes to its fair share, which Redis bounds.
GROWTH = 1.25
# A wait that is so much longer than slots are reserved ahead is logged: somebody will ask why nothing is sent.
LONG_WAIT_S = 5.0
# A schedule that nobody uses is forgotten after a day; one that was in use of late, and is another, was lost.
IN_USE_S = 3600.0
# Where Redis loses it again and again, this is said no more often.
LOST_TOLD_EVERY_S = 60.0

LONG_AGO = float("-inf")
NEVER = float("inf")

logger: Logger = Logger("pico_async.fleet")


@frozen(kw_only=True)
class Member:
    """One process of a fleet: its name in Redis, and what people see of it."""

    id: str
    about: str


class RedisSlot:
    """
    Permission to send one request now.

    Attributes:
        granted_at: When it was granted, on the monotonic clock.
    """

    __slots__ = ("_limiter", "granted_at")

    def __init__(self, limiter: RedisLimiter) -> None:
        self._limiter = limiter
        self.granted_at: float = time.monotonic()

    async def renew(self) -> bool:
        """
        Wait for another slot, ahead of all others, because a reserved slot is good only at its time.

        At less than one request per second, keep the slot: the wait would cost more than a refusal.
        """
        is_slow = self._limiter.is_slow
        if not is_slow:
            await self._limiter.wait(AHEAD)
        self.granted_at = time.monotonic()
        return not is_slow

    def answered(self, took_s: float) -> None:
        """Learn nothing: all processes of a fleet use one fixed jitter allowance."""

    async def refused(self, retry_after_s: float | None) -> None:
        """Pause the rate group in the whole fleet, then slow it down for a while."""
        await self._limiter.pause(retry_after_s)

    def release(self) -> None:
        """Return the slot unused. It is lost, because its time has come."""


class RedisLimiter:
    """
    The pace of one rate group in one process of many.

    A slot is used no earlier than Redis's clock says, as far as that can be told here, and no more than LATE_S later:
    then it is forfeited.

    Args:
        key: Where the rate group's schedule lies in Redis.
        share: The part of the rate that this process takes by itself while Redis is away; None: it sends nothing.
    """

    def __init__(
        self,
        rate: float,
        link: Link,
        key: str,
        *,
        member: Member,
        share: float | None = None,
        jitter_allowance_s: float | None = None,
    ) -> None:
        self._own_spacing_s = math.ceil(spacing_s(rate, jitter_allowance_s) * 1e6) / 1e6
        # Of the fleet: another process may have a lower rate.
        self._spacing_s = self._own_spacing_s
        self._share = None
        if share is not None:
            self._share = FallbackShare(
                rate * share,
                furthest_s=self._furthest_s(),
                hears_after_s=link.timeout_s + REFILL_S,
            )
        self._link = link
        self._keys = (key, f"{key}:members", f"{key}:about")
        self._rate_group = key.rpartition(":")[2]
        self._member = member
        self._line: WaitingLine[float] = WaitingLine()
        self._slots: deque[float] = deque()
        self._newest: Grant | None = None
        self._clock = ServerClock()
        # Of the schedule as Redis has it, on the local clock.
        self._promised_until = self._resume_at = LONG_AGO
        self._is_member = False
        self._waits_long = False
        self._schedule, self._heard_at, self._lost_told_at = "", LONG_AGO, LONG_AGO
        self._ask_at = dict.fromkeys(Priority, LONG_AGO)
        self._invited: set[Priority] = set()
        # While Redis is away.
        self._fault: str | None = None
        self._fail_at = LONG_AGO
        # How fast turns were taken of late.
        self._turns, self._wasted, self._counted_at = 0, False, LONG_AGO
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None

    @property
    def per_s(self) -> float:
        """Requests a second that the whole fleet gives, or this process by itself, while Redis is away."""
        return (self._share and self._share.per_s) or 1 / self._spacing_s

    @property
    def is_slow(self) -> bool:
        """Whether the next slot is a second away or more."""
        return self._spacing_s >= 1.0

    async def acquire(self, priority: int) -> RedisSlot:
        """
        Wait for a slot.

        Raises:
            NotSentError: Redis is away, and there is no fallback share.
        """
        await self.wait(priority)
        return RedisSlot(self)

    async def wait(self, priority: int) -> None:
        """Wait until one more request may be sent."""
        # The line exists before anybody stands in it: whoever is first in it gets what is due.
        asyncio.get_running_loop().call_soon(self._advance)
        try:
            await self._line.wait(priority, self._put_back)
        except asyncio.CancelledError:
            if self._slots and not len(self._line):
                self._give_back()
            raise

    async def pause(self, retry_after_s: float | None) -> None:
        """Pause, then go slower for a while, and the whole fleet with it."""
        pause_s = min(max(retry_after_s or 0.0, PAUSE_S), MAX_PAUSE_S)
        self._pause_until(_now() + pause_s)
        try:
            pause_us = await self._link.run(
                "refuse", self._keys[:1], microseconds(pause_s), microseconds(SLOWED_FOR_S), SLOWED_TO
            )
        except RedisUnavailableError:
            return  # The pause holds here; the others hear of theirs from Pico.
        self._pause_until(_now() + pause_us / 1e6)

    async def aclose(self) -> None:
        """End what is under way, and give back what was reserved in vain. Who waits still goes on waiting."""
        # They take no longer than one call to Redis may.
        while not len(self._line) and (tasks := self._under_way()):
            await asyncio.wait(tasks)
        if len(self._line):
            return  # Somebody came meanwhile.
        self._stop_timer()
        if self._slots:
            await self._return(*self._take_newest())
        if self._is_member:
            self._is_member = False
            # The others' shares grow at once, not when its silence is noticed.
            with suppress(RedisUnavailableError):
                await self._link.run("leave", self._keys[1:], self._member.id)

    async def abort(self) -> None:
        """End what is under way without a word to Redis, unless somebody waits for it."""
        if len(self._line):
            return
        self._stop_timer()
        tasks = self._under_way()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._asking, self._returning) if task is not None and not task.done()]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self) -> None:
        """Hand out what is due, ask for more where that is due, and come back when the next of it is."""
        now = _now()
        while self._slots and self._slots[0] < now - LATE_S:
            self._slots.popleft()
            self._wasted = True
        while self._slots and self._slots[0] <= now and self._line.serve(self._slots[0]):
            self._slots.popleft()
            self._turns += 1
        self._stop_timer()
        if not len(self._line):
            return
        next_at = min(self._slots[0] if self._slots else NEVER, self._ask_if_due(now), self._fail_if_due(now))
        if next_at < NEVER:
            self._timer = asyncio.get_running_loop().call_at(next_at, self._advance)

    def _ask_if_due(self, now: float) -> float:
        """Ask for more slots in the background where it is time to; give the time where it is not."""
        if self._asking is not None:
            return NEVER
        priority = Priority.INTERACTIVE
        wanted = self._single() - len(self._slots)
        if wanted < 1:
            # Also for those who are likely to come before the next time; for more of them than last time, as long as
            # all slots find a taker.
            per_s = self._turns / max(now - self._counted_at, REFILL_S) * (1.0 if self._wasted else GROWTH)
            likely = math.ceil(per_s * LOOKAHEAD_S)
            priority = Priority.BULK
            wanted = max(len(self._line), likely) - len(self._slots)
        due_at = self._ask_at[priority]
        if priority is Priority.BULK:
            # Not for a few: while half of what is wanted is there, that is enough.
            if wanted < max(1, len(self._slots)):
                return NEVER
            if self._slots:
                due_at = max(due_at, self._slots[-1] - REFILL_S)
        if due_at > now:
            return due_at
        # Owned by this pace: `aclose` ends it. It belongs to no caller, for its slots are everybody's.
        self._asking = asyncio.create_task(self._ask(wanted, priority))
        self._asking.add_done_callback(self._asked)
        return NEVER

    async def _ask(self, wanted: int, priority: Priority) -> None:
        asked_at = _now()
        invited = priority in self._invited
        self._invited.discard(priority)
        self._turns, self._wasted, self._counted_at = 0, False, asked_at
        promised_s = self._promised_until - asked_at - self._clock.answer_s
        if self._share is not None:
            promised_s = max(promised_s, self._share.fleet_begins_in_s(asked_at))
        try:
            answer = await self._link.run(
                "reserve",
                self._keys,
                self._member.id,
                f"{self._member.about} {len(self._line)}",
                wanted,
                len(self._slots),
                microseconds(self._own_spacing_s),
                microseconds(LOOKAHEAD_S),
                int(priority is Priority.INTERACTIVE),
                int(invited),
                microseconds(max(0.0, promised_s)),
                microseconds(0.0 if self._share is None else self._share.others_until_s),
                self._newest.end_us if self._newest is not None else 0,
                microseconds(self._clock.answer_s),
            )
        except RedisUnavailableError as error:
            self._go_without(str(error), wanted)
        else:
            self._take(Answer(*answer), priority, asked_at)

    def _asked(self, asking: asyncio.Task[None]) -> None:
        self._asking = None
        if asking.cancelled():
            return
        if (error := asking.exception()) is not None:  # an answer that is none: another program's keys, perhaps
            self._go_without(f"an unforeseen {type(error).__name__}", 1)
        self._advance()
        if self._slots and not len(self._line):
            self._give_back()  # All who had asked have gone.

    def _take(self, answer: Answer, priority: Priority, asked_at: float) -> None:
        now = _now()
        origin = self._clock.heard(asked_at, now, answer.now_us / 1e6)
        self._fault = None
        self._is_member = True
        self._promised_until = origin + answer.end_in_us / 1e6
        if self._share is not None:
            self._slots.extend(self._share.rejoin(now, fleet_begins_at=self._promised_until))
        if answer.pause_us:
            self._pause_until(origin + answer.pause_us / 1e6)
        if answer.unslowed_us != round(self._spacing_s * 1e6):
            self._keep_to(answer.unslowed_us / 1e6)
        self._tell_what_is_odd(answer)
        if not answer.slots:
            self._ask_at[priority] = origin + answer.again_us / 1e6
            self._invited.add(priority)
            return
        if not self._clock.sure:
            return  # They would be used at the wrong moments; the next ones are asked for at once.
        spacing_s = answer.spacing_us / 1e6
        first = origin + answer.first_us / 1e6
        slots = (first + number * spacing_s for number in range(answer.slots))
        self._slots.extend(slot for slot in slots if slot >= self._resume_at)
        self._newest = Grant(answer.schedule, int(answer.end_us), answer.spacing_us, answer.slots)

    def _keep_to(self, fleet_spacing_s: float) -> None:
        """Go as fast as the fleet does, also while Redis is away."""
        self._spacing_s = fleet_spacing_s
        if self._share is not None:
            self._share.keep_to(self._own_spacing_s / fleet_spacing_s, furthest_s=self._furthest_s())
        if fleet_spacing_s > self._own_spacing_s:
            logger.warning(
                "The rate of %s is %.4g a second in this fleet, and not %.4g as this process was given it: another "
                "process has the lower one. It holds until nobody has asked with it for a minute. Give all processes "
                "of one API key the same `rates`.",
                self._rate_group,
                1 / fleet_spacing_s,
                1 / self._own_spacing_s,
            )

    def _furthest_s(self) -> float:
        # The furthest that anybody's slots lie ahead, as in reserve.lua.
        return 4 * LOOKAHEAD_S + self._spacing_s

    def _tell_what_is_odd(self, answer: Answer) -> None:
        if answer.discarded:
            logger.warning(
                "The schedule of %s in Redis held what no process of this package writes there, and was begun anew. "
                "Does another program write to %s?",
                self._rate_group,
                self._keys[0],
            )
        now = _now()
        is_lost = answer.schedule != self._schedule and now - self._heard_at < IN_USE_S
        self._schedule, self._heard_at = answer.schedule, now
        if is_lost and not answer.discarded and now - self._lost_told_at > LOST_TOLD_EVERY_S:
            self._lost_told_at = now
            logger.warning(
                "Redis lost the schedule of %s, and it was begun anew. That takes about %.1f s each time, for others "
                "may hold slots of the lost one. Where it happens again and again, little or nothing is sent. Does "
                "another program flush this Redis, or does it evict keys? It needs the maxmemory-policy noeviction.",
                self._rate_group,
                self._furthest_s(),
            )
        wait_s = max(answer.pause_us, answer.end_in_us) / 1e6
        waits_long = not answer.slots and wait_s > 4 * LOOKAHEAD_S + answer.spacing_us / 1e6 + LONG_WAIT_S
        if waits_long and not self._waits_long:
            why = "Pico refused a request for its rate" if answer.pause_us else "so far ahead it is reserved"
            logger.warning(
                "No request of %s leaves for %.0f s, as Redis has it: %s. `pico fleet status` shows it; it is in %s.",
                self._rate_group,
                wait_s,
                why,
                self._keys[0],
            )
        self._waits_long = waits_long

    def _go_without(self, fault: str, wanted: int) -> None:
        now = _now()
        self._fault = fault
        self._ask_at = dict.fromkeys(Priority, now + AVOIDED_FOR_S)
        self._fail_at = max(self._fail_at, now)
        if self._share is not None:
            self._slots.extend(self._share.take(wanted, now, reserved_until=self._promised_until))
            self._newest = None

    def _fail_if_due(self, now: float) -> float:
        """Where Redis is away, and there is no share to go on with: end the wait of those who wait."""
        if self._fault is None or self._share is not None or self._slots or self._asking is not None:
            return NEVER
        while self._single():
            self._line.fail(not_sent("The pace", self._fault))
        if not len(self._line):
            return NEVER
        if now >= self._fail_at:
            # One by one, as slowly as they would be sent: a blast must not run through a million in a short outage.
            self._line.fail(not_sent("The pace", self._fault))
            self._fail_at = now + self._spacing_s
        return self._fail_at

    def _single(self) -> int:
        return self._line.count(AHEAD) + self._line.count(Priority.INTERACTIVE)

    def _pause_until(self, moment: float) -> None:
        self._resume_at = max(self._resume_at, moment)
        self._slots = deque(slot for slot in self._slots if slot >= self._resume_at)
        self._advance()

    def _put_back(self, slot: float) -> None:
        # A refusal may have come between its grant and this cancellation.
        if slot >= self._resume_at:
            self._slots.appendleft(slot)
        self._advance()

    def _give_back(self) -> None:
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._return(*self._take_newest()))

    def _take_newest(self) -> tuple[Grant | None, int]:
        newest, self._newest = self._newest, None
        # Those of an earlier grant may lie before another process's.
        slots = sum(1 for slot in self._slots if slot > _now())
        self._slots.clear()
        return newest, min(slots, newest.slots if newest else 0)

    async def _return(self, newest: Grant | None, slots: int) -> None:
        if newest is None or not slots:
            return
        start_us = newest.end_us - slots * newest.spacing_us
        # Where it fails, or another has reserved behind them, they are forfeited.
        with suppress(RedisUnavailableError):
            await self._link.run("give_back", self._keys[:1], newest.schedule, newest.end_us, start_us, slots)


class Answer(NamedTuple):
    """What `reserve.lua` gives: microseconds, most of them from the server's now."""

    slots: int
    first_us: int
    spacing_us: int
    again_us: int
    pause_us: int
    end_in_us: int
    schedule: str
    now_us: int
    end_us: str
    discarded: int
    unslowed_us: int


class Grant(NamedTuple):
    """The newest slots as Redis has them, so that they can be given back: its schedule, their end, spacing, number."""

    schedule: str
    end_us: int
    spacing_us: int
    slots: int


def _now() -> float:
    return asyncio.get_running_loop().time()
