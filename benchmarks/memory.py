"""
The memory of a bulk send by its size: streamed, and with a task for each recipient.

    python -m benchmarks.memory --markdown              # 4 minutes, most of them for the million
    python -m benchmarks.memory --quick                 # half a minute, without the million
    python -m benchmarks.memory --markdown --json memory.json --picture benchmarks/memory.png
    python -m benchmarks.memory --read memory.json --picture benchmarks/memory.png

Each figure is the growth of the resident memory of a fresh process, after a garbage collection:

- streamed: `stream_bulk` over a generator, from a tenth of the messages to the last one. The transport answers at once,
  because the memory that the bulk send keeps is measured. The memory before that is printed beside it.
- a task each: the same without a bulk send, `create_task` for each recipient, which waits on an `AsyncLimiter`. It is
  measured from before the first task until all wait. The texts come from a generator here, too, and no result is kept,
  so that only the waiting is counted. They wait on a limiter and not on replies, because at 30 a second nearly all do.

Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.clients import TO, pico_session

SIZES = (10_000, 100_000, 1_000_000)
MIB = 1024 * 1024


class Growth(NamedTuple):
    """
    The growth of one process, in bytes.

    Attributes:
        begin: Before the growth is counted: the session, its first messages and their imports.
        growth: From then on.
    """

    way: str
    messages: int
    begin: int
    growth: int


# --- measuring


def resident_bytes() -> int:
    """Return the memory of this process after a garbage collection."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def streamed(count: int) -> tuple[int, int]:
    """Send so many messages, and return the growth over the first tenth and over the rest."""
    # Imported before the measurement begins, as in `a_task_each`.
    import httpx

    from pico_async import SmsMessage

    class AtOnce(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"request_id": "r", "token": "t"})

    messages = (SmsMessage(TO, f"Your code is {number}", key=str(number)) for number in range(count))
    before = a_tenth = resident_bytes()
    seen = 0
    async with pico_session("http://127.0.0.1:9", transport=AtOnce()) as session:
        async with session.stream_bulk(messages) as results:
            async for result in results:
                assert result.ok, result
                seen += 1
                if seen == count // 10:
                    a_tenth = resident_bytes()
        assert seen == count
        return a_tenth - before, resident_bytes() - a_tenth


async def a_task_each(count: int) -> tuple[int, int]:
    """Start so many tasks that wait on a limiter, and print the growth."""
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(30, 1)
    begun = 0
    all_wait = asyncio.Event()

    async def send(to: str, text: str) -> None:
        nonlocal begun
        begun += 1
        if begun == count:
            all_wait.set()
        async with limiter:
            pass

    before = resident_bytes()
    tasks = [asyncio.create_task(send(TO, f"Your code is {number}")) for number in range(count)]
    await all_wait.wait()
    growth = resident_bytes() - before
    print(json.dumps([0, growth]), flush=True)
    assert tasks
    # At 30 a second they would run for an hour, and cancelling them would take some seconds.
    os._exit(0)


WAYS: dict[str, Callable[[int], Coroutine[Any, Any, tuple[int, int]]]] = {
    "streamed": streamed,
    "a task each": a_task_each,
}


def measure(way: str, count: int) -> Growth:
    """Measure one way at one size, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", way, str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{way}, {count}: {ran.stderr[-2000:]}")
    return Growth(way, count, *json.loads(ran.stdout))


def measure_all(sizes: Sequence[int], largest_naive: int) -> dict[str, Any]:
    """Measure all, one after the other."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    grown = []
    for way in WAYS:
        for count in sizes:
            if way == "streamed" or count <= largest_naive:
                print(f"{way}, {count:,} messages", file=sys.stderr, flush=True)
                grown.append(measure(way, count)._asdict())
    packages = ", ".join(f"{name} {version(name)}" for name in ("pico-async", "aiolimiter", "httpx"))
    return {
        "date": date,
        "machine": f"{platform.system()}, Python {platform.python_version()}; {packages}",
        "growth": grown,
    }


# --- tables and the picture


def table(grown: Sequence[Growth]) -> list[tuple[str, ...]]:
    """Return the rows of the table, the head first."""
    rows: list[tuple[str, ...]] = [("", "messages", "growth, MiB", "bytes a message", "before that, MiB")]
    for growth in grown:
        counted = growth.messages if growth.way != "streamed" else growth.messages - growth.messages // 10
        rows.append(
            (
                growth.way,
                f"{growth.messages:,}",
                f"{growth.growth / MIB:,.1f}",
                f"{growth.growth / counted:,.0f}",
                f"{growth.begin / MIB:.1f}" if growth.begin else "",
            )
        )
    return rows


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table in Markdown."""
    rule = ("---", *("---:" for _ in rows[0][1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


# As in pacing.py: blue is pico_async, grey the other way.
COLOURS = {"streamed": "#0072B2", "a task each": "#7F7F7F"}
# Less than a tenth of a MiB is a few pages more or less, and 0 cannot be drawn on a logarithmic axis.
FLOOR_MIB = 0.1


def draw(grown: Sequence[Growth], circumstances: str, file: Path) -> None:
    """Draw the growth by the number of messages, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(9, 5.5))
    for way, colour in COLOURS.items():
        points = [(growth.messages, max(FLOOR_MIB, growth.growth / MIB)) for growth in grown if growth.way == way]
        if points:
            panel.plot(*zip(*points, strict=True), color=colour, marker="o", linewidth=2)
            panel.annotate(way, points[-1], xytext=(10, 0), textcoords="offset points", color=colour, va="center")
    panel.set(xscale="log", yscale="log", xlabel="messages", ylabel="growth of the process, MiB")
    sizes = sorted({growth.messages for growth in grown})
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.set_xlim(0.8 * sizes[0], 3 * sizes[-1])
    panel.set_ylim(FLOOR_MIB * 0.8, 5000)
    panel.set_yticks([0.1, 1, 10, 100, 1000], ["0.1 or less", "1", "10", "100", "1,000"])
    panel.minorticks_off()
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title("Memory of a bulk send", fontsize=14)
    figure.text(0.5, 0.01, circumstances, ha="center", fontsize=8)
    figure.subplots_adjust(left=0.12, right=0.97, top=0.92, bottom=0.16)
    figure.savefig(file, dpi=100)
    plt.close(figure)


# --- the command


def main() -> None:
    """Measure, or read a recording, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave the million out")
    parser.add_argument("--largest-naive", type=int, default=100_000, help="of a task each (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the recording")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a PNG")
    parser.add_argument("--read", type=Path, metavar="FILE", help="read a recording of --json, and measure nothing")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "COUNT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(asyncio.run(WAYS[chosen.one[0]](int(chosen.one[1])))))
        return
    if chosen.read:
        record = json.loads(chosen.read.read_text())
    else:
        record = measure_all(SIZES[:-1] if chosen.quick else SIZES, chosen.largest_naive)
    if chosen.json:
        chosen.json.write_text(json.dumps(record))
    grown = [Growth(**growth) for growth in record["growth"]]
    circumstances = f"{record['date']}. {record['machine']}."
    print((as_markdown if chosen.markdown else as_text)(table(grown)))
    print(f"\n{circumstances}")
    if chosen.picture:
        draw(grown, circumstances, chosen.picture)


if __name__ == "__main__":
    main()
