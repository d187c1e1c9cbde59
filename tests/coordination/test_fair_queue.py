"""A queue grants its permits by priority, then in the order of arrival, and loses none to a cancelled waiter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pico_async.coordination.fair_queue import FairQueue

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def place(queue: FairQueue, priority: int = 0) -> AsyncIterator[bool]:
    waited = await queue.acquire(priority)
    try:
        yield waited
    finally:
        queue.release()


async def stand(queue: FairQueue, name: str, served: list[str], priority: int = 0) -> None:
    async with place(queue, priority):
        served.append(name)
        await asyncio.sleep(0)


async def test_equals_are_served_first_come_first_served() -> None:
    """Callers of one priority are served in the order of arrival, even if all arrive in one tick."""
    queue, served = FairQueue(), []

    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(stand(queue, name, served))

    assert served == list("abcde")


async def test_a_newcomer_does_not_overtake_whoever_is_about_to_wake() -> None:
    """A newcomer does not overtake a waiter that is about to wake, because the permit passes straight to the waiter."""
    queue, served = FairQueue(), []

    async def newcomer() -> None:
        async with place(queue):
            waiting = asyncio.create_task(stand(queue, "waited", served))
            await asyncio.sleep(0)
        await stand(queue, "newcomer", served)
        await waiting

    await newcomer()

    assert served == ["waited", "newcomer"]


async def test_priority_goes_before_arrival() -> None:
    """The lower priority number is served first, however late its caller arrives."""
    queue, served = FairQueue(), []

    async with asyncio.TaskGroup() as tasks:
        async with place(queue):
            for name, priority in (("bulk 1", 1), ("bulk 2", 1), ("single", 0)):
                tasks.create_task(stand(queue, name, served, priority))
            await asyncio.sleep(0)

    assert served == ["single", "bulk 1", "bulk 2"]


async def test_a_cancelled_waiter_gives_its_place_back() -> None:
    """A cancelled waiter is skipped, and the waiters behind it are served as if it had never waited."""
    queue, served = FairQueue(), []

    async with place(queue):
        waiting = [asyncio.create_task(stand(queue, name, served)) for name in "abc"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)

    assert served == ["b", "c"]


async def test_a_turn_that_comes_with_the_cancellation_is_passed_on() -> None:
    """A permit that is granted in the tick in which its waiter is cancelled passes on to the next waiter."""
    queue, served = FairQueue(), []

    async with place(queue):
        first = asyncio.create_task(stand(queue, "first", served))
        second = asyncio.create_task(stand(queue, "second", served))
        await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(first, second, return_exceptions=True)
        await stand(queue, "third", served)

    assert served == ["second", "third"]


async def test_cancelled_waiters_are_dropped_while_the_permit_is_held() -> None:
    """The queue drops cancelled waiters while the permit is held, and keeps the order of the others."""
    queue, served = FairQueue(), []

    async with place(queue):
        waiting = [asyncio.create_task(stand(queue, str(number), served)) for number in range(1000)]
        await asyncio.sleep(0)
        for task in waiting[3:]:
            task.cancel()
        await asyncio.gather(*waiting[3:], return_exceptions=True)
        assert len(queue._line._waiting) < 200
    await asyncio.gather(*waiting[:3])

    assert served == ["0", "1", "2"]


async def test_no_more_hold_a_place_than_there_are() -> None:
    """With three permits, a fourth caller waits until one is released; the result shows which callers had to wait."""
    queue = FairQueue(3)
    at_once = [await queue.acquire(0) for _ in range(3)]

    fourth = asyncio.create_task(queue.acquire(0))
    await asyncio.sleep(0)
    assert not fourth.done()
    queue.release()

    assert await fourth
    assert not any(at_once)


async def test_a_place_that_nobody_waits_for_is_free_again() -> None:
    """A released permit that no caller waits for is free again, and the number of permits does not grow."""
    queue = FairQueue(2)

    for _ in range(5):
        await queue.acquire(0)
        queue.release()

    assert [await queue.acquire(0) for _ in range(2)] == [False, False]
    third = asyncio.create_task(queue.acquire(0))
    await asyncio.sleep(0)
    assert not third.done()
    third.cancel()
