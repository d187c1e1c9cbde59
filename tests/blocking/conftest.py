"""Each test has an event loop of its own: in one of an earlier test, the token and the limiters would live on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pico_async.blocking import pico
from pico_async.blocking.loop_thread import LoopThread


@pytest.fixture(autouse=True)
def own_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopThread]:
    """Return the thread that runs the event loop of this test."""
    thread = LoopThread()
    monkeypatch.setattr(pico, "_thread", thread)
    yield thread
    thread.stop()
