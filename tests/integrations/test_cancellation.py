"""An operation on Redis or PostgreSQL that is cancelled at any step ends as cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
import psycopg
import pytest
import redis
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from pico_async import RedisSeenReceipts, SmsMessage
from pico_async.coordination.redis.client import ScriptClient
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.procrastinate import enqueue_bulk, setup
from tests.support.each_step import survived
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.lower_bounds


async def test_a_script_in_redis(redis_url: str) -> None:
    """
    A Redis script that is cancelled at any step ends as cancelled; otherwise a renewed lock could be held for ever.
    """
    async with Redis.from_url(redis_url, socket_timeout=PATIENCE_S) as client:
        scripts = ScriptClient(client, PATIENCE_S)

        assert await survived(lambda: scripts.run("token_lock", ["k:lock"], "renew", "me", 1000)) == []


async def test_a_script_in_a_redis_that_does_not_answer(redis_url: str) -> None:
    """A script that is cancelled while Redis does not answer ends as cancelled, not with an error of redis-py."""
    survived = []
    with redis.Redis.from_url(redis_url) as trouble:
        async with Redis.from_url(redis_url, socket_timeout=0.1) as client:
            for turns in range(1, 8):
                while not await answers(client):
                    pass
                trouble.client_pause(200)
                scripts = ScriptClient(client, PATIENCE_S)
                waiting = asyncio.ensure_future(scripts.run("token_lock", ["k:lock"], "renew", "me", 1000))
                for _ in range(turns):
                    await asyncio.sleep(0)
                in_time = waiting.cancel()
                await asyncio.wait([waiting], timeout=PATIENCE_S)
                if in_time and not waiting.cancelled():
                    survived.append(turns)
                trouble.client_unpause()

    assert survived == []


async def answers(client: Redis) -> bool:
    """Connect, unless the client is connected, and return whether Redis answered within the client's timeout."""
    try:
        return bool(await client.ping())
    except redis.TimeoutError:
        return False


async def test_a_receipt_s_turn(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A wait for a receipt's lock that is cancelled leaves the lock to the next caller, even if Redis had granted it
    already.
    """
    # A lock that was left behind is not waited for.
    monkeypatch.setattr("pico_async.receipts.redis_deduplication._LOCK_TTL_S", 3600)
    monkeypatch.setattr("pico_async.receipts.redis_deduplication.LOCK_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("pico_async.receipts.redis_deduplication._RELEASE_S", PATIENCE_S)
    async with RedisSeenReceipts.from_url(redis_url, timeout=PATIENCE_S) as store:

        async def take() -> None:
            async with store.lock("a-callback"):
                await store.get("a-callback")

        assert await survived(take) == []
        await take()


async def test_a_statement_whose_connection_was_lost_in_that_moment(database: str) -> None:
    """A statement that is cancelled as the pool lends it a dead connection is not tried again on another connection."""
    survived = []
    with psycopg.connect(database, autocommit=True) as trouble:
        async with AsyncConnectionPool(database, min_size=1, max_size=1, kwargs={"autocommit": True}) as pool:
            for turns in range(8):
                async with pool.connection() as only:
                    waiting = asyncio.ensure_future(Database(pool).fetch("SELECT 42", timeout_s=PATIENCE_S))
                    await somebody_waits(pool)
                    process = only.info.backend_pid
                # In these iterations of the event loop, the pool lends the connection to the waiting task.
                for _ in range(turns):
                    await asyncio.sleep(0)
                in_time = waiting.cancel()
                trouble.execute("SELECT pg_terminate_backend(%s)", (process,))
                await asyncio.wait([waiting], timeout=PATIENCE_S)
                if in_time and not waiting.cancelled():
                    survived.append(turns)
                await pool.check()

    assert survived == []


async def test_what_is_enqueued_by_who_was_cancelled(database: str) -> None:
    """
    When `enqueue_bulk` is cancelled as the pool lends its connection, nothing is in the queue; a message in it would be
    sent.
    """
    kept = []
    connector = procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=1)
    async with procrastinate.App(connector=connector).open_async() as app:
        await setup(app)
        for turns in range(6):
            async with connector.pool.connection():
                waiting = asyncio.ensure_future(enqueue_bulk(app, [SmsMessage("8612345678901", "x")]))
                await somebody_waits(connector.pool)
            # In these iterations of the event loop, the pool lends the connection to the waiting task.
            for _ in range(turns):
                await asyncio.sleep(0)
            in_time = waiting.cancel()
            await asyncio.wait([waiting], timeout=PATIENCE_S)
            assert waiting.cancelled() is in_time
            async with connector.pool.connection() as connection:
                if (await connection.execute("DELETE FROM pico_outbox")).rowcount and in_time:
                    kept.append(turns)

    assert kept == []


async def somebody_waits(pool: Any) -> None:
    """Wait until a task waits for a connection of the pool."""
    await until(lambda: pool.get_stats()["requests_waiting"], "a task waits for a connection")
