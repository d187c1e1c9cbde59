"""What is cancelled ends cancelled, at whichever step of its way to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from pico_async import RedisReceiptMemory
from pico_async.coordination.redis_link import RedisLink
from tests.each_step import survived
from tests.valkey_server import empty_redis


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with empty_redis() as url:
        yield url


async def test_a_script_in_redis(redis_url: str) -> None:
    """What renews a lock until it is cancelled would else hold it for ever."""
    async with Redis.from_url(redis_url, socket_timeout=1.0) as client:
        link = RedisLink(client, 1.0)

        assert await survived(lambda: link.run("token_lock", ["k:lock"], "renew", "me", 1000)) == []


async def test_a_receipt_s_turn(redis_url: str) -> None:
    """And whoever was cancelled leaves it to the next one, even where Redis had given it already."""
    async with RedisReceiptMemory.from_url(redis_url) as memory:

        async def take() -> None:
            async with memory.turn("a-callback"):
                await memory.get("a-callback")

        assert await survived(take) == []
        async with asyncio.timeout(1):
            await take()
