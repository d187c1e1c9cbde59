"""What another program writes to a fleet's keys in Redis lifts no limit and causes no endless wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from pico_async import Identity, NotSentError, Priority, RedisCoordinator
from pico_async.coordination.rates import MAX_PAUSE_S, PAUSE_S, SLOWED_FOR_S, SLOWED_TO, SLOWEST, RateGroup
from pico_async.coordination.redis.reservation import LOOKAHEAD_S
from pico_async.coordination.redis.schedule import Reply
from pico_async.coordination.redis.status import read_fleets
from tests.support.fleet_schedule import begin_schedules
from tests.support.virtual_fleet import densest, run_script
from tests.support.waiting import PATIENCE_S

SECOND = 1_000_000
SPACING = 34_500
LOOKAHEAD = round(LOOKAHEAD_S * SECOND)
NOW = 1_700_000_000 * SECOND
RATE_GROUP = ("rate_group", "rate_group:members", "rate_group:about")
# The furthest that a fleet's slots lie ahead.
FURTHEST = 4 * LOOKAHEAD + SPACING
API_KEY = "S3CRET-KEY"
ME = Identity.of("Pico", "https://rest.picotw.com", "user333", API_KEY)

HOSTILE = [
    *("", "nan", "-nan", "inf", "-inf", "x", "-1", "0", "1000", "1e308", "0x7fffffff", "9" * 16, "9" * 19, "9" * 400),
    *(b"\xff\xfe", "1 2", "-9223372036854775808", "9223372036854775807"),
    *(str(NOW + seconds * SECOND) for seconds in (-3600, -1, 120, 3600, 10**9)),
]
FIELDS = ("name", "tat", "last", "bulk", "single", "resume", "recover", "slowed_to", "announced", "granted", "spacing")


@pytest.fixture(scope="module")
def client(shared_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared_redis) as client:
        yield client


def run(client: redis.Redis, script: str, keys: tuple[str, ...], *arguments: object, now: int = NOW) -> Any:
    return run_script(client, script, keys, *arguments, now_us=now)


def reserve(client: redis.Redis, member: str, now: int, *, invited: bool, promised: int = 0) -> Reply:
    """Reserve slots as a member of a fleet that sends in bulk."""
    rest = ("host:1 0", 64, 0, SPACING, LOOKAHEAD, 0, int(invited), promised, 0, 0, 0)
    return Reply(*run(client, "reserve", RATE_GROUP, member, *rest, now=now))


def fleet_for(
    client: redis.Redis, seconds: float, begin: int, members: tuple[str, ...] = ("one", "other")
) -> list[int]:
    """Run members that ask for slots as often as they may, and return the times of all slots."""
    now, slots = begin, []
    ask_at = dict.fromkeys(members, begin)
    invited = dict.fromkeys(members, False)
    while now < begin + seconds * SECOND:
        for member in members:
            if ask_at[member] > now:
                continue
            answer = reserve(client, member, now, invited=invited[member])
            invited[member] = not answer.slots
            ask_at[member] = now + (answer.again_us or 50_000)
            slots += [now + answer.first_us + number * answer.spacing_us for number in range(answer.slots)]
        now += 10_000
    return slots


@pytest.fixture(scope="module")
def begun(client: redis.Redis) -> tuple[list[int], dict[str, bytes]]:
    """Reserve slots as a fleet for three seconds, and return their times and the content of Redis after that."""
    client.flushdb()
    slots = fleet_for(client, 3.0, NOW)
    return slots, {key: client.dump(key) for key in RATE_GROUP}


@pytest.fixture
def before(client: redis.Redis, begun: tuple[list[int], dict[str, bytes]]) -> list[int]:
    """Put a fleet into Redis that has asked for slots for three seconds, and return their moments."""
    slots, content = begun
    client.flushdb()
    for key, dumped in content.items():
        client.restore(key, 0, dumped)
    return slots


def seconds(slots: list[int]) -> list[float]:
    return [at / SECOND for at in sorted(slots)]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_schedule_with_one_wrong_number_is_kept_or_reset(
    client: redis.Redis, before: list[int], field: str, value: str | bytes
) -> None:
    """Whatever one field of a schedule holds, no second has more than 30 slots, and the next slot is seconds away."""
    client.hset(RATE_GROUP[0], field, value)

    after = fleet_for(client, 3.0, NOW + 3 * SECOND)

    assert densest(seconds(before + after)) <= 30
    assert len(after) >= 30


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_an_impossible_slowdown_is_discarded(client: redis.Redis, before: list[int], value: str | bytes) -> None:
    """While a fleet goes slower after a refusal, no value of the fraction lifts its rate or stops it."""
    client.hset(RATE_GROUP[0], mapping={"slowed_to": value, "recover": NOW + 20 * SECOND})

    after = fleet_for(client, 20.0, NOW + 3 * SECOND)

    assert densest(seconds(before + after)) <= 30
    assert len(after) >= 100


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("field", ["tat", "resume", "announced"])
def test_a_plausible_time_is_over_within_a_minute(client: redis.Redis, field: str) -> None:
    """A schedule or a pause that ends within a minute is kept, because it may be true; then slots are granted again."""
    client.hset(RATE_GROUP[0], field, NOW + 50 * SECOND)

    after = fleet_for(client, 60.0, NOW + 3 * SECOND)

    assert densest(seconds(after)) <= 30
    assert max(after) > NOW + 50 * SECOND


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_missing_lifts_no_limit(client: redis.Redis, before: list[int], field: str) -> None:
    """Whatever field of a schedule is deleted, no second has more than 30 slots."""
    client.hdel(RATE_GROUP[0], field)

    assert densest(seconds(before + fleet_for(client, 3.0, NOW + 3 * SECOND))) <= 30


@pytest.mark.usefixtures("before")
def test_the_slowdown_of_a_refusal_is_kept(client: redis.Redis) -> None:
    """The longest pause and the slowest pace that refusals can lead to are kept, and nothing is discarded."""
    now = NOW + 3 * SECOND
    for _ in range(10):
        pause = round(MAX_PAUSE_S * SECOND)
        assert run(client, "refuse", RATE_GROUP[:1], pause, round(SLOWED_FOR_S * SECOND), SLOWED_TO, now=now) == pause
        assert reserve(client, "one", now, invited=False).pause_us == pause
        now += pause

    answer = reserve(client, "one", now, invited=True)

    assert (answer.discarded, answer.spacing_us) == (0, round(SPACING / SLOWEST))


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("field", ["last", "resume", "recover", "slowed_to"])
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_refusal_pauses_for_as_long_as_it_says(client: redis.Redis, field: str, value: str | bytes) -> None:
    """Whatever a schedule holds, a refusal pauses for its own time and slows by a fifth, for a minute at the most."""
    client.hset(RATE_GROUP[0], field, value)
    now = NOW + 4 * SECOND

    paused = run(
        client, "refuse", RATE_GROUP[:1], round(PAUSE_S * SECOND), round(SLOWED_FOR_S * SECOND), SLOWED_TO, now=now
    )

    assert PAUSE_S * SECOND <= paused <= MAX_PAUSE_S * SECOND
    after = reserve(client, "one", now + paused, invited=True)
    assert SPACING <= after.spacing_us <= SPACING / SLOWEST + 1
    assert client.pttl(RATE_GROUP[0]) < 2 * 86_400_000


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_slots_can_be_returned_despite_a_wrong_count(client: redis.Redis, value: str | bytes) -> None:
    """Slots can be returned although the count of granted slots holds no number."""
    now = NOW + 4 * SECOND
    mine = reserve(client, "one", now, invited=True)
    client.hset(RATE_GROUP[0], "granted", value)

    given = run(client, "give_back", RATE_GROUP[:1], mine.schedule, mine.end_us, int(mine.end_us) - SPACING, 1, now=now)

    assert given == 1
    assert reserve(client, "one", now, invited=True).discarded == 0


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("score", ["+inf", NOW + 10**12, "-inf", -1])
def test_members_that_are_no_process_are_dropped(client: redis.Redis, score: Any) -> None:
    """Entries among the members that are no process are dropped, also those with a time in the future."""
    client.zadd(RATE_GROUP[1], {f"nobody-{number}": score for number in range(50)})

    fleet_for(client, 3.0, NOW + 3 * SECOND)

    assert client.zrange(RATE_GROUP[1], 0, -1) == [b"one", b"other"]


@pytest.mark.parametrize("left_ms", [None, 3_600_000])
def test_a_lock_without_an_expiry_gets_one(client: redis.Redis, left_ms: int | None) -> None:
    """A token lock without an expiry, or with a longer one than any holder sets, expires as one of a dead holder."""
    client.flushdb()
    client.set("lock", "nobody", px=left_ms)

    assert run(client, "token_lock", ("lock",), "take", "me", 5000) == 0

    assert 0 < client.pttl("lock") <= 5000


@pytest.mark.parametrize("field", ["value", "generation", "used", "fetched"])
@pytest.mark.parametrize("value", [*HOSTILE, "a\r\nb", "a b", "\x00", "ü", b"\x80abc"], ids=repr)
def test_a_token_can_be_replaced_whatever_its_key_holds(client: redis.Redis, field: str, value: str | bytes) -> None:
    """Whatever the token's key holds, a token that no header can hold is never returned, and a new one is kept."""
    client.flushdb()
    trusted = 1080 * SECOND
    run(client, "token_put", ("token",), "keep", "t", "", trusted)
    client.hset("token", field, value)

    found, generation = run(client, "token_use", ("token",), trusted, "")
    run(client, "token_put", ("token",), "discard", found, "", trusted)
    run(client, "token_put", ("token",), "keep", "new", generation, trusted)

    assert all(33 <= character <= 126 for character in found)
    assert run(client, "token_use", ("token",), trusted, "")[0] == b"new"


@asynccontextmanager
async def joined(url: str, **settings: Any) -> AsyncIterator[RedisCoordinator]:
    coordinator = RedisCoordinator.from_url(url, timeout=PATIENCE_S, **settings)
    coordinator.join(ME)
    try:
        yield coordinator
    finally:
        await coordinator.leave()


async def test_a_warning_names_the_key_of_discarded_values(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning names the key whose content was discarded, and a logging filter that raises stops nothing."""
    key = f"pico:{{{ME.limiter}}}:pace:sms"
    with redis.Redis.from_url(redis_url) as client:
        client.hset(key, mapping={"name": "S", "tat": 0, "last": 0, "resume": "9" * 18})

    def fail(record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the app")

    logger = logging.getLogger("pico_async.fleet")
    async with joined(redis_url) as coordinator:
        async with asyncio.timeout(PATIENCE_S):
            await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        with redis.Redis.from_url(redis_url) as client:
            client.hset(key, "slowed_to", "1000")
        logger.addFilter(fail)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        finally:
            logger.removeFilter(fail)

    assert "Does another program write" in caplog.text
    assert key in caplog.text


async def test_a_lost_schedule_is_logged_once(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A schedule that Redis lost is logged, with what may be the cause, and not each time."""
    async with joined(redis_url) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        assert "lost" not in caplog.text
        for _ in range(2):
            with redis.Redis.from_url(redis_url) as client:
                client.flushdb()
            async with asyncio.timeout(PATIENCE_S):
                await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)

    assert caplog.text.count("Redis lost the schedule of sms") == 1
    assert "noeviction" in caplog.text


async def test_a_long_wait_is_logged_with_its_key(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A wait of many seconds is logged once, with the key to look at."""
    key = f"pico:{{{ME.limiter}}}:pace:sms"
    with redis.Redis.from_url(redis_url) as client:
        begin_schedules(client, API_KEY)
    async with joined(redis_url) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        with redis.Redis.from_url(redis_url) as client:
            client.hset(key, "tat", int(client.hget(key, "last") or 0) + 50 * SECOND)
        waiting = asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
        async with asyncio.timeout(PATIENCE_S):
            while "Redis allows no request of sms for" not in caplog.text:
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])

    assert key in caplog.text


@pytest.mark.parametrize("suffix", ["", ":members", ":about"])
async def test_a_key_of_another_type_is_named(redis_url: str, suffix: str) -> None:
    """A key of another type ends a wait with an error that names the key."""
    key = f"pico:{{{ME.limiter}}}:pace:sms{suffix}"
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(key, "something else")

    async with joined(redis_url) as coordinator:
        with pytest.raises(NotSentError, match="Delete that key") as raised:
            await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)

    assert key in str(raised.value)


async def test_a_token_key_of_another_type_does_not_stop_the_limiter(redis_url: str) -> None:
    """A token's key of another type ends in an error that names it, and slots are granted all the same."""
    with redis.Redis.from_url(redis_url) as client:
        begin_schedules(client, API_KEY)
        client.rpush(f"pico:{{{ME.limiter}}}:token:{ME.token}", "something else")

    async with joined(redis_url) as coordinator:
        with pytest.raises(NotSentError, match="Delete that key"):
            await coordinator.token.current()
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)


async def test_a_lock_that_is_held_for_ever_has_an_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits too long for another one's token fetch raises an error that names the lock."""
    monkeypatch.setattr("pico_async.coordination.redis.token_store.LONGEST_FETCH_S", 0.3)
    async with joined(redis_url) as holder, joined(redis_url) as other, holder.token.refreshing():
        with pytest.raises(NotSentError, match=":lock"):
            async with other.token.refreshing():
                pass


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
async def test_the_status_can_be_read_from_any_values(client: redis.Redis, redis_url: str, value: str | bytes) -> None:
    """`read_fleets` reads a fleet whose keys hold foreign values, because its output helps to find them."""
    rate_group, token = f"pico:{{{ME.limiter}}}:pace:sms", f"pico:{{{ME.limiter}}}:token:{ME.token}"
    client.hset(rate_group, mapping=dict.fromkeys(FIELDS, value))
    client.zadd(f"{rate_group}:members", {"me": "+inf", "other": -1, "third": NOW})
    client.hset(
        f"{rate_group}:about", mapping={"me": value, "other": f"host:1 {'9' * 30} 1 1", "third": "host:1 1 1 1"}
    )
    client.hset(token, mapping={"value": value, "fetched": value, "used": value})
    client.set(f"{token}:lock", b"\xff")

    async with redis.asyncio.Redis.from_url(redis_url) as reader:
        (fleet,) = await read_fleets(reader, over_s=0.01)

    assert [member.name for rate_group in fleet.rate_groups for member in rate_group.members] in ([], ["host:1"])
