"""What Redis tells of the fleets that share it: read by whoever may read, and nothing is changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, frozen
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pico_async.coordination.rates import SLOWEST
from pico_async.coordination.redis.client import RedisUnavailableError, kind_of

# A process that waits for slots asks for some more often than this, but for a pause, and where all come by turns: then
# as often as each of them gets a slot.
SILENT_S = 2.0

_SCHEDULE = ("granted", "tat", "resume", "recover", "share", "spacing")
# As reserve.lua writes it: host:pid, how many wait, how many slots are held, when the last of them is over. Another
# program has written anything else.
_ABOUT = re.compile(r".* [0-9]{1,16} [0-9]{1,16} [0-9]{1,16}", re.ASCII | re.DOTALL)
_EXACT = 2.0**53


@frozen(kw_only=True)
class MemberStatus:
    """
    One process, as it was when it last asked for slots of a rate group.

    Attributes:
        name: Host name and process ID.
        asked_ago_s: Seconds since then.
        silent: For so long that it has nothing to send, or is gone.
        waiting: Requests that waited in it then, without those whose slots are over; 0 where it is silent.
        reserved: Slots that it held then; 0 where they are over.
        reserved_for_s: Seconds until the last of them is over.
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
    What shares one rate limit.

    Attributes:
        granted: Slots that were reserved so far, and not given back.
        per_s: Slots that fell due in a second, of late.
        allowed_per_s: How many may, slowed down as it is; None where nobody has asked yet.
        ahead_s: How far ahead slots are reserved.
        paused_s: How long nothing is sent, after a refusal of Pico's.
        slowed_s: How long it goes slower after one, the pause included.
        slowed_to: What is left of the pace meanwhile.
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
        """Requests that wait in all processes."""
        return sum(member.waiting for member in self.members)


@frozen(kw_only=True)
class TokenStatus:
    """
    The token of one account, but for the token itself, which is not even read.

    Attributes:
        name: A digest of host, account and API key.
        there: Whether there is one.
        age_s: Seconds since it was fetched.
        unused_s: Seconds since a process looked at it; each does so once a second while it sends.
        fetched_by: Who fetches one right now: host name and process ID, where they are known.
    """

    name: str
    there: bool
    age_s: float | None
    unused_s: float | None
    fetched_by: str | None


@frozen(kw_only=True)
class FleetStatus:
    """
    All processes that share the pace of one API key.

    Attributes:
        name: A digest of the key.
    """

    name: str
    rate_groups: tuple[RateGroupStatus, ...]
    tokens: tuple[TokenStatus, ...]


async def read_fleets(client: Redis, prefix: str = "pico", *, over_s: float = 1.0) -> tuple[FleetStatus, ...]:
    """
    Look twice, and tell how fast the fleets went in between.

    It takes an ACL user of `+@read +time` on `~pico:*`. What a process holds is as it said when it last asked.

    Args:
        prefix: What the coordinators were given.
        over_s: Seconds between the looks.

    Raises:
        RedisUnavailableError: There is no answer; its text names no address.
    """
    try:
        places = await _places(client, prefix)
        if not places:
            return ()
        before = await _snapshot(client, places)
        await asyncio.sleep(over_s)
        now = await _snapshot(client, places)
    except RedisError as error:
        raise RedisUnavailableError(kind_of(error)) from None
    except OSError as error:
        raise RedisUnavailableError(type(error).__name__) from None
    return tuple(
        FleetStatus(
            name=name,
            rate_groups=tuple(
                now.rate_group(place, before) for place in _of(places, name, "pace") if place in now.schedules
            ),
            tokens=tuple(now.token(place) for place in _of(places, name, "token")),
        )
        for name in sorted({place.fleet for place in places})
    )


@frozen(order=True)
class Place:
    """Where a rate group or a token lies."""

    key: str
    fleet: str
    kind: str
    name: str


@frozen(kw_only=True)
class Snapshot:
    """
    One look. Moments are microseconds of the server's clock.

    Attributes:
        schedules: The numbers of each rate group.
        members: When each member last asked, and its `about`.
        tokens: When each was fetched and used, and whether it is there.
        locks: Who holds the right to fetch one.
    """

    at: float
    schedules: Mapping[Place, Mapping[str, float]]
    members: Mapping[Place, Mapping[str, tuple[float, str]]]
    tokens: Mapping[Place, tuple[float | None, float | None, bool]]
    locks: Mapping[Place, str]

    def rate_group(self, place: Place, before: Snapshot) -> RateGroupStatus:
        """Tell of one rate group, and how fast it went since *before*."""
        it = self.schedules[place]
        resume, recover = it.get("resume", 0.0), it.get("recover", 0.0)
        share = self._share(it)
        spacing = it.get("spacing")
        # As in reserve.lua.
        silent_us = SILENT_S * 1e6 + len(self.members[place]) * (spacing or 0.0) / share
        fell_due = self._due(place) - before._due(place) if place in before.schedules else 0.0
        members = [
            _member(about, asked, now=self.at, resume=resume, end=it.get("tat", 0.0), silent_us=silent_us)
            for asked, about in self.members[place].values()
            if _ABOUT.fullmatch(about)
        ]
        return RateGroupStatus(
            rate_group=place.name,
            granted=int(it.get("granted", 0)),
            # A schedule that Redis lost counts from 0 again.
            per_s=max(0.0, fell_due) / ((self.at - before.at) / 1e6),
            allowed_per_s=1e6 / spacing * share if spacing else None,
            ahead_s=_left_s(it.get("tat", 0.0), self.at),
            paused_s=_left_s(resume, self.at),
            slowed_s=_left_s(recover, self.at),
            slowed_to=share,
            members=tuple(sorted(members, key=lambda member: member.name)),
        )

    def token(self, place: Place) -> TokenStatus:
        """Tell of one token."""
        fetched, used, there = self.tokens[place]
        holder = self.locks.get(place)
        return TokenStatus(
            name=place.name,
            there=there,
            age_s=_ago_s(fetched, self.at) if there else None,
            unused_s=_ago_s(used, self.at) if there else None,
            fetched_by=holder and self._name_of(holder, place.fleet),
        )

    def _due(self, place: Place) -> float:
        """Slots that fell due so far: those that were granted, without those that are reserved ahead."""
        it = self.schedules[place]
        spacing = it.get("spacing", 0.0) / self._share(it)
        ahead = max(0.0, it.get("tat", 0.0) - max(self.at, it.get("resume", 0.0)))
        return it.get("granted", 0.0) - (ahead / spacing if spacing else 0.0)

    def _share(self, it: Mapping[str, float]) -> float:
        # As in reserve.lua, which takes no other for one.
        share = it.get("share", 1.0)
        return share if self.at < it.get("recover", 0.0) and SLOWEST <= share <= 1.0 else 1.0

    def _name_of(self, member: str, fleet: str) -> str:
        """Return a member's name: a process that may fetch a token has asked for a slot of its rate group."""
        for place, members in self.members.items():
            if place.fleet == fleet and member in members:
                return members[member][1].rsplit(" ", 3)[0]
        return member


def _member(about: str, asked: float, *, now: float, resume: float, end: float, silent_us: float) -> MemberStatus:
    name, *numbers = about.rsplit(" ", 3)  # a host's name may hold blanks
    waiting, reserved, until = map(int, numbers)
    status = MemberStatus(
        name=name,
        asked_ago_s=_ago_s(asked, now),
        # In a pause nobody asks.
        silent=now >= resume and now - asked > silent_us,
    )
    # Slots before the end of a pause are dropped, and those behind the schedule's end were given back.
    until = min(until, int(end))
    if reserved and until > max(now, resume):
        status = evolve(status, reserved=reserved, reserved_for_s=_left_s(until, now))
    elif until > resume:
        waiting = max(0, waiting - reserved)
    return status if status.silent else evolve(status, waiting=waiting)


async def _places(client: Redis, prefix: str) -> list[Place]:
    known = re.compile(rf"({re.escape(prefix)}:{{([0-9a-f]+)}}:(pace|token):([a-z0-9]+))(:lock)?")
    found = set()
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    async for key in client.scan_iter(match=f"{pattern}:{{*}}:*", count=1000):
        # Of a token that was never there, nothing but the lock is.
        if named := known.fullmatch(_text(key)):
            found.add(Place(named[1], named[2], named[3], named[4]))
    return sorted(found)


async def _snapshot(client: Redis, places: Iterable[Place]) -> Snapshot:
    rate_groups, tokens = _all(places, "pace"), _all(places, "token")
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
        (seconds, microseconds), *answers = await pipe.execute(raise_on_error=False)
    if fault := next((one for one in answers if isinstance(one, RedisError)), None):
        raise fault
    answer = iter(answers)
    schedules: dict[Place, dict[str, float]] = {}
    members: dict[Place, dict[str, tuple[float, str]]] = {}
    for rate_group in rate_groups:
        read = zip(_SCHEDULE, map(_number, next(answer)), strict=True)
        numbers = {name: number for name, number in read if number is not None}
        asked, about = next(answer), {_text(member): _text(said) for member, said in next(answer).items()}
        if numbers:
            schedules[rate_group] = numbers
        members[rate_group] = {_text(one): (at, about[_text(one)]) for one, at in asked if _text(one) in about}
    looks: dict[Place, tuple[float | None, float | None, bool]] = {}
    locks: dict[Place, str] = {}
    for token in tokens:
        fetched, used = map(_number, next(answer))
        looks[token] = (fetched, used, bool(next(answer)))
        if (holder := next(answer)) is not None:
            locks[token] = _text(holder)
    return Snapshot(
        at=int(seconds) * 1e6 + int(microseconds), schedules=schedules, members=members, tokens=looks, locks=locks
    )


def _all(places: Iterable[Place], kind: str) -> list[Place]:
    return [place for place in places if place.kind == kind]


def _of(places: Iterable[Place], fleet: str, kind: str) -> list[Place]:
    return [place for place in _all(places, kind) if place.fleet == fleet]


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
    # A client of the user's may decode by itself.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
