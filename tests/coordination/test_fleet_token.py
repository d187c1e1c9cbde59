"""The fleet's token where Redis says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pico_async.coordination.fleet_token import FleetTokenStore


class SilentLink:
    """Gives a token once, and then no answer at all."""

    timeout_s = 1.0
    fault = None

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        self.asked += 1
        if self.asked > 1:
            await asyncio.Event().wait()
        return ["t", "1"]


async def test_who_goes_on_alone_has_nobody_wait_for_a_silent_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have their turns would leave in a bunch, and more than 30 in a second with those of the next one."""
    monkeypatch.setattr("pico_async.coordination.fleet_token.CHECKED_FOR_S", 0.0)
    monkeypatch.setattr("pico_async.coordination.fleet_token.TRUSTED_FOR_S", 0.0)
    link = SilentLink()
    store = FleetTokenStore(link, lambda: "token", member="me", alone=True)
    assert await store.current() == "t"

    async with asyncio.timeout(5):
        assert await store.current() == "t"
        await asyncio.sleep(0)

    assert link.asked == 2, "and looks in the background"
    await store.aclose()
