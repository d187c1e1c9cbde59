"""This file holds what all tests share: coroutine tests run, servers start once, and time may be virtual."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from tests.support.postgres_server import Postgres, any_postgres, fresh_database
from tests.support.sandbox_process import SandboxProcess, sandbox_process
from tests.support.valkey_server import empty_redis
from tests.support.virtual_time import VirtualClock, VirtualSelector

# Each run tests the same examples, at any speed of the machine. `--hypothesis-profile=default` draws others.
hypothesis.settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fixed")


def pytest_configure() -> None:
    """
    Remove settings of the shell that child processes would inherit: PYTHONDONTWRITEBYTECODE and ignored signals.

    The temporary folders of the tests are in memory, where the machine has some.
    """
    # Hundreds of processes that import the package would each compile it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A shell's background jobs ignore SIGINT and nohup ignores SIGHUP. A handler that does nothing has the same effect
    # in this process, and is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # A journal syncs each step, and a busy disk makes its tests wait. Some tests run programs there.
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 and not os.statvfs(memory).f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """
    Let no garbage collection look at what the collection of the tests made, now and later.

    It all stays to the end, and each `gc.collect()` of a test would take a seventh of a second to look through it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the stories first: a long test at the end would leave the other processes idle."""
    items.sort(key=lambda item: "stories" not in item.path.parts)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    if inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)


@pytest.fixture(scope="session", autouse=True)
def shell_authorities() -> Iterator[dict[str, str]]:
    """
    Trust one CA certificate in all tests, and yield the setting of the shell.

    A session reads the CA certificates. All public ones take 20 ms, and a program of the tests needs none of them.
    """
    name = "SSL_CERT_FILE"
    found = {name: os.environ[name]} if name in os.environ else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, str(Path(__file__).parent / "support" / "authority.pem"))
        yield found


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[str]:
    """Run one Redis for all tests of this process; data of other tests is still in it."""
    with empty_redis() as url:
        yield url


@pytest.fixture
def redis_url(shared_redis: str) -> str:
    """Return the address of an empty Redis."""
    with redis.Redis.from_url(shared_redis) as client:
        client.flushdb()
    return shared_redis


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[SandboxProcess]:
    """Run one sandbox process for all tests of this process, because a sandbox takes half a second to start."""
    with sandbox_process("--rate-rule", "none") as sandbox:
        yield sandbox


@pytest.fixture
def quick(shared_sandbox: SandboxProcess) -> SandboxProcess:
    """Return the shared sandbox. It enforces no rate, and its ledger shows only this test's requests."""
    return shared_sandbox.reset()


@pytest.fixture
def start_sandbox() -> Iterator[Callable[..., SandboxProcess]]:
    """Return a function that starts a sandbox process of the test's own, with the options given."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(sandbox_process(*options))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run one PostgreSQL for all tests of this process."""
    with any_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Return the address of an empty database."""
    with fresh_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    # asyncio's loop, aiolimiter and the messages all read this clock.
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.node.get_closest_marker("virtual_time") is None:
        yield "asyncio"
        return
    clock = request.getfixturevalue("virtual_clock")
    yield "asyncio", {"loop_factory": lambda: asyncio.SelectorEventLoop(VirtualSelector(clock))}
