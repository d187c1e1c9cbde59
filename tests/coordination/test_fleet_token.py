"""When a process looks at the fleet's token in Redis, and when it trusts its copy."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define

from pico_async.coordination.fleet_token import FleetTokenStore


@define
class Server:
    """
    Has a token, and gives each who asks the right to fetch one.

    Attributes:
        answers: How often it answers; then there is silence.
        looks: How often it was looked at.
    """

    token: str
    answers: float = float("inf")
    timeout_s: float = 1.0
    fault: str | None = None
    looks: int = 0

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        if script == "token_lock":
            return 1
        self.looks += 1
        if self.looks > self.answers:
            await asyncio.Event().wait()
        return [self.token, "1"]


def store_on(server: Server, *, alone: bool = False) -> FleetTokenStore:
    return FleetTokenStore(server, lambda: "token", member="me", alone=alone)


async def test_one_look_serves_all_who_ask_within_a_second() -> None:
    """However fast it sends, a process asks Redis once a second."""
    server = Server("t")
    store = store_on(server)

    tokens = await asyncio.gather(*(store.current() for _ in range(100)))
    for _ in range(100):
        tokens.append(await store.current())
        await asyncio.sleep(0)

    assert set(tokens) == {"t"}
    assert server.looks == 1
    await store.aclose()


async def test_a_copy_of_long_ago_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have replaced the token: after a minute of silence it is looked for first."""
    monkeypatch.setattr("pico_async.coordination.fleet_token.CHECKED_FOR_S", 0.0)
    monkeypatch.setattr("pico_async.coordination.fleet_token.TRUSTED_FOR_S", 0.0)
    server = Server("old")
    store = store_on(server)
    assert await store.current() == "old"

    server.token = "new"

    assert await store.current() == "new"
    await store.aclose()


async def test_who_may_fetch_looks_first_whether_another_has_fetched() -> None:
    """Also where it has just seen that there was none: that was before it waited for the right."""
    server = Server("")
    store = store_on(server)
    assert await store.current() is None

    server.token = "fetched by another"

    async with store.refreshing():
        assert await store.current() == "fetched by another"
    await store.aclose()


async def test_who_goes_on_alone_has_nobody_wait_for_a_silent_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have their turns would leave in a bunch, and more than 30 in a second with those of the next one."""
    monkeypatch.setattr("pico_async.coordination.fleet_token.CHECKED_FOR_S", 0.0)
    monkeypatch.setattr("pico_async.coordination.fleet_token.TRUSTED_FOR_S", 0.0)
    server = Server("t", answers=1)
    store = store_on(server, alone=True)
    assert await store.current() == "t"

    async with asyncio.timeout(5):
        assert await store.current() == "t"
        await asyncio.sleep(0)

    assert server.looks == 2, "and looks in the background"
    await store.aclose()


@pytest.mark.parametrize("what", ["keep", "discard"])
async def test_who_is_cancelled_meanwhile_shows_no_token(what: str) -> None:
    """A timeout of the caller's own is reported with tracebacks, and some reporters print locals."""
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
