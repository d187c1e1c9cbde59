"""
How a fleet shares 30 messages a second over one Redis: 1, 10 and 100 hosts, in virtual time.

    python -m benchmarks.fleet                                      # a minute or two
    python -m benchmarks.fleet --quick                              # a quarter of the time, and fewer messages
    python -m benchmarks.fleet --picture benchmarks/fleet.png --markdown

tests/support/virtual_fleet.py describes what is real and what is simulated. The limiters are the package's, and their
scripts run on a real Valkey. Clocks and networks are simulated: the clock of each host is wrong by up to ten hours and
runs up to 50 ppm too fast or too slow. Its timers are up to 3 ms late, and each message takes up to 10 ms to Pico. The
numbers are the same on every machine.

It does not show what a real network does, nor the costs of Redis: a script takes no virtual time.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pico_async.coordination.rates import spacing_s
from tests.support.valkey_server import valkey_server
from tests.support.virtual_fleet import (
    LOPSIDED,
    MIXED,
    NEAR,
    RATE,
    Fleet,
    Network,
    Outcome,
    Scenario,
    densest,
    simulate,
    trailing_counts,
    violations,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN_RATE = 1 / spacing_s(RATE)
CHAT_PER_S = 2.0
BUSY_PER_S = 0.8 * RATE
SECONDS, QUICK_SECONDS = 110.0, 30.0


def even_load(hosts: int, network: Network) -> list[Scenario]:
    """Return scenarios without events: all blast; all chat; or all but one, which chats (one host does both)."""
    of = partial(Scenario, hosts=hosts, network=network)
    return [
        of(name="all blast", blasting=hosts),
        of(name="all chat", chatting=hosts, chat_per_s=BUSY_PER_S),
        of(name="blast, one chats", blasting=max(1, hosts - 1), chatting=1, chat_per_s=CHAT_PER_S),
    ]


def troubles(at_s: float) -> list[Scenario]:
    """Return scenarios of ten hosts, one of which chats, with an event *at_s* seconds after the start."""
    of = partial(Scenario, hosts=10, network=MIXED, blasting=9, chatting=1, chat_per_s=CHAT_PER_S)
    away = [(at_s, partial(_set_away, "refused")), (at_s + 3, partial(_set_away, None))]
    silent = [(at_s, partial(_set_away, "silent")), (at_s + 3, partial(_set_away, None))]
    return [
        of(name="clock an hour back", events=[(at_s, partial(_step, -3600))]),
        of(name="clock an hour on", events=[(at_s, partial(_step, 3600))]),
        of(name="Redis flushed", events=[(at_s, lambda fleet: fleet.server.flushdb())]),
        of(name="Redis away 3 s, fail", events=away),
        of(name="Redis away 3 s, share", events=away, share=1 / 10),
        of(name="Redis silent 3 s, share", events=silent, share=1 / 10),
        of(name="half of them vanish", events=[(at_s, lambda fleet: fleet.vanish(range(5, 10)))]),
        of(name="a rate refusal", events=[(at_s, lambda fleet: fleet.refuse(4))]),
        of(name="begin one by one", begin_every_s=1.7),
        of(name="ways apart by ≤ 10 ms", network=UNEVEN),
        of(name="ways apart by ≤ 49 ms", network=LOPSIDED),
        of(name="0 to 100 ms from Pico", pico_delays_s=(0.0, 0.1)),
    ]


UNEVEN = Network(name="20 to 30 ms", delays_s=(0.020, 0.030), symmetric=False)


def _step(seconds: float, fleet: Fleet) -> None:
    fleet.server_offset_s += seconds


def _set_away(how: str | None, fleet: Fleet) -> None:
    fleet.away = how


def all_scenarios(seconds: float) -> list[Scenario]:
    """Return all scenarios in the order of the table."""
    grid = [one for network in (NEAR, MIXED) for hosts in (1, 10, 100) for one in even_load(hosts, network)]
    return [attrs.evolve(one, seconds=seconds) for one in grid + troubles(seconds / 3)]


# --- tables and the picture

HEAD = (
    "scenario",
    "Redis",
    "hosts",
    "/s",
    f"of {OWN_RATE:.2f}",
    f"of {RATE}",
    "densest second, at the slot",
    "at Pico",
    f"beyond {RATE}, at the slot",
    "at Pico",
    "longest gap, s",
    "calls /s, host",
    "single send waits, ms: median",
    "p99",
    "longest",
    "p99 in one perfect queue",
    "max / min",
    "failed",
)


def table(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the rows of the table, the head first."""
    return [HEAD, *map(_row, outcomes)]


def _row(outcome: Outcome) -> tuple[str, ...]:
    scenario, waits_s = outcome.scenario, outcome.waits_s()
    # A fleet that asks for less than the rate does not show what it could reach.
    full = scenario.blasting > 0
    return (
        scenario.name,
        scenario.network.name,
        str(scenario.hosts),
        f"{outcome.per_s:.2f}",
        f"{outcome.per_s / OWN_RATE:.1%}" if full else "",
        f"{outcome.per_s / RATE:.1%}" if full else "",
        str(densest(outcome.granted)),
        str(densest(outcome.arrivals)),
        str(violations(outcome.granted)),
        str(violations(outcome.arrivals)),
        f"{outcome.longest_gap_s:.2f}",
        f"{outcome.calls_per_s_and_host:.1f}",
        *(f"{quantile(waits_s, share) * 1000:.0f}" if waits_s else "" for share in (0.5, 0.99, 1.0)),
        "" if full else f"{quantile(outcome.perfect_waits_s(), 0.99) * 1000:.0f}",
        "" if outcome.unfairness is None else f"{outcome.unfairness:.2f}",
        str(len(outcome.failed)),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that *share* of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table for a terminal, with its long heads numbered below it."""
    heads = [str(number) for number in range(1, len(HEAD) + 1)]
    widths = [max(map(len, column)) for column in zip(heads, *rows[1:], strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in (heads, *rows[1:])]
    return "\n".join([*lines, "", *(f"{number:>2} {head}" for number, head in enumerate(rows[0], 1))])


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table in Markdown."""
    rule = ("---", "---", *("---:" for _ in rows[0][2:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


# Okabe and Ito's colours, as in pacing.py; vermilion is for what exceeds the rate.
LINE, MEDIAN, TAIL, OVER = "#0072B2", "#0072B2", "#7F7F7F", "#D55E00"
COLUMNS = 5


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """Draw the arrivals in each sliding second, a panel for each scenario, and below how long single sends waited."""
    # Not at the top: only the picture needs it.
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    shown = [one for one in outcomes if one.scenario.network is not NEAR and one.scenario.blasting]
    shown = [one for one in shown if one.scenario.hosts != 1 or one.scenario.name == "all blast"]
    rows = -(-len(shown) // COLUMNS)
    figure = plt.figure(figsize=(16, 15))
    panels: Any = figure.add_gridspec(
        rows, COLUMNS, left=0.045, right=0.985, top=0.92, bottom=0.38, wspace=0.08, hspace=0.32
    ).subplots(sharex=True, sharey=True)
    panels[0, 0].set(xlim=(0, shown[0].scenario.seconds), ylim=(0, 36), yticks=range(0, 37, 6))
    for panel, outcome in zip(panels.flat, shown, strict=False):
        _draw_arrivals(panel, outcome)
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    for panel in panels[-1]:
        panel.set_xlabel("seconds", fontsize=11)

    bars = figure.add_subplot(figure.add_gridspec(1, 1, left=0.27, right=0.985, top=0.335, bottom=0.065)[0])
    _draw_waits(bars, [one for one in outcomes if one.waits_s()])
    figure.suptitle(
        "A fleet shares 30 messages a second over one Redis: how many reached Pico in the last second",
        fontsize=17,
        y=0.975,
    )
    figure.text(
        0.5,
        0.012,
        f"Virtual time: real scripts on a real Valkey; simulated clocks and networks. Dashed: {RATE}. "
        f"Red: arrivals that find more than {RATE} in their second.",
        ha="center",
        fontsize=11,
    )
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _draw_arrivals(panel: Axes, outcome: Outcome) -> None:
    moments = outcome.arrivals
    counts = trailing_counts(moments)
    # Arrivals that leave the second are steps, too, so that a pause is visible.
    steps = sorted([*zip(moments, counts, strict=True), *_falls(moments)])
    over = [(at, min(count, 36)) for at, count in zip(moments, counts, strict=True) if count > RATE]
    panel.step([at for at, _ in steps], [count for _, count in steps], where="post", color=LINE, linewidth=0.8)
    panel.plot([at for at, _ in over], [count for _, count in over], ".", color=OVER, markersize=4, clip_on=False)
    panel.axhline(RATE, color="black", linewidth=0.8, linestyle="--")
    scenario = outcome.scenario
    hosts = "1 host" if scenario.hosts == 1 else f"{scenario.hosts} hosts"
    panel.set_title(f"{hosts}: {scenario.name}", fontsize=11)
    panel.text(
        0.97,
        0.07,
        f"{outcome.per_s:.1f} /s, densest second {densest(moments)}",
        transform=panel.transAxes,
        ha="right",
        fontsize=10,
        color=OVER if over else "black",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def _falls(moments: Sequence[float]) -> list[tuple[float, int]]:
    """Return the moment at which each arrival leaves the second, and how many are left in it then."""
    ends = [at + 1.0 for at in moments]
    return [(end, bisect_right(moments, end) - number) for number, end in enumerate(ends, 1)]


def _draw_waits(bars: Axes, outcomes: Sequence[Outcome]) -> None:
    names = [f"{one.scenario.hosts}: {one.scenario.name}, Redis {one.scenario.network.name}" for one in outcomes]
    medians, tails = ([quantile(one.waits_s(), share) * 1000 for one in outcomes] for share in (0.5, 0.99))
    places = range(len(names), 0, -1)
    bars.barh(places, tails, color=TAIL, height=0.7, label="99th percentile")
    bars.barh(places, medians, color=MEDIAN, height=0.7, label="median")
    bars.set_yticks(places, names, fontsize=8.5)
    bars.set_xlabel("how long single sends waited for their slots, ms", fontsize=11)
    bars.axvline(500, color="black", linewidth=0.8, linestyle="--")
    bars.margins(y=0.01)
    bars.legend(fontsize=11, loc="lower right")


# --- the command


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} virtual seconds each, not {SECONDS:g}")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the scenarios whose name contains this")
    parser.add_argument("--seed", type=int, default=1, help="seed of all draws (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a PNG")
    return parser


def main() -> None:
    """Simulate the scenarios, and print the table."""
    options = build_parser().parse_args()
    scenarios = all_scenarios(QUICK_SECONDS if options.quick else SECONDS)
    scenarios = [attrs.evolve(one, seed=options.seed) for one in scenarios if options.only in one.name]
    outcomes = []
    with valkey_server() as server, server.client() as client:
        for number, scenario in enumerate(scenarios, 1):
            began_at = time.perf_counter()
            outcomes.append(simulate(scenario, client))
            what = f"{scenario.hosts} hosts, {scenario.name}, Redis {scenario.network.name}"
            took_s = time.perf_counter() - began_at
            print(f"{number}/{len(scenarios)}  {what}: {took_s:.1f} s", file=sys.stderr, flush=True)
    print((as_markdown if options.markdown else as_text)(table(outcomes)))
    if options.picture:
        draw(outcomes, options.picture)


if __name__ == "__main__":
    main()
