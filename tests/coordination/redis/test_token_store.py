"""A process reads the fleet's token in Redis from time to time, and trusts its own copy in between."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define

from pico_async.coordination.redis.token_store import RedisTokenStore

pytestmark = pytest.mark.virtual_time


@define
class Server:
    """
    A stand-in for Redis that holds a token and grants every request for its lock.

    Attributes:
        answers: How many reads are answered; later ones never are.
        reads: How many reads came.
    """

    token: str
    answers: float = float("inf")
    timeout_s: float = 1.0
    fault: str | None = None
    reads: int = 0

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        if script == "token_lock":
            return 1
        self.reads += 1
        if self.reads > self.answers:
            await asyncio.Event().wait()
        return [self.token, "1"]


def store_on(server: Server, *, alone: bool = False) -> RedisTokenStore:
    return RedisTokenStore(server, lambda: "token", member="me", alone=alone)


async def test_one_check_serves_all_callers_within_a_second() -> None:
    """One read of the token in Redis serves every request of the process within a second."""
    server = Server("t")
    store = store_on(server)

    tokens = await asyncio.gather(*(store.current() for _ in range(100)))
    for _ in range(100):
        tokens.append(await store.current())
        await asyncio.sleep(0)

    assert set(tokens) == {"t"}
    assert server.reads == 1
    await store.aclose()


async def test_an_old_copy_is_not_used_before_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is too old is not used until Redis was read again: another process may have replaced the token."""
    monkeypatch.setattr("pico_async.coordination.redis.token_store.CHECKED_FOR_S", 0.0)
    monkeypatch.setattr("pico_async.coordination.redis.token_store.TRUSTED_FOR_S", 0.0)
    server = Server("old")
    store = store_on(server)
    assert await store.current() == "old"

    server.token = "new"

    assert await store.current() == "new"
    await store.aclose()


async def test_the_lock_s_holder_checks_first_whether_another_process_has_fetched() -> None:
    """A process that gets the lock reads Redis before it fetches: another may have fetched while it waited."""
    server = Server("")
    store = store_on(server)
    assert await store.current() is None

    server.token = "fetched by another"

    async with store.refreshing():
        assert await store.current() == "fetched by another"
    await store.aclose()


async def test_with_a_fallback_share_no_caller_waits_for_a_silent_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With a fallback share, a process uses its own copy while Redis is silent, and reads Redis in the background.

    Requests that waited for Redis with their slots would otherwise leave in one burst.
    """
    monkeypatch.setattr("pico_async.coordination.redis.token_store.CHECKED_FOR_S", 0.0)
    monkeypatch.setattr("pico_async.coordination.redis.token_store.TRUSTED_FOR_S", 0.0)
    server = Server("t", answers=1)
    store = store_on(server, alone=True)
    assert await store.current() == "t"

    async with asyncio.timeout(5):
        assert await store.current() == "t"
        await asyncio.sleep(0)

    assert server.reads == 2, "Redis is read in the background"
    await store.aclose()


@pytest.mark.parametrize("what", ["keep", "discard"])
async def test_the_traceback_of_a_cancelled_call_shows_no_token(what: str) -> None:
    """The traceback of a cancelled `keep` or `discard` has no token in its locals, which some error reports print."""
    store = store_on(Server("S3CRET", answers=0))

    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0.05):
            await getattr(store, what)("S3CRET")

    cancelled = raised.value.__cause__
    assert cancelled is not None
    frames = [frame for frame, _ in traceback.walk_tb(cancelled.__traceback__) if "test_" not in frame.f_code.co_name]
    assert any(frame.f_code.co_name == what for frame in frames)
    assert not [frame for frame in frames if "S3CRET" in repr(frame.f_locals)]
    before = asyncio.all_tasks()
    await store.aclose()
    assert len(asyncio.all_tasks()) < len(before)


async def test_a_store_shows_its_live_state() -> None:
    """The repr of a token store shows which token it knows and whether it fetches, and never the token."""
    store = store_on(Server("S3CRET"))
    before = repr(store)
    await store.current()
    async with store.refreshing():
        fetching = repr(store)

    assert before == "<RedisTokenStore no token known>"
    assert fetching == "<RedisTokenStore token 1, fetching another>"
    await store.aclose()
