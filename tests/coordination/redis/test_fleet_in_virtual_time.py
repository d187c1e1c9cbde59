"""Many hosts share one rate by real scripts on a real Redis; clocks and networks are simulated, so times are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from pico_async.coordination.rates import spacing_s
from tests.support.virtual_fleet import (
    FAR,
    MIXED,
    RATE,
    Fleet,
    Network,
    Outcome,
    Scenario,
    densest,
    simulate,
    with_given_clock,
)

pytestmark = pytest.mark.no_cover

OWN_RATE = 1 / spacing_s(RATE)
# When the event of a scenario happens.
AT_S = 5.0
fleet = partial(Scenario, network=MIXED, seconds=15.0)


@pytest.fixture(scope="module")
def server(shared_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared_redis) as client:
        yield client


@pytest.fixture(scope="module", params=[1, 10, 100], ids="hosts={}".format)
def all_blast(server: redis.Redis, request: pytest.FixtureRequest) -> Outcome:
    """Return the result of a fleet that sends in bulk: 100 hosts for a minute, because each of them gets few slots."""
    hosts = request.param
    return simulate(fleet(name="all blast", hosts=hosts, blasting=hosts, seconds=max(15.0, 0.6 * hosts)), server)


def test_bulk_sends_of_a_fleet_reach_its_rate_and_never_cross_it(all_blast: Outcome) -> None:
    """A fleet of bulk sends reaches 97 % of its rate, and at most 30 messages leave or arrive in any second."""
    assert densest(all_blast.granted) <= RATE
    assert densest(all_blast.arrivals) <= RATE
    assert all_blast.per_s >= 0.97 * OWN_RATE


@pytest.mark.parametrize("all_blast", [10, 100], indirect=True, ids="hosts={}".format)
def test_hosts_get_equal_shares(all_blast: Outcome) -> None:
    """No host sends more than 1.5 times as much as another, and the fleet calls Redis about twice per slot at most."""
    assert all_blast.unfairness is not None
    assert all_blast.unfairness <= 1.5
    assert all_blast.calls_per_s_and_host * all_blast.scenario.hosts < 2.1 * RATE


@pytest.mark.parametrize("hosts", [1, 10, 100])
def test_a_single_send_does_not_wait_for_the_bulk_sends_of_others(server: redis.Redis, hosts: int) -> None:
    """Once its host is connected, a single send waits at most 0.5 s for its slot while the fleet sends in bulk."""
    scenario = fleet(name="one chats", hosts=hosts, blasting=max(1, hosts - 1), chatting=1, chat_per_s=2.0)
    outcome = simulate(scenario, server)

    waits_s = [one.waited_s for one in outcome.single if one.at > 3.0]
    assert len(waits_s) > 10
    assert max(waits_s) <= 0.5
    assert densest(outcome.granted) <= RATE


def test_a_single_send_from_far_away_waits_for_one_round_trip(server: redis.Redis) -> None:
    """A lone host far from Redis waits one round trip per slot: the slot is not yet past when the answer arrives."""
    outcome = simulate(fleet(name="alone", hosts=1, network=FAR, chatting=1, chat_per_s=1.0, seconds=60.0), server)

    _, *later = outcome.single
    assert sum(one.waited_s for one in later) / len(later) <= 0.130
    assert outcome.calls_per_s_and_host < 1.5


def test_a_host_that_joins_takes_no_slot_early(server: redis.Redis) -> None:
    """A host that joins uses no slot early, although connecting delays its first reading of Redis's clock."""
    # From further away the early slots would be past when the answer arrives, and so not be used at all.
    network = Network(name="20 ms", delays_s=(0.020, 0.020))
    for seed in range(3):
        scenario = fleet(name="joins", hosts=3, network=network, blasting=3, begin_every_s=2.37, seed=seed, seconds=8.0)
        outcome = simulate(scenario, server)

        assert densest(outcome.granted) <= RATE
        assert {one.host for one in outcome.sent} == {0, 1, 2}


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_step_of_the_server_s_clock_stops_nobody(server: redis.Redis, step_s: float) -> None:
    """A step of Redis's clock by an hour causes no second with more than 30 messages, and no pause above 1 s."""

    def step(fleet: Fleet) -> None:
        fleet.server_offset_s += step_s

    outcome = simulate(_with_event(step), server)

    assert densest(outcome.granted) <= RATE
    assert outcome.longest_gap_s <= 1.0


def test_a_redis_that_loses_its_data_does_not_grant_slots_twice(server: redis.Redis) -> None:
    """After Redis loses its data, slots that hosts still hold are not granted again, and sends pause 1 s at most."""
    outcome = simulate(_with_event(lambda fleet: fleet.server.flushdb()), server)

    assert densest(outcome.granted) <= RATE
    assert outcome.longest_gap_s <= 1.0


@pytest.mark.parametrize("every_s", [0.8, 2.0])
def test_a_redis_that_loses_its_data_again_and_again_slows_a_fleet_down(server: redis.Redis, every_s: float) -> None:
    """While Redis loses its data every 0.8 s, or 2 s, a fleet goes on at a part of its rate, and never beyond it."""
    events = [(AT_S + number * every_s, lambda fleet: fleet.server.flushdb()) for number in range(int(8 / every_s))]
    outcome = simulate(fleet(name="forgets", hosts=10, blasting=9, chatting=1, chat_per_s=2.0, events=events), server)

    meanwhile = [at for at in outcome.granted if AT_S + 1.0 < at < AT_S + 8.0]
    assert densest(outcome.granted) <= RATE
    assert len(meanwhile) >= 7 * (2 if every_s < 1 else 12)


@pytest.mark.parametrize("how", ["refused", "silent"])
@pytest.mark.parametrize("share", [None, 1 / 10])
def test_an_outage_of_redis_does_not_cross_the_rate(server: redis.Redis, how: str, share: float | None) -> None:
    """
    While Redis is away, and while hosts notice its return, no second holds more than 30 messages.

    The full rate then resumes. Sends fail only where the hosts have no fallback share.
    """

    def leave(fleet: Fleet) -> None:
        fleet.away = how

    def come_back(fleet: Fleet) -> None:
        fleet.away = None

    outcome = simulate(
        fleet(
            name="away",
            hosts=10,
            blasting=9,
            chatting=1,
            chat_per_s=2.0,
            share=share,
            events=[(AT_S, leave), (AT_S + 3.0, come_back)],
        ),
        server,
    )

    late = [at for at in outcome.granted if at > AT_S + 7.5]
    assert densest(outcome.granted) <= RATE
    assert (len(late) - 1) / (late[-1] - late[0]) >= 0.97 * OWN_RATE
    assert bool(outcome.failed) == (share is None)


def test_hosts_that_vanish_leave_their_part_to_the_others(server: redis.Redis) -> None:
    """Five seconds after half of the hosts lose power with slots in hand, the other hosts send at the full rate."""
    outcome = simulate(_with_event(lambda fleet: fleet.vanish(range(5, 10))), server)

    late = [at for at in outcome.granted if at > AT_S + 5.0]
    assert densest(outcome.granted) <= RATE
    assert (len(late) - 1) / (late[-1] - late[0]) >= 0.97 * OWN_RATE


def test_a_refusal_of_one_host_pauses_the_fleet(server: redis.Redis) -> None:
    """A refusal of one host pauses the whole fleet, except for slots already reserved, and then slows it to 80 %."""
    outcome = simulate(_with_event(lambda fleet: fleet.refuse(4)), server)

    paused = [at for at in outcome.granted if AT_S + 0.4 < at < AT_S + 1.0]
    slowed = [at for at in outcome.granted if at > AT_S + 2.0]
    assert not paused
    assert (len(slowed) - 1) / (slowed[-1] - slowed[0]) == pytest.approx(0.8 * OWN_RATE, rel=0.03)
    assert densest(outcome.granted) <= RATE


def test_the_simulation_runs_what_production_runs() -> None:
    """The simulation rejects a script that does not read the clock, because it would run at the wrong time."""
    with pytest.raises(AssertionError, match="asks for the time 0 times"):
        with_given_clock("return 1")


def _with_event(happen: Callable[[Fleet], None]) -> Scenario:
    return fleet(name="one event", hosts=10, blasting=9, chatting=1, chat_per_s=2.0, events=[(AT_S, happen)])
