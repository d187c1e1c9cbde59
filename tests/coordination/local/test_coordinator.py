"""The sessions of one API key in one event loop share a limiter and a token cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import pytest

from pico_async import ConfigurationError, Coordinator, Identity, LocalCoordinator, Priority, Rates
from pico_async.coordination import registry
from pico_async.coordination.local.limiter import LocalLimiter, LocalSlot
from pico_async.coordination.rates import RateGroup
from pico_async.coordination.token_cache import LocalTokenStore

pytestmark = pytest.mark.virtual_time

MINE = Identity.of("Pico", "https://a", "user", "key")
OTHERS = [
    Identity.of("Pico", "https://b", "user", "key"),
    Identity.of("Pico", "https://a", "other", "key"),
    Identity.of("Pico", "https://a", "user", "other"),
    Identity.of("a stand-in", "https://a", "user", "key"),
]


def now() -> float:
    return asyncio.get_running_loop().time()


def densest(moments: Iterable[float], window_s: float = 1.0) -> int:
    moments = sorted(moments)
    return max(sum(1 for other in moments if start <= other < start + window_s) for start in moments)


async def leave(pace: LocalLimiter, moments: list[float], priority: Priority = Priority.BULK) -> LocalSlot:
    slot = await pace.acquire(priority)
    moments.append(now())
    return slot


async def test_a_crowd_leaves_at_the_documented_pace() -> None:
    """300 requests at once leave at 29.6 a second, and no second holds more than 30."""
    pace, moments = LocalLimiter(30), []

    await asyncio.gather(*(leave(pace, moments) for _ in range(300)))

    assert 299 / (moments[-1] - moments[0]) == pytest.approx(29.644, abs=0.05)
    assert densest(moments) == 30


async def test_a_pause_of_the_callers_saves_nothing_up() -> None:
    """After an idle minute no burst leaves: no second holds more than 30 requests."""
    pace, moments = LocalLimiter(30), []

    await leave(pace, moments)
    await asyncio.sleep(60)
    await asyncio.gather(*(leave(pace, moments) for _ in range(60)))

    assert densest(moments) <= 30


async def test_the_pace_is_first_come_first_served() -> None:
    """Slots are granted in the order of arrival, even if a caller arrives just when the bucket is full."""
    pace = LocalLimiter(30)
    order: list[int] = []

    async def come(number: int) -> None:
        await asyncio.sleep(number * 0.0301)
        await pace.acquire(Priority.BULK)
        order.append(number)

    await asyncio.gather(*(come(number) for number in range(100)))

    assert order == list(range(100))


async def test_a_single_send_overtakes_a_crowd() -> None:
    """A single send waits for one slot, not for the thousand bulk requests before it."""
    pace = LocalLimiter(30)
    crowd = [asyncio.create_task(pace.acquire(Priority.BULK)) for _ in range(1000)]
    await asyncio.sleep(1)

    asked_at = now()
    await pace.acquire(Priority.INTERACTIVE)
    waited_s = now() - asked_at
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)

    assert waited_s < 2 / 29.64


async def test_the_cancelled_give_their_places_back() -> None:
    """If every second of 60 waiting requests is cancelled, the other 30 leave as if they were alone."""
    pace, moments = LocalLimiter(30), []

    tasks = [asyncio.create_task(leave(pace, moments)) for _ in range(60)]
    await asyncio.sleep(0)
    began_at = now()
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(moments) == 30
    assert max(moments) - began_at < 31 / 29.64


async def test_the_head_gives_its_place_back_while_it_waits_for_the_bucket() -> None:
    """A cancelled request at the head of the queue neither uses up a token nor blocks the queue."""
    pace, moments = LocalLimiter(30), []
    await leave(pace, moments)

    head = asyncio.create_task(leave(pace, moments))
    next_one = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.001)
    head.cancel()
    await asyncio.wait_for(next_one, 1)

    assert moments[1] - moments[0] < 1.1 / 29.64


async def test_a_refusal_pauses_the_rate_group_until_its_deadline() -> None:
    """After a refusal no request leaves before Retry-After is over, not even one that already waits for the bucket."""
    pace, moments = LocalLimiter(30), []
    await leave(pace, moments)
    waiting = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.001)

    refused_at = now()
    pace.pause(5.0)
    await waiting

    assert moments[1] - refused_at >= 5.0


async def test_a_refusal_without_a_time_pauses_for_a_second() -> None:
    """A refusal without Retry-After pauses for one second, because the documented window is a second."""
    pace, moments = LocalLimiter(30), []

    refused_at = now()
    pace.pause(None)
    await leave(pace, moments)

    assert 1.0 <= moments[0] - refused_at < 1.1


async def test_refusals_that_ask_for_no_wait_give_no_burst() -> None:
    """Repeated refusals with `Retry-After: 0` cause no burst: no second holds more than 30 requests."""
    pace, moments = LocalLimiter(30), []

    async def refuse() -> None:
        for _ in range(20):
            await asyncio.sleep(0.05)
            pace.pause(0.0)

    await asyncio.gather(refuse(), *(leave(pace, moments) for _ in range(60)))

    assert densest(moments) <= 30


async def test_an_endless_retry_after_is_bounded() -> None:
    """A Retry-After of a day pauses for at most a minute, so that a broken header cannot stop the process."""
    pace, moments = LocalLimiter(30), []

    refused_at = now()
    pace.pause(86_400.0)
    await leave(pace, moments)

    assert moments[0] - refused_at <= 60.1


async def test_a_refusal_widens_the_guard() -> None:
    """
    A refusal widens the jitter allowance, so the next second holds slightly fewer requests.

    Half a minute later the rate is as before, without a burst.
    """
    pace, wide, recovered = LocalLimiter(30), [], []

    pace.pause(None)
    await asyncio.gather(*(leave(pace, wide) for _ in range(31)))
    await asyncio.sleep(31)
    await asyncio.gather(*(leave(pace, recovered) for _ in range(100)))

    assert 28.9 < 30 / (wide[-1] - wide[0]) < 29.5
    assert 99 / (recovered[-1] - recovered[0]) == pytest.approx(29.644, rel=0.002)
    assert densest(recovered) <= 30


async def test_refusals_that_go_on_slow_the_rate_group_for_a_while() -> None:
    """
    A second refusal within half a minute slows the limiter to 80 %: other senders use a part of the rate.

    After half a minute without another refusal, the full rate returns without a burst.
    """
    pace, slowed, recovered = LocalLimiter(30), [], []

    pace.pause(None)
    await asyncio.sleep(10)
    pace.pause(None)
    await asyncio.gather(*(leave(pace, slowed) for _ in range(100)))
    await asyncio.sleep(31)
    await asyncio.gather(*(leave(pace, recovered) for _ in range(100)))

    assert 99 / (slowed[-1] - slowed[0]) == pytest.approx(0.8 * 29.5, rel=0.02)
    assert 99 / (recovered[-1] - recovered[0]) == pytest.approx(29.644, rel=0.002)
    assert densest(recovered) <= 30


async def test_a_guard_that_is_fixed_cannot_widen() -> None:
    """With a fixed jitter allowance, the first refusal already slows the limiter to 80 %."""
    pace, moments = LocalLimiter(30, jitter_allowance_s=0.02), []
    before = pace.per_s

    pace.pause(None)
    await asyncio.gather(*(leave(pace, moments) for _ in range(50)))

    assert before == pytest.approx(29.352, abs=0.001)
    assert 49 / (moments[-1] - moments[0]) == pytest.approx(0.8 * 29.352, rel=0.01)


async def test_the_pace_follows_the_network() -> None:
    """The rate rises with steady response times and falls with spread ones; no second holds more than 30 requests."""
    pace, moments, told = LocalLimiter(30), [], []
    spreads_s = [0.0] * 200 + [0.04] * 200 + [0.0] * 400

    for number, spread_s in enumerate(spreads_s):
        slot = await leave(pace, moments)
        slot.answered(0.1 + spread_s * (number % 3) / 2)
        told.append(pace.per_s)

    assert told[0] == pytest.approx(29.644, abs=0.001)
    assert told[199] == pytest.approx(29.88, abs=0.01)
    assert told[399] == pytest.approx(28.78, abs=0.01)
    assert told[-1] == pytest.approx(29.88, abs=0.01)
    assert densest(moments) <= 30
    assert 199 / (moments[-1] - moments[-200]) == pytest.approx(29.88, rel=0.002)


@pytest.mark.no_cover
@pytest.mark.parametrize("rate", [5, 30, 100])
@pytest.mark.parametrize(
    ("lag_s", "per_s", "least"),
    [(0.008, 2.0, 0.985), (0.02, 2.0, 0.97), (0.049, 1.0, 0.96)],
)
async def test_a_server_that_stands_still_now_and_then_sees_no_more_than_the_rate(
    rate: int, lag_s: float, per_s: float, least: float
) -> None:
    """A server that stalls now and then gets at most the rate in any second, and little of the rate is lost."""
    count = min(30 * rate, 1_000)
    for seed in range(4):
        random, pace, arrivals = Random(seed), LocalLimiter(rate), []
        stalls = [now()]
        while stalls[-1] < now() + 40:
            stalls.append(stalls[-1] + lag_s + 0.1 + random.expovariate(1 / (1 / per_s - lag_s - 0.1)))

        async def send(
            pace: LocalLimiter = pace, stalls: list[float] = stalls, arrivals: list[float] = arrivals
        ) -> None:
            slot = await pace.acquire(Priority.BULK)
            left_at = now()
            arrives_at = left_at + 0.001
            arrives_at = next((stall + lag_s for stall in stalls if stall <= arrives_at < stall + lag_s), arrives_at)
            await asyncio.sleep(arrives_at - left_at)
            arrivals.append(now())
            await asyncio.sleep(0.001)
            slot.answered(now() - left_at)

        await asyncio.gather(*(send() for _ in range(count)))

        assert densest(arrivals) <= rate
        assert (count - 1) / (arrivals[-1] - arrivals[0]) > least * rate


async def test_at_a_high_rate_those_that_come_late_do_not_add_up() -> None:
    """One late reply in 26, as beside a busy event loop, does not lower a rate of 1000 a second."""
    pace, moments = LocalLimiter(1_000), []

    for number in range(3_000):
        slot = await leave(pace, moments)
        slot.answered(0.12 if number % 26 == 0 else 0.1)

    assert 1_000 / (moments[-1] - moments[-1_001]) == pytest.approx(1_000, rel=0.01)


async def test_a_pico_that_takes_its_time_makes_the_pace_little_slower() -> None:
    """Response times that vary up to a second lower the rate only to 28.5 a second: no network is that uneven."""
    random, pace, moments = Random(7), LocalLimiter(30), []

    async def send() -> None:
        slot = await leave(pace, moments)
        took_s = random.uniform(0.1, 1.0)
        await asyncio.sleep(took_s)
        slot.answered(took_s)

    await asyncio.gather(*(send() for _ in range(600)))

    assert 300 / (moments[-1] - moments[-301]) == pytest.approx(28.5, rel=0.002)


@pytest.mark.lower_bounds
async def test_a_new_latency_holds_up_no_longer_than_it_is_longer_by() -> None:
    """A latency that rises by 45 ms delays the next requests only briefly, and the lost time is not caught up."""
    pace, moments = LocalLimiter(30), []

    async def send(number: int) -> None:
        slot = await leave(pace, moments)
        took_s = 0.01 if number < 200 else 0.055
        await asyncio.sleep(took_s)
        slot.answered(took_s)

    await asyncio.gather(*(send(number) for number in range(400)))

    apart_s = [later - sooner for sooner, later in pairwise(moments)]
    assert max(apart_s) < 0.12
    assert min(apart_s) > 0.03


async def test_a_crowd_that_waits_through_the_recovery_gets_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that wait while the full rate returns leave without a burst: no second holds more than 30."""
    monkeypatch.setattr("pico_async.coordination.local.limiter.SLOWED_FOR_S", 3.0)

    for offset in range(20):
        pace, moments = LocalLimiter(30), []
        await asyncio.sleep(offset / 500)
        pace.pause(None)
        await asyncio.sleep(1.5)
        pace.pause(None)
        await asyncio.gather(*(leave(pace, moments) for _ in range(200)))

        assert densest(moments) <= 30


async def test_refusals_of_one_burst_count_as_one() -> None:
    """Ten refusals of requests that were in flight together slow the limiter once, to 80 %."""
    pace, moments = LocalLimiter(30, jitter_allowance_s=0.02), []

    for _ in range(10):
        pace.pause(None)
    await asyncio.gather(*(leave(pace, moments) for _ in range(50)))

    assert 49 / (moments[-1] - moments[0]) == pytest.approx(0.8 * 29.352, rel=0.01)


async def test_a_turn_that_is_used_late_counts_from_then_on() -> None:
    """A slot used late, with no other granted meanwhile, counts from then on; the next slot is an interval later."""
    pace, moments = LocalLimiter(1), []

    slot = await leave(pace, moments)
    next_one = asyncio.create_task(leave(pace, moments))
    await asyncio.sleep(0.4)
    late_at = now()
    is_another = await slot.renew()
    at_once = now() - late_at
    await next_one

    assert not is_another
    assert at_once == pytest.approx(0, abs=1e-3)
    assert moments[1] - late_at >= 1.0


async def test_a_turn_is_over_once_others_had_theirs() -> None:
    """A slot that is late is lost once others were granted; its request gets another before new requests do."""
    pace, moments = LocalLimiter(30), []
    slot = await leave(pace, moments)
    crowd = [asyncio.create_task(leave(pace, moments)) for _ in range(20)]
    await asyncio.sleep(0.1)

    before = len(moments)
    is_another = await slot.renew()
    after = len(moments)
    await asyncio.gather(*crowd)

    assert is_another
    # The request at the head of the queue already waits for the bucket, so it may leave first.
    assert after - before <= 1
    assert densest(moments) <= 30


async def test_a_turn_that_is_used_late_meets_nobody_that_came_late() -> None:
    """A late slot may be used only a second after the estimated arrival of an earlier request that was delayed."""
    pace, moments = LocalLimiter(2), []
    first, second = await leave(pace, moments), await leave(pace, moments)
    second.answered(0.001)
    late = await leave(pace, moments)
    first.answered(0.041)

    await late.renew()

    assert now() >= moments[0] + 1.0399


async def test_a_rate_group_without_a_limit_waits_only_for_a_refusal() -> None:
    """A rate group without a limit, such as MMS, waits only for a pause that Pico asked for."""
    pace, moments = LocalLimiter(None), []

    began_at = now()
    await asyncio.gather(*(leave(pace, moments) for _ in range(1000)))
    pace.pause(2.0)
    await leave(pace, moments)

    assert moments[999] == pytest.approx(began_at, abs=1e-3)
    assert moments[1000] >= began_at + 2.0


@pytest.mark.lower_bounds
async def test_a_refusal_holds_back_who_is_late_on_a_rate_group_without_a_limit() -> None:
    """In a rate group without a limit, a slot that was granted before a pause cannot be used until the pause ends."""
    pace = LocalLimiter(None)
    slot, began_at = await pace.acquire(Priority.BULK), now()

    pace.pause(2.0)
    is_another = await slot.renew()

    assert is_another
    assert now() >= began_at + 2.0
    assert not await slot.renew()


async def test_rate_groups_do_not_wait_for_each_other() -> None:
    """A pause of the SMS rate group does not delay a balance request."""
    coordinator = LocalCoordinator()
    began_at = now()

    coordinator.limiter(RateGroup.SMS).pause(30.0)
    await coordinator.limiter(RateGroup.BALANCE).acquire(Priority.INTERACTIVE)

    assert now() == pytest.approx(began_at, abs=1e-3)


async def test_a_token_is_trusted_while_it_is_used() -> None:
    """A token that is used every 17 minutes stays valid; after 18 idle minutes it is not returned."""
    store = LocalTokenStore()
    await store.keep("t")

    for _ in range(5):
        await asyncio.sleep(17 * 60)
        assert await store.current() == "t"
    await asyncio.sleep(18 * 60)

    assert await store.current() is None


async def test_only_the_token_that_was_refused_is_evicted() -> None:
    """A late 401 for the old token does not evict the new one."""
    store = LocalTokenStore()
    await store.keep("old")
    await store.keep("new")

    await store.discard("old")
    assert await store.current() == "new"

    await store.discard("new")
    assert await store.current() is None


async def test_sessions_of_one_account_find_one_coordinator_until_the_last_leaves() -> None:
    """Sessions share a coordinator if host, account and key are equal; it is removed after the last of them closed."""
    first = registry.join(MINE, Rates())
    assert registry.join(MINE, Rates()) is first
    assert all(registry.join(other, Rates()) is not first for other in OTHERS)
    registry.leave(MINE)
    assert registry.join(MINE, Rates()) is first
    for identity in (MINE, MINE, *OTHERS):
        registry.leave(identity)
    await asyncio.sleep(1.1)

    assert asyncio.get_running_loop() not in registry._shared


async def test_accounts_and_hosts_of_one_key_share_a_rate_and_no_token() -> None:
    """Two accounts, and two hosts, with one API key share each rate and each pause, but have tokens of their own."""
    moments: list[float] = []
    identities = (MINE, *OTHERS[:2])

    async def leave_through(coordinator: LocalCoordinator) -> None:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)
        moments.append(now())

    coordinators = [registry.join(identity, Rates()) for identity in identities]
    for coordinator in coordinators:
        await coordinator.token.keep(f"token {coordinators.index(coordinator)}")
    await asyncio.gather(*(leave_through(coordinator) for coordinator in coordinators * 30))
    coordinators[0].limiter(RateGroup.SMS).pause(7.0)
    refused_at = now()
    await leave_through(coordinators[1])

    assert densest(moments) == 30
    assert moments[-1] - refused_at >= 7
    assert [await coordinator.token.current() for coordinator in coordinators] == ["token 0", "token 1", "token 2"]
    for identity in identities:
        registry.leave(identity)


async def test_a_key_at_a_sandbox_or_another_key_has_a_rate_of_its_own() -> None:
    """Another API key, or the same key at a stand-in for Pico, waits for no pause of the first one."""
    registry.join(MINE, Rates()).limiter(RateGroup.SMS).pause(60.0)
    began_at = now()

    for other in OTHERS[2:]:
        await registry.join(other, Rates(sms=100)).limiter(RateGroup.SMS).acquire(Priority.BULK)

    assert now() - began_at < 0.1
    for identity in (MINE, *OTHERS[2:]):
        registry.leave(identity)


async def test_a_local_coordinator_serves_one_account() -> None:
    """
    A coordinator that the caller made refuses a second account, key or host, whose sessions would use its token.

    `for_another_account` makes one for those, which shares the rate.
    """
    own = LocalCoordinator()
    own.join(MINE)

    for other in OTHERS:
        with pytest.raises(ConfigurationError, match="another API key, account or host"):
            own.join(other)
    beside = own.for_another_account()
    beside.join(OTHERS[0])
    await own.token.keep("mine")
    own.limiter(RateGroup.SMS).pause(7.0)
    refused_at = now()
    await beside.limiter(RateGroup.SMS).acquire(Priority.BULK)

    assert await beside.token.current() is None
    assert now() - refused_at >= 7


def test_an_open_local_coordinator_refuses_another_event_loop() -> None:
    """A coordinator that the caller made serves one event loop at a time, and another one once its sessions closed."""
    own = LocalCoordinator()

    async def join() -> None:
        own.join(MINE)

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(join())
        with pytest.raises(ConfigurationError, match="another event loop"):
            other.run(join())
        one.run(own.leave())
        other.run(join())


async def test_a_session_for_each_message_crosses_no_rate_either() -> None:
    """A session for each message does not exceed the rate: earlier sends count for the next session of the key."""
    moments = []

    for _ in range(90):
        coordinator = registry.join(MINE, Rates())
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        moments.append(now())
        registry.leave(MINE)

    assert densest(moments) <= 30


async def test_a_session_that_opens_at_other_rates_crosses_no_rate_either() -> None:
    """Sessions that open one after another, each at other rates, do not exceed the rate, and keep the token."""
    moments = []
    await registry.join(MINE, Rates()).token.keep("token-1")
    registry.leave(MINE)

    for number in range(90):
        coordinator = registry.join(MINE, Rates(sms=30 - number % 2))
        assert await coordinator.token.current() == "token-1"
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        moments.append(now())
        registry.leave(MINE)

    assert densest(moments) <= 30


async def test_a_session_that_opens_at_other_rates_knows_of_a_refusal() -> None:
    """A session that opens at other rates waits for the end of the pause, and goes slower after it."""
    coordinator = registry.join(MINE, Rates())
    coordinator.limiter(RateGroup.SMS).pause(20)
    registry.leave(MINE)

    coordinator = registry.join(MINE, Rates(sms=20))
    began_at = now()
    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)

    assert now() - began_at >= 20
    registry.leave(MINE)


async def test_what_was_sent_is_known_for_as_long_as_it_counts() -> None:
    """After the last session closes, its coordinator is kept for a second, for as long as its last send counts."""
    rates = Rates(token=None, balance=None)
    coordinator = registry.join(MINE, rates)
    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
    registry.leave(MINE)
    await asyncio.sleep(0.9)

    assert registry.join(MINE, rates) is coordinator
    registry.leave(MINE)
    await asyncio.sleep(0.2)
    assert asyncio.get_running_loop() not in registry._shared


async def test_a_session_that_comes_back_is_not_removed_by_the_old_timer() -> None:
    """The timer of a closed session does not remove the coordinator of a session that opened later, at other rates."""
    registry.join(MINE, Rates())
    registry.leave(MINE)

    other = registry.join(MINE, Rates(sms=100))
    await asyncio.sleep(5)

    assert registry.join(MINE, Rates(sms=100)) is other
    registry.leave(MINE)
    registry.leave(MINE)
    await asyncio.sleep(5)
    assert asyncio.get_running_loop() not in registry._shared


def test_loops_of_many_threads_share_the_table() -> None:
    """
    Event loops of many threads use the table of coordinators at the same time.

    Within a loop, sessions of one key find one coordinator, and no two loops find the same one.
    """
    unlimited = Rates(token=None, balance=None, sms=None)

    async def life() -> set[LocalCoordinator]:
        found = set()
        for _ in range(50):
            own = registry.join(MINE, unlimited)
            await asyncio.sleep(0)
            assert registry.join(MINE, unlimited) is own
            found.add(own)
            registry.leave(MINE)
            registry.leave(MINE)
            await asyncio.sleep(0)
        return found

    with ThreadPoolExecutor(8) as threads:
        lives = [threads.submit(lambda: [asyncio.run(life()) for _ in range(20)]) for _ in range(8)]

    found = [one for life in lives for one in life.result()]
    assert len(found) == 160
    assert len(set().union(*found)) == sum(map(len, found))
    registry._shared.clear()


async def test_sessions_of_one_key_must_agree_on_the_rates() -> None:
    """A second session of a key at other rates raises an error that names the rates in use."""
    registry.join(MINE, Rates())

    with pytest.raises(ConfigurationError, match="sms=30"):
        registry.join(MINE, Rates(sms=100))

    registry.leave(MINE)


def test_another_loop_has_another_coordinator_and_a_closed_loop_is_dropped() -> None:
    """Each event loop has its own coordinator, and a closed event loop is dropped, even if its session stayed open."""

    async def joined() -> LocalCoordinator:
        return registry.join(MINE, Rates())

    first, second = asyncio.run(joined()), asyncio.run(joined())

    assert first is not second
    assert len(registry._shared) == 1
    registry._shared.clear()


def test_the_table_holds_no_key() -> None:
    """The table of coordinators shows no API key, because its entries are named by a digest."""

    async def joined() -> str:
        registry.join(Identity.of("https://a", "https://a", "user", "S3CRET-KEY"), Rates())
        return repr(registry._shared)

    assert "S3CRET-KEY" not in asyncio.run(joined())
    registry._shared.clear()


def test_the_local_coordinator_is_a_coordinator() -> None:
    """`LocalCoordinator` implements the protocols that other coordinators are written against."""
    assert isinstance(LocalCoordinator(), Coordinator)
