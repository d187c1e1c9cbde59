"""One process of a fleet uses, drops and returns its slots, and reports to Redis how long it may send alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field

from pico_async.coordination.protocols import Priority
from pico_async.coordination.redis.client import RedisUnavailableError
from pico_async.coordination.redis.limiter import RedisLimiter
from pico_async.coordination.redis.schedule import Member, Reply
from pico_async.errors import NotSentError

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
        return Reply(
            slots, self.first_us, SPACING_US, 0, 0, end_in_us, "S", now_us, str(now_us + end_in_us), 0, unslowed_us
        )


def limiter_on(server: Server) -> RedisLimiter:
    return RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"))


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_after_a_refusal_no_reserved_slot_is_used() -> None:
    """A process that was refused uses none of its slots during the pause, even if Redis cannot record the refusal."""
    # During the pause, the process asks again after each answer, because it may use none of the slots.
    limiter = limiter_on(Server(answers=50))
    waiting = [asyncio.create_task(limiter.acquire(Priority.BULK)) for _ in range(5)]
    granted, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    await granted.pop().result().refused(60.0)
    before = sum(task.done() for task in waiting)
    await asyncio.sleep(0.2)

    assert before < len(waiting)
    assert sum(task.done() for task in waiting) == before
    await cancelled(*waiting)
    await limiter.abort()


@pytest.mark.parametrize(("share", "least_us"), [(None, 0), (0.25, 3_000_000)])
async def test_a_request_says_how_long_others_may_use_fallback_slots(share: float | None, least_us: int) -> None:
    """A request for slots includes how long others may use a fallback share, so that a newcomer waits for them, too."""
    server = Server()
    limiter = RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"), share=share)

    await limiter.acquire(Priority.INTERACTIVE)

    assert least_us <= int(str(server.asked[0][9])) <= 2 * least_us
    await limiter.aclose()


async def test_while_redis_is_away_the_rate_is_that_of_the_fallback_share() -> None:
    """While Redis is away, `per_s` is the rate of the fallback share; after that, it is the fleet's rate again."""
    server = Server(away=True)
    limiter = RedisLimiter(30, server, "rate_group", member=Member(id="me", about="host:1"), share=0.5)
    before = limiter.per_s

    await limiter.acquire(Priority.INTERACTIVE)
    alone = limiter.per_s
    server.away = False
    waiting = [asyncio.create_task(limiter.acquire(Priority.BULK)) for _ in range(40)]
    while not server.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    assert before == pytest.approx(28.99, abs=0.01)
    assert alone == pytest.approx(before / 2, rel=0.05)
    assert limiter.per_s == before
    await cancelled(*waiting)
    await limiter.aclose()


async def test_a_slot_granted_to_a_cancelled_caller_goes_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A slot whose caller is cancelled at the moment of the grant goes to the next caller.

    Redis grants no other slot here.
    """
    monkeypatch.setattr("pico_async.coordination.redis.limiter.LATE_S", 5.0)
    limiter = limiter_on(Server(answers=1))
    serve = limiter._queue.serve

    def serve_and_cancel(slot: float) -> bool:
        served = serve(slot)
        if served:
            first.cancel()
        return served

    monkeypatch.setattr(limiter._queue, "serve", serve_and_cancel)
    first = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    while not limiter._reserving:
        await asyncio.sleep(0)
    second = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))

    async with asyncio.timeout(5):
        await second

    assert first.cancelled()
    await limiter.abort()


async def test_only_slots_of_the_newest_reservation_are_returned() -> None:
    """Only slots of the newest grant are returned; older ones are dropped: others may have reserved after them."""
    server = Server(first_us=60_000_000)
    limiter = limiter_on(server)
    waiting = [asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))]
    while not limiter._slots:
        await asyncio.sleep(0)
    waiting += [asyncio.create_task(limiter.acquire(Priority.INTERACTIVE)) for _ in range(2)]
    while len(limiter._slots) < 3:
        await asyncio.sleep(0)

    await cancelled(*waiting)
    await limiter.aclose()

    assert [asked[2] for asked in server.asked] == [1, 2]
    assert server.given_back == [2]


async def test_a_lower_rate_of_another_process_is_logged_with_both_rates(caplog: pytest.LogCaptureFixture) -> None:
    """A process that the fleet makes slower logs both rates once, and again only after the fleet's rate has changed."""
    server = Server(spacing_us=100_000)
    limiter = limiter_on(server)
    own = limiter.per_s

    for _ in range(3):
        await limiter.acquire(Priority.INTERACTIVE)
    slower = limiter.per_s
    server.spacing_us = 0
    await limiter.acquire(Priority.INTERACTIVE)

    (logged,) = [record.getMessage() for record in caplog.records]
    assert "rate of rate_group is 10 a second in this fleet, and not 28.99" in logged
    assert (slower, limiter.per_s) == (10, own)
    await limiter.aclose()


async def test_a_fallback_share_is_a_part_of_the_lowest_rate() -> None:
    """While Redis is away, a process uses its share of the fleet's rate, and not of its own higher one."""
    server = Server(spacing_us=100_000)
    limiter = RedisLimiter(300, server, "rate_group", member=Member(id="me", about="host:1"), share=0.5)

    await limiter.acquire(Priority.INTERACTIVE)
    server.away = True
    await limiter.acquire(Priority.INTERACTIVE)

    assert limiter.per_s == pytest.approx(5, rel=0.05)
    await limiter.aclose()


async def test_a_late_slot_is_renewed_ahead_of_all_waiting_requests() -> None:
    """A slot that was not used in time is renewed by the next slot, before requests of every priority."""
    limiter = limiter_on(Server())
    slot = await limiter.acquire(Priority.BULK)
    granted_at, order = slot.granted_at, []
    waiting = [asyncio.create_task(limiter.acquire(priority)) for priority in (Priority.INTERACTIVE, Priority.BULK)]
    for task in waiting:
        task.add_done_callback(lambda _: order.append("acquired"))

    renewing = asyncio.create_task(slot.renew())
    renewing.add_done_callback(lambda _: order.append("renewed"))
    await asyncio.wait([renewing, *waiting])

    assert renewing.result() is True
    assert order == ["renewed", *["acquired"] * len(waiting)]
    assert slot.granted_at > granted_at
    await limiter.aclose()


async def test_a_late_slot_stays_good_at_one_slot_per_second() -> None:
    """At one slot a second or less, a renewed slot is the same slot, and no request to Redis is made for it."""
    server = Server(spacing_us=1_000_000)
    limiter = limiter_on(server)
    slot = await limiter.acquire(Priority.INTERACTIVE)
    granted_at, asked = slot.granted_at, len(server.asked)
    await asyncio.sleep(5)

    is_another = await slot.renew()

    assert not is_another
    assert slot.granted_at > granted_at + 4.9
    assert len(server.asked) == asked
    await limiter.aclose()


async def test_a_released_slot_goes_to_the_next_request() -> None:
    """A slot that was released at once is granted to the next request. Redis grants no other slot here."""
    limiter = limiter_on(Server(answers=1))
    slot = await limiter.acquire(Priority.INTERACTIVE)

    slot.release()
    async with asyncio.timeout(5):
        other = await limiter.acquire(Priority.INTERACTIVE)

    assert other.due_at == slot.due_at
    await limiter.abort()


async def test_a_slot_that_is_released_in_a_pause_is_dropped() -> None:
    """A slot that is released after a refusal is dropped, because no request may be sent in the pause."""
    limiter = limiter_on(Server(answers=1))
    slot = await limiter.acquire(Priority.INTERACTIVE)
    await limiter.pause(60.0)

    slot.release()
    waiting = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    await asyncio.sleep(0.1)

    assert not waiting.done()
    await cancelled(waiting)
    await limiter.abort()


async def test_a_limiter_shows_its_live_state() -> None:
    """The repr of a limiter shows its rate, the waiting requests, the reserved slots, and whether Redis is away."""
    server = Server(first_us=60_000_000)
    limiter = limiter_on(server)
    waiting = [asyncio.create_task(limiter.acquire(Priority.INTERACTIVE)) for _ in range(2)]
    while len(limiter._slots) < 2:
        await asyncio.sleep(0)
    reserved = repr(limiter)
    await cancelled(*waiting)
    await limiter.aclose()
    server.away = True
    with pytest.raises(NotSentError):
        await limiter.acquire(Priority.INTERACTIVE)

    assert reserved == "<RedisLimiter rate_group 28.99/s, 2 waiting, 2 reserved>"
    assert repr(limiter).endswith("0 waiting, 0 reserved, Redis is away: it does not answer>")
    await limiter.abort()
