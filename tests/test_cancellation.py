"""A send that is cancelled at any step ends as cancelled."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from pico_async import AiohttpTransport, Outcome, PicoSession, Rates, RedisCoordinator, SmsMessage
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.send_once import send_once
from pico_async.sandbox import Sandbox
from tests.support.each_step import survived
from tests.support.waiting import PATIENCE_S

TO = "8612345678901"


@pytest.mark.parametrize("transport", ["httpx", "aiohttp", "fleet"])
async def test_a_send(transport: str, redis_url: str) -> None:
    """
    A single send, a bulk send or a balance request that is cancelled at any step ends as cancelled. This holds for both
    HTTP transports and with Redis.
    """
    sandbox = Sandbox(rate_rule=None)
    coordinator = (
        RedisCoordinator.from_url(redis_url, rates=Rates(sms=2_000), timeout=PATIENCE_S)
        if transport == "fleet"
        else None
    )

    async with (
        sandbox.serve() as base_url,
        PicoSession(
            username=sandbox.username,
            api_key=sandbox.api_key,
            sender="8612345678888",
            base_url=base_url,
            rates=None if coordinator else Rates(sms=None, token=None, balance=None),
            coordinator=coordinator,
            transport=AiohttpTransport() if transport == "aiohttp" else None,
        ) as pico,
    ):
        for begin in (
            lambda: pico.sms.send(TO, "Your code is 1234"),
            lambda: pico.send_bulk([SmsMessage(TO, "Your code is 1234")] * 3),
            lambda: pico.balance.get(),
        ):
            assert await survived(begin) == []


@pytest.mark.lower_bounds
async def test_a_send_that_a_ledger_in_postgres_remembers(database: str) -> None:
    """
    A cancelled `send_once` ends as cancelled.

    The ledger has each message that Pico accepted as accepted or in doubt, so no second delivery sends one twice.
    """
    sandbox = Sandbox(rate_rule=None)
    begun: list[SmsMessage] = []

    def begin() -> Awaitable[object]:
        number = len(begun)
        begun.append(SmsMessage(f"8612345678{number:03}", "x", key=f"order-{number}"))
        return send_once(pico, begun[-1], ledger=ledger)

    async with (
        PostgresLedger(database, under_way_s=0) as ledger,
        PicoSession(
            username=sandbox.username, api_key=sandbox.api_key, sender="PICO", transport=sandbox.transport()
        ) as pico,
    ):
        await ledger.setup()
        assert await survived(begin, most=200) == []
        # Where the database is slow, none of them came as far as Pico.
        await begin()
        arrived = {message.to for message in sandbox.ledger.accepted}
        again = {message.to: await send_once(pico, message, ledger=ledger) for message in begun}

    assert arrived
    assert {again[to].outcome for to in arrived} <= {Outcome.SKIPPED, Outcome.IN_DOUBT}
    assert sandbox.ledger.duplicates() == {}
