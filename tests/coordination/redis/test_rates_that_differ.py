"""If processes of one API key have different rates, the lowest holds for all, until no process asks with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from pico_async.coordination.rates import spacing_s
from pico_async.coordination.redis.reservation import LOOKAHEAD_S
from pico_async.coordination.redis.schedule import Reply
from tests.support.virtual_fleet import densest, run_script

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
RATE_GROUP = ("rate_group", "rate_group:members", "rate_group:about")


@pytest.fixture
def fleet(shared_redis: str) -> Iterator[Fleet]:
    with redis.Redis.from_url(shared_redis) as client:
        client.flushdb()
        yield Fleet(client)


class Fleet:
    """
    Members that send in bulk, each at its own rate, on a server whose clock the test sets.

    Attributes:
        now: The server's time in microseconds.
        slots: The moments of all slots so far.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = NOW
        self.slots: list[int] = []

    def reserve(self, rate: float, *, invited: bool = False) -> Reply:
        """Reserve slots for a member of this rate."""
        spacing = round(spacing_s(rate) * SECOND)
        arguments = (
            f"of-{rate}",
            "host:1 0",
            500,
            0,
            spacing,
            round(LOOKAHEAD_S * SECOND),
            0,
            int(invited),
            0,
            0,
            0,
            0,
        )
        answer = Reply(*run_script(self.client, "reserve", RATE_GROUP, *arguments, now_us=self.now))
        self.slots += [self.now + answer.first_us + number * answer.spacing_us for number in range(answer.slots)]
        return answer

    def ask_each_second(self, seconds: int, *rates: float) -> None:
        """Ask once in each second as members of these rates."""
        for _ in range(seconds):
            self.now += SECOND
            for rate in rates:
                self.reserve(rate)

    def blast(self, seconds: float, *rates: float) -> int:
        """Ask as often as members of these rates may, and return the most of their slots in a second."""
        end, before = self.now + seconds * SECOND, len(self.slots)
        ask_at, invited = dict.fromkeys(rates, self.now), dict.fromkeys(rates, False)
        while self.now < end:
            for rate in rates:
                if ask_at[rate] <= self.now:
                    answer = self.reserve(rate, invited=invited[rate])
                    invited[rate] = not answer.slots
                    ask_at[rate] = self.now + (answer.again_us or 50_000)
            self.now += 10_000
        return densest([at / SECOND for at in sorted(self.slots[before:])])


@pytest.mark.parametrize("rates", [(30, 300), (300, 30), (300, 30, 100), (0.5, 30)])
def test_the_lowest_rate_holds(fleet: Fleet, rates: tuple[float, ...]) -> None:
    """Members with different rates together get no more slots in a second than the lowest rate allows."""
    assert fleet.blast(10.0, *rates) <= max(1, min(rates))
    assert len(fleet.slots) >= 8 * min(rates)


def test_a_lower_rate_that_comes_later_holds_from_then_on(fleet: Fleet) -> None:
    """A member with a lower rate that joins slows the others: first at once, then for a minute after it has gone."""
    assert fleet.blast(3.0, 300) > 200
    fleet.blast(1.0, 30, 300)

    assert fleet.blast(3.0, 30, 300) <= 30
    assert fleet.blast(55.0, 300) <= 30


def test_a_rolling_deploy_raises_the_rate(fleet: Fleet) -> None:
    """The higher rate holds for all a minute after the last member with the lower one has asked."""
    fleet.blast(3.0, 30, 300)

    fleet.ask_each_second(61, 300, 301)

    assert fleet.blast(3.0, 300, 301) > 250


def test_a_rolling_deploy_lowers_the_rate(fleet: Fleet) -> None:
    """The lower rate holds for all as soon as the first member asks with it."""
    fleet.blast(3.0, 300)

    answer = fleet.reserve(20)

    assert answer.unslowed_us == round(spacing_s(20) * SECOND)


def test_each_of_several_lower_rates_is_known(fleet: Fleet) -> None:
    """When the lowest rate no longer holds, the second lowest does, without a second in between."""
    fleet.blast(3.0, 10)
    fleet.ask_each_second(62, 20)

    assert fleet.blast(3.0, 300, 20) <= 20


@pytest.mark.parametrize("seconds", [-3600, -5])
def test_a_step_back_of_the_clock_lifts_no_rate(fleet: Fleet, seconds: int) -> None:
    """When the server's clock steps back, the lower rate still holds, and for no longer than a minute."""
    fleet.blast(3.0, 30, 300)
    fleet.now += seconds * SECOND

    assert fleet.blast(50.0, 300) <= 30
    fleet.ask_each_second(11, 300)
    assert fleet.blast(3.0, 300) > 250


@pytest.mark.parametrize(
    "rates",
    [
        "",
        "nan@1",
        "x",
        b"\xff",
        "-1@5",
        f"0@{NOW}",
        f"{'9' * 40}@{NOW}",
        f"34500@{'9' * 40} ",
        f"34500@-{NOW}",
        "5@" * 999,
    ],
    ids=repr,
)
def test_a_foreign_value_as_rate_slows_no_member_for_long(fleet: Fleet, rates: str | bytes) -> None:
    """Rates in Redis that no process has written slow no member, or at most for a minute if they could be true."""
    fleet.blast(1.0, 300)
    fleet.client.hset(RATE_GROUP[0], "rates", rates)

    fleet.ask_each_second(61, 300)

    assert fleet.blast(3.0, 300) > 250
    assert len(fleet.client.hget(RATE_GROUP[0], "rates") or b"") < 50
