"""
Whether a fleet should learn its jitter allowance, as one process alone does: four hosts in virtual time.

    python -m benchmarks.fleet_jitter                               # some minutes

Three fleets send in bulk for 130 virtual seconds, four times:

- "fixed": the product's, with an allowance of 13 ms.
- "learned": each host learns its allowance with `JitterEstimate` from the replies of its last 16 s. The hosts share it
  through Redis, which takes the widest spacing that any host asked with in the last minute.
- "learned, all replies": the same, but the slowest replies count, too. One process alone leaves out one in 25.

What is real and what is simulated is in tests/support/virtual_fleet.py. Here the jitter varies, and so do the timers,
which are up to 3 or 10 ms late. Hosts are 1 ms away from Redis.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import fmean
from typing import Any
from unittest import mock

from pico_async.coordination.local.jitter import JitterEstimate

from pico_async.coordination.protocols import Priority
from pico_async.coordination.rates import JITTER_ALLOWANCE_S, spacing_s
from tests.support.valkey_server import valkey_server
from tests.support.virtual_fleet import NEAR, RATE, Fleet, Host, Scenario, Sent, densest, simulate, violations

HOSTS, SECONDS, SEEDS = 4, 130.0, range(1, 5)
# From here on, a fleet has learned what there is to learn; its minute of wider spacings is over.
LEARNED_AT_S = 100.0
# Each of a few hosts has enough replies in this time.
WINDOW_S = 16.0
LEARNS: dict[str, float | None] = {"fixed": None, "learned": 1 / 25, "learned, all replies": 0.0}

# The jitter of one message in seconds, by the time since the start.
Jitter = Callable[[float, Random], float]


def steady(most_s: float, from_s: float = 0.0) -> Jitter:
    """Return an even jitter that begins *from_s* after the start."""
    return lambda at, random: random.uniform(0, most_s) if at >= from_s else 0.0


def tail(part: float, least_s: float, most_s: float) -> Jitter:
    """Return a jitter of 2 ms, but a longer one for a part of the messages."""
    return lambda _, random: random.uniform(least_s, most_s) if random.random() < part else random.uniform(0, 0.002)


JITTERS = {
    "none": steady(0.0),
    "0 to 10 ms": steady(0.010),
    "0 to 2 ms, one in 50: 20 to 25 ms": tail(1 / 50, 0.020, 0.025),
    "0 to 2 ms, one in 500: 20 to 30 ms": tail(1 / 500, 0.020, 0.030),
    "none; after 60 s, 0 to 20 ms": steady(0.020, from_s=60.0),
}


class JitteryFleet(Fleet):
    """A fleet with a jitter of its own, which its hosts learn unless *learns* is False."""

    def __init__(self, *parts: Any, jitter: Jitter, learns: bool) -> None:
        super().__init__(*parts)
        self._jitter = jitter
        self._estimates = {host.number: JitterEstimate() for host in self.hosts} if learns else {}

    def jitter_s(self) -> float:
        return self._jitter(self.clock.now - self.began_at, self.random)

    async def _send(self, host: Host, priority: Priority) -> Sent:
        sent = await super()._send(host, priority)
        if estimate := self._estimates.get(host.number):
            now = self.clock.now
            estimate.add(now - self.began_at - sent.at, now)
            # In whole milliseconds, so that Redis has few spacings to compare.
            allowance_s = math.ceil(estimate.allowance_s(now) * 1e3) / 1e3
            host.limiter._schedule.own_spacing_s = math.ceil(spacing_s(RATE, allowance_s) * 1e6) / 1e6
        return sent


def main() -> None:
    """Print the table."""
    logging.disable()  # of hosts with different spacings
    print("| jitter to Pico | timers late by | " + " | ".join(LEARNS) + " |")
    print("| --- | ---: | " + " | ".join("---:" for _ in LEARNS) + " |")
    jitter_module = "pico_async.coordination.local.jitter"
    with valkey_server() as server, server.client() as client:
        for late_s in (0.003, 0.010):
            for name, jitter in JITTERS.items():
                cells = []
                for late_reads in LEARNS.values():
                    fleet = partial(JitteryFleet, jitter=jitter, learns=late_reads is not None)
                    with (
                        mock.patch("tests.support.virtual_fleet.TIMER_LATE_S", late_s),
                        mock.patch(f"{jitter_module}.WINDOW_S", WINDOW_S),
                        mock.patch(f"{jitter_module}.INITIAL_S", JITTER_ALLOWANCE_S),
                        mock.patch(f"{jitter_module}.LATE_READS", late_reads),
                    ):
                        outcomes = [
                            simulate(
                                Scenario(
                                    name=name, hosts=HOSTS, network=NEAR, blasting=HOSTS, seconds=SECONDS, seed=seed
                                ),
                                client,
                                fleet,
                            )
                            for seed in SEEDS
                        ]
                    last = [[at for at in one.granted if at > LEARNED_AT_S] for one in outcomes]
                    per_s = fmean((len(one) - 1) / (one[-1] - one[0]) for one in last)
                    beyond = sum(violations(one.arrivals) for one in outcomes)
                    most = max(densest(one.arrivals) for one in outcomes)
                    cells.append(f"{per_s:.2f} a second, densest {most}" + (f", {beyond} beyond" if beyond else ""))
                print(f"| {name} | {late_s * 1e3:.0f} ms | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
