"""Many hosts share one pace: real scripts on a real Redis, simulated clocks and networks, so that times are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from pico_async.coordination.rates import spacing_s
from tests.support.virtual_fleet import FAR, MIXED, RATE, Fleet, Scenario, densest, simulate, with_told_clock

OWN_RATE = 1 / spacing_s(RATE)
# When something befalls them.
AT_S = 5.0
fleet = partial(Scenario, network=MIXED, seconds=15.0)


@pytest.fixture(scope="module")
def server(shared_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared_redis) as client:
        yield client


@pytest.mark.parametrize("hosts", [1, 10, 100])
def test_a_blasting_fleet_goes_at_its_full_pace_and_never_beyond(server: redis.Redis, hosts: int) -> None:
    """Whatever their clocks and distances: 97 % of the pace, and 30 in the densest second."""
    outcome = simulate(fleet(name="all blast", hosts=hosts, blasting=hosts), server)

    assert densest(outcome.turns) <= RATE
    assert densest(outcome.arrivals) <= RATE
    assert outcome.per_s >= 0.97 * OWN_RATE


@pytest.mark.parametrize(("hosts", "seconds"), [(10, 15.0), (100, 60.0)])
def test_hosts_get_equal_shares(server: redis.Redis, hosts: int, seconds: float) -> None:
    """None sends half as much again as another, and all together ask Redis twice for each slot at the most."""
    outcome = simulate(fleet(name="all blast", hosts=hosts, blasting=hosts, seconds=seconds), server)

    assert outcome.unfairness is not None
    assert outcome.unfairness <= 1.5
    assert outcome.calls_per_s_and_host * hosts < 2.1 * RATE


@pytest.mark.parametrize("hosts", [1, 10, 100])
def test_a_single_send_does_not_wait_for_the_others_blasts(server: redis.Redis, hosts: int) -> None:
    """Half a second at the most, once its host has a connection."""
    scenario = fleet(name="one chats", hosts=hosts, blasting=max(1, hosts - 1), chatting=1, chat_per_s=2.0)
    outcome = simulate(scenario, server)

    waits_s = [one.waited_s for one in outcome.single if one.at > 3.0]
    assert len(waits_s) > 10
    assert max(waits_s) <= 0.5
    assert densest(outcome.turns) <= RATE


def test_a_single_send_from_far_away_waits_for_one_round_trip(server: redis.Redis) -> None:
    """Where nobody else sends: its slot is not past when the answer arrives, or else it would ask again, and again."""
    outcome = simulate(fleet(name="alone", hosts=1, network=FAR, chatting=1, chat_per_s=1.0, seconds=60.0), server)

    _, *later = outcome.single
    assert sum(one.waited_s for one in later) / len(later) <= 0.130
    assert outcome.calls_per_s_and_host < 1.5


def test_a_host_that_joins_from_far_away_takes_no_slot_early(server: redis.Redis) -> None:
    """Its first call carries the connection, and says little of the server's clock."""
    for seed in range(3):
        outcome = simulate(fleet(name="joins", hosts=3, blasting=3, begin_every_s=2.37, seed=seed), server)

        assert densest(outcome.turns) <= RATE


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_step_of_the_server_s_clock_stops_nobody(server: redis.Redis, step_s: float) -> None:
    """No second with more than 30, and no pause that lasts as long as the step."""

    def step(fleet: Fleet) -> None:
        fleet.server_offset_s += step_s

    outcome = simulate(_befallen(step), server)

    assert densest(outcome.turns) <= RATE
    assert outcome.longest_gap_s <= 1.0


def test_a_redis_that_forgets_lets_nobody_send_twice_as_fast(server: redis.Redis) -> None:
    """Slots that hosts still hold are not given again."""
    outcome = simulate(_befallen(lambda fleet: fleet.server.flushdb()), server)

    assert densest(outcome.turns) <= RATE
    assert outcome.longest_gap_s <= 1.0


@pytest.mark.parametrize("how", ["refused", "silent"])
@pytest.mark.parametrize("share", [None, 1 / 10])
def test_a_redis_that_is_away_for_a_while_lets_nobody_send_too_much(
    server: redis.Redis, how: str, share: float | None
) -> None:
    """Neither while each host has its share, nor when some have heard that it is back and others have not."""

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
            befalls=[(AT_S, leave), (AT_S + 3.0, come_back)],
        ),
        server,
    )

    late = [at for at in outcome.turns if at > AT_S + 7.5]
    assert densest(outcome.turns) <= RATE
    assert (len(late) - 1) / (late[-1] - late[0]) >= 0.97 * OWN_RATE
    assert bool(outcome.failed) == (share is None)


def test_hosts_that_vanish_leave_their_part_to_the_others(server: redis.Redis) -> None:
    """Half of them lose their power while they hold slots; within seconds the rest sends at the full pace."""
    outcome = simulate(_befallen(lambda fleet: fleet.vanish(range(5, 10))), server)

    late = [at for at in outcome.turns if at > AT_S + 5.0]
    assert densest(outcome.turns) <= RATE
    assert (len(late) - 1) / (late[-1] - late[0]) >= 0.97 * OWN_RATE


def test_a_refusal_that_one_host_meets_pauses_all(server: redis.Redis) -> None:
    """But for what others had reserved before they asked again: then the fleet is silent, and then slower."""
    outcome = simulate(_befallen(lambda fleet: fleet.refuse(4)), server)

    paused = [at for at in outcome.turns if AT_S + 0.4 < at < AT_S + 1.0]
    slowed = [at for at in outcome.turns if at > AT_S + 2.0]
    assert not paused
    assert (len(slowed) - 1) / (slowed[-1] - slowed[0]) == pytest.approx(0.8 * OWN_RATE, rel=0.03)
    assert densest(outcome.turns) <= RATE


def test_the_simulation_runs_what_production_runs() -> None:
    """A script that asks for the time otherwise would be simulated at the wrong time: that is an error."""
    with pytest.raises(AssertionError, match="asks for the time 0 times"):
        with_told_clock("return 1")


def _befallen(happen: Callable[[Fleet], None]) -> Scenario:
    return fleet(name="befallen", hosts=10, blasting=9, chatting=1, chat_per_s=2.0, befalls=[(AT_S, happen)])
