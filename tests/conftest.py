"""What all tests share: coroutine tests run, and time may be virtual."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.virtual_time import VirtualClock, VirtualSelector


def pytest_configure() -> None:
    """
    Let no child of the tests inherit that a signal is ignored.

    A shell's background jobs ignore SIGINT and nohup ignores SIGHUP. A handler that does nothing keeps that for this
    process, and is not inherited.
    """
    for number in (signal.SIGINT, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    if inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where processes share the tests (pytest -n 2), let one that measures a pace have the machine to itself."""
    if "PYTEST_XDIST_WORKER" not in os.environ or sys.platform == "win32":
        return (yield)
    import fcntl

    alone = item.get_closest_marker("alone") is not None
    with Path(__file__).open() as turnstile, item.config.rootpath.joinpath("pyproject.toml").open() as room:
        # Whoever wants the room alone waits for the others with the turnstile in hand, so that no more of them enter.
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    # asyncio's loop, aiolimiter and the messages all ask this one.
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.node.get_closest_marker("virtual_time") is None:
        yield "asyncio"
        return
    clock = request.getfixturevalue("virtual_clock")
    yield "asyncio", {"loop_factory": lambda: asyncio.SelectorEventLoop(VirtualSelector(clock))}
