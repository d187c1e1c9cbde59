"""This module runs a real Valkey cluster of two nodes, whose slots a test may move while clients use them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from attrs import define

from tests.support.ports import free_port
from tests.support.valkey_server import ValkeyServer, valkey_server
from tests.support.waiting import wait_until

SLOTS = 16384


@define
class Node:
    """One node of a cluster, with the client by which a test commands it."""

    server: ValkeyServer
    client: redis.Redis
    port: int

    @property
    def id(self) -> str:
        """The node's own name in the cluster."""
        return str(self.command("MYID"), "ascii")

    @property
    def known(self) -> set[str]:
        """The names of the nodes that this node knows."""
        return {line.split()[0] for line in str(self.command("NODES"), "ascii").splitlines()}

    def command(self, *arguments: object) -> bytes:
        """Run a CLUSTER command on this node."""
        answer = self.client.execute_command("CLUSTER", *arguments)  # type: ignore[no-untyped-call]
        return answer if isinstance(answer, bytes) else str(answer).encode()


@contextmanager
def valkey_nodes() -> Iterator[tuple[Node, Node]]:
    """Start two nodes that know each other and serve no slot yet."""
    with ExitStack() as held:
        nodes = []
        for _ in range(2):
            server, port = held.enter_context(valkey_server()), free_port()
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="vk"))
            server.kill()
            server.start(
                *("--port", str(port), "--cluster-port", str(free_port()), "--bind", "127.0.0.1"),
                *("--cluster-enabled", "yes", "--cluster-config-file", str(Path(folder) / "nodes.conf")),
                *("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"),
                *("--repl-diskless-sync-delay", "0"),
            )
            nodes.append(Node(server, held.enter_context(server.client()), port))
        one, other = nodes
        cluster_port = other.client.config_get("cluster-port")["cluster-port"]
        one.command("MEET", "127.0.0.1", other.port, cluster_port)
        names = {one.id, other.id}
        for node in nodes:
            wait_until(lambda node=node: node.known == names, "the nodes know each other by name")
        yield one, other


@contextmanager
def valkey_cluster() -> Iterator[tuple[Node, Node]]:
    """Start two nodes that each serve half of the slots."""
    with valkey_nodes() as (one, other):
        one.command("ADDSLOTSRANGE", 0, SLOTS // 2 - 1)
        other.command("ADDSLOTSRANGE", SLOTS // 2, SLOTS - 1)
        for node in (one, other):
            wait_until(lambda node=node: _serves(node), "both nodes serve their slots")
        yield one, other


@contextmanager
def valkey_pair() -> Iterator[tuple[Node, Node]]:
    """Start a node that serves all slots, and its replica."""
    with valkey_nodes() as (primary, replica):
        primary.command("ADDSLOTSRANGE", 0, SLOTS - 1)
        replica.command("REPLICATE", primary.id)
        wait_until(
            lambda: replica.client.info("replication").get("master_link_status") == "up", "the replica has all data"
        )
        wait_until(lambda: _serves(primary) and _serves(replica), "all slots are served")
        yield primary, replica


def begin_to_move(slot: int, source: Node, target: Node) -> None:
    """Begin to move a slot: from now on, *source* redirects a request for a key that it lacks to *target*."""
    target.command("SETSLOT", slot, "IMPORTING", source.id)
    source.command("SETSLOT", slot, "MIGRATING", target.id)


def move_keys(slot: int, source: Node, target: Node) -> None:
    """Move the slot's keys, and not yet the slot: *source* answers with ASK."""
    while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):  # type: ignore[no-untyped-call]
        source.client.execute_command(  # type: ignore[no-untyped-call]
            "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys
        )


def end_move(slot: int, source: Node, target: Node) -> None:
    """Move the slot, with keys that were made meanwhile."""
    move_keys(slot, source, target)
    for node in (target, source):
        node.command("SETSLOT", slot, "NODE", target.id)


def _serves(node: Node) -> bool:
    info = dict(line.split(":") for line in str(node.command("INFO"), "ascii").split())
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS
