"""One rate group's schedule in Redis, from which every process of a fleet reserves its slots."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import NamedTuple

from attrs import frozen

from pico_async._logger import Logger
from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import SLOWED_FOR_S, SLOWED_TO, spacing_s
from pico_async.coordination.redis.client import RedisUnavailableError, ScriptClient, microseconds
from pico_async.coordination.redis.clock import ServerClock
from pico_async.coordination.redis.fallback import FallbackShare
from pico_async.coordination.redis.reservation import LONG_AGO, LOOKAHEAD_S, Request

# A wait that is this much longer than the usual one is logged, because a user will ask why nothing is sent.
LONG_WAIT_S = 5.0
# A new schedule within this time after the last reply means that Redis lost the earlier one. Unused schedules expire
# after a day.
IN_USE_S = 3600.0
# A schedule that is lost again and again is logged no more often than this.
LOST_LOGGED_EVERY_S = 60.0

logger: Logger = Logger("pico_async.fleet")


@frozen(kw_only=True)
class Member:
    """
    One process of a fleet.

    Attributes:
        id: Its name in Redis.
        about: What `pico fleet status` shows of it.
    """

    id: str
    about: str


class Reply(NamedTuple):
    """The reply of `reserve.lua`, in microseconds. Most times are relative to the server's clock, `now_us`."""

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


@frozen(kw_only=True)
class Reservation:
    """
    The reply to one request for slots. Times are on the loop's clock.

    Attributes:
        slots: The times of the reserved slots; none where the schedule is full.
        ask_again_at: When to ask again if the schedule is full, else None.
        pause_until: The end of a pause after a refusal, or None.
        schedule: The schedule's name. It and the next two find the slots in Redis again, to return them.
        end_us: The end of the slots, on the server's clock.
        spacing_us: The distance between two slots.
    """

    slots: tuple[float, ...]
    ask_again_at: float | None
    pause_until: float | None
    schedule: str
    end_us: int
    spacing_us: int


class FleetSchedule:
    """
    The schedule as one process knows it.

    Attributes:
        own_spacing_s: The distance between two slots at the rate that this process was given.
        spacing_s: The same for the whole fleet, where another process may have been given a lower rate.
        ends_at: The end of the schedule as Redis last reported it, on the loop's clock.
    """

    def __init__(
        self, rate: float, scripts: ScriptClient, key: str, *, member: Member, jitter_allowance_s: float | None = None
    ) -> None:
        self.own_spacing_s: float = math.ceil(spacing_s(rate, jitter_allowance_s) * 1e6) / 1e6
        self.spacing_s: float = self.own_spacing_s
        self.ends_at: float = LONG_AGO
        self.rate_group: str = key.rpartition(":")[2]
        self._scripts = scripts
        self._keys = (key, f"{key}:members", f"{key}:about")
        self._member = member
        self._clock = ServerClock()
        self._is_member = False
        # Of the last reply, for the log.
        self._name = ""
        self._replied_at = self._lost_logged_at = LONG_AGO
        self._waits_long = False

    @property
    def reach_s(self) -> float:
        """How far ahead of now any process may have reserved slots, as in reserve.lua."""
        return 4 * LOOKAHEAD_S + self.spacing_s

    async def reserve(
        self,
        request: Request,
        *,
        waiting: int,
        held: int,
        newest: Reservation | None,
        fallback: FallbackShare | None,
    ) -> Reservation:
        """
        Reserve slots.

        Args:
            waiting: How many requests wait; only shown by `pico fleet status`.
            held: How many slots this process has in hand.
            newest: The reservation to which the last of these slots belong; its end is only shown, too.

        Raises:
            RedisUnavailableError: There is no reply.
        """
        asked_at = _now()
        known_ahead_s = max(0.0, self.ends_at - asked_at - self._clock.reply_delay_s)
        others_alone_s = 0.0
        if fallback is not None:
            known_ahead_s = max(known_ahead_s, fallback.fleet_resumes_in_s(asked_at))
            others_alone_s = fallback.others_alone_s
        reply = Reply(
            *await self._scripts.run(
                "reserve",
                self._keys,
                self._member.id,
                f"{self._member.about} {waiting}",
                request.wanted,
                held,
                microseconds(self.own_spacing_s),
                microseconds(LOOKAHEAD_S),
                int(request.priority is Priority.INTERACTIVE),
                int(request.invited),
                microseconds(known_ahead_s),
                microseconds(others_alone_s),
                newest.end_us if newest is not None else 0,
                microseconds(self._clock.reply_delay_s),
            )
        )
        now_there = self._clock.update(asked_at, _now(), reply.now_us / 1e6)
        self._is_member = True
        self.ends_at = now_there + reply.end_in_us / 1e6
        self._follow_rate(reply)
        self._log_anomalies(reply)
        first = now_there + reply.first_us / 1e6
        # Slots whose times are not known well enough are not used. The next ones are requested at once.
        count = reply.slots if self._clock.reliable else 0
        return Reservation(
            slots=tuple(first + number * (reply.spacing_us / 1e6) for number in range(count)),
            ask_again_at=None if reply.slots else now_there + reply.again_us / 1e6,
            pause_until=now_there + reply.pause_us / 1e6 if reply.pause_us else None,
            schedule=reply.schedule,
            end_us=int(reply.end_us),
            spacing_us=reply.spacing_us,
        )

    async def give_back(self, newest: Reservation | None, count: int) -> None:
        """Return the last slots of the newest reservation, unless another process has reserved slots after them."""
        if newest is not None and count:
            start_us = newest.end_us - count * newest.spacing_us
            arguments = (newest.schedule, newest.end_us, start_us, count)
            with suppress(RedisUnavailableError):  # the slots then stay unused
                await self._scripts.run("give_back", self._keys[:1], *arguments)

    async def refuse(self, pause_s: float) -> float:
        """
        Pause the whole fleet, then slow it down, and return how many seconds the pause lasts.

        Raises:
            RedisUnavailableError: There is no reply.
        """
        pause_us = await self._scripts.run(
            "refuse", self._keys[:1], microseconds(pause_s), microseconds(SLOWED_FOR_S), SLOWED_TO
        )
        return float(pause_us) / 1e6

    async def leave(self) -> None:
        """Leave the fleet, so that the parts of the others grow at once."""
        if self._is_member:
            self._is_member = False
            with suppress(RedisUnavailableError):  # the others then notice the silence after a few seconds
                await self._scripts.run("leave", self._keys[1:], self._member.id)

    def _follow_rate(self, reply: Reply) -> None:
        """Use the fleet's spacing, and log where another process has a lower rate."""
        if reply.unslowed_us == round(self.spacing_s * 1e6):
            return
        self.spacing_s = reply.unslowed_us / 1e6
        if self.spacing_s > self.own_spacing_s:
            logger.warning(
                "The rate of %s is %.4g a second in this fleet, and not %.4g as this process was given it: another "
                "process has the lower one. It holds until no process has asked with it for a minute. Give all "
                "processes of one API key the same `rates`.",
                self.rate_group,
                1 / self.spacing_s,
                1 / self.own_spacing_s,
            )

    def _log_anomalies(self, reply: Reply) -> None:
        """Log foreign values in the schedule, a lost schedule, and a long wait."""
        if reply.discarded:
            logger.warning(
                "The schedule of %s in Redis contained values that no process of this package writes. It was reset. "
                "Does another program write to %s?",
                self.rate_group,
                self._keys[0],
            )
        now = _now()
        is_lost = reply.schedule != self._name and now - self._replied_at < IN_USE_S
        self._name, self._replied_at = reply.schedule, now
        if is_lost and not reply.discarded and now - self._lost_logged_at > LOST_LOGGED_EVERY_S:
            self._lost_logged_at = now
            logger.warning(
                "Redis lost the schedule of %s, and a new one was begun. Each time that takes about %.1f s, because "
                "other processes may hold slots of the lost one. If it happens again and again, little or nothing is "
                "sent. Does another program flush this Redis, or does it evict keys? It needs the maxmemory-policy "
                "noeviction.",
                self.rate_group,
                self.reach_s,
            )
        wait_s = max(reply.pause_us, reply.end_in_us) / 1e6
        waits_long = not reply.slots and wait_s > 4 * LOOKAHEAD_S + reply.spacing_us / 1e6 + LONG_WAIT_S
        if waits_long and not self._waits_long:
            reason = "Pico refused a request for its rate" if reply.pause_us else "earlier slots are reserved"
            logger.warning(
                "Redis allows no request of %s for %.0f s: %s. `pico fleet status` shows more; the Redis key is %s.",
                self.rate_group,
                wait_s,
                reason,
                self._keys[0],
            )
        self._waits_long = waits_long


def _now() -> float:
    return asyncio.get_running_loop().time()
