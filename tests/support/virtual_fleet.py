"""
A fleet of hosts in one process and in virtual time, over a real Redis.

Real are the scripts, the server that runs them, `RedisLink` and one `FleetPace` a host. Simulated are the clocks and
the networks, and only those: each host has a loop time of its own, wrong by hours and running too fast or too slow;
messages to Redis and to Pico take their time; and the server's clock is handed to the scripts.

What it does not show: a key that expires, for the real server's own clock hardly moves meanwhile; and a busy Redis, for
a script takes no virtual time.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from itertools import pairwise
from random import Random
from typing import Any

import redis
from attrs import Factory, define, field, frozen

from pico_async.coordination import Priority
from pico_async.coordination.fleet_pace import FleetPace, Member
from pico_async.coordination.rates import spacing_s
from pico_async.coordination.redis_link import RedisLink
from pico_async.errors import NotSentError
from tests.support.virtual_time import VirtualClock, VirtualSelector

RATE = 30
# What a bulk send keeps in flight.
CONCURRENCY = 64
# A timer of asyncio on a busy machine is late by up to so much.
TIMER_LATE_S = 0.003
# What the network to Pico delays one message and not the next, and how long the reply takes after that.
PICO_JITTER_S = 0.010
PICO_REPLY_S = 0.050
# Crystals are wrong by no more than this.
DRIFT = 50e-6
REDIS_TIMEOUT_S = 1.0
# Before a host's first call: TCP, TLS, who it is, and that Redis does not have the script.
CONNECT_ROUND_TRIPS = 4

_ASKS_THE_CLOCK = "redis.call('TIME')"
_IS_TOLD_THE_CLOCK = "{ARGV[#ARGV - 1], ARGV[#ARGV]}"


@frozen(kw_only=True)
class LocalClock:
    """What one host takes for the time: wrong by *offset_s*, and too fast by *drift*; its timers are late."""

    offset_s: float
    drift: float
    late: Callable[[], float] = field(repr=False)

    def shows(self, now: float) -> float:
        return self.offset_s + now * (1 + self.drift)

    def true(self, shown: float) -> float:
        return (shown - self.offset_s) / (1 + self.drift)


_clock_here: ContextVar[LocalClock | None] = ContextVar("_clock_here", default=None)


class FleetLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time that shows each host its own clock: whoever asks is told from the task's context."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(VirtualSelector(clock))
        self.clock = clock

    def time(self) -> float:
        here = _clock_here.get()
        return self.clock.now if here is None else here.shows(self.clock.now)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        here = _clock_here.get()
        true = when if here is None else here.true(when) + here.late()
        return super().call_at(true, callback, *args, context=context)


@frozen(kw_only=True)
class Network:
    """
    The ways to Redis, one way each, in seconds.

    Attributes:
        delays_s: The least and the most; each host draws its own, and each message up to a tenth more.
        symmetric: The way back is as long as the way there. Else they are drawn apart.
    """

    name: str
    delays_s: tuple[float, float]
    symmetric: bool = True


NEAR = Network(name="1 ms", delays_s=(0.001, 0.001))
MIXED = Network(name="1 to 50 ms", delays_s=(0.001, 0.050))
FAR = Network(name="50 ms", delays_s=(0.050, 0.050))
LOPSIDED = Network(name="1 to 50 ms, lopsided", delays_s=(0.001, 0.050), symmetric=False)


@frozen(kw_only=True)
class Scenario:
    """
    Who sends what, over which network, and what befalls them.

    Attributes:
        blasting: So many hosts, the last ones, have more to send than they may.
        chatting: So many, the first ones, send single messages: Poisson, together `chat_per_s`.
        share: What each does by itself while Redis is away; None: nothing.
        befalls: What happens, and when.
        pico_delays_s: The least and the most of what lies between a host and Pico.
        begin_every_s: The hosts begin one after the other, so far apart.
    """

    name: str
    hosts: int
    network: Network
    blasting: int = 0
    chatting: int = 0
    chat_per_s: float = 0.0
    share: float | None = None
    befalls: Sequence[tuple[float, Callable[[Fleet], None]]] = ()
    pico_delays_s: tuple[float, float] = (0.0, 0.0)
    begin_every_s: float = 0.0
    seconds: float = 110.0
    seed: int = 1


@frozen
class Sent:
    """One message: who sent it, how long it waited, when its turn came and when it reached Pico; true seconds."""

    host: int
    priority: Priority
    waited_s: float
    at: float
    arrived_at: float


@define
class Host:
    """One process: its pace, its clock, its ways."""

    number: int
    clock: LocalClock
    there_s: float
    back_s: float
    pico_s: float
    pace: FleetPace = field(init=False)
    calls: int = 0
    connected: bool = False
    alive: bool = True


@define
class Outcome:
    """What came of a scenario; moments are true seconds from its start."""

    scenario: Scenario
    sent: list[Sent] = Factory(list)
    failed: list[float] = Factory(list)
    calls: list[int] = Factory(list)
    vanished: set[int] = Factory(set)

    @property
    def turns(self) -> list[float]:
        """When each message left, in order."""
        return sorted(one.at for one in self.sent)

    @property
    def arrivals(self) -> list[float]:
        """When each message reached Pico, in order."""
        return sorted(one.arrived_at for one in self.sent)

    @property
    def per_s(self) -> float:
        """Messages a second, from the first turn to the last."""
        return (len(self.sent) - 1) / (self.turns[-1] - self.turns[0])

    @property
    def calls_per_s_and_host(self) -> float:
        """Calls to Redis."""
        return sum(self.calls) / self.scenario.seconds / self.scenario.hosts

    @property
    def longest_gap_s(self) -> float:
        """The longest time in which nothing left, from the first turn to the scenario's end."""
        turns = [*self.turns, self.scenario.seconds]
        return max(later - earlier for earlier, later in pairwise(turns))

    @property
    def unfairness(self) -> float | None:
        """How much more the luckiest of the hosts that blast to the end sent than the unluckiest."""
        first = self.scenario.hosts - self.scenario.blasting
        counts = Counter(one.host for one in self.sent if one.priority is Priority.BULK)
        shares = [counts[number] for number in range(first, self.scenario.hosts) if number not in self.vanished]
        if len(shares) < 2:
            return None
        return max(shares) / min(shares) if min(shares) else math.inf

    @property
    def single(self) -> list[Sent]:
        """The single sends."""
        return [one for one in self.sent if one.priority is Priority.INTERACTIVE]

    def waits_s(self) -> list[float]:
        """How long single sends waited for their turns, the shortest first."""
        return sorted(one.waited_s for one in self.single)

    def perfect_waits_s(self) -> list[float]:
        """How long those who came would have waited in one perfect queue, the shortest first: no less is possible."""
        waits_s, free_at = [], 0.0
        for asked_at in sorted(one.at - one.waited_s for one in self.sent):
            turn_at = max(asked_at, free_at)
            waits_s.append(turn_at - asked_at)
            free_at = turn_at + spacing_s(RATE)
        return sorted(waits_s)


def trailing_counts(moments: Sequence[float]) -> list[int]:
    """Count for each of them, in order, how many lie in the second that ends with it; the start is open."""
    counts, recent = [], deque[float]()
    for at in moments:
        recent.append(at)
        while at - recent[0] >= 1.0:
            recent.popleft()
        counts.append(len(recent))
    return counts


def densest(moments: Sequence[float]) -> int:
    """Count those of the densest second."""
    return max(trailing_counts(moments), default=0)


def violations(moments: Sequence[float]) -> int:
    """Count those that find more than the rate in their second."""
    return sum(1 for count in trailing_counts(moments) if count > RATE)


class Fleet:
    """
    The hosts, and the world between them.

    Attributes:
        server_offset_s: How far the server's clock is from the true time; may be stepped at any moment.
        away: What a call to Redis meets: None, "refused" (at once) or "silent" (never an answer).
    """

    def __init__(self, scenario: Scenario, server: redis.Redis, clock: VirtualClock) -> None:
        self.scenario = scenario
        self.server = server
        self.clock = clock
        self.began_at = clock.now
        self.random = Random(scenario.seed)
        self.server_offset_s = 1.8e9
        self.away: str | None = None
        self.outcome = Outcome(scenario)
        self.hosts = [self._host(number) for number in range(scenario.hosts)]

    async def live(self) -> Outcome:
        """Let them send for as long as the scenario lasts."""
        scenario = self.scenario
        tasks = []
        for host in self.hosts:
            context = copy_context()
            context.run(_clock_here.set, host.clock)
            blasts = host.number >= scenario.hosts - scenario.blasting
            lives = [self._blast(host) for _ in range(CONCURRENCY if blasts else 0)]
            if host.number < scenario.chatting:
                lives.append(self._chat(host, scenario.chat_per_s / scenario.chatting))
            tasks += [asyncio.get_running_loop().create_task(life, context=context) for life in lives]
        for at_s, happen in sorted(scenario.befalls, key=lambda one: one[0]):
            await asyncio.sleep(self.began_at + at_s - self.clock.now)
            happen(self)
        await asyncio.sleep(self.began_at + scenario.seconds - self.clock.now)
        self.outcome.calls = [host.calls for host in self.hosts]
        for host in self.hosts:
            host.alive = False
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        await asyncio.gather(*(host.pace.aclose() for host in self.hosts))
        return self.outcome

    def refuse(self, number: int) -> None:
        """Let Pico refuse a request of one host for its rate."""
        host = self.hosts[number]
        context = copy_context()
        context.run(_clock_here.set, host.clock)
        self._refusal = asyncio.get_running_loop().create_task(host.pace.refused(None), context=context)

    def vanish(self, numbers: Iterable[int]) -> None:
        """Let hosts lose their power: they send no more, ask no more and give nothing back."""
        for number in numbers:
            self.hosts[number].alive = False
            self.outcome.vanished.add(number)

    async def ask_redis(self, host: Host, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Carry a call to Redis and its answer back."""
        host.calls += 1
        if not host.connected:
            host.connected = True
            for _ in range(CONNECT_ROUND_TRIPS):
                await asyncio.sleep(self._delay(host.there_s) + self._delay(host.back_s))
        await asyncio.sleep(self._delay(host.there_s))
        if self.away == "silent" or not host.alive:
            await asyncio.Event().wait()
        answer = None if self.away else self._run_script(source, keys, arguments)
        await asyncio.sleep(self._delay(host.back_s))
        if answer is None:
            raise redis.ConnectionError("refused")
        return answer

    def _run_script(self, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        now_us = round((self.clock.now - self.began_at + self.server_offset_s) * 1e6)
        return self.server.eval(source, len(keys), *keys, *arguments, now_us // 1_000_000, now_us % 1_000_000)

    async def _blast(self, host: Host) -> None:
        await asyncio.sleep(host.number * self.scenario.begin_every_s)
        while host.alive:
            try:
                await self._send(host, Priority.BULK)
            except NotSentError:
                self._note_failure(host)

    async def _chat(self, host: Host, per_s: float) -> None:
        await asyncio.sleep(host.number * self.scenario.begin_every_s)
        async with asyncio.TaskGroup() as sends:
            while True:
                await asyncio.sleep(self.random.expovariate(per_s))
                sends.create_task(self._send_single(host))

    async def _send_single(self, host: Host) -> None:
        try:
            await self._send(host, Priority.INTERACTIVE)
        except NotSentError:
            self._note_failure(host)

    def _note_failure(self, host: Host) -> None:
        if host.alive:
            self.outcome.failed.append(self.clock.now - self.began_at)

    async def _send(self, host: Host, priority: Priority) -> None:
        asked_at = self.clock.now
        await host.pace.turn(priority)
        if not host.alive:
            await asyncio.Event().wait()
        at = self.clock.now
        way_s = host.pico_s + self.random.uniform(0, PICO_JITTER_S)
        self.outcome.sent.append(
            Sent(host.number, priority, at - asked_at, at - self.began_at, at + way_s - self.began_at)
        )
        await asyncio.sleep(way_s + PICO_REPLY_S)

    def _host(self, number: int) -> Host:
        scenario, random = self.scenario, self.random
        there_s = random.uniform(*scenario.network.delays_s)
        back_s = there_s if scenario.network.symmetric else random.uniform(*scenario.network.delays_s)
        clock = LocalClock(
            offset_s=random.uniform(-36_000, 36_000),
            drift=random.uniform(-DRIFT, DRIFT),
            late=lambda: random.uniform(0, TIMER_LATE_S),
        )
        host = Host(number, clock, there_s, back_s, random.uniform(*scenario.pico_delays_s))
        link = RedisLink(SimulatedRedis(self, host), REDIS_TIMEOUT_S)  # type: ignore[arg-type]
        member = Member(id=f"host-{number}", about=f"host-{number}:1")
        host.pace = FleetPace(RATE, link, "pico:{fleet}:pace:sms", member=member, share=scenario.share)
        return host

    def _delay(self, way_s: float) -> float:
        return way_s * self.random.uniform(1.0, 1.1)


class SimulatedRedis:
    """What `RedisLink` takes of redis-py's client: it registers a script, and runs it over the simulated network."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self._fleet = fleet
        self._host = host

    def register_script(self, source: str) -> Callable[..., Any]:
        told = with_told_clock(source)

        async def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            return await self._fleet.ask_redis(self._host, told, keys, args)

        return run


def with_told_clock(source: str) -> str:
    """Let a script take the time from its last two arguments."""
    asked = source.count(_ASKS_THE_CLOCK)
    # To give back, to leave and to lock needs no clock. Else the simulation no longer runs what production runs.
    timeless = source.startswith(("-- Give back", "-- Take a member out", "-- The right to fetch"))
    assert asked == (0 if timeless else 1), f"a script asks for the time {asked} times"
    return source.replace(_ASKS_THE_CLOCK, _IS_TOLD_THE_CLOCK)


def simulate(scenario: Scenario, server: redis.Redis) -> Outcome:
    """Play one scenario, from an empty Redis and in a loop of its own."""
    server.flushdb()
    clock = VirtualClock()
    with asyncio.Runner(loop_factory=lambda: FleetLoop(clock)) as runner:
        return runner.run(Fleet(scenario, server, clock).live())
