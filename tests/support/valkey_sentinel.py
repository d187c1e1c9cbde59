"""This module runs a real Valkey, its replica, and a Sentinel that knows them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.support.ports import free_port, listens
from tests.support.valkey_server import valkey_server
from tests.support.waiting import wait_until

NAME = "fleet"


@contextmanager
def valkey_with_sentinel() -> Iterator[int]:
    """Start a primary, a replica and a Sentinel, which knows the primary as NAME, and yield the Sentinel's port."""
    with ExitStack() as held:
        ports = []
        for _ in range(2):
            server, port = held.enter_context(valkey_server()), free_port()
            server.kill()
            replica_of = ("--replicaof", f"127.0.0.1 {ports[0]}") if ports else ()
            server.start("--port", str(port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0", *replica_of)
            ports.append(port)
        folder, sentinel_port = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="vk"))), free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {ports[0]} 1\n"
            f"sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 5000\n"
        )
        process = subprocess.Popen([server.binary, configuration, "--sentinel"], cwd=folder, stdout=subprocess.DEVNULL)
        held.callback(process.wait)
        held.callback(process.kill)
        wait_until(lambda: listens(sentinel_port), "the Sentinel listens")
        with redis.Redis(port=sentinel_port) as sentinel:
            wait_until(
                lambda: [one["master-link-status"] for one in sentinel.sentinel_slaves(NAME)] == ["ok"],
                "the Sentinel knows the replica, which has all data",
            )
        yield sentinel_port
