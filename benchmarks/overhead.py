"""
The cost of one message: processor time and throughput of pico_async, raw HTTP clients and the SDKs of two peers.

    python -m benchmarks.overhead                                          # 25 minutes
    python -m benchmarks.overhead --quick                                  # a minute: one round, up to 64 at once
    python -m benchmarks.overhead --loops asyncio uvloop --json overhead.json --picture overhead.png --markdown
    python -m benchmarks.overhead --read overhead.json --picture overhead.png     # print and draw again

The server answers at once and runs in a process of its own (`lean_pico.py`). Each client, concurrency, event loop and
round is a fresh process that warms up before it is measured (`clients.py`). The rounds are interleaved, so that other
work of the machine affects all alike. Each ratio is the median of the ratios within the rounds. Processor time is that
of the client's process alone. The server counts the messages. If they are not exactly those that the client sent, or if
a cell takes too long, there is no figure.

Then the layers of `pico fast`, at a concurrency of 64, each alone (`layers.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import cattrs
from attrs import frozen

from benchmarks.clients import CLIENTS, Cost
from benchmarks.layers import LAYERS
from benchmarks.lean_pico import lean_pico, messages_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCIES = (1, 16, 64, 256, 1000)
LAYERS_AT = 64
FAST, HALVES = "pico fast", ("transport", "session")
BESIDE = ("httpx", "aiohttp", "twilio")
OURS = tuple(name for name in CLIENTS if name.startswith("pico"))

# The timeout of one cell. At a concurrency of 1000, httpx and the clients over it need up to 40 s.
CELL_S = 150.0


@frozen
class Cell:
    """One client at one concurrency in one event loop."""

    client: str
    concurrency: int
    loop: str


@frozen
class Run:
    """
    One cell, measured once.

    Attributes:
        cost: The cost of the messages; None if the figures are worth nothing.
        trouble: Why they are worth nothing.
    """

    cell: Cell
    round: int
    cost: Cost | None
    trouble: str | None = None

    @property
    def cpu_us(self) -> float | None:
        """Microseconds of processor time a message."""
        return None if self.cost is None else self.cost.cpu_s / self.cost.messages * 1e6

    @property
    def per_s(self) -> float | None:
        """Messages a second, by the clock."""
        return None if self.cost is None else self.cost.messages / self.cost.wall_s


@frozen
class Record:
    """All runs, and where and when they took place."""

    date: str
    machine: str
    runs: list[Run]


# --- measuring


def measure(base_url: str, cell: Cell, number: int, seconds: float) -> Run:
    """Measure one cell in a fresh process, and check that everything arrived exactly once."""
    module = "benchmarks.layers" if cell.client in LAYERS else "benchmarks.clients"
    command = [sys.executable, "-m", module, base_url, cell.client, "--loop", cell.loop]
    command += ["--concurrency", str(cell.concurrency), "--seconds", str(seconds)]
    before = messages_at(base_url)
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=CELL_S, check=False)
    except subprocess.TimeoutExpired:
        return Run(cell, number, None, f"took longer than {CELL_S:g} s")
    if ran.returncode:
        # In the frame of an exception group, the last line is not the error's.
        errors = [line.strip(" |") for line in ran.stderr.splitlines() if "Error" in line]
        return Run(cell, number, None, errors[-1] if errors else f"exit {ran.returncode}")
    cost = Cost(**json.loads(ran.stdout))
    arrived = messages_at(base_url) - before
    expected = 0 if cell.client in LAYERS and not LAYERS[cell.client].sends else cost.messages + cost.warm_up
    if arrived != expected:
        return Run(cell, number, None, f"{arrived} messages arrived, not {expected}")
    return Run(cell, number, cost)


def cells(clients: Sequence[str], concurrencies: Sequence[int], loops: Sequence[str], number: int) -> Iterator[Cell]:
    """Yield the cells of a round. Each round begins with another client, so none is always the first."""
    first = number % len(clients)
    for loop in loops:
        for concurrency in concurrencies:
            for client in (*clients[first:], *clients[:first]):
                yield Cell(client, concurrency, loop)
        for layer in LAYERS:
            yield Cell(layer, LAYERS_AT, loop)


def measure_all(options: argparse.Namespace) -> Record:
    """Measure all cells, round after round."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    runs = []
    with lean_pico() as base_url:
        for number in range(options.rounds):
            for cell in cells(options.clients, options.concurrency, options.loops, number):
                run = measure(base_url, cell, number, options.seconds)
                result = run.trouble or f"{run.cpu_us:.0f} µs, {run.per_s:.0f} /s"
                place = f"{cell.loop}, {cell.concurrency} at once, {cell.client}"
                print(f"round {number + 1}/{options.rounds}, {place}: {result}", file=sys.stderr, flush=True)
                runs.append(run)
    return Record(date, machine(), runs)


def machine() -> str:
    """Return a description of the machine and the packages that the costs depend on."""
    packages = ", ".join(_versions("pico-async", "httpx", "aiohttp", "twilio", "telnyx", "uvloop"))
    return f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}, loopback; {packages}"


def _versions(*names: str) -> Iterator[str]:
    for name in names:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"no {name}"


# --- tables and the picture

Value = Callable[[Run], float | None]
Table = list[tuple[str, ...]]


class Figures:
    """A record's figures, by cell and round."""

    def __init__(self, record: Record) -> None:
        self._runs = {(run.cell, run.round): run for run in record.runs}
        self.loops = list(dict.fromkeys(run.cell.loop for run in record.runs))
        among = [run.cell for run in record.runs if run.cell.client in CLIENTS]
        self.clients = [name for name in CLIENTS if any(cell.client == name for cell in among)]
        self.concurrencies = sorted({cell.concurrency for cell in among})
        self.rounds = sorted({run.round for run in record.runs})

    def values(self, cell: Cell, value: Value) -> list[float]:
        """Return the figures of a cell that exist."""
        runs = [self._runs.get((cell, number)) for number in self.rounds]
        return [figure for run in runs if run is not None and (figure := value(run)) is not None]

    def ratios(self, cell: Cell, beside: Cell, value: Value) -> list[float]:
        """Return the ratios of a cell's figures to those of another, within each round."""
        both = [(self._runs.get((cell, number)), self._runs.get((beside, number))) for number in self.rounds]
        pairs = [(value(one), value(other)) for one, other in both if one is not None and other is not None]
        return [one / other for one, other in pairs if one is not None and other is not None]


def cpu_us(run: Run) -> float | None:
    """Return the microseconds of processor time a message."""
    return run.cpu_us


def per_s(run: Run) -> float | None:
    """Return the messages a second."""
    return run.per_s


def by_client(figures: Figures, loop: str, value: Value) -> Table:
    """Return the table of one figure: a row for each client, a column for each concurrency."""
    rows: Table = [("client", *(str(concurrency) for concurrency in figures.concurrencies))]
    for client in figures.clients:
        columns = [figures.values(Cell(client, concurrency, loop), value) for concurrency in figures.concurrencies]
        rows.append((client, *map(spread, columns)))
    return rows


def beside_others(figures: Figures, loop: str) -> Table:
    """Return the table of the costs of pico_async, as multiples of the costs of others."""
    rows: Table = [("processor time", "beside", *(str(concurrency) for concurrency in figures.concurrencies))]
    for ours in OURS:
        for other in BESIDE:
            if ours in figures.clients and other in figures.clients:
                columns = [
                    figures.ratios(Cell(ours, concurrency, loop), Cell(other, concurrency, loop), cpu_us)
                    for concurrency in figures.concurrencies
                ]
                rows.append((ours, other, *(f"{median(column):.2f}" if column else "" for column in columns)))
    return rows


def between(figures: Figures, loop: str) -> Table:
    """Return the costs between `pico fast` and raw aiohttp: the whole, then its parts, the most expensive first."""

    def at(name: str) -> list[float]:
        return figures.values(Cell(name, LAYERS_AT, loop), cpu_us)

    costs = {name: at(name) for name in ("aiohttp", FAST, *LAYERS)}
    rows: Table = [("layer", "µs", "what it is")]
    if not all(costs.values()):
        return rows
    middle = {name: median(values) for name, values in costs.items()}
    whats = {
        "aiohttp": "the raw client, with its own JSON",
        FAST: "a single send, whole",
        **{name: layer.what for name, layer in LAYERS.items()},
    }
    rows += [(name, spread(costs[name]), whats[name]) for name in ("aiohttp", FAST, *HALVES)]
    parts = {name: (spread(costs[name]), middle[name]) for name in LAYERS if name not in HALVES}
    rest = middle["session"] - sum(cost for _, cost in parts.values())
    whats["the rest of `session`"] = "the call's task, scope, token, slot and retries; by subtraction"
    parts["the rest of `session`"] = (f"{rest:.0f}", rest)
    unexplained = middle[FAST] - sum(middle[half] for half in HALVES)
    whats["not explained"] = f"{FAST}, less {' and '.join(HALVES)}"
    parts["not explained"] = (f"{unexplained:.0f}", unexplained)
    rows += [(name, shown, whats[name]) for name, (shown, _) in sorted(parts.items(), key=lambda part: -part[1][1])]
    return rows


def spread(values: Sequence[float]) -> str:
    """Return a median, with the lowest and the highest if there are several values."""
    if not values:
        return ""
    middle = f"{median(values):,.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.0f} to {max(values):,.0f})"


def sections(record: Record) -> Iterator[tuple[str, Table]]:
    """Yield all tables with their titles."""
    figures = Figures(record)
    for loop in figures.loops:
        yield f"Processor time of one message, µs, {loop}", by_client(figures, loop, cpu_us)
        yield f"Messages a second, {loop}", by_client(figures, loop, per_s)
        yield f"The costs of pico_async in relation to others, {loop}", beside_others(figures, loop)
        yield f"Between pico fast and raw aiohttp, {LAYERS_AT} at once, {loop}", between(figures, loop)


def as_text(rows: Table) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_markdown(rows: Table) -> str:
    """Return a table in Markdown."""
    # Words to the left, figures to the right: the last row decides which a column contains.
    rule = ["---" if column[-1][-1:].isalpha() else "---:" for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def troubles(record: Record) -> list[str]:
    """Return the runs without a figure, and why."""
    return [
        f"No figure in round {run.round + 1} for {run.cell.client}, {run.cell.concurrency} at once, {run.cell.loop}: "
        f"{run.trouble}"
        for run in record.runs
        if run.trouble
    ]


def circumstances(record: Record) -> str:
    """Return when and where it was measured, and how."""
    number = 1 + max(run.round for run in record.runs)
    rounds = "one round" if number == 1 else f"{number} rounds"
    return f"Median (lowest to highest) of {rounds}. {record.date}. {record.machine}."


def print_tables(record: Record, layout: Callable[[Table], str]) -> None:
    """Print all tables, and how they were measured."""
    for title, rows in sections(record):
        if len(rows) > 1:
            print(f"### {title}\n\n{layout(rows)}\n")
    print("\n".join([*troubles(record), circumstances(record)]))


# Okabe and Ito's colours, which the colour-blind can distinguish; a bulk send and the raised limits are dashed.
STYLES = {
    "httpx": ("#7F7F7F", "-"),
    "httpx, limits raised": ("#7F7F7F", "--"),
    "aiohttp": ("#009E73", "-"),
    "twilio": ("#E69F00", "-"),
    "telnyx": ("#CC79A7", "-"),
    "pico": ("#0072B2", "-"),
    "pico, bulk": ("#0072B2", "--"),
    "pico fast": ("#D55E00", "-"),
    "pico fast, bulk": ("#D55E00", "--"),
}
# Two labels do not overlap if one is so many times as high as the other.
LABELS_APART = 1.22


def draw(record: Record, file: Path) -> None:
    """Draw the processor time of a message by concurrency, a panel for each event loop."""
    # Not at the top, so that it affects no measurement.
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figures = Figures(record)
    figure, panels = plt.subplots(
        1, len(figures.loops), figsize=(2 + 9 * len(figures.loops), 8), sharey=True, squeeze=False
    )
    for panel, loop in zip(panels[0], figures.loops, strict=True):
        _draw_loop(panel, figures, loop)
    panels[0, 0].set_ylabel("µs of the client's processor time, per message", fontsize=12)
    figure.suptitle("The cost of one message in the process that sends it", fontsize=17)
    figure.text(0.5, 0.01, _wrapped(circumstances(record), figure.get_figwidth()), ha="center", fontsize=9)
    figure.subplots_adjust(left=0.9 / figure.get_figwidth(), right=0.985, top=0.87, bottom=0.16, wspace=0.05)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _draw_loop(panel: Axes, figures: Figures, loop: str) -> None:
    ends: dict[str, float] = {}
    for client in figures.clients:
        colour, style = STYLES[client]
        spreads = {
            concurrency: values
            for concurrency in figures.concurrencies
            if (values := figures.values(Cell(client, concurrency, loop), cpu_us))
        }
        if not spreads:
            continue
        middles = [median(values) for values in spreads.values()]
        panel.plot(list(spreads), middles, style, color=colour, marker="o", markersize=4, linewidth=1.8)
        panel.fill_between(
            list(spreads), [*map(min, spreads.values())], [*map(max, spreads.values())], color=colour, alpha=0.12, lw=0
        )
        ends[client] = middles[-1]
    panel.set(xscale="log", yscale="log")
    last = max(figures.concurrencies)
    panel.set_xlim(0.85 * min(figures.concurrencies), last * 7)
    panel.set_xticks(figures.concurrencies, [str(concurrency) for concurrency in figures.concurrencies])
    panel.minorticks_off()
    ticks = [50, 100, 200, 500, 1000, 2000, 5000, 10_000]
    panel.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    for client, height in _apart(ends).items():
        panel.text(last * 1.15, height, client, color=STYLES[client][0], va="center", fontsize=11)
    panel.set_xlabel("messages in flight at once", fontsize=12)
    panel.set_title(loop, fontsize=14)


def _apart(ends: dict[str, float]) -> dict[str, float]:
    """Move labels up if they would overlap."""
    placed: dict[str, float] = {}
    lowest = 0.0
    for client, end in sorted(ends.items(), key=lambda item: item[1]):
        placed[client] = max(end, lowest)
        lowest = placed[client] * LABELS_APART
    return placed


def _wrapped(words: str, width_in: float) -> str:
    import textwrap

    return textwrap.fill(words, math.floor(width_in * 13))


# --- the command


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds of each measurement (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=CONCURRENCIES)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=tuple(CLIENTS), metavar="CLIENT")
    parser.add_argument("--loops", nargs="+", choices=("asyncio", "uvloop"), default=("asyncio",))
    parser.add_argument("--quick", action="store_true", help="one round, half a second a cell, up to 64")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the recording")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a PNG")
    parser.add_argument("--read", type=Path, metavar="FILE", help="read a recording of --json, and measure nothing")
    return parser


def main() -> None:
    """Measure, or read a recording, and print the tables."""
    options = build_parser().parse_args()
    # A SIGTERM then runs `finally`, as an interrupt does, so that no server is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
        options.concurrency = [concurrency for concurrency in options.concurrency if concurrency <= 64]
    record = cattrs.structure(json.loads(options.read.read_text()), Record) if options.read else measure_all(options)
    # Before anything is drawn, so that a missing library does not lose half an hour of measurements.
    if options.json:
        options.json.write_text(json.dumps(cattrs.unstructure(record)))
    print_tables(record, as_markdown if options.markdown else as_text)
    if options.picture:
        draw(record, options.picture)


if __name__ == "__main__":
    main()
