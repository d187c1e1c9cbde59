"""The Lua scripts keep a fleet's schedule, pauses, token and lock, on a real server with the clock of the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pico_async.coordination.redis.schedule import Reply
from tests.support.virtual_fleet import run_script

SECOND = 1_000_000
SPACING = 34_000
LOOKAHEAD = 200_000
RATE_GROUP = ("rate_group", "rate_group:members", "rate_group:about")


@pytest.fixture(scope="module")
def server(shared_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared_redis) as client:
        yield client


class Server:
    """
    A server whose clock moves only when a test moves it.

    Attributes:
        now: Its time in microseconds.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = 1_700_000_000 * SECOND

    def run(self, script: str, keys: tuple[str, ...], *arguments: object) -> Any:
        """Run a script at the time of the clock."""
        return run_script(self.client, script, keys, *arguments, now_us=self.now)

    def reserve(
        self, member: str = "one", wanted: int = 1, *, spacing: int = SPACING, invited: bool = False, alone: int = 0
    ) -> Reply:
        """Reserve slots for a bulk send."""
        about, held, interactive, promised, end, answer = "host:1 0", 0, 0, 0, 0, 0
        rest = (about, wanted, held, spacing, LOOKAHEAD, interactive, int(invited), promised, alone, end, answer)
        return Reply(*self.run("reserve", RATE_GROUP, member, *rest))

    def refuse(self, pause: int = SECOND) -> int:
        """Record a refusal and return its pause; the rate then falls to 0.8 for 30 s, and never below 0.2."""
        left: int = self.run("refuse", RATE_GROUP[:1], pause, 30 * SECOND, 0.8)
        return left

    def slowed_to(self) -> float:
        """Return the fraction of the rate that is left."""
        return SPACING / self.reserve().spacing_us


@pytest.fixture
def it(server: redis.Redis) -> Server:
    server.flushdb()
    server.hset(RATE_GROUP[0], mapping={"name": "S", "tat": 1_700_000_000 * SECOND, "last": 1_700_000_000 * SECOND})
    return Server(server)


@pytest.mark.parametrize("alone", [0, 3 * SECOND])
def test_without_a_schedule_all_members_wait(it: Server, alone: int) -> None:
    """Without a schedule, a member waits until slots that others may hold, or take by themselves, have passed."""
    it.client.flushdb()

    newcomer = it.reserve(alone=alone)
    it.now += newcomer.again_us
    invited = it.reserve(invited=True)

    assert newcomer.slots == 0
    assert invited.slots == 1
    assert newcomer.again_us + invited.first_us == max(4 * LOOKAHEAD + SPACING, alone)


def test_in_a_pause_there_is_no_slot(it: Server) -> None:
    """In a pause no slot is granted, and each member gets the time that is left; the first slot is at its end."""
    it.reserve()
    assert it.refuse(SECOND) == SECOND

    early = it.reserve()
    it.now += SECOND - LOOKAHEAD // 2
    near = it.reserve(invited=True)

    assert (early.slots, early.pause_us) == (0, SECOND)
    assert (near.slots, near.first_us, near.pause_us) == (1, LOOKAHEAD // 2, LOOKAHEAD // 2)


def test_refusals_in_one_pause_are_one_refusal(it: Server) -> None:
    """Refusals in one pause count as one; each later one slows the rate further, down to a fifth of it."""
    it.reserve()
    for _ in range(5):
        it.refuse()
    it.now += SECOND
    assert it.slowed_to() == pytest.approx(0.8, rel=1e-3)

    for times in range(2, 12):
        it.refuse()
        it.now += SECOND
        assert it.slowed_to() == pytest.approx(max(0.2, 0.8**times), rel=1e-3)


def test_after_thirty_seconds_the_rate_is_full_again(it: Server) -> None:
    """After 30 s without a refusal the rate is full again, and a later refusal takes a fifth of the full rate."""
    it.reserve()
    for _ in range(3):
        it.refuse()
        it.now += SECOND
    it.now += 30 * SECOND
    assert it.slowed_to() == 1.0

    it.refuse()
    it.now += SECOND

    assert it.slowed_to() == pytest.approx(0.8, rel=1e-3)


def test_a_step_back_of_the_clock_does_not_change_a_pause(it: Server) -> None:
    """If the clock steps back in a pause, the pause and the slower rate last as long as they would have."""
    it.reserve()
    it.refuse(2 * SECOND)

    it.now -= 3600 * SECOND
    stepped = it.reserve()
    it.now += 2 * SECOND
    slowed = it.slowed_to()
    it.now += 30 * SECOND

    assert stepped.pause_us == 2 * SECOND
    assert slowed == pytest.approx(0.8, rel=1e-3)
    assert it.slowed_to() == 1.0


def test_a_refusal_after_a_step_back_pauses_for_its_own_time(it: Server) -> None:
    """After the clock steps back, a refusal pauses for its own time: the next reservation shifts its end."""
    it.reserve()
    it.now -= 3600 * SECOND

    assert it.refuse(2 * SECOND) == 2 * SECOND
    assert it.reserve().pause_us == 2 * SECOND


def test_a_refusal_alone_expires(it: Server) -> None:
    """A refusal that no reservation follows expires one minute after its slower rate ends."""
    it.refuse()

    assert 60_000 < it.client.pttl(RATE_GROUP[0]) <= 91_000


def test_a_schedule_outlasts_its_end(it: Server) -> None:
    """A schedule that reaches far ahead is kept beyond its end; otherwise its slots would be granted twice."""
    it.reserve(spacing=1000 * SECOND)

    assert all(it.client.pttl(key) > 1_000_000 for key in RATE_GROUP)


def test_a_schedule_is_kept_for_a_day(it: Server) -> None:
    """A schedule is kept for a day, because without one the next reservation must wait."""
    it.reserve()

    assert it.client.pttl(RATE_GROUP[0]) > 86_000_000


def test_a_silent_member_leaves_its_slots_to_the_others(it: Server) -> None:
    """Two members share six slots; once one is silent for more than two seconds, the other gets all six."""
    it.reserve("other")
    it.now += SECOND
    assert it.reserve(wanted=6).slots == 3

    it.now += 2 * SECOND

    assert it.reserve(wanted=6).slots == 6
    assert it.client.zrange(RATE_GROUP[1], 0, -1) == [b"one"]
    assert it.client.hkeys(RATE_GROUP[2]) == [b"one"]


def test_a_member_that_waits_for_a_slot_is_not_silent(it: Server) -> None:
    """At one slot a second, four members stay members through four silent seconds, but not through 11."""
    for member in ("one", "two", "three", "four"):
        it.reserve(member, spacing=SECOND)
    it.now += 4 * SECOND
    it.reserve("one", spacing=SECOND)
    assert it.client.zcard(RATE_GROUP[1]) == 4

    it.now += 7 * SECOND
    it.reserve("one", spacing=SECOND)

    assert it.client.zcard(RATE_GROUP[1]) == 1


def test_a_lost_token_is_restored_and_a_discarded_one_is_not(it: Server) -> None:
    """
    A token that Redis lost is restored from a member's copy; a token that was discarded is not.

    Otherwise each process would fetch a token after a restart, or a token that Pico refused would come back.
    """
    trusted = 1000 * SECOND

    assert it.run("token_use", ("token",), trusted, "copy")[0] == b"copy"
    assert it.run("token_use", ("token",), trusted, "another")[0] == b"copy"
    it.run("token_put", ("token",), "discard", "copy", "", trusted)

    assert it.run("token_use", ("token",), trusted, "copy")[0] == b""


def test_slots_of_another_schedule_are_not_taken_back(it: Server) -> None:
    """Slots of a lost schedule cannot be returned, even if the new schedule ends at the same time."""
    mine = it.reserve(wanted=3)
    it.client.hset(RATE_GROUP[0], "name", "another")

    assert it.run("give_back", RATE_GROUP[:1], mine.schedule, mine.end_us, int(mine.end_us) - 3 * SPACING, 3) == 0
    assert it.client.hget(RATE_GROUP[0], "tat") == mine.end_us


def test_returned_slots_do_not_count_as_granted(it: Server) -> None:
    """Returned slots no longer count as granted, because `pico fleet status` computes the rate from that count."""
    mine = it.reserve(wanted=3)
    it.run("give_back", RATE_GROUP[:1], mine.schedule, mine.end_us, int(mine.end_us) - 2 * SPACING, 2)

    assert it.client.hget(RATE_GROUP[0], "granted") == b"1"


def test_an_idle_token_is_not_trusted_and_a_used_one_is(it: Server) -> None:
    """Each use keeps a token trusted for another 18 minutes; an idle token is not returned, even if still stored."""
    trusted = 1080 * SECOND
    it.run("token_put", ("token",), "keep", "t", "", trusted)

    it.now += trusted - 1
    assert it.run("token_use", ("token",), trusted, "")[0] == b"t"
    it.now += trusted - 1
    assert it.run("token_use", ("token",), trusted, "")[0] == b"t"
    it.now += trusted

    assert it.run("token_use", ("token",), trusted, "")[0] == b""


def test_a_lock_is_its_holder_s_and_expires(it: Server) -> None:
    """No other process takes, renews or releases a lock; the lock expires, and its holder may take it twice."""
    hour_ms, other_ms = 3_600_000, 9_000_000
    assert it.run("token_lock", ("lock",), "take", "one", hour_ms) == 1

    for what in ("take", "renew", "release"):
        assert it.run("token_lock", ("lock",), what, "other", other_ms) == 0
    assert 0 < it.client.pttl("lock") <= hour_ms
    assert it.run("token_lock", ("lock",), "take", "one", hour_ms) == 1, "asked twice, for an answer was lost"
    assert it.run("token_lock", ("lock",), "release", "one", hour_ms) == 1
    assert it.client.exists("lock") == 0
