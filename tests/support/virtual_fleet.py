"""
This module runs a fleet of hosts in one process and in virtual time, over a real Redis.

These parts are real: the scripts, the server that runs them, and for each host a `ScriptClient` and a `RedisLimiter`.

These parts are simulated:

- Each host has a loop time of its own, which is wrong by hours and runs too fast or too slow.
- Messages to Redis and to Pico take time.
- The scripts get the server's clock as arguments.

The simulation does not show an expired key, because the real server's own clock hardly moves meanwhile. It does not
show a busy Redis either, because a script takes no virtual time.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import redis
from attrs import Factory, define, field, frozen

from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import spacing_s
from pico_async.coordination.redis.client import ScriptClient, source_of
from pico_async.coordination.redis.limiter import RedisLimiter
from pico_async.coordination.redis.schedule import Member
from pico_async.errors import NotSentError
from tests.support.virtual_time import VirtualClock, VirtualSelector

RATE = 30
# How many messages a bulk send keeps in flight.
CONCURRENCY = 64
# The most by which a timer of asyncio is late on a busy machine.
TIMER_LATE_S = 0.003
# The most jitter of the network to Pico, and how long the reply takes after the arrival.
PICO_JITTER_S = 0.010
PICO_REPLY_S = 0.050
# The most by which a computer's clock runs too fast or too slow.
DRIFT = 50e-6
REDIS_TIMEOUT_S = 1.0
# Round trips before a host's first call: TCP, TLS, authentication, and the reply that Redis lacks the script.
CONNECT_ROUND_TRIPS = 4

_ASKS_THE_CLOCK = "redis.call('TIME')"
_IS_GIVEN_THE_CLOCK = "{ARGV[#ARGV - 1], ARGV[#ARGV]}"


@frozen(kw_only=True)
class LocalClock:
    """The clock of one host: it is wrong by *offset_s* and too fast by *drift*, and its timers are late."""

    offset_s: float
    drift: float
    late: Callable[[], float] = field(repr=False)

    def shows(self, now: float) -> float:
        return self.offset_s + now * (1 + self.drift)

    def true(self, shown: float) -> float:
        return (shown - self.offset_s) / (1 + self.drift)


_clock_here: ContextVar[LocalClock | None] = ContextVar("_clock_here", default=None)


class FleetLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time that shows each host its own clock, which is in the context of the host's tasks."""

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
    The one-way delays between hosts and Redis, in seconds.

    Attributes:
        delays_s: The least and the most. Each host draws its own; each message adds up to a tenth.
        symmetric: The two directions have the same delay; otherwise each direction draws its own.
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
    The hosts, what they send, their network, and the events that happen to them.

    Attributes:
        blasting: How many hosts, the last ones, have more to send than the rate allows.
        chatting: How many hosts, the first ones, send single messages: Poisson, together `chat_per_s`.
        share: The part of the rate that each host uses while Redis is away; None: none.
        events: The times and effects of the events.
        pico_delays_s: The least and the most delay between a host and Pico.
        begin_every_s: How far apart the starts of the hosts are, one after the other.
    """

    name: str
    hosts: int
    network: Network
    blasting: int = 0
    chatting: int = 0
    chat_per_s: float = 0.0
    share: float | None = None
    events: Sequence[tuple[float, Callable[[Fleet], None]]] = ()
    pico_delays_s: tuple[float, float] = (0.0, 0.0)
    begin_every_s: float = 0.0
    seconds: float = 110.0
    seed: int = 1


@frozen
class Sent:
    """One message: its host, its wait for a slot, when it got the slot, and when it reached Pico; in true seconds."""

    host: int
    priority: Priority
    waited_s: float
    at: float
    arrived_at: float


@define
class Host:
    """One process: its limiter, its clock, and its network delays."""

    number: int
    clock: LocalClock
    there_s: float
    back_s: float
    pico_s: float
    limiter: RedisLimiter = field(init=False)
    calls: int = 0
    connected: bool = False
    alive: bool = True


@define
class Outcome:
    """The results of a scenario; times are true seconds from its start."""

    scenario: Scenario
    sent: list[Sent] = Factory(list)
    failed: list[float] = Factory(list)
    calls: list[int] = Factory(list)
    vanished: set[int] = Factory(set)

    @property
    def granted(self) -> list[float]:
        """Return the times at which the messages got their slots and left, in order."""
        return sorted(one.at for one in self.sent)

    @property
    def arrivals(self) -> list[float]:
        """Return the times at which the messages reached Pico, in order."""
        return sorted(one.arrived_at for one in self.sent)

    @property
    def per_s(self) -> float:
        """Return the messages per second, from the first slot to the last."""
        return (len(self.sent) - 1) / (self.granted[-1] - self.granted[0])

    @property
    def calls_per_s_and_host(self) -> float:
        """Return the calls to Redis per second and host."""
        return sum(self.calls) / self.scenario.seconds / self.scenario.hosts

    @property
    def longest_gap_s(self) -> float:
        """Return the longest time in which no message left, from the first slot to the scenario's end."""
        granted = [*self.granted, self.scenario.seconds]
        return max(later - earlier for earlier, later in pairwise(granted))

    @property
    def unfairness(self) -> float | None:
        """
        Return the most messages of a host that sends in bulk to the end, divided by the fewest; None below two hosts.
        """
        first = self.scenario.hosts - self.scenario.blasting
        counts = Counter(one.host for one in self.sent if one.priority is Priority.BULK)
        shares = [counts[number] for number in range(first, self.scenario.hosts) if number not in self.vanished]
        if len(shares) < 2:
            return None
        return max(shares) / min(shares) if min(shares) else math.inf

    @property
    def single(self) -> list[Sent]:
        """Return the single sends."""
        return [one for one in self.sent if one.priority is Priority.INTERACTIVE]

    def waits_s(self) -> list[float]:
        """Return how long single sends waited for their slots, the shortest first."""
        return sorted(one.waited_s for one in self.single)

    def perfect_waits_s(self) -> list[float]:
        """
        Return how long the messages would have waited in one perfect queue, the shortest first: no less is possible.
        """
        waits_s, free_at = [], 0.0
        for asked_at in sorted(one.at - one.waited_s for one in self.sent):
            granted_at = max(asked_at, free_at)
            waits_s.append(granted_at - asked_at)
            free_at = granted_at + spacing_s(RATE)
        return sorted(waits_s)


def trailing_counts(moments: Sequence[float]) -> list[int]:
    """Return, for each moment in order, how many moments lie in the second that ends with it; its start is open."""
    counts, recent = [], deque[float]()
    for at in moments:
        recent.append(at)
        while at - recent[0] >= 1.0:
            recent.popleft()
        counts.append(len(recent))
    return counts


def densest(moments: Sequence[float]) -> int:
    """Return how many moments lie in the densest second."""
    return max(trailing_counts(moments), default=0)


def violations(moments: Sequence[float]) -> int:
    """Count the moments in whose second there are more than the rate."""
    return sum(1 for count in trailing_counts(moments) if count > RATE)


class Fleet:
    """
    The hosts, their networks, and the clock of Redis.

    Attributes:
        server_offset_s: How far the server's clock is from the true time; may be stepped at any moment.
        away: What happens to a call to Redis: None, "refused" (at once) or "silent" (never answered).
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
        """Run the hosts for the length of the scenario, and return the results."""
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
        for at_s, happen in sorted(scenario.events, key=lambda one: one[0]):
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
        await asyncio.gather(*(host.limiter.aclose() for host in self.hosts))
        return self.outcome

    def refuse(self, number: int) -> None:
        """Report to one host that Pico refused a request because requests came too fast."""
        host = self.hosts[number]
        context = copy_context()
        context.run(_clock_here.set, host.clock)
        self._refusal = asyncio.get_running_loop().create_task(host.limiter.pause(None), context=context)

    def vanish(self, numbers: Iterable[int]) -> None:
        """Stop hosts as by a power cut: they send nothing more, make no calls to Redis, and release no slot."""
        for number in numbers:
            self.hosts[number].alive = False
            self.outcome.vanished.add(number)

    async def ask_redis(self, host: Host, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script in Redis, with the delays of the network in both directions, and return its answer."""
        host.calls += 1
        if not host.connected:
            host.connected = True
            for _ in range(CONNECT_ROUND_TRIPS):
                await asyncio.sleep(self._delay(host.there_s) + self._delay(host.back_s))
        await asyncio.sleep(self._delay(host.there_s))
        if self.away == "silent" or not host.alive:
            await asyncio.Event().wait()
        answer = None if self.away else self._run_script(script, keys, arguments)
        await asyncio.sleep(self._delay(host.back_s))
        if answer is None:
            raise redis.ConnectionError("refused")
        return answer

    def _run_script(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        now_us = round((self.clock.now - self.began_at + self.server_offset_s) * 1e6)
        return run_script(self.server, script, keys, *arguments, now_us=now_us)

    async def _blast(self, host: Host) -> None:
        await asyncio.sleep(host.number * self.scenario.begin_every_s)
        while host.alive:
            try:
                await self._send(host, Priority.BULK)
            except NotSentError:
                self._record_failure(host)

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
            self._record_failure(host)

    def _record_failure(self, host: Host) -> None:
        if host.alive:
            self.outcome.failed.append(self.clock.now - self.began_at)

    def jitter_s(self) -> float:
        """Return how much longer than usual the next message takes to Pico."""
        return self.random.uniform(0, PICO_JITTER_S)

    async def _send(self, host: Host, priority: Priority) -> Sent:
        asked_at = self.clock.now
        await host.limiter.acquire(priority)
        if not host.alive:
            await asyncio.Event().wait()
        at = self.clock.now
        way_s = host.pico_s + self.jitter_s()
        sent = Sent(host.number, priority, at - asked_at, at - self.began_at, at + way_s - self.began_at)
        self.outcome.sent.append(sent)
        await asyncio.sleep(way_s + PICO_REPLY_S)
        return sent

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
        scripts = ScriptClient(SimulatedRedis(self, host), REDIS_TIMEOUT_S)  # type: ignore[arg-type]
        member = Member(id=f"host-{number}", about=f"host-{number}:1")
        host.limiter = RedisLimiter(RATE, scripts, "pico:{fleet}:pace:sms", member=member, share=scenario.share)
        return host

    def _delay(self, way_s: float) -> float:
        return way_s * self.random.uniform(1.0, 1.1)


class SimulatedRedis:
    """The part of redis-py's client that `ScriptClient` uses: it runs a script over the simulated network."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self._fleet = fleet
        self._host = host

    async def evalsha(self, digest: str, key_count: int, *keys_and_arguments: Any) -> Any:
        # The first reply, that Redis lacks the script, is one of the round trips before the first call.
        keys, arguments = keys_and_arguments[:key_count], keys_and_arguments[key_count:]
        return await self._fleet.ask_redis(self._host, _names()[digest], keys, arguments)


def with_given_clock(source: str) -> str:
    """Return a script that takes the time from its last two arguments."""
    asked = source.count(_ASKS_THE_CLOCK)
    # Any other count means that the simulation no longer runs what production runs.
    assert asked == 1, f"a script asks for the time {asked} times"
    return source.replace(_ASKS_THE_CLOCK, _IS_GIVEN_THE_CLOCK)


def run_script(client: redis.Redis, script: str, keys: Sequence[str], *arguments: object, now_us: int) -> Any:
    """Run a script of the package in Redis, at a time that the caller gives, and return its answer."""
    source, digest = _with_given_clock(script)
    rest = (len(keys), *keys, *arguments, *divmod(now_us, 1_000_000))
    try:
        return client.evalsha(digest, *rest)
    except redis.exceptions.NoScriptError:
        return client.eval(source, *rest)


@cache
def _with_given_clock(script: str) -> tuple[str, str]:
    """Return the text of a script that takes the time from its arguments, and its digest."""
    source = with_given_clock(source_of(script))
    return source, _digest(source)


@cache
def _names() -> dict[str, str]:
    """Return the names of a rate group's scripts by the digests that production uses."""
    return {_digest(source_of(script)): script for script in ("reserve", "refuse", "give_back", "leave")}


def _digest(source: str) -> str:
    return hashlib.sha1(source.encode()).hexdigest()


def simulate(scenario: Scenario, server: redis.Redis, fleet: Callable[..., Fleet] = Fleet) -> Outcome:
    """Run one scenario with an empty Redis, in a loop of its own."""
    server.flushdb()
    clock = VirtualClock()
    with asyncio.Runner(loop_factory=lambda: FleetLoop(clock)) as runner:
        return runner.run(fleet(scenario, server, clock).live())
