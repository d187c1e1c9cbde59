"""
Draw two readings of "30 a second": two limiters admit messages as fast as they can, in virtual time.

    python -m benchmarks.pace_picture benchmarks/pace.png

The lines are the messages that aiolimiter's `AsyncLimiter(30, 1)` and the session's limiter really admit.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from aiolimiter import AsyncLimiter

from pico_async import LocalCoordinator, Priority
from pico_async.coordination.rates import RateGroup
from tests.support.virtual_time import VirtualClock, VirtualSelector

RATE = 30
LASTS_S = 3.0
IN_ORDER, TOO_MANY = "#0072b2", "#d55e00"

Acquire: TypeAlias = Callable[[], Awaitable[object]]


def admitted(make: Callable[[], Acquire]) -> list[float]:
    """Acquire slots for *LASTS_S* seconds, and return the times at which they were granted."""
    clock = VirtualClock()
    clock.now = 0.0
    real, time.monotonic = time.monotonic, clock

    async def acquire_all() -> list[float]:
        acquire, times = make(), []
        while clock.now < LASTS_S:
            await acquire()
            times.append(clock.now)
        return times

    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(VirtualSelector(clock))) as runner:
            return runner.run(acquire_all())
    finally:
        time.monotonic = real


def bucket_of_thirty() -> Acquire:
    """Return the limiter that aiolimiter's documentation suggests for 30 a second."""
    return AsyncLimiter(RATE, 1).acquire


def own_limiter() -> Acquire:
    """Return the session's limiter."""
    coordinator = LocalCoordinator()
    return lambda: coordinator.limiter(RateGroup.SMS).acquire(Priority.BULK)


def in_the_last_second(times: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the times at which the number of messages in the last second changes, and these numbers."""
    moments = sorted({*times, *(at + 1.0 for at in times)})
    return moments, [sum(moment - 1.0 < at <= moment for at in times) for moment in moments]


def draw(file: Path) -> None:
    """Draw both and the documented rate in one picture."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(9, 3.4), layout="constrained")
    for make, name, colour, label_at in (
        (bucket_of_thirty, "AsyncLimiter(30, 1)", TOO_MANY, 56),
        (own_limiter, "pico_async", IN_ORDER, 21),
    ):
        moments, counts = in_the_last_second(admitted(make))
        panel.step([0.0, *moments], [0, *counts], where="post", color=colour, linewidth=2)
        panel.text(1.05, label_at, f"{name}: up to {max(counts)}", color=colour, fontsize=11)
    panel.axhline(RATE, color="black", linestyle="dashed", linewidth=1)
    panel.text(2.2, RATE + 5, "30, the documented rate")
    panel.set(xlim=(0, LASTS_S), ylim=(0, 2.2 * RATE), xlabel="seconds since the first message")
    panel.set_ylabel("messages in the last second")
    panel.spines[["right", "top"]].set_visible(False)
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
