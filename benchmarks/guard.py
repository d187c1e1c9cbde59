"""
Fail if pico_async has become slower in comparison with the packages that it uses: for CI.

    python -m benchmarks.guard              # half a minute; exit 1, and a line for each ratio above its limit
    python -m benchmarks.guard --keep       # print the table of this run, to paste below
    python -m benchmarks.guard --slow 50    # add 50 µs to each message of pico_async: it fails

It watches ratios within one run, because times depend on the machine. All are in processor time, with 64 in flight:

- a single send and a bulk send, in relation to a plain httpx client;
- both over the fast transport, in relation to a plain aiohttp client;
- the import, in relation to that of the five packages of the core.

The clients alternate in short batches, so that other work of the machine affects all alike. There are several
processes, because each has its own layout in memory.

Each ratio is that of the two lowest costs, because other work can only add to a cost. In eleven runs on two cores, one
of which was kept busy in five runs, no ratio was more than 1.02 times its median; with the median of the pairs it was
1.03. Above all, httpx has two states with 64 in flight, 1.1 and 1.6 ms a message, which may change in the middle of a
run. The lower one is always among its costs, but which of the two is the median is chance. In twelve runs of the whole,
again five with a busy core, no ratio was more than 1.04 times its median.

A ratio also grows if the other package has become faster. After a new release of httpx or aiohttp, run `--keep`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from benchmarks.clients import CLIENTS, Run, timed
from benchmarks.lean_pico import lean_pico, messages_at
from benchmarks.startup import FIVE, OURS, import_s

# The medians of three runs on a quiet machine, and their date.
KEPT_AT = "2026-11-30"
KEPT = {
    "pico / httpx": 0.38,
    "pico, bulk / httpx": 0.38,
    "pico fast / aiohttp": 1.93,
    "pico fast, bulk / aiohttp": 1.94,
    # Importing the session imports all of the core, and no extra.
    "import / the five packages": 1.48,
}
TOLERATED = 1.15

CONCURRENCY = 64
PROCESSES = 3
ROUNDS = 6
IMPORTS = 15
# Messages in a batch: 75 to 250 ms of each client. A bulk send has enough messages that its start does not matter.
BATCHES = {"httpx": 128, "aiohttp": 768, "pico": 256, "pico, bulk": 512, "pico fast": 512, "pico fast, bulk": 1024}
BESIDE = {"pico": "httpx", "pico, bulk": "httpx", "pico fast": "aiohttp", "pico fast, bulk": "aiohttp"}


def slowed(run: Run, each_s: float) -> Run:
    """Return a run that takes so much more processor time for each message."""

    async def slow_run(messages: int) -> None:
        await run(messages)
        end = time.process_time() + messages * each_s
        while time.process_time() < end:
            pass

    return slow_run


async def lowest_costs(base_url: str, slow_us: float) -> dict[str, float]:
    """Run all clients alternately, and return the lowest cost of a message of each, in seconds of processor time."""
    lowest = dict.fromkeys(BATCHES, float("inf"))
    async with AsyncExitStack() as opened:
        runs = {name: await opened.enter_async_context(CLIENTS[name](base_url, CONCURRENCY)) for name in BATCHES}
        if slow_us:
            runs |= {name: slowed(runs[name], slow_us / 1e6) for name in BESIDE}
        for number in range(-1, ROUNDS):
            for name, run in runs.items():
                cpu_s, _ = await timed(run, BATCHES[name])
                if number >= 0:  # the first round opens connections and imports
                    lowest[name] = min(lowest[name], cpu_s / BATCHES[name])
    return lowest


def send_ratios(slow_us: float) -> dict[str, float]:
    """Measure the sends in some fresh processes, one after the other, and return their ratios."""
    lowest = dict.fromkeys(BATCHES, float("inf"))
    with lean_pico() as base_url:
        command = [sys.executable, "-m", "benchmarks.guard", "--one", base_url, "--slow", str(slow_us)]
        for _ in range(PROCESSES):
            costs = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            lowest = {name: min(lowest[name], costs[name]) for name in BATCHES}
        arrived, expected = messages_at(base_url), PROCESSES * (ROUNDS + 1) * sum(BATCHES.values())
    if arrived != expected:
        raise RuntimeError(f"{arrived} messages arrived, not {expected}, so there is nothing to compare.")
    return {f"{ours} / {other}": lowest[ours] / lowest[other] for ours, other in BESIDE.items()}


def import_ratio() -> float:
    """Measure the imports alternately, and return their ratio."""
    with tempfile.TemporaryDirectory() as cache:
        import_s(OURS, cache)  # compiles
        pairs = [(import_s(OURS, cache), import_s(FIVE, cache)) for _ in range(IMPORTS)]
    return min(ours for ours, _ in pairs) / min(five for _, five in pairs)


def judged(name: str, ratio: float) -> tuple[bool, str]:
    """Return whether a ratio is within its limit, and a line that says so."""
    limit = KEPT[name] * TOLERATED
    words = f"{name:<27} {ratio:5.2f}   kept {KEPT[name]:.2f}, limit {limit:.2f}"
    if ratio <= limit:
        return True, f"ok    {words}"
    return False, f"WORSE {words}: {ratio / KEPT[name] - 1:.0%} more than on {KEPT_AT}"


def main() -> int:
    """Measure the ratios, and compare them with the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="print the table of this run, and do not fail")
    parser.add_argument("--slow", type=float, default=0.0, metavar="US", help="slow each message of pico_async by this")
    parser.add_argument("--one", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if chosen.one:
        print(json.dumps(asyncio.run(lowest_costs(chosen.one, chosen.slow))))
        return 0
    ratios = send_ratios(chosen.slow) | {"import / the five packages": import_ratio()}
    if chosen.keep:
        print(f'KEPT_AT = "{datetime.now(UTC):%Y-%m-%d}"\nKEPT = {{')
        print(*(f'    "{name}": {ratio:.2f},' for name, ratio in ratios.items()), "}", sep="\n")
        return 0
    verdicts = [judged(name, ratio) for name, ratio in ratios.items()]
    print(*(words for _, words in verdicts), sep="\n")
    return 0 if all(good for good, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
