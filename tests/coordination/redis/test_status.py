"""The fleet status is computed from made-up snapshots of Redis, without a server or a clock."""

from __future__ import annotations

from typing import Any

import pytest

from pico_async.coordination.redis.status import RedisKey, Snapshot

SECOND = 1e6
NOW = 1_000 * SECOND
SMS = RedisKey("pico:{f}:pace:sms", "f", "pace", "sms")
TOKEN = RedisKey("pico:{f}:token:t", "f", "token", "t")
# 20 slots a second, of which the next ten are reserved.
SCHEDULE = {"granted": 100.0, "tat": NOW + 0.5 * SECOND, "spacing": 0.05 * SECOND}
EARLIER = {"granted": 75.0, "tat": NOW - 0.75 * SECOND, "spacing": 0.05 * SECOND}


def snapshot(schedule: dict[str, float], *, at: float = NOW, **parts: Any) -> Snapshot:
    """Make a snapshot of one rate group and one token."""
    return Snapshot(
        at=at,
        schedules={SMS: schedule},
        members={SMS: parts.get("members", {})},
        tokens={TOKEN: parts.get("token", (None, None, False))},
        locks={TOKEN: parts["lock"]} if "lock" in parts else {},
    )


def about(waiting: int, reserved: int, until_s: float) -> str:
    """Return what a member reports about itself to Redis."""
    return f"web-1:42 {waiting} {reserved} {NOW + until_s * SECOND:.0f}"


def test_slots_that_are_reserved_ahead_do_not_count_for_the_rate() -> None:
    """The rate counts slots that fell due, not slots reserved ahead; otherwise it would jump with every call."""
    before = snapshot(EARLIER, at=NOW - SECOND)

    rate_group = snapshot(SCHEDULE).rate_group(SMS, before)

    # 25 slots were granted in that second. Ten lie ahead now, five lay ahead before.
    assert rate_group.per_s == pytest.approx(25 - 10 + 5)
    assert rate_group.allowed_per_s == pytest.approx(20)
    assert rate_group.ahead_s == pytest.approx(0.5)


def test_the_rate_of_a_lost_schedule_is_zero_and_not_negative() -> None:
    """After Redis lost its schedule and counts from 0 again, the reported rate is 0 and not negative."""
    before = snapshot(SCHEDULE | {"granted": 9000.0}, at=NOW - SECOND)

    assert snapshot(SCHEDULE).rate_group(SMS, before).per_s == 0


def test_a_refusal_shows_as_a_pause_then_a_lower_rate() -> None:
    """After a refusal, the status shows how long the pause and the slower rate last; slots in the pause are void."""
    refused = {"resume": NOW + 2 * SECOND, "recover": NOW + 32 * SECOND, "slowed_to": 0.8}
    members = {"m": (NOW - 5 * SECOND, about(7, 4, 0.3))}

    rate_group = snapshot(SCHEDULE | refused, members=members).rate_group(SMS, snapshot(EARLIER, at=NOW - SECOND))

    assert (rate_group.paused_s, rate_group.slowed_s, rate_group.slowed_to) == (2, 32, 0.8)
    assert rate_group.allowed_per_s == pytest.approx(16)
    (member,) = rate_group.members
    assert (member.silent, member.waiting, member.reserved) == (False, 7, 0)


def test_a_slowdown_that_is_over_is_not_shown() -> None:
    """A slowdown that is over is not shown, although Redis still stores it."""
    over = {"resume": NOW - 40 * SECOND, "recover": NOW - SECOND, "slowed_to": 0.8}

    rate_group = snapshot(SCHEDULE | over).rate_group(SMS, snapshot(EARLIER, at=NOW - SECOND))

    assert (rate_group.paused_s, rate_group.slowed_s, rate_group.slowed_to) == (0, 0, 1)
    assert rate_group.allowed_per_s == pytest.approx(20)


@pytest.mark.parametrize(
    ("asked_ago_s", "said", "seen"),
    [
        pytest.param(0.1, about(9, 4, 0.2), (False, 9, 4, 0.2), id="holds four"),
        pytest.param(0.5, about(9, 4, -0.1), (False, 5, 0, 0), id="its four went"),
        pytest.param(0.5, about(1, 1, -0.1), (False, 0, 0, 0), id="a single send that went"),
        pytest.param(0.1, about(9, 4, 0.9), (False, 9, 4, 0.5), id="gave back what lay behind the schedule"),
        pytest.param(0.1, about(9, 0, 0.2), (False, 9, 0, 0), id="holds none"),
        pytest.param(2.1, about(9, 0, -5), (True, 0, 0, 0), id="silent"),
    ],
)
def test_a_member_is_shown_as_last_reported_without_passed_slots(
    asked_ago_s: float, said: str, seen: tuple[bool, int, int, float]
) -> None:
    """A member is shown as it last reported, without slots that have passed; after about two seconds it is silent."""
    rate_group = snapshot(SCHEDULE, members={"m": (NOW - asked_ago_s * SECOND, said)}).rate_group(
        SMS, snapshot(EARLIER, at=NOW - SECOND)
    )

    (member,) = rate_group.members
    assert member.name == "web-1:42"
    assert member.asked_ago_s == pytest.approx(asked_ago_s)
    assert (member.silent, member.waiting, member.reserved, pytest.approx(member.reserved_for_s)) == seen
    assert rate_group.waiting == seen[1]


def test_a_host_name_may_contain_blanks() -> None:
    """A host name with spaces is shown in full, for a member and for the process that fetches a token."""
    members = {"m": (NOW, f"Ann's new laptop:42 3 0 {NOW:.0f}")}
    here = snapshot(SCHEDULE, members=members, lock="m")

    (member,) = here.rate_group(SMS, snapshot(EARLIER, at=NOW - SECOND)).members

    assert (member.name, member.waiting) == ("Ann's new laptop:42", 3)
    assert here.token(TOKEN).fetched_by == "Ann's new laptop:42"


def test_a_token_is_shown_by_its_age_and_its_last_use() -> None:
    """The status of a token shows its age, its last use, and the name or ID of a process that fetches another."""
    token = (NOW - 240 * SECOND, NOW - 3 * SECOND, True)
    members = {"m": (NOW, about(0, 0, 0))}

    idle = snapshot(SCHEDULE, token=token).token(TOKEN)
    fetched = snapshot(SCHEDULE, token=token, lock="m", members=members).token(TOKEN)
    unknown = snapshot(SCHEDULE, token=token, lock="m").token(TOKEN)

    assert (idle.there, idle.age_s, idle.unused_s, idle.fetched_by) == (True, 240, 3, None)
    assert fetched.fetched_by == "web-1:42"
    assert unknown.fetched_by == "m"


def test_a_token_that_pico_refused_has_no_age() -> None:
    """A token that Pico refused has no age and no last use, although Redis still stores both times."""
    gone = snapshot(SCHEDULE, token=(NOW - SECOND, NOW, False)).token(TOKEN)

    assert (gone.there, gone.age_s, gone.unused_s) == (False, None, None)
