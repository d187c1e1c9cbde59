"""Processes that share a real Redis server share one rate and one token."""

from __future__ import annotations

import asyncio
import copy
import pickle
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import trustme
from redis.asyncio import Redis

from pico_async import (
    ConfigurationError,
    Coordinator,
    Identity,
    NotSentError,
    PicoSession,
    Priority,
    Rates,
    RedisCoordinator,
)
from pico_async.coordination.rates import RateGroup
from pico_async.coordination.redis.client import RedisUnavailableError, ScriptClient
from pico_async.coordination.redis.schedule import ScheduleReply
from pico_async.sandbox import Sandbox
from tests.support.far_away import Network, relaying
from tests.support.fleet_schedule import begin_schedules
from tests.support.ports import free_port
from tests.support.valkey_server import ValkeyServer, valkey_server
from tests.support.waiting import PATIENCE_S, until

API_KEY = Sandbox().api_key
ME = Identity.of("Pico", "https://rest.picotw.com", Sandbox().username, API_KEY)


@pytest.fixture
def url(redis_url: str) -> str:
    """Return the address of a Redis that holds nothing but schedules of the fleet."""
    with redis.Redis.from_url(redis_url) as client:
        begin_schedules(client, API_KEY)
    return redis_url


@asynccontextmanager
async def joined(url: str, identity: Identity = ME, **settings: Any) -> AsyncIterator[RedisCoordinator]:
    coordinator = made(url, **settings)
    coordinator.join(identity)
    try:
        yield coordinator
    finally:
        await coordinator.leave()


def made(url: str, **settings: Any) -> RedisCoordinator:
    """Make a coordinator that waits as long for Redis as a busy machine needs."""
    return RedisCoordinator.from_url(url, **{"timeout": PATIENCE_S} | settings)


def session(coordinator: Coordinator, sandbox: Sandbox, **settings: Any) -> PicoSession:
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        coordinator=coordinator,
        **settings,
    )


async def hold(coordinator: RedisCoordinator) -> None:
    """Take the lock of the token and release it."""
    async with coordinator.token.refreshing():
        pass


def content(url: str) -> dict[str, str]:
    """Return everything that is in Redis, as text."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        read = {"hash": client.hgetall, "zset": lambda key: client.zrange(key, 0, -1), "string": client.get}
        return {key: str(read[client.type(key)](key)) for key in client.keys("*")}


def schedule(url: str, rate_group: RateGroup = RateGroup.SMS) -> int:
    """Return the end of a rate group's schedule in Redis."""
    with redis.Redis.from_url(url) as client:
        return int(client.hget(f"pico:{{{ME.limiter}}}:pace:{rate_group}", "tat") or 0)


async def test_sessions_of_two_coordinators_share_a_schedule_and_a_token(redis_url: str) -> None:
    """Two coordinators on one Redis fetch one token between them, and the schedule of their rate lies in Redis."""
    sandbox = Sandbox()
    coordinator = made(redis_url)

    async with session(coordinator, sandbox) as pico:
        accepted = await pico.sms.send("8612345678901", "Your code is 1234")
        async with session(made(redis_url), sandbox) as other:
            await other.sms.send("8612345678902", "Your code is 5678")

    assert accepted.request_id
    assert len(sandbox.ledger.accepted) == 2
    assert sandbox.ledger.token_requests == 1
    assert {key.rpartition(":")[2] for key in content(redis_url)} >= {"sms", "token"}


async def test_redis_holds_no_key_no_account_and_no_message(url: str) -> None:
    """Redis holds no API key, account, number or text, only digests; the token itself is stored in one key."""
    sandbox = Sandbox(api_key="S3CRET-API-KEY-1O1IQxPv53888888")
    with redis.Redis.from_url(url) as client:
        begin_schedules(client, sandbox.api_key)

    async with session(made(url), sandbox) as pico:
        await pico.sms.send("8612345678901", "Your code is 123456", key="order-17")

    held = content(url)
    for secret in ("S3CRET", "1O1IQxPv", "user333", "8612345678901", "123456", "order-17", "8612345678888"):
        assert not [key for key, value in held.items() if secret in key or secret in value]
    tokens = [key for key, value in held.items() if "value" in value]
    assert len(tokens) == 1
    assert ":token:" in tokens[0]


async def test_everything_in_redis_expires(url: str) -> None:
    """Every key in Redis expires after about a day at most, so a fleet that is gone leaves nothing behind."""
    async with session(made(url), Sandbox()) as pico:
        await pico.sms.send("8612345678901", "Your code is 1234")

    with redis.Redis.from_url(url) as client:
        assert client.keys("*")
        assert [key for key in client.keys("*") if not 0 < client.pttl(key) <= 24 * 3600 * 1000 + 60_000] == []


async def test_the_last_session_closes_all_connections_and_tasks(url: str) -> None:
    """A shared coordinator closes its connections and tasks with its last session, and opens again for a new one."""
    sandbox = Sandbox()
    coordinator = made(url, client_name="of-this-test")
    before = asyncio.all_tasks()

    async with session(coordinator, sandbox) as first:
        async with session(coordinator, sandbox) as second:
            await second.sms.send("8612345678901", "Your code is 1234")
        await first.sms.send("8612345678901", "Your code is 5678")
        assert connections(url, "of-this-test") > 0
    assert asyncio.all_tasks() == before
    await no_connection(url, "of-this-test")
    async with session(coordinator, sandbox) as third:
        await third.sms.send("8612345678901", "Your code is 9012")

    await no_connection(url, "of-this-test")
    assert len(sandbox.ledger.accepted) == 3


async def test_a_session_that_is_cancelled_while_it_closes_leaves_nothing_open(url: str) -> None:
    """A session that is cancelled while it closes still closes its connections and tasks."""
    coordinator = made(url, client_name="of-this-test")
    before = asyncio.all_tasks()

    with anyio.CancelScope() as scope:
        async with session(coordinator, Sandbox()) as pico:
            await pico.sms.send("8612345678901", "Your code is 1234")
            scope.cancel()

    assert asyncio.all_tasks() == before
    await no_connection(url, "of-this-test")


async def no_connection(url: str, name: str) -> None:
    """Wait until the server no longer lists a connection of this name."""
    await until(lambda: not connections(url, name), "the connections are closed")


def connections(url: str, name: str) -> int:
    with redis.Redis.from_url(url) as client:
        return sum(1 for one in client.client_list() if one["name"] == name)


async def test_a_session_that_opens_while_the_last_one_closes_keeps_the_connection(url: str) -> None:
    """A session that opens while the last one closes keeps its connection to Redis."""
    coordinator = made(url, client_name="of-this-test")
    coordinator.join(ME)
    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)

    leaving = asyncio.create_task(coordinator.leave())
    await asyncio.sleep(0)
    coordinator.join(ME)
    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
    await leaving

    assert connections(url, "of-this-test") > 0
    await coordinator.leave()
    await no_connection(url, "of-this-test")


async def test_callers_that_wait_when_a_coordinator_closes_get_their_slots(url: str) -> None:
    """Callers that wait when the coordinator closes still get their slots."""
    async with joined(url, rates=Rates(sms=20)) as coordinator:
        waiting = [asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)) for _ in range(4)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await coordinator.aclose()

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waiting)


async def test_processes_that_were_forked_are_members_of_their_own(url: str) -> None:
    """Copies of one coordinator, as forked workers hold them, are separate members of the fleet."""
    original = made(url)
    workers = [copy.copy(original), copy.copy(original)]

    for worker in workers:
        worker.join(ME)

    await all_members(url, *workers)
    for worker in workers:
        await worker.leave()


async def test_a_client_of_the_callers_own_stays_open(url: str) -> None:
    """A Redis client that the caller passes in stays open, and it may decode responses by itself."""
    client = Redis.from_url(url, decode_responses=True)

    async with session(RedisCoordinator(client, timeout=PATIENCE_S), Sandbox()) as pico:
        await pico.sms.send("8612345678901", "Your code is 1234")

    assert await client.ping()
    await client.aclose()


@pytest.fixture
def far_ahead(monkeypatch: pytest.MonkeyPatch) -> Rates:
    """Return a rate with slots that are reserved minutes ahead, so that a busy machine changes nothing in a test."""
    for module in ("reservation", "schedule"):
        monkeypatch.setattr(f"pico_async.coordination.redis.{module}.LOOKAHEAD_S", 1000.0)
    # On a busy machine the first slot could otherwise pass unused, and the next one is minutes away.
    monkeypatch.setattr("pico_async.coordination.redis.limiter.FLEET_LATE_S", 5.0)
    monkeypatch.setattr("pico_async.coordination.redis.clock.FLEET_LATE_S", 5.0)
    return Rates(sms=0.01)


async def test_a_cancelled_caller_returns_its_newest_slot(url: str, far_ahead: Rates) -> None:
    """A cancelled caller returns its newest slot, so that the next caller finds the schedule as it was."""
    async with joined(url, rates=far_ahead) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        before = schedule(url)

        waiting = asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
        await reserved(url, before)
        await cancelled(waiting)
        while schedule(url) != before:
            await asyncio.sleep(0.01)


async def test_a_caller_that_is_cancelled_before_the_reply_returns_its_slot(url: str, far_ahead: Rates) -> None:
    """A caller that is cancelled before Redis answers returns the slot that the answer brings."""
    async with joined(url, rates=far_ahead) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        before, tasks = schedule(url), asyncio.all_tasks()

        waiting = asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
        while not asyncio.all_tasks() - tasks - {waiting}:
            await asyncio.sleep(0)
        await cancelled(waiting)
        while asyncio.all_tasks() - tasks:
            await asyncio.sleep(0.01)

        assert schedule(url) == before


async def test_a_member_that_knew_of_returned_slots_gets_them(url: str) -> None:
    """A schedule that got shorter by returned slots is not taken for a lost one: another member gets slots at once."""
    async with Redis.from_url(url) as client:
        scripts = ScriptClient(client, PATIENCE_S)
        rate_group = f"pico:{{{ME.limiter}}}:pace:sms"

        async def reserve(member: str, *, invited: bool = False, promised_us: int = 0) -> ScheduleReply:
            # In hours, so that a busy machine changes nothing.
            settings = ("about 0", 6, 0, 34_333_000_000, 200_000_000_000, 0, int(invited), promised_us, 0, 0, 0)
            return ScheduleReply(
                *await scripts.run(
                    "reserve", [rate_group, f"{rate_group}:members", f"{rate_group}:about"], member, *settings
                )
            )

        held = await reserve("one")
        refused = await reserve("other")
        begin = int(held.end_us) - held.slots * held.spacing_us
        await scripts.run("give_back", [rate_group], held.schedule, held.end_us, begin, held.slots)
        found = await reserve("other", invited=True, promised_us=refused.end_in_us)

    assert (held.slots, refused.slots) == (6, 0)
    assert found.slots > 0


async def test_a_slot_before_another_reservation_is_not_returned(url: str, far_ahead: Rates) -> None:
    """A slot is not returned once another process has reserved after it; otherwise it would be granted twice."""
    async with joined(url, rates=far_ahead) as coordinator, joined(url, rates=far_ahead) as other:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        before = schedule(url)
        waiting = asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
        between = await reserved(url, before)
        behind = asyncio.create_task(other.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
        end = await reserved(url, between)

        await cancelled(waiting)
        await coordinator.leave()
        coordinator.join(ME)

        assert before < between < end == schedule(url)
        await cancelled(behind)


async def test_a_process_that_leaves_returns_unused_slots(url: str, far_ahead: Rates) -> None:
    """A process that leaves returns unused slots, so that the next process need not wait for them."""
    async with joined(url, rates=far_ahead) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)
        before = schedule(url)
        waiting = [asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)) for _ in range(3)]
        await reserved(url, before)
        await cancelled(*waiting)

    assert schedule(url) == before


async def test_a_process_that_leaves_is_no_longer_a_member(url: str) -> None:
    """A process that leaves is no longer a member, so the shares of the others grow at once."""
    async with joined(url) as other:
        async with joined(url) as coordinator:
            await all_members(url, coordinator, other)
        assert members(url) == 1
    assert members(url) == 0


def members(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.zcard(f"pico:{{{ME.limiter}}}:pace:sms:members"))


async def all_members(url: str, *coordinators: RedisCoordinator) -> None:
    """Take slots until all coordinators are members at once: one that is silent for two seconds is dropped."""
    async with asyncio.timeout(PATIENCE_S):
        while members(url) != len(coordinators):
            await asyncio.gather(*(one.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE) for one in coordinators))


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reserved(url: str, before: int) -> int:
    """Wait until the schedule has changed, and return its end."""
    while (end := schedule(url)) == before:
        await asyncio.sleep(0.01)
    return end


@pytest.mark.parametrize("garbage", [b"a\r\nb", b"\xff\xfe", b"a\x00b", "令牌".encode(), b"a" * 5000])
async def test_a_token_that_no_header_can_hold_is_replaced(url: str, garbage: bytes) -> None:
    """A token in Redis that no header can hold is discarded, and another is fetched; each message is sent."""
    # With a rate, the second fetch would wait for a second.
    sandbox = Sandbox(rate_rule=None)
    rates = Rates(token=None)
    async with session(made(url, rates=rates), sandbox) as first:
        await first.sms.send("8612345678901", "one")
    with redis.Redis.from_url(url) as client:
        [key] = [key for key in client.keys("*:token:*") if not key.endswith(b":lock")]
        client.hset(key, "value", garbage)

        async with session(made(url, rates=rates), sandbox) as second:
            await asyncio.gather(*(second.sms.send("8612345678902", text) for text in ("two", "three")))

        assert client.hget(key, "value") not in (None, garbage)
    assert sorted(message.text for message in sandbox.ledger.accepted) == ["one", "three", "two"]
    assert sandbox.ledger.token_requests == 2


async def test_an_outdated_call_does_not_replace_a_newer_token(url: str) -> None:
    """A late 401 for an old token does not remove the new one, and a fetch that comes too late does not replace it."""
    async with joined(url) as one, joined(url) as other:
        await one.token.keep("old")
        assert await other.token.current() == "old"
        await other.token.keep("new")

        await one.token.discard("old")
        assert await one.token.current() == "new"

        async with one.token.refreshing():
            await other.token.keep("newer")
            await one.token.keep("too late")
        assert await one.token.current() == "newer"
        assert await other.token.current() == "newer"


async def test_one_process_fetches_the_token_for_all(url: str) -> None:
    """While one coordinator fetches a token, the others wait, and then use the same token."""
    fetched = 0

    async def get(coordinator: RedisCoordinator) -> str | None:
        nonlocal fetched
        async with coordinator.token.refreshing():
            if token := await coordinator.token.current():
                return token
            fetched += 1
            await asyncio.sleep(0.3)
            await coordinator.token.keep("t")
            return "t"

    async with joined(url) as one, joined(url) as two, joined(url) as three:
        tokens = await asyncio.gather(get(one), get(two), get(three), get(one))

    assert tokens == ["t"] * 4
    assert fetched == 1


async def test_a_lock_is_renewed_while_its_holder_lives(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow fetch keeps its lock beyond the lock's expiry, because its holder renews it."""
    monkeypatch.setattr("pico_async.coordination.redis.token_store.LOCK_S", 3600.0)
    monkeypatch.setattr("pico_async.coordination.redis.token_store.RENEW_S", 0.05)
    nearly_over_ms = 1_800_000
    async with joined(url) as one, joined(url) as other:
        with redis.Redis.from_url(url) as client:
            async with one.token.refreshing():
                waiting = asyncio.create_task(hold(other))
                (lock,) = [key for key in content(url) if key.endswith(":lock")]
                for _ in range(3):
                    client.pexpire(lock, nearly_over_ms)
                    await until(lambda: client.pttl(lock) > nearly_over_ms, "the lock is renewed")
                assert not waiting.done()
        await waiting


async def test_a_cancelled_wait_for_the_lock_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a cancelled wait for the lock, the next caller gets the lock, and no lock stays in Redis."""
    # A lock that was left behind is not waited for.
    monkeypatch.setattr("pico_async.coordination.redis.token_store.LOCK_S", 3600.0)
    async with joined(url) as one, joined(url) as other:
        async with one.token.refreshing():
            waiting = asyncio.create_task(hold(other))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S), other.token.refreshing():
            pass

    assert not [key for key in content(url) if key.endswith(":lock")]


async def test_while_redis_is_away_a_send_fails_as_not_sent() -> None:
    """
    While Redis is away, a send fails as not sent and Pico is not asked; once Redis is back, sends succeed again.

    The error names no password and can be pickled.
    """
    sandbox = Sandbox()
    with valkey_server() as server:
        coordinator = made(f"{server.url}?password=S3CRET-PASSWORD")
        server.kill()
        async with session(coordinator, sandbox) as pico:
            with pytest.raises(NotSentError, match="Redis is not available") as raised:
                await pico.sms.send("8612345678901", "Your code is 1234")
            assert sandbox.ledger.arrivals == []
            server.start("--requirepass", "S3CRET-PASSWORD")
            with redis.Redis.from_url(f"{server.url}?password=S3CRET-PASSWORD") as client:
                begin_schedules(client, API_KEY)
            while True:
                try:
                    await pico.sms.send("8612345678901", "Your code is 1234")
                    break
                except NotSentError:
                    await asyncio.sleep(0.05)
        server.kill()
        server.start()

    assert len(sandbox.ledger.accepted) == 1
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert "S3CRET" not in f"{raised.value}{raised.value!r}{coordinator!r}"
    assert raised.value.__cause__ is None


async def test_a_bulk_send_fails_few_messages_in_a_short_outage() -> None:
    """While Redis is away, bulk requests fail as slowly as they would be sent, so a short outage costs few messages."""
    with valkey_server() as server:
        server.kill()
        async with joined(server.url, rates=Rates(sms=0.1)) as coordinator:
            crowd = [asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)) for _ in range(10)]
            single = asyncio.create_task(coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE))
            with pytest.raises(NotSentError):
                await single
            done, waiting = await asyncio.wait(crowd, timeout=0.3)
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        server.start()

    assert len(done) <= 1
    assert len(waiting) >= 9


@pytest.mark.parametrize(
    "fault",
    [
        ("ACL", "SETUSER", "default", "-@all", "+ping", "+hello", "+client"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("REPLICAOF", "127.0.0.1", "1"),
    ],
    ids=["no permission", "no memory", "read-only"],
)
async def test_a_redis_that_refuses_is_not_available(fault: tuple[str, ...]) -> None:
    """A call that Redis refuses raises `NotSentError`, which names the kind of the refusal."""
    with valkey_server() as server:
        with server.client() as client:
            client.execute_command(*fault)
        async with joined(server.url) as coordinator:
            with pytest.raises(NotSentError, match=r"NOPERM|NoPermission|OutOfMemory|OOM|ReadOnly|READONLY"):
                await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)


async def test_a_foreign_value_at_the_schedule_s_key_ends_the_wait(url: str) -> None:
    """A value of another program at the schedule's key raises `NotSentError`, so no caller waits for ever."""
    with redis.Redis.from_url(url) as client:
        client.set(f"pico:{{{ME.limiter}}}:pace:sms", "something else")

    async with joined(url) as coordinator:
        with pytest.raises(NotSentError, match=r"ResponseError|WRONGTYPE"):
            await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)


async def test_after_a_failure_the_next_calls_fail_at_once(url: str) -> None:
    """After a failed call, the next calls fail without asking Redis, so callers do not each wait for a timeout."""
    client = Redis.from_url(url)
    calls = 0

    async def evalsha(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise redis.ConnectionError("it is gone")

    client.evalsha = evalsha
    scripts = ScriptClient(client, 1.0)
    for _ in range(3):
        with pytest.raises(RedisUnavailableError):
            await scripts.run("leave", ["members", "about"], "me")
    await client.aclose()

    assert calls == 1
    assert scripts.fault == "ConnectionError"


async def test_a_distant_redis_is_connected_to_in_the_background() -> None:
    """
    A Redis to which connecting takes longer than a call may is connected to in the background.

    Calls fail until then, and succeed later; the coordinator's end leaves no task.
    """
    port = free_port()
    before = asyncio.all_tasks()
    with valkey_server() as server:
        server.kill()
        server.start("--port", str(port))
        with redis.Redis(port=port, db=1) as client:
            begin_schedules(client, API_KEY)
        async with relaying(port, Network(rtt_s=0.15)) as far_port:
            async with joined(f"redis://127.0.0.1:{far_port}/1", timeout=0.5) as coordinator:
                with pytest.raises(NotSentError, match="in the background"):
                    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
                async with asyncio.timeout(PATIENCE_S):
                    while not await has_slot(coordinator):
                        await asyncio.sleep(0.05)

    assert asyncio.all_tasks() == before


async def has_slot(coordinator: RedisCoordinator) -> bool:
    try:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
    except NotSentError:
        return False
    return True


async def test_closing_ends_a_call_without_a_reply() -> None:
    """The end of a coordinator ends calls to a Redis that never answers, whose callers have stopped waiting."""
    before = asyncio.all_tasks()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with joined(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05, socket_timeout=None) as away:
            with pytest.raises(NotSentError, match="did not answer within"):
                await away.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
            assert len(asyncio.all_tasks() - before) > 0

        assert asyncio.all_tasks() == before


async def test_a_late_failure_does_not_undo_a_later_reply(url: str) -> None:
    """A call that fails long after its caller has gone does not stop calls, if Redis has answered meanwhile."""
    async with Redis.from_url(url) as client:
        scripts = ScriptClient(client, PATIENCE_S)
        hung, evalsha = asyncio.Event(), client.evalsha

        async def hang(*_: object) -> None:
            await hung.wait()
            raise redis.ConnectionError("it is gone")

        client.evalsha = hang
        late = asyncio.create_task(scripts.run("leave", ["members", "about"], "me"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.evalsha = evalsha
        await scripts.run("leave", ["members", "about"], "me")
        hung.set()
        with pytest.raises(RedisUnavailableError):
            await late

        assert scripts.fault is None


async def test_an_unexpected_error_of_redis_py_means_not_sent(url: str) -> None:
    """An unexpected error of the Redis client, such as a RuntimeError, is raised as `NotSentError`."""
    client = Redis.from_url(url)

    async def evalsha(*_: object) -> None:
        raise RuntimeError("got Future attached to a different loop")

    client.evalsha = evalsha
    async with session(RedisCoordinator(client, timeout=PATIENCE_S), Sandbox()) as pico:
        with pytest.raises(NotSentError, match="not available: RuntimeError"):
            await pico.sms.send("8612345678901", "Your code is 1234")
    await client.aclose()


async def test_a_user_with_few_rights_is_enough() -> None:
    """The ACL commands that the docstring of `RedisCoordinator` lists are enough for slots, tokens and refusals."""
    rights = RedisCoordinator.__doc__ or ""
    commands = [word.strip("`.,;") for word in rights.split() if word.strip("`").startswith("+")]
    with valkey_server() as server:
        with server.client() as client:
            begin_schedules(client, API_KEY)
            client.execute_command("ACL", "SETUSER", "pico", "on", ">S3CRET", "~pico:*", *commands)
            client.execute_command("ACL", "SETUSER", "default", "off")
        path = server.url.removeprefix("unix://")
        # Else the second fetch would wait for a second.
        sandbox = Sandbox(rate_rule=None)
        async with session(made(f"unix://pico@{path}?password=S3CRET", rates=Rates(token=100)), sandbox) as pico:
            await pico.sms.send("8612345678901", "Your code is 1234")
            sandbox.expire_tokens()
            await pico.sms.send("8612345678901", "Your code is 5678")
            await pico._engine._limiters[RateGroup.SMS].pause(None)

    assert len(sandbox.ledger.accepted) == 2


async def test_a_connection_may_be_encrypted(tmp_path: Path) -> None:
    """A `rediss://` address works with a CA certificate that the options name, and fails without it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    with valkey_server() as server:
        with server.client() as client:
            begin_schedules(client, API_KEY)
        async with tls_before(server, context) as port:
            url = f"rediss://localhost:{port}"
            async with joined(url, ssl_ca_certs=str(tmp_path / "ca.pem")) as coordinator:
                await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
            async with joined(url) as distrustful:
                with pytest.raises(NotSentError):
                    await distrustful.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)


@asynccontextmanager
async def tls_before(server: ValkeyServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Start a TLS proxy in front of the server, whose build has no TLS."""
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
        for ends in ((reader, inner_writer), (inner_reader, writer)):
            pumps.add(asyncio.create_task(pump(*ends)))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def test_a_coordinator_serves_one_key(url: str) -> None:
    """A coordinator refuses a second API key, because its requests would count in the wrong schedule."""
    async with joined(url) as coordinator:
        with pytest.raises(ConfigurationError, match="make one for each"):
            coordinator.join(Identity.of("Pico", "https://rest.picotw.com", "user333", "another key"))


def test_a_coordinator_serves_one_loop_at_a_time(url: str) -> None:
    """A coordinator works in one event loop after another, and raises an error if two use it at a time."""
    coordinator = made(url)

    async def take_a_slot() -> None:
        coordinator.join(ME)
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
        await coordinator.leave()

    async def while_another_holds_it() -> None:
        coordinator.join(ME)
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(take_a_slot()))
        await coordinator.leave()

    asyncio.run(take_a_slot())
    asyncio.run(take_a_slot())
    asyncio.run(while_another_holds_it())


async def test_a_coordinator_without_a_session_grants_no_slot(url: str) -> None:
    """A coordinator without a session raises an error that shows how to pass it to one."""
    coordinator = made(url)

    with pytest.raises(ConfigurationError, match=r"pass it as PicoSession\(coordinator=…\)"):
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)


async def test_hosts_of_pico_share_a_rate_and_not_a_token(url: str) -> None:
    """Both hosts of Pico share one rate but no token; a stand-in host has a rate of its own."""
    official = Identity.of("Pico", "https://rest.picotw.com", "u", "k")
    whitelist = Identity.of("Pico", "https://api.picotw.com", "u", "k")
    stand_in = Identity.of("http://127.0.0.1:1", "http://127.0.0.1:1", "u", "k")

    assert official.limiter == whitelist.limiter
    assert len({official.token, whitelist.token, stand_in.token}) == 3
    assert stand_in.limiter != official.limiter
    async with joined(url, official) as one, joined(url, whitelist) as other:
        await one.token.keep("official")
        assert await other.token.current() is None


async def test_a_rate_group_without_a_rate_does_not_use_redis(redis_url: str) -> None:
    """A rate group without a limit, such as MMS, writes nothing to Redis and opens no connection to it."""
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_connections_received"]
        async with joined(redis_url) as coordinator:
            for _ in range(100):
                await coordinator.limiter(RateGroup.MMS).acquire(Priority.BULK)
            slot = await coordinator.limiter(RateGroup.MMS).acquire(Priority.BULK)
            await slot.refused(None)
        after = client.info("stats")["total_connections_received"]

    assert after == before
    assert content(redis_url) == {}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"share": 0}, "share=…|`share`"),
        ({"share": 2}, "`share`"),
        ({"share": True}, "`share`"),
        ({"on_unavailable": "share"}, "needs the share"),
        ({"on_unavailable": "fail", "share": 0.5}, "there is no share"),
        ({"on_unavailable": "unlimited"}, "'fail' or 'share'"),
        ({"timeout": 0}, "`timeout`"),
        ({"rates": 30}, "`rates`"),
        ({"prefix": "a{b}"}, "`prefix`"),
        ({"ssl_ca_cert": "misspelt"}, "options that redis-py knows"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    """A wrong setting raises an error that names it, before any connection is opened."""
    with pytest.raises(ConfigurationError, match=named):
        RedisCoordinator.from_url("redis://localhost", **settings)


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://localhost", "redis://", "unix://", "redis://:S3CRET@host:port", None, 7]
)
def test_a_wrong_address_is_not_repeated(url: Any) -> None:
    """The error for a wrong address does not repeat the address, because it may contain a password."""
    with pytest.raises(ConfigurationError, match="no address of a Redis") as raised:
        RedisCoordinator.from_url(url)

    assert "S3CRET" not in str(raised.value)


def test_a_closed_port_is_no_configuration_error() -> None:
    """A closed port raises no error at the start, only `NotSentError` when a slot or a token is needed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async def try_it() -> None:
            async with joined(f"redis://127.0.0.1:{port}") as coordinator:
                with pytest.raises(NotSentError, match="not available"):
                    await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)
                with pytest.raises(NotSentError, match="not available"):
                    await coordinator.token.current()

        asyncio.run(try_it())


async def test_a_coordinator_shows_its_live_state(url: str) -> None:
    """The repr of a coordinator shows its sessions, its token store and its limiters."""
    async with joined(url, rates=Rates(sms=30, token=None, balance=None), share=0.5) as coordinator:
        await coordinator.limiter(RateGroup.SMS).acquire(Priority.INTERACTIVE)

        shown = repr(coordinator)

    assert "uses 0.5 of the rates while Redis is away, 1 sessions, <RedisTokenStore no token known>" in shown
    assert "<RedisLimiter sms 28.99/s, 0 waiting," in shown


def test_a_coordinator_implements_the_protocol() -> None:
    """`RedisCoordinator` implements the protocol of a coordinator that serves one API key and account."""
    assert isinstance(RedisCoordinator.from_url("redis://localhost"), Coordinator)
