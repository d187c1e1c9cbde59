"""One pace and one token for the sessions of a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import pytest

from pico_async import ConfigurationError, Coordinator, LocalCoordinator, Priority, Rates
from pico_async._engine.endpoints import Lane
from pico_async.coordination import LearningCoordinator, local
from pico_async.coordination.local import LocalPace, LocalTokenStore

pytestmark = pytest.mark.virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


def densest(moments: Iterable[float], window_s: float = 1.0) -> int:
    moments = sorted(moments)
    return max(sum(1 for other in moments if start <= other < start + window_s) for start in moments)


async def leave(pace: LocalPace, moments: list[float], priority: Priority = Priority.BULK) -> None:
    await pace.turn(priority)
    moments.append(now())


async def test_a_crowd_leaves_at_the_documented_pace() -> None:
    """300 at once leave at 29.6 a second, and no second holds more than 30."""
    pace, moments = LocalPace(30), []

    await asyncio.gather(*(leave(pace, moments) for _ in range(300)))

    assert 299 / (moments[-1] - moments[0]) == pytest.approx(29.644, abs=0.05)
    assert densest(moments) == 30


async def test_a_pause_of_the_callers_saves_nothing_up() -> None:
    """After an idle minute no burst leaves, as the plain limiter's would."""
    pace, moments = LocalPace(30), []

    await leave(pace, moments)
    await asyncio.sleep(60)
    await asyncio.gather(*(leave(pace, moments) for _ in range(60)))

    assert densest(moments) <= 30


async def test_the_pace_is_first_come_first_served() -> None:
    """Also the late newcomer that finds the bucket just filled stands behind those who wait."""
    pace = LocalPace(30)
    order: list[int] = []

    async def come(number: int) -> None:
        await asyncio.sleep(number * 0.0301)
        await pace.turn(Priority.BULK)
        order.append(number)

    await asyncio.gather(*(come(number) for number in range(100)))

    assert order == list(range(100))


async def test_a_single_send_overtakes_a_crowd() -> None:
    """It waits for one turn, not for the thousand before it."""
    pace = LocalPace(30)
    crowd = [asyncio.create_task(pace.turn(Priority.BULK)) for _ in range(1000)]
    await asyncio.sleep(1)

    asked_at = now()
    await pace.turn(Priority.INTERACTIVE)
    waited_s = now() - asked_at
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)

    assert waited_s < 2 / 29.64


async def test_the_cancelled_give_their_places_back() -> None:
    """Of 60, every second is cancelled while it waits: the other 30 leave as if they were alone."""
    pace, moments = LocalPace(30), []

    tasks = [asyncio.create_task(leave(pace, moments)) for _ in range(60)]
    await asyncio.sleep(0)
    began_at = now()
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(moments) == 30
    assert max(moments) - began_at < 31 / 29.64


async def test_the_head_gives_its_place_back_while_it_waits_for_the_bucket() -> None:
    """A cancelled head neither takes a token along nor stops the queue."""
    pace, moments = LocalPace(30), []
    await leave(pace, moments)

    head = asyncio.create_task(leave(pace, moments))
    next_one = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.001)
    head.cancel()
    await asyncio.wait_for(next_one, 1)

    assert moments[1] - moments[0] < 1.1 / 29.64


async def test_a_refusal_pauses_the_lane_until_its_deadline() -> None:
    """Nobody leaves before Retry-After is over, not even who waits for the bucket already."""
    pace, moments = LocalPace(30), []
    await leave(pace, moments)
    waiting = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.001)

    refused_at = now()
    pace.refused(5.0)
    await waiting

    assert moments[1] - refused_at >= 5.0


async def test_a_refusal_without_a_time_pauses_for_a_second() -> None:
    """The documented window is a second, so after one the server has forgotten the burst."""
    pace, moments = LocalPace(30), []

    refused_at = now()
    pace.refused(None)
    await leave(pace, moments)

    assert 1.0 <= moments[0] - refused_at < 1.1


async def test_refusals_that_ask_for_no_wait_give_no_burst() -> None:
    """Retry-After: 0, again and again, makes nobody faster."""
    pace, moments = LocalPace(30), []

    async def refuse() -> None:
        for _ in range(20):
            await asyncio.sleep(0.05)
            pace.refused(0.0)

    await asyncio.gather(refuse(), *(leave(pace, moments) for _ in range(60)))

    assert densest(moments) <= 30


async def test_an_endless_retry_after_is_bounded() -> None:
    """A hostile or broken header does not stop the process for a day."""
    pace, moments = LocalPace(30), []

    refused_at = now()
    pace.refused(86_400.0)
    await leave(pace, moments)

    assert moments[0] - refused_at <= 60.1


async def test_a_refusal_widens_the_guard() -> None:
    """The next second is a little less dense, and half a minute later all is as before, without a burst."""
    pace, wide, recovered = LocalPace(30), [], []

    pace.refused(None)
    await asyncio.gather(*(leave(pace, wide) for _ in range(31)))
    await asyncio.sleep(31)
    await asyncio.gather(*(leave(pace, recovered) for _ in range(100)))

    assert 28.9 < 30 / (wide[-1] - wide[0]) < 29.5
    assert 99 / (recovered[-1] - recovered[0]) == pytest.approx(29.644, rel=0.002)
    assert densest(recovered) <= 30


async def test_refusals_that_go_on_slow_the_lane_for_a_while() -> None:
    """Something else takes of the rate: at 80 % until half a minute has gone by without another, then as before."""
    pace, slowed, recovered = LocalPace(30), [], []

    pace.refused(None)
    await asyncio.sleep(10)
    pace.refused(None)
    await asyncio.gather(*(leave(pace, slowed) for _ in range(100)))
    await asyncio.sleep(31)
    await asyncio.gather(*(leave(pace, recovered) for _ in range(100)))

    assert 99 / (slowed[-1] - slowed[0]) == pytest.approx(0.8 * 29.5, rel=0.02)
    assert 99 / (recovered[-1] - recovered[0]) == pytest.approx(29.644, rel=0.002)
    assert densest(recovered) <= 30


async def test_a_guard_that_is_fixed_cannot_widen() -> None:
    """So the first refusal slows the lane at once."""
    pace, moments = LocalPace(30, guard_s=0.02), []
    before = pace.per_s

    pace.refused(None)
    await asyncio.gather(*(leave(pace, moments) for _ in range(50)))

    assert before == pytest.approx(29.352, abs=0.001)
    assert 49 / (moments[-1] - moments[0]) == pytest.approx(0.8 * 29.352, rel=0.01)


async def test_the_pace_follows_the_network() -> None:
    """Steady response times make it faster, spread ones slower; no second holds more than 30 on the way."""
    pace, moments, told = LocalPace(30), [], []
    spreads_s = [0.0] * 200 + [0.04] * 200 + [0.0] * 400

    for number, spread_s in enumerate(spreads_s):
        await leave(pace, moments)
        pace.heard(0.1 + spread_s * (number % 3) / 2)
        told.append(pace.per_s)

    assert told[0] == pytest.approx(29.644, abs=0.001)
    assert told[199] == pytest.approx(29.88, abs=0.01)
    assert told[399] == pytest.approx(28.78, abs=0.01)
    assert told[-1] == pytest.approx(29.88, abs=0.01)
    assert densest(moments) <= 30
    assert 199 / (moments[-1] - moments[-200]) == pytest.approx(29.88, rel=0.002)


@pytest.mark.parametrize("rate", [5, 30, 100])
@pytest.mark.parametrize(
    ("lag_s", "per_s", "least"),
    [(0.008, 2.0, 0.985), (0.02, 2.0, 0.97), (0.049, 1.0, 0.96)],
)
async def test_a_server_that_stands_still_now_and_then_sees_no_more_than_the_rate(
    rate: int, lag_s: float, per_s: float, least: float
) -> None:
    """What leaves a second after a message that came late does not meet it; little of the pace is lost by it."""
    for seed in range(4):
        random, pace, arrivals = Random(seed), LocalPace(rate), []
        stalls = [now()]
        while stalls[-1] < now() + 40:
            stalls.append(stalls[-1] + lag_s + 0.1 + random.expovariate(1 / (1 / per_s - lag_s - 0.1)))

        async def send(pace: LocalPace = pace, stalls: list[float] = stalls, arrivals: list[float] = arrivals) -> None:
            await pace.turn(Priority.BULK)
            left_at = now()
            arrives_at = left_at + 0.001
            arrives_at = next((stall + lag_s for stall in stalls if stall <= arrives_at < stall + lag_s), arrives_at)
            await asyncio.sleep(arrives_at - left_at)
            arrivals.append(now())
            await asyncio.sleep(0.001)
            pace.heard(now() - left_at)

        await asyncio.gather(*(send() for _ in range(30 * rate)))

        assert densest(arrivals) <= rate
        assert (30 * rate - 1) / (arrivals[-1] - arrivals[0]) > least * rate


async def test_at_a_high_rate_those_that_come_late_do_not_add_up() -> None:
    """One in twenty-five takes 20 ms more, as beside a busy loop; that makes the pace no lower."""
    pace, moments = LocalPace(1_000), []

    for number in range(3_000):
        await leave(pace, moments)
        pace.heard(0.12 if number % 26 == 0 else 0.1)

    assert 1_000 / (moments[-1] - moments[-1_001]) == pytest.approx(1_000, rel=0.01)


async def test_a_pico_that_takes_its_time_makes_the_pace_little_slower() -> None:
    """Up to a second, each time another one: no way there is so uneven, so not all of that counts as late."""
    random, pace, moments = Random(7), LocalPace(30), []

    async def send() -> None:
        await leave(pace, moments)
        took_s = random.uniform(0.1, 1.0)
        await asyncio.sleep(took_s)
        pace.heard(took_s)

    await asyncio.gather(*(send() for _ in range(600)))

    assert 300 / (moments[-1] - moments[-301]) == pytest.approx(28.5, rel=0.002)


async def test_a_new_latency_holds_up_no_longer_than_it_is_longer_by() -> None:
    """All are late then, and by the same; what is waited for is not caught up."""
    pace, moments = LocalPace(30), []

    async def send(number: int) -> None:
        await leave(pace, moments)
        took_s = 0.01 if number < 200 else 0.055
        await asyncio.sleep(took_s)
        pace.heard(took_s)

    await asyncio.gather(*(send(number) for number in range(400)))

    apart_s = [later - sooner for sooner, later in pairwise(moments)]
    assert max(apart_s) < 0.12
    assert min(apart_s) > 0.03


async def test_a_crowd_that_waits_through_the_recovery_gets_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new bucket does not give again what the slow one gave a moment before."""
    monkeypatch.setattr(local, "SLOWED_FOR_S", 3.0)

    for offset in range(20):
        pace, moments = LocalPace(30), []
        await asyncio.sleep(offset / 500)
        pace.refused(None)
        await asyncio.sleep(1.5)
        pace.refused(None)
        await asyncio.gather(*(leave(pace, moments) for _ in range(200)))

        assert densest(moments) <= 30


async def test_refusals_of_one_burst_count_as_one() -> None:
    """Ten requests that were in flight together slow the lane once, not to a tenth."""
    pace, moments = LocalPace(30, guard_s=0.02), []

    for _ in range(10):
        pace.refused(None)
    await asyncio.gather(*(leave(pace, moments) for _ in range(50)))

    assert 49 / (moments[-1] - moments[0]) == pytest.approx(0.8 * 29.352, rel=0.01)


async def test_a_turn_that_is_used_late_counts_from_then_on() -> None:
    """Nobody had a turn meanwhile, so nothing is waited for, and the next one comes a whole interval later."""
    pace, moments = LocalPace(1), []

    await leave(pace, moments)
    next_one = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.4)
    late_at = now()
    in_time = await pace.leave_late(moments[0])
    at_once = now() - late_at
    await next_one

    assert in_time
    assert at_once == pytest.approx(0, abs=1e-3)
    assert moments[1] - late_at >= 1.0


async def test_a_turn_is_over_once_others_had_theirs() -> None:
    """Who comes so late needs another one, and gets it before all who had none."""
    pace, moments = LocalPace(30), []
    await leave(pace, moments)
    crowd = [asyncio.create_task(leave(pace, moments)) for _ in range(20)]
    await asyncio.sleep(0.1)

    in_time = await pace.leave_late(moments[0])
    before = len(moments)
    await pace.turn(Priority.AGAIN)
    after = len(moments)
    await asyncio.gather(*crowd)

    assert not in_time
    # The head of the line waits for the bucket already.
    assert after - before <= 1
    assert densest(moments) <= 30


async def test_a_turn_that_is_used_late_meets_nobody_that_came_late() -> None:
    """The first reply tells only now that its request came 40 ms late: a second after that, and no sooner."""
    pace, moments = LocalPace(2), []
    await leave(pace, moments)
    await leave(pace, moments)
    pace.heard(0.001)
    await leave(pace, moments)
    await asyncio.sleep(0.005)
    pace._arrivals.heard(moments[0], 0.041, 0.001)  # type: ignore[union-attr]

    too_soon = await pace.leave_late(moments[2])
    await asyncio.sleep(moments[0] + 1.041 - now())
    in_time = await pace.leave_late(moments[2])

    assert (too_soon, in_time) == (False, True)


async def test_a_lane_without_a_limit_waits_only_for_a_refusal() -> None:
    """MMS has no documented rate: at once, but for a pause that Pico asked for."""
    pace, moments = LocalPace(None), []

    began_at = now()
    await asyncio.gather(*(leave(pace, moments) for _ in range(1000)))
    pace.refused(2.0)
    await leave(pace, moments)

    assert moments[999] == pytest.approx(began_at, abs=1e-3)
    assert moments[1000] >= began_at + 2.0


async def test_a_refusal_holds_back_who_is_late_on_a_lane_without_a_limit() -> None:
    """Its connection opened during the pause that Pico asked for: it waits for the end of it, as the others do."""
    pace = LocalPace(None)
    turn_at = now()

    pace.refused(2.0)
    in_the_pause = await pace.leave_late(turn_at)
    await asyncio.sleep(2.1)

    assert not in_the_pause
    assert await pace.leave_late(turn_at)


async def test_lanes_do_not_wait_for_each_other() -> None:
    """A paused SMS lane holds up no balance."""
    coordinator = LocalCoordinator()
    began_at = now()

    await coordinator.refused(Lane.SMS, 30.0)
    await coordinator.turn(Lane.BALANCE, Priority.INTERACTIVE)

    assert now() == pytest.approx(began_at, abs=1e-3)


async def test_a_token_is_trusted_while_it_is_used() -> None:
    """Used every 17 minutes, it lives on; idle for 18, it is not handed out."""
    store = LocalTokenStore()
    await store.keep("t")

    for _ in range(5):
        await asyncio.sleep(17 * 60)
        assert await store.current() == "t"
    await asyncio.sleep(18 * 60)

    assert await store.current() is None


async def test_only_the_token_that_was_refused_is_evicted() -> None:
    """A late 401 for the old token leaves the new one in its place."""
    store = LocalTokenStore()
    await store.keep("old")
    await store.keep("new")

    await store.discard("old")
    assert await store.current() == "new"

    await store.discard("new")
    assert await store.current() is None


async def test_sessions_of_one_key_find_one_coordinator_until_the_last_leaves() -> None:
    """Same host, account, key and loop: the same one. Any other: another one. After the last: a new one."""
    mine = ("https://a", "user", "key")

    first = local.join(*mine, Rates())
    assert local.join(*mine, Rates()) is first
    others = [("https://b", "user", "key"), ("https://a", "other", "key"), ("https://a", "user", "other")]
    assert all(local.join(*other, Rates()) is not first for other in others)
    local.leave(*mine)
    assert local.join(*mine, Rates()) is first
    for key in (mine, mine, *others):
        local.leave(*key)
    await asyncio.sleep(1.1)

    assert asyncio.get_running_loop() not in local._shared


async def test_a_session_for_each_message_crosses_no_rate_either() -> None:
    """What was sent counts for the next session of the key, also where none was open in between."""
    mine, moments = ("https://a", "user", "key"), []

    for _ in range(90):
        coordinator = local.join(*mine, Rates())
        await coordinator.turn(Lane.SMS, Priority.INTERACTIVE)
        moments.append(now())
        local.leave(*mine)

    assert densest(moments) <= 30


async def test_what_was_sent_is_known_for_as_long_as_it_counts() -> None:
    """A second: a session that comes within it must not meet what left, whatever is heard of that."""
    mine, rates = ("https://a", "user", "key"), Rates(token=None, balance=None)
    coordinator = local.join(*mine, rates)
    await coordinator.turn(Lane.SMS, Priority.INTERACTIVE)
    local.leave(*mine)
    await asyncio.sleep(0.9)

    assert local.join(*mine, rates) is coordinator
    local.leave(*mine)
    await asyncio.sleep(0.2)
    assert asyncio.get_running_loop() not in local._shared


async def test_a_session_that_comes_back_is_not_forgotten_by_the_old_one_s_timer() -> None:
    """Closed, opened again, at other rates even: the table keeps what is open."""
    mine = ("https://a", "user", "key")
    local.join(*mine, Rates())
    local.leave(*mine)

    other = local.join(*mine, Rates(sms=100))
    await asyncio.sleep(5)

    assert local.join(*mine, Rates(sms=100)) is other
    local.leave(*mine)
    local.leave(*mine)
    await asyncio.sleep(5)
    assert asyncio.get_running_loop() not in local._shared


def test_loops_of_many_threads_share_the_table() -> None:
    """Each finds its own coordinator, and nobody trips over the others."""

    async def life() -> bool:
        for _ in range(50):
            local.join("https://a", "user", "key", Rates(token=None, balance=None, sms=None))
            await asyncio.sleep(0)
            local.leave("https://a", "user", "key")
        return True

    with ThreadPoolExecutor(8) as threads:
        lives = [threads.submit(lambda: [asyncio.run(life()) for _ in range(20)]) for _ in range(8)]

    assert all(all(life.result()) for life in lives)
    local._shared.clear()


async def test_sessions_of_one_key_must_agree_on_the_rates() -> None:
    """One pace cannot run at two rates; the error says which is there."""
    mine = ("https://a", "user", "key")
    local.join(*mine, Rates())

    with pytest.raises(ConfigurationError, match="sms=30"):
        local.join(*mine, Rates(sms=100))

    local.leave(*mine)


def test_another_loop_has_another_coordinator_and_a_closed_loop_is_forgotten() -> None:
    """A session that was never closed does not keep its loop alive for ever."""

    async def joined() -> LocalCoordinator:
        return local.join("https://a", "user", "key", Rates())

    first, second = asyncio.run(joined()), asyncio.run(joined())

    assert first is not second
    assert len(local._shared) == 1
    local._shared.clear()


def test_the_table_holds_no_key() -> None:
    """What is shared is named by a digest."""

    async def joined() -> str:
        local.join("https://a", "user", "S3CRET-KEY", Rates())
        return repr(local._shared)

    assert "S3CRET-KEY" not in asyncio.run(joined())
    local._shared.clear()


def test_the_local_coordinator_is_a_coordinator() -> None:
    """It fits the protocols that other coordinators are written against."""
    assert isinstance(LocalCoordinator(), Coordinator)
    assert isinstance(LocalCoordinator(), LearningCoordinator)
