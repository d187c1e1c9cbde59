"""One process of a fleet uses, drops and returns its slots, and reports to Redis how long it may send alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field

from pico_async.coordination.protocols import Priority
from pico_async.coordination.redis.client import RedisUnavailableError
from pico_async.coordination.redis.limiter import Answer, Member, RedisLimiter

pytestmark = pytest.mark.virtual_time

SPACING_US = 20_000


@define
class Server:
    """
    A stand-in for Redis that grants every slot and fails every other script.

    Attributes:
        away: Whether every call fails.
        first_us: When the first slot is, from now.
        answers: How many requests for slots are answered; later ones never are.
        asked: The arguments of each request for slots.
        given_back: The number of slots in each return.
        spacing_us: The spacing of another member.
    """

    away: bool = False
    first_us: int = 0
    answers: float = float("inf")
    timeout_s: float = 1.0
    fault: str | None = None
    spacing_us: int = 0
    asked: list[tuple[object, ...]] = field(factory=list)
    given_back: list[object] = field(factory=list)

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        if script == "give_back":
            self.given_back.append(arguments[3])
        if script != "reserve" or self.away:
            raise RedisUnavailableError("it does not answer")
        self.asked.append(arguments)
        if len(self.asked) > self.answers:
            await asyncio.Event().wait()
        unslowed_us = max(self.spacing_us, int(str(arguments[4])))
        now_us, slots = round(asyncio.get_running_loop().time() * 1e6), int(str(arguments[2]))
        end_in_us = self.first_us + slots * SPACING_US
        return Answer(
            slots, self.first_us, SPACING_US, 0, 0, end_in_us, "S", now_us, str(now_us + end_in_us), 0, unslowed_us
        )


def pace_on(server: Server) -> RedisLimiter:
    return RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"))


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_is_refused_uses_none_of_the_slots_that_it_holds() -> None:
    """A process that was refused uses none of its slots during the pause, even if Redis cannot record the refusal."""
    # During the pause, the process asks again after each answer, because it may use none of the slots.
    pace = pace_on(Server(answers=50))
    waiting = [asyncio.create_task(pace.acquire(Priority.BULK)) for _ in range(5)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    await pace.pause(60.0)
    before = sum(task.done() for task in waiting)
    await asyncio.sleep(0.2)

    assert before < len(waiting)
    assert sum(task.done() for task in waiting) == before
    await cancelled(*waiting)
    await pace.abort()


@pytest.mark.parametrize(("share", "least_us"), [(None, 0), (0.25, 3_000_000)])
async def test_redis_is_told_for_how_long_others_may_be_alone(share: float | None, least_us: int) -> None:
    """A request for slots includes how long others may use a fallback share, so that a newcomer waits for them, too."""
    server = Server()
    pace = RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"), share=share)

    await pace.acquire(Priority.INTERACTIVE)

    assert least_us <= int(str(server.asked[0][9])) <= 2 * least_us
    await pace.aclose()


async def test_a_process_that_goes_on_alone_tells_its_own_pace() -> None:
    """While Redis is away, `per_s` is the rate of the fallback share; after that, it is the fleet's rate again."""
    server = Server(away=True)
    pace = RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"), share=0.5)
    before = pace.per_s

    await pace.acquire(Priority.INTERACTIVE)
    alone = pace.per_s
    server.away = False
    waiting = [asyncio.create_task(pace.acquire(Priority.BULK)) for _ in range(40)]
    while not server.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    assert before == pytest.approx(28.99, abs=0.01)
    assert alone == pytest.approx(before / 2, rel=0.05)
    assert pace.per_s == before
    await cancelled(*waiting)
    await pace.aclose()


async def test_a_turn_that_is_given_to_who_is_cancelled_is_the_next_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A slot whose caller is cancelled at the moment of the grant goes to the next caller.

    Redis grants no other slot here.
    """
    monkeypatch.setattr("pico_async.coordination.redis.limiter.LATE_S", 5.0)
    pace = pace_on(Server(answers=1))
    give = pace._line.serve

    def give_and_cancel(slot: float) -> bool:
        given = give(slot)
        if given:
            first.cancel()
        return given

    monkeypatch.setattr(pace._line, "serve", give_and_cancel)
    first = asyncio.create_task(pace.acquire(Priority.INTERACTIVE))
    while not pace._asking:
        await asyncio.sleep(0)
    second = asyncio.create_task(pace.acquire(Priority.INTERACTIVE))

    async with asyncio.timeout(5):
        await second

    assert first.cancelled()
    await pace.abort()


async def test_a_slot_that_comes_back_in_a_pause_is_granted_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot whose caller is cancelled after a refusal is dropped, because no request may be sent in the pause."""
    monkeypatch.setattr("pico_async.coordination.redis.limiter.LATE_S", 5.0)
    pace, granted_at = pace_on(Server(answers=0)), asyncio.get_running_loop().time()
    waiting = asyncio.create_task(pace.acquire(Priority.INTERACTIVE))
    await asyncio.sleep(0)

    pace._pause_until(granted_at + 60.0)
    pace._put_back(granted_at)
    for _ in range(10):
        await asyncio.sleep(0)

    assert not waiting.done()
    await cancelled(waiting)
    await pace.abort()


async def test_only_slots_of_the_newest_grant_are_given_back() -> None:
    """Only slots of the newest grant are returned; older ones are dropped: others may have reserved after them."""
    server = Server(first_us=60_000_000)
    pace = pace_on(server)
    waiting = [asyncio.create_task(pace.acquire(Priority.INTERACTIVE))]
    while not pace._slots:
        await asyncio.sleep(0)
    waiting += [asyncio.create_task(pace.acquire(Priority.INTERACTIVE)) for _ in range(2)]
    while len(pace._slots) < 3:
        await asyncio.sleep(0)

    await cancelled(*waiting)
    await pace.aclose()

    assert [asked[2] for asked in server.asked] == [1, 2]
    assert server.given_back == [2]


async def test_where_another_process_has_a_lower_rate_both_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """A process that the fleet makes slower logs both rates once, and again only after the fleet's rate has changed."""
    server = Server(spacing_us=100_000)
    pace = pace_on(server)
    own = pace.per_s

    for _ in range(3):
        await pace.acquire(Priority.INTERACTIVE)
    slower = pace.per_s
    server.spacing_us = 0
    await pace.acquire(Priority.INTERACTIVE)

    (told,) = [record.getMessage() for record in caplog.records]
    assert "rate of rate_group is 10 a second in this fleet, and not 28.99" in told
    assert (slower, pace.per_s) == (10, own)
    await pace.aclose()


async def test_a_share_is_one_of_the_lowest_rate() -> None:
    """While Redis is away, a process uses its share of the fleet's rate, and not of its own higher one."""
    server = Server(spacing_us=100_000)
    pace = RedisLimiter(300, server, "rate_group", member=Member(id="me", about="host:1"), share=0.5)

    await pace.acquire(Priority.INTERACTIVE)
    server.away = True
    await pace.acquire(Priority.INTERACTIVE)

    assert pace.per_s == pytest.approx(5, rel=0.05)
    await pace.aclose()
