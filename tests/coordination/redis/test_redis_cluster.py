"""A fleet works over a Redis Cluster, and through a Sentinel, also while slots move and after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel

from pico_async import NotSentError, PicoSession, RedisCoordinator, RedisSeenReceipts
from pico_async.receipts.deduplication import ReceiptHistory
from pico_async.receipts.status import DeliveryStatus
from pico_async.sandbox import Sandbox
from tests.support.fleet_schedule import begin_schedules
from tests.support.valkey_cluster import Node, begin_to_move, end_move, move_keys, valkey_cluster, valkey_pair
from tests.support.valkey_sentinel import NAME, valkey_with_sentinel
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Node, Node]]:
    """Run one cluster for all tests that leave it as it was: it takes two seconds to start."""
    with valkey_cluster() as nodes:
        yield nodes


@pytest.fixture
def nodes(cluster: tuple[Node, Node]) -> tuple[Node, Node]:
    """Return the nodes of a cluster that holds nothing but schedules of the fleet."""
    for node in cluster:
        node.client.flushdb()
        node.client.config_resetstat()
    with redis.RedisCluster("127.0.0.1", cluster[0].port) as client:
        begin_schedules(client, Sandbox().api_key)
    return cluster


def session(client: Redis | RedisCluster, sandbox: Sandbox) -> PicoSession:
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        coordinator=RedisCoordinator(client, timeout=PATIENCE_S),
    )


def schedule_on(node: Node) -> list[bytes]:
    """Return the key of the SMS schedule, where this node has it."""
    found: list[bytes] = node.client.keys("*:pace:sms")
    return found


def redirects(node: Node) -> int:
    """Return how often the node has redirected a call by ASK."""
    return int(node.client.info("errorstats").get("errorstat_ASK", {"count": 0})["count"])


async def send_while(pico: PicoSession, happens: Callable[[], None], sandbox: Sandbox) -> int:
    """Send until something that happens meanwhile, in a thread, is over; return how many sends failed as not sent."""
    event, failed = asyncio.create_task(asyncio.to_thread(happens)), 0
    rest = 5
    async with asyncio.timeout(2 * PATIENCE_S):
        while rest:
            try:
                await pico.sms.send(f"86139{len(sandbox.ledger.arrivals):08}", "Your code is 1234")
                rest -= event.done()
            except NotSentError:
                failed += 1
                await asyncio.sleep(0.05)
    await event
    return failed


@pytest.mark.parametrize("first", [0, 1])
async def test_two_nodes_share_a_fleet(nodes: tuple[Node, Node], first: int) -> None:
    """Sessions that know either node of a cluster share one token and one schedule, all of it on one node."""
    sandbox = Sandbox()
    async with (
        RedisCluster("127.0.0.1", nodes[first].port) as client,
        RedisCluster("127.0.0.1", nodes[1 - first].port) as other,
        session(client, sandbox) as pico,
        session(other, sandbox) as second,
    ):
        await pico.sms.send("8612345678901", "Your code is 1234")
        await second.sms.send("8612345678902", "Your code is 5678")
        counts = sorted(node.client.dbsize() for node in nodes)

    assert len(sandbox.ledger.accepted) == 2
    assert sandbox.ledger.token_requests == 1
    assert counts[0] == 0
    assert counts[1] > 0


async def test_a_slot_moves_while_a_fleet_sends(nodes: tuple[Node, Node]) -> None:
    """While the slot of a fleet's keys moves to the other node, no send fails, and the schedule and token go along."""
    sandbox = Sandbox()
    async with RedisCluster("127.0.0.1", nodes[0].port) as client, session(client, sandbox) as pico:
        # With several connections to a node, redis-py sends ASKING on one and the command on another. Then the node
        # redirects the call back, again and again.
        await asyncio.gather(*(client.ping(target_nodes=RedisCluster.ALL_NODES) for _ in range(4)))
        await pico.sms.send("8612345678901", "Your code is 1234")
        source, target = nodes if schedule_on(nodes[0]) else reversed(nodes)
        (key,) = schedule_on(source)
        slot, before = int(source.command("KEYSLOT", key)), source.client.hget(key, "name")

        def migrate() -> None:
            begin_to_move(slot, source, target)
            move_keys(slot, source, target)
            # redis-py gives a call up after 16 redirects.
            wait_until(lambda: redirects(source) >= 50, "calls are redirected by ASK")
            end_move(slot, source, target)

        failed = await send_while(pico, migrate, sandbox)

        assert failed == 0
        assert target.client.hget(key, "name") == before
        assert source.client.dbsize() == 0
    assert sandbox.ledger.token_requests == 1


async def test_a_replica_takes_over_while_a_fleet_sends() -> None:
    """After a failover, a fleet goes on with the replica, and what failed in between was not sent."""
    sandbox = Sandbox()
    with valkey_pair() as (primary, replica):
        begin_schedules(primary.client, sandbox.api_key)
        primary.client.wait(1, int(PATIENCE_S * 1000))
        async with RedisCluster("127.0.0.1", replica.port) as client, session(client, sandbox) as pico:
            await pico.sms.send("8612345678901", "Your code is 1234")

            def fail_over() -> None:
                primary.server.kill()
                replica.command("FAILOVER", "TAKEOVER")

            await send_while(pico, fail_over, sandbox)

    assert not sandbox.ledger.duplicates()


async def test_a_fleet_follows_a_sentinel() -> None:
    """With a Sentinel's client, a fleet goes on after a failover; what failed in between was not sent."""
    sandbox = Sandbox()
    with valkey_with_sentinel() as port:
        sentinel = Sentinel([("127.0.0.1", port)])
        with redis.Redis(port=port) as commanding:
            host, primary_port = commanding.sentinel_get_master_addr_by_name(NAME)
        with redis.Redis(host, primary_port) as primary:
            begin_schedules(primary, sandbox.api_key)
        async with sentinel.master_for(NAME) as client, session(client, sandbox) as pico:
            await pico.sms.send("8612345678901", "Your code is 1234")

            def fail_over() -> None:
                with redis.Redis(port=port) as commanding:
                    before = commanding.sentinel_get_master_addr_by_name(NAME)
                    commanding.sentinel_failover(NAME)
                    wait_until(lambda: commanding.sentinel_get_master_addr_by_name(NAME) != before, "a failover")

            await send_while(pico, fail_over, sandbox)
        for one in sentinel.sentinels:
            await one.aclose()

    assert not sandbox.ledger.duplicates()


async def test_the_error_of_a_plain_client_names_the_cluster_client(nodes: tuple[Node, Node]) -> None:
    """A plain client that reaches the wrong node raises an error that names `RedisCluster`."""
    sandbox = Sandbox()
    errors = []
    for node in nodes:
        coordinator = RedisCoordinator.from_url(f"redis://127.0.0.1:{node.port}", timeout=PATIENCE_S)
        async with PicoSession(
            username=sandbox.username,
            api_key=sandbox.api_key,
            sender="86",
            transport=sandbox.transport(),
            coordinator=coordinator,
        ) as pico:
            try:
                await pico.sms.send("8612345678901", "Your code is 1234")
            except NotSentError as error:
                errors.append(str(error))

    assert len(errors) == 1, errors
    assert "RedisCluster" in errors[0]
    assert "127.0.0.1" not in errors[0]


async def test_seen_receipts_work_in_a_cluster(nodes: tuple[Node, Node]) -> None:
    """`RedisSeenReceipts` works on a cluster, whatever node a receipt's key is on."""
    history = ReceiptHistory(DeliveryStatus.DELIVERED, (b"word",))
    for node in nodes:
        node.client.flushdb()
    async with RedisCluster("127.0.0.1", nodes[0].port) as client:
        store = RedisSeenReceipts(client)
        for callback_id in ("one", "two", "three", "four"):
            async with store.lock(callback_id):
                assert await store.get(callback_id) is None
                await store.put(callback_id, history, 2**33)
            assert await store.get(callback_id) == history
    kept = [node.client.dbsize() for node in nodes]

    assert sum(kept) == 4
    assert all(kept)


async def test_a_user_with_few_rights_is_enough_in_a_cluster(nodes: tuple[Node, Node]) -> None:
    """The ACL commands that the docstring of `RedisCoordinator` lists are enough in a cluster."""
    rights = RedisCoordinator.__doc__ or ""
    commands = [word.strip("`.,;") for word in rights.split() if word.strip("`").startswith("+")]
    sandbox = Sandbox()
    for node in nodes:
        node.client.execute_command("ACL", "SETUSER", "pico", "on", ">S3CRET", "~pico:*", *commands)
    async with (
        RedisCluster("127.0.0.1", nodes[0].port, username="pico", password="S3CRET") as client,
        session(client, sandbox) as pico,
    ):
        await pico.sms.send("8612345678901", "Your code is 1234")

    assert len(sandbox.ledger.accepted) == 1
