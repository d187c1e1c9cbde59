"""The status of the fleets that share a Redis, computed from two reads. Nothing is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, frozen
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pico_async.coordination.rates import SLOWEST
from pico_async.coordination.redis.client import RedisUnavailableError, error_kind

# A process that waits for slots asks at least this often, plus one spacing for each process: they may take turns. In a
# pause no process asks.
SILENT_S = 2.0

_SCHEDULE = ("granted", "tat", "resume", "recover", "slowed_to", "spacing")
# What reserve.lua writes: host:pid, how many requests wait, how many slots are held, the end of the last one. Anything
# else was written by another program.
_ABOUT = re.compile(r".* [0-9]{1,16} [0-9]{1,16} [0-9]{1,16}", re.ASCII | re.DOTALL)
# The largest whole number that a float stores exactly, as in prelude.lua.
_EXACT = 2.0**53


@frozen(kw_only=True)
class MemberStatus:
    """
    One process, as it was at its last request for slots of a rate group.

    Attributes:
        name: Host name and process ID.
        asked_ago_s: Seconds since that request.
        silent: Whether it has not asked for so long that it has nothing to send, or is gone.
        waiting: Requests that waited in it, without those whose slots have passed; 0 if it is silent.
        reserved: Slots that it held; 0 if they have passed.
        reserved_for_s: Seconds until the last of these slots passes.
    """

    name: str
    asked_ago_s: float
    silent: bool = False
    waiting: int = 0
    reserved: int = 0
    reserved_for_s: float = 0.0


@frozen(kw_only=True)
class RateGroupStatus:
    """
    Requests that share one rate.

    Attributes:
        granted: Slots that were reserved so far and not returned.
        per_s: Slots per second that fell due between the two reads.
        allowed_per_s: The rate, with any slowdown; None if no process has asked yet.
        ahead_s: How far ahead slots are reserved.
        paused_s: How long the pause after a refusal still lasts.
        slowed_s: How long the rate is still lower after a refusal, the pause included.
        slowed_to: The fraction of the rate that is left meanwhile.
    """

    rate_group: str
    granted: int
    per_s: float
    allowed_per_s: float | None
    ahead_s: float
    paused_s: float
    slowed_s: float
    slowed_to: float
    members: tuple[MemberStatus, ...]

    @property
    def waiting(self) -> int:
        return sum(member.waiting for member in self.members)


@frozen(kw_only=True)
class TokenStatus:
    """
    The state of one account's token. The token itself is not read.

    Attributes:
        name: A digest of host, account and API key.
        there: Whether a token is stored.
        age_s: Seconds since it was fetched.
        unused_s: Seconds since a process last read it; each one does so once a second while it sends.
        fetched_by: The process that fetches a token right now: host name and process ID if known, else its ID in Redis.
    """

    name: str
    there: bool
    age_s: float | None
    unused_s: float | None
    fetched_by: str | None


@frozen(kw_only=True)
class FleetStatus:
    """
    All processes that share one API key.

    Attributes:
        name: A digest of the API key.
    """

    name: str
    rate_groups: tuple[RateGroupStatus, ...]
    tokens: tuple[TokenStatus, ...]


async def read_fleets(client: Redis, prefix: str = "pico", *, over_s: float = 1.0) -> tuple[FleetStatus, ...]:
    """
    Read Redis twice, and return the fleets with their rates in between.

    An ACL user with `+@read +time` on `~pico:*` is enough. The state of a process is what it reported at its last
    request for slots.

    Args:
        prefix: The prefix of the coordinators.
        over_s: Seconds between the two reads.

    Raises:
        RedisUnavailableError: There is no reply. The text names no address.
    """
    try:
        keys = await _find_keys(client, prefix)
        if not keys:
            return ()
        before = await _take_snapshot(client, keys)
        await asyncio.sleep(over_s)
        now = await _take_snapshot(client, keys)
    except RedisError as error:
        raise RedisUnavailableError(error_kind(error)) from None
    except OSError as error:
        raise RedisUnavailableError(type(error).__name__) from None
    return tuple(
        FleetStatus(
            name=name,
            rate_groups=tuple(
                now.rate_group(key, before)
                for key in _of_kind(keys, "pace")
                if key.fleet == name and key in now.schedules
            ),
            tokens=tuple(now.token(key) for key in _of_kind(keys, "token") if key.fleet == name),
        )
        for name in sorted({key.fleet for key in keys})
    )


@frozen(order=True)
class RedisKey:
    """The Redis key of a rate group (kind "pace") or of a token."""

    key: str
    fleet: str
    kind: str
    name: str


@frozen(kw_only=True)
class Snapshot:
    """
    The result of one read. Times are microseconds of the server's clock.

    Attributes:
        schedules: The numbers of each rate group.
        members: When each member last asked, and what it reported about itself.
        tokens: When each token was fetched and last used, and whether it is stored.
        locks: The member that holds the right to fetch a token.
    """

    at: float
    schedules: Mapping[RedisKey, Mapping[str, float]]
    members: Mapping[RedisKey, Mapping[str, tuple[float, str]]]
    tokens: Mapping[RedisKey, tuple[float | None, float | None, bool]]
    locks: Mapping[RedisKey, str]

    def rate_group(self, key: RedisKey, before: Snapshot) -> RateGroupStatus:
        """Return the status of one rate group, with its rate since the snapshot *before*."""
        schedule = self.schedules[key]
        resume, recover = schedule.get("resume", 0.0), schedule.get("recover", 0.0)
        slowed_to = self._slowed_to(schedule)
        spacing = schedule.get("spacing")
        # As in reserve.lua.
        silent_us = SILENT_S * 1e6 + len(self.members[key]) * (spacing or 0.0) / slowed_to
        fell_due = self._due(key) - before._due(key) if key in before.schedules else 0.0
        members = [
            _member(about, asked, now=self.at, resume=resume, end=schedule.get("tat", 0.0), silent_us=silent_us)
            for asked, about in self.members[key].values()
            if _ABOUT.fullmatch(about)
        ]
        return RateGroupStatus(
            rate_group=key.name,
            granted=int(schedule.get("granted", 0)),
            # A schedule that replaced a lost one counts from 0 again.
            per_s=max(0.0, fell_due) / ((self.at - before.at) / 1e6),
            allowed_per_s=1e6 / spacing * slowed_to if spacing else None,
            ahead_s=_left_s(schedule.get("tat", 0.0), self.at),
            paused_s=_left_s(resume, self.at),
            slowed_s=_left_s(recover, self.at),
            slowed_to=slowed_to,
            members=tuple(sorted(members, key=lambda member: member.name)),
        )

    def token(self, key: RedisKey) -> TokenStatus:
        """Return the status of one token."""
        fetched, used, there = self.tokens[key]
        holder = self.locks.get(key)
        return TokenStatus(
            name=key.name,
            there=there,
            age_s=_ago_s(fetched, self.at) if there else None,
            unused_s=_ago_s(used, self.at) if there else None,
            fetched_by=holder and self._name_of(holder, key.fleet),
        )

    def _due(self, key: RedisKey) -> float:
        """Return how many slots fell due so far: those that were granted, without those that are reserved ahead."""
        schedule = self.schedules[key]
        spacing = schedule.get("spacing", 0.0) / self._slowed_to(schedule)
        ahead = max(0.0, schedule.get("tat", 0.0) - max(self.at, schedule.get("resume", 0.0)))
        return schedule.get("granted", 0.0) - (ahead / spacing if spacing else 0.0)

    def _slowed_to(self, schedule: Mapping[str, float]) -> float:
        # reserve.lua also discards other values.
        slowed_to = schedule.get("slowed_to", 1.0)
        return slowed_to if self.at < schedule.get("recover", 0.0) and SLOWEST <= slowed_to <= 1.0 else 1.0

    def _name_of(self, member: str, fleet: str) -> str:
        """Return the host name and process ID of a member that has asked for slots of any rate group, else its ID."""
        for key, members in self.members.items():
            if key.fleet == fleet and member in members:
                return members[member][1].rsplit(" ", 3)[0]
        return member


def _member(about: str, asked: float, *, now: float, resume: float, end: float, silent_us: float) -> MemberStatus:
    name, *numbers = about.rsplit(" ", 3)  # a host name may contain blanks
    waiting, reserved, until = map(int, numbers)
    status = MemberStatus(
        name=name,
        asked_ago_s=_ago_s(asked, now),
        # In a pause no process asks.
        silent=now >= resume and now - asked > silent_us,
    )
    # Slots before the end of a pause are dropped, and slots after the schedule's end were returned.
    until = min(until, int(end))
    if reserved and until > max(now, resume):
        status = evolve(status, reserved=reserved, reserved_for_s=_left_s(until, now))
    elif until > resume:
        waiting = max(0, waiting - reserved)
    return status if status.silent else evolve(status, waiting=waiting)


async def _find_keys(client: Redis, prefix: str) -> list[RedisKey]:
    form = re.compile(rf"({re.escape(prefix)}:{{([0-9a-f]+)}}:(pace|token):([a-z0-9]+))(:lock)?")
    found = set()
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    async for key in client.scan_iter(match=f"{pattern}:{{*}}:*", count=1000):
        # A token that was never fetched has only a lock.
        if match := form.fullmatch(_text(key)):
            found.add(RedisKey(match[1], match[2], match[3], match[4]))
    return sorted(found)


async def _take_snapshot(client: Redis, keys: Iterable[RedisKey]) -> Snapshot:
    rate_groups, tokens = _of_kind(keys, "pace"), _of_kind(keys, "token")
    async with client.pipeline(transaction=False) as pipe:
        pipe.time()
        for rate_group in rate_groups:
            pipe.hmget(rate_group.key, *_SCHEDULE)
            pipe.zrange(f"{rate_group.key}:members", 0, -1, withscores=True)
            pipe.hgetall(f"{rate_group.key}:about")
        for token in tokens:
            pipe.hmget(token.key, "fetched", "used")
            pipe.hexists(token.key, "value")
            pipe.get(f"{token.key}:lock")
        (seconds, microseconds), *replies = await pipe.execute(raise_on_error=False)
    if fault := next((one for one in replies if isinstance(one, RedisError)), None):
        raise fault
    reply = iter(replies)
    schedules: dict[RedisKey, dict[str, float]] = {}
    members: dict[RedisKey, dict[str, tuple[float, str]]] = {}
    for rate_group in rate_groups:
        read = zip(_SCHEDULE, map(_number, next(reply)), strict=True)
        numbers = {name: number for name, number in read if number is not None}
        asked, about = next(reply), {_text(member): _text(reported) for member, reported in next(reply).items()}
        if numbers:
            schedules[rate_group] = numbers
        members[rate_group] = {_text(one): (at, about[_text(one)]) for one, at in asked if _text(one) in about}
    states: dict[RedisKey, tuple[float | None, float | None, bool]] = {}
    locks: dict[RedisKey, str] = {}
    for token in tokens:
        fetched, used = map(_number, next(reply))
        states[token] = (fetched, used, bool(next(reply)))
        if (holder := next(reply)) is not None:
            locks[token] = _text(holder)
    return Snapshot(
        at=int(seconds) * 1e6 + int(microseconds), schedules=schedules, members=members, tokens=states, locks=locks
    )


def _of_kind(keys: Iterable[RedisKey], kind: str) -> list[RedisKey]:
    return [key for key in keys if key.kind == kind]


def _left_s(moment: float, now: float) -> float:
    return max(0.0, moment - now) / 1e6


def _ago_s(moment: float | None, now: float) -> float:
    return max(0.0, now - (moment or 0.0)) / 1e6


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= _EXACT else None


def _text(value: Any) -> str:
    # The user's own client may decode replies by itself.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
