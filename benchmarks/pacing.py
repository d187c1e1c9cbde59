"""
How evenly four strategies send 30 messages a second, measured at the server.

    python benchmarks/pacing.py                                     # 900 messages, 32 runs, 19 minutes
    python benchmarks/pacing.py --messages 120                      # a quick look, 4 minutes
    python benchmarks/pacing.py --scenario "RTT 200 ms" --strategy "pico_async send_bulk"   # a part; both repeatable
    python benchmarks/pacing.py --json pacing.json --picture pacing.png --markdown
    python benchmarks/pacing.py --read pacing.json --picture pacing.png   # judge and draw again

The sandbox runs in a process of its own. It records the arrivals and enforces no rate, so everything arrives, and one
recording can be judged by every rule. Jitter delays each request by up to so many milliseconds. A relay in a third
process makes the round trips (RTT) and the stalls; with it, opening a connection and a TLS handshake take their round
trips, too (`tests/support/far_away.py`).

Every strategy gets the same jitter (one seed), and sends the same request through httpx with the same limits. It keeps
at most 192 messages in flight, and has its token before the first message. Runs never overlap, because they would
disturb each other.

It does not show what Pico itself would refuse: which rule Pico enforces is not documented.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiometer
import cattrs
import httpx
from aiolimiter import AsyncLimiter
from attrs import field, frozen

sys.path.insert(0, str(Path(__file__).parent.parent))

from pico_async import PicoSession, SmsMessage
from pico_async.sandbox import DEFAULT_API_KEY, RateRule, replay
from tests.support.far_away import far_away, slow_to_connect

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE = 30
USERNAME = "user333"
SENDER = "8612345678888"
TEXT = "Your code is 1234"

# More than any strategy needs, so that only the limiters are compared: at an RTT of 2 s 60 messages are in flight, and
# 120 while the first of them open their connections.
CONCURRENCY = 192

# The connection limits of PicoSession's own transport.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)

# The begin of the server's seconds is chance: an aligned window is judged at so many alignments, and the worst counts.
ALIGNMENTS = 20

# Rare enough not to disturb the measured loop, often enough for a 99th percentile: 600 times in 30 s.
PROBE_EVERY_S = 0.05

# When the rate has recovered after a stall: the window in seconds, and the share of its former arrivals that it must
# hold. At 29.5 a second two seconds hold 58 to 60, so one or two missing ones are a late timer, and no loss of rate. A
# fault more than five seconds later has another cause, such as a busy machine.
BACK_OVER_S = 2.0
BACK_FROM = 0.96
STAYS_S = 5.0

SERVER_START_S = 30.0
SERVER_END_S = 5.0
REPLY_S = 10.0


PICO = "pico_async send_bulk"
BURST = "AsyncLimiter(30, 1)"
SINGLE = "AsyncLimiter(1, 1/30)"
AIOMETER = "aiometer, 30 per second"


@frozen(kw_only=True)
class Scenario:
    """
    The network between client and server.

    Attributes:
        jitter_ms: Each request arrives up to so much later.
        reply_s: A reply comes so much later; connections open at once.
        rtt_s: A round trip.
        tls: Whether a new connection has a TLS handshake. Without it, the client's connect() takes the round trip.
        stall_s: For how long nothing passes, once, after a third of the run.
        burst: Whether `AsyncLimiter(30, 1)` runs. Its first burst is the same in any network, so a few runs suffice.
    """

    name: str
    jitter_ms: float = 0
    reply_s: float = 0
    rtt_s: float = 0
    tls: bool = False
    stall_s: float = 0
    burst: bool = False

    def strategies(self) -> list[str]:
        """Return the names of the strategies that a full measurement runs."""
        return [name for name in STRATEGIES if name != BURST or self.burst]


SCENARIOS = (
    Scenario(name="no jitter", burst=True),
    Scenario(name="5 ms jitter", jitter_ms=5),
    Scenario(name="10 ms jitter", jitter_ms=10, burst=True),
    Scenario(name="20 ms jitter", jitter_ms=20, burst=True),
    Scenario(name="50 ms jitter", jitter_ms=50),
    Scenario(name="replies after 200 ms", reply_s=0.2),
    Scenario(name="replies after 2 s", reply_s=2.0),
    Scenario(name="RTT 50 ms", rtt_s=0.05, tls=True),
    Scenario(name="RTT 200 ms", rtt_s=0.2, tls=True, burst=True),
    # Without TLS: the handshakes would take half of the 10 s that a client allows for an exchange.
    Scenario(name="RTT 2 s", rtt_s=2.0),
    Scenario(name="300 ms spike", stall_s=0.3, burst=True),
)


@frozen
class Run:
    """
    One strategy in one scenario, as it was recorded.

    Attributes:
        times: When each message arrived, in seconds after the first.
        late_ms: How late asyncio woke the sending process's probe, in milliseconds, each time.
        stall_s: For how long nothing passed, once.
        pace: The rate of the strategy's limiter at the end; empty if it does not report one.
    """

    scenario: str
    strategy: str
    times: list[float] = field(repr=False)
    late_ms: list[float] = field(repr=False)
    stall_s: float = 0.0
    pace: str = ""


@frozen
class Record:
    """All runs, and where and when they took place."""

    date: str
    machine: str
    runs: list[Run]


@frozen
class Judgement:
    """
    The judgement of one run's arrivals.

    Attributes:
        rate: Messages a second, from the first arrival to the last.
        densest: Most arrivals in any one second, half-open.
        refused: How many each rule would have refused.
    """

    rate: float
    densest: int
    refused: dict[RateRule, int]

    @property
    def worst(self) -> int:
        """The refusals of the strictest rule."""
        return max(self.refused.values())


# --- judging: pure, from recorded times alone


def trailing_counts(times: Sequence[float]) -> list[int]:
    """Return, for each arrival in order, how many are in the second that ends with it; its start is open."""
    counts, recent = [], deque[float]()
    for at in times:
        recent.append(at)
        while at - recent[0] >= 1.0:
            recent.popleft()
        counts.append(len(recent))
    return counts


def refusals(rule: RateRule, times: Sequence[float]) -> int:
    """Return how many *rule* would have refused; for an aligned window, at the worst alignment."""
    alignments = ALIGNMENTS if rule is RateRule.ALIGNED_WINDOW else 1
    return max(replay(rule, [at + step / alignments for at in times], RATE) for step in range(alignments))


def judge(times: Sequence[float]) -> Judgement:
    """Judge one run by its arrivals."""
    return Judgement(
        rate=(len(times) - 1) / (times[-1] - times[0]),
        densest=max(trailing_counts(times)),
        refused={rule: refusals(rule, times) for rule in RateRule},
    )


def stall_ended_at(times: Sequence[float], stall_s: float) -> float:
    """Return the time of the first arrival after the stall. The clocks of arrivals and relay differ a little."""
    return next(after for before, after in pairwise(times) if after - before >= stall_s - 0.005)


def recovered_after_s(times: Sequence[float], stall_s: float) -> float | None:
    """
    Return the seconds from the end of the stall to the recovery; None if the run ended before it.

    The recovery begins `STAYS_S` seconds without these faults:

    - a second with more than 30 arrivals;
    - `BACK_OVER_S` seconds with less than `BACK_FROM` of their former arrivals. These are counted in the second half of
      the time before the stall, because the first half may have a burst.
    """
    ended_at = stall_ended_at(times, stall_s)
    earlier = [at for at in times if at < ended_at]
    steady = [at for at in earlier if at >= earlier[-1] / 2]
    enough = BACK_FROM * BACK_OVER_S * (len(steady) - 1) / (steady[-1] - steady[0])

    troubled = [at for at, count in zip(times, trailing_counts(times), strict=True) if count > RATE]
    for start, (at, following) in enumerate(pairwise(times), 1):
        if at + BACK_OVER_S <= times[-1] and bisect_right(times, at + BACK_OVER_S) - start < enough:
            # Not to its end: a window that begins with the next arrival has one arrival more.
            troubled.append(following)
    recovered_at = ended_at
    for at in sorted(troubled):
        if at > recovered_at + STAYS_S:
            break
        recovered_at = max(recovered_at, at)
    return recovered_at - ended_at if recovered_at + STAYS_S <= times[-1] else None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- sending: four strategies with one signature

# Each returns the rate of its limiter at the end, if it reports one.
Strategy = Callable[[str, Sequence[str]], Awaitable[str]]


async def send_with_pico(base_url: str, numbers: Sequence[str]) -> str:
    """Send with `send_bulk` and its defaults: rates, transport and the jitter allowance that it estimates."""
    messages = (SmsMessage(to=number, text=TEXT) for number in numbers)
    async with PicoSession(username=USERNAME, api_key=DEFAULT_API_KEY, sender=SENDER, base_url=base_url) as pico:
        report = await pico.send_bulk(messages, concurrency=CONCURRENCY)
    report.raise_for_failures()
    # A recording may be of a version that does not report it.
    pace = getattr(report, "pace", None)
    if pace is None:
        return ""
    return f"{pace:.2f}" if isinstance(pace, int | float) else str(pace)


def with_limiter(max_rate: float, time_period: float) -> Strategy:
    """Return the strategy that enters an `AsyncLimiter` before each request."""

    async def send_with_limiter(base_url: str, numbers: Sequence[str]) -> str:
        limiter = AsyncLimiter(max_rate, time_period)
        waiting = iter(numbers)
        async with plain_post(base_url) as post:

            async def work() -> None:
                for number in waiting:
                    async with limiter:
                        await post(number)

            async with asyncio.TaskGroup() as workers:
                for _ in range(CONCURRENCY):
                    workers.create_task(work())
        return ""

    return send_with_limiter


async def send_with_aiometer(base_url: str, numbers: Sequence[str]) -> str:
    """Send with `aiometer.run_on_each`."""
    async with plain_post(base_url) as post:
        await aiometer.run_on_each(post, numbers, max_at_once=CONCURRENCY, max_per_second=RATE)
    return ""


@asynccontextmanager
async def plain_post(base_url: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Yield a function that sends one message with plain httpx: with a token, without retries and without a limiter."""
    transport = httpx.AsyncHTTPTransport(limits=LIMITS)
    async with httpx.AsyncClient(
        base_url=base_url, transport=transport, timeout=REPLY_S, headers={"X-API-Key": DEFAULT_API_KEY}
    ) as client:
        reply = await client.get(f"/token/{USERNAME}")
        client.headers["Authorization"] = f"Bearer {reply.raise_for_status().json()['token']}"

        async def post(number: str) -> None:
            body = {"username": USERNAME, "from": SENDER, "to": number, "text": TEXT}
            (await client.post("/sms", json=body)).raise_for_status()

        yield post


STRATEGIES: dict[str, Strategy] = {
    PICO: send_with_pico,
    BURST: with_limiter(RATE, 1),
    SINGLE: with_limiter(1, 1 / RATE),
    AIOMETER: send_with_aiometer,
}


# --- measuring


@asynccontextmanager
async def sandbox(scenario: Scenario) -> AsyncIterator[str]:
    """Run a sandbox in a process of its own until the context ends, and yield its base URL."""
    options = {
        "--port": 0,
        "--rate-rule": "none",
        "--seed": 1,
        "--jitter-ms": scenario.jitter_ms,
        "--latency-ms": 1000 * scenario.reply_s,
    }
    words = [str(word) for option in options.items() for word in option]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "pico_async.sandbox", *words, stdout=PIPE)
    try:
        yield await asyncio.wait_for(listening_address(process), SERVER_START_S)
    finally:
        await end(process)


@asynccontextmanager
async def network(scenario: Scenario, base_url: str, messages: int) -> AsyncIterator[str]:
    """Put the scenario's network between this process and the sandbox, and yield the base URL to send to."""
    if not scenario.rtt_s and not scenario.stall_s:
        yield base_url
        return
    stall_at_s = messages / RATE / 3 if scenario.stall_s else None
    with (
        far_away(
            base_url, rtt_s=scenario.rtt_s, tls=scenario.tls, stall_at_s=stall_at_s, stall_s=scenario.stall_s
        ) as far,
        mock.patch.dict(os.environ, {"SSL_CERT_FILE": far.ca_file} if far.ca_file else {}),
        # With TLS, the handshake contains the delay of opening a connection.
        slow_to_connect(0 if scenario.tls else scenario.rtt_s),
    ):
        yield far.base_url


async def listening_address(process: Process) -> str:
    """Read the sandbox's output until its address, and return that."""
    assert process.stdout is not None
    async for line in process.stdout:
        before, found, base_url = line.decode().partition("listening on ")
        if found and not before:
            return base_url.strip()
    raise RuntimeError("The sandbox ended before it listened; its own message is above.")


async def end(process: Process) -> None:
    """Terminate the process, and kill it after a while."""
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), SERVER_END_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def probe(late_ms: list[float]) -> None:
    """Record until cancelled how late asyncio wakes a sleeper: no limiter in this process can undo late timers."""
    clock = asyncio.get_running_loop().time
    while True:
        began_at = clock()
        await asyncio.sleep(PROBE_EVERY_S)
        late_ms.append(round((clock() - began_at - PROBE_EVERY_S) * 1000, 3))


async def arrivals(base_url: str) -> list[float]:
    """Return the arrivals of the sandbox's ledger, in seconds after the first."""
    async with httpx.AsyncClient(base_url=base_url, timeout=REPLY_S) as client:
        ledger = (await client.get("/_sandbox/ledger")).raise_for_status().json()
    times = sorted(row["at"] for row in ledger["arrivals"] if row["operation"] == "sms.send")
    return [at - times[0] for at in times]


async def measure(scenario: Scenario, name: str, messages: int) -> Run:
    """
    Carry out one run.

    Raises:
        TimeoutError: It took more than twice its time, and half a minute.
        RuntimeError: Not everything arrived exactly once, so there is nothing to compare.
    """
    numbers = [f"8612345{index:06}" for index in range(messages)]
    late_ms: list[float] = []
    async with sandbox(scenario) as base_url:
        async with network(scenario, base_url, messages) as far_url:
            probing = asyncio.create_task(probe(late_ms))
            try:
                async with asyncio.timeout(30 + 2 * messages / RATE):
                    pace = await STRATEGIES[name](far_url, numbers)
            finally:
                probing.cancel()
                await asyncio.wait([probing])
        times = await arrivals(base_url)
    if len(times) != messages:
        raise RuntimeError(f"{name}, {scenario.name}: {len(times)} of {messages} messages arrived.")
    return Run(scenario.name, name, times, late_ms, scenario.stall_s, pace)


def measure_all(messages: int, scenarios: Sequence[str], strategies: Sequence[str]) -> Record:
    """
    Carry out all runs, one after the other, each in an event loop of its own.

    Args:
        scenarios: The names of those to run; all if empty.
        strategies: Likewise. A named one runs in every scenario.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    todo = [
        (scenario, name)
        for scenario in SCENARIOS
        if not scenarios or scenario.name in scenarios
        for name in (STRATEGIES if strategies else scenario.strategies())
        if not strategies or name in strategies
    ]
    runs = []
    for number, (scenario, name) in enumerate(todo, 1):
        print(f"{number}/{len(todo)}  {scenario.name}, {name}", file=sys.stderr, flush=True)
        runs.append(asyncio.run(measure(scenario, name, messages)))
    return Record(date, machine(), runs)


def machine() -> str:
    """Return a description of the machine and the packages that the timing depends on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("pico-async", "aiolimiter", "aiometer", "httpx"))
    return f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}, loopback; {packages}"


# --- tables and the picture

HEAD = (
    *("scenario", "strategy", "/s", "of 30", "densest second", *RateRule),
    *("recovered after, s", "pace at the end", "timer late p99, ms"),
)


def table(record: Record) -> list[tuple[str, ...]]:
    """Return the rows of the table, the head first."""
    rows: list[tuple[str, ...]] = [HEAD]
    for run in record.runs:
        judgement = judge(run.times)
        rows.append(
            (
                run.scenario,
                run.strategy,
                f"{judgement.rate:.2f}",
                f"{judgement.rate / RATE:.1%}",
                str(judgement.densest),
                *(str(judgement.refused[rule]) for rule in RateRule),
                _recovered(run),
                run.pace,
                f"{quantile(run.late_ms, 0.99):.1f}",
            )
        )
    return rows


def _recovered(run: Run) -> str:
    if not run.stall_s:
        return ""
    after_s = recovered_after_s(run.times, run.stall_s)
    # The time without faults was too short at the end of the run.
    return f"> {run.times[-1] - stall_ended_at(run.times, run.stall_s):.1f}" if after_s is None else f"{after_s:.1f}"


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_aligned(row, widths)).rstrip() for row in rows)


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table in Markdown."""
    rule = ("---", "---", *("---:" for _ in rows[0][2:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    words = [word.ljust(width) for word, width in zip(row[:2], widths[:2], strict=True)]
    return words + [word.rjust(width) for word, width in zip(row[2:], widths[2:], strict=True)]


def circumstances(record: Record) -> str:
    """Return when and where it was measured, and the noise of the timers there."""
    late_ms = [late for run in record.runs for late in run.late_ms]
    return (
        f"{len(record.runs[0].times)} messages a run. {record.date}. {record.machine}.\n"
        f"Noise: asyncio.sleep woke {median(late_ms):.2f} ms late in the median, {quantile(late_ms, 0.99):.2f} ms at "
        f"p99, {max(late_ms):.1f} ms at worst ({len(late_ms)} samples, during the runs)."
    )


def as_json(record: Record) -> str:
    """Return the record with its judgements as JSON, so that others can judge it again."""
    content = cattrs.unstructure(record)
    for run, row in zip(record.runs, content["runs"], strict=True):
        row["judgement"] = cattrs.unstructure(judge(run.times))
    return json.dumps(content)


# Okabe and Ito's colours, which the colour-blind can distinguish; vermilion is for what exceeds the rate.
COLOURS = ("#0072B2", "#7F7F7F", "#E69F00", "#009E73")
OVER = "#D55E00"
# On an axis from 0, 30 arrivals and 31 would look alike.
FLOOR, CEILING = 24, 36


def draw(record: Record, file: Path) -> None:
    """Draw the arrivals in each sliding second, a panel for each run, and below them the refusals as bars."""
    # Not at the top, so that it affects no measurement.
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    scenarios = list(dict.fromkeys(run.scenario for run in record.runs))
    ran = {run.strategy for run in record.runs}
    # In a part, each strategy has the same colour as in the whole.
    colours = {name: colour for name, colour in zip(STRATEGIES, COLOURS, strict=True) if name in ran}
    strategies = list(colours)
    messages, longest_s = len(record.runs[0].times), max(run.times[-1] for run in record.runs)
    figure = plt.figure(figsize=(22, 13))

    panels: Any = figure.add_gridspec(
        len(strategies), len(scenarios), left=0.045, right=0.99, top=0.92, bottom=0.4, wspace=0.08, hspace=0.12
    ).subplots(sharex=True, sharey=True, squeeze=False)
    panels[0, 0].set(xlim=(0, longest_s), ylim=(FLOOR, CEILING), yticks=range(FLOOR, CEILING + 1, 3))
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="upper"))
    for run in record.runs:
        row, column = strategies.index(run.strategy), scenarios.index(run.scenario)
        _draw_run(panels[row, column], run, colours[run.strategy])
    drawn = {(run.strategy, run.scenario) for run in record.runs}
    for (row, strategy), (column, scenario) in product(enumerate(strategies), enumerate(scenarios)):
        if (strategy, scenario) not in drawn:
            panels[row, column].text(0.5, 0.5, "not run", transform=panels[row, column].transAxes, ha="center")
    for panel, scenario in zip(panels[0], scenarios, strict=True):
        panel.set_title(scenario, fontsize=14)
    for panel, strategy in zip(panels[:, 0], strategies, strict=True):
        panel.set_ylabel(re.sub(r"(?<=async) |(?<=meter,) |(?=\()", "\n", strategy), fontsize=12)
    for panel in panels[-1]:
        panel.set_xlabel("seconds", fontsize=11)

    bars = figure.add_subplot(figure.add_gridspec(1, 1, left=0.045, right=0.99, top=0.31, bottom=0.13)[0])
    _draw_refusals(bars, record.runs, scenarios, colours)
    bars.set_title(f"Of {messages} messages, refused by the strictest of four rules at {RATE} a second", fontsize=15)

    figure.suptitle(
        f"{messages} messages at {RATE} a second: how many arrived at the server in the last second",
        fontsize=17,
        y=0.975,
    )
    figure.text(
        0.5,
        0.012,
        f"The upper panels show {FLOOR} to {CEILING} arrivals, not from 0; what lies above is drawn at the edge. "
        f"Dashed: {RATE}. Red: arrivals that find more than {RATE} in their second.\n{circumstances(record)}",
        ha="center",
        fontsize=10,
    )
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _draw_run(panel: Axes, run: Run, colour: str) -> None:
    counts = trailing_counts(run.times)
    densest = max(counts)
    over = [(at, min(count, CEILING)) for at, count in zip(run.times, counts, strict=True) if count > RATE]
    panel.step(run.times, counts, where="post", color=colour, linewidth=0.8)
    panel.plot([at for at, _ in over], [count for _, count in over], ".", color=OVER, markersize=4, clip_on=False)
    panel.axhline(RATE, color="black", linewidth=0.8, linestyle="--")
    panel.text(
        0.97,
        0.07,
        f"{judge(run.times).rate:.1f} /s, densest {densest}",
        transform=panel.transAxes,
        ha="right",
        fontsize=12,
        color=OVER if densest > RATE else "black",
    )


def _draw_refusals(bars: Axes, runs: Sequence[Run], scenarios: Sequence[str], colours: dict[str, str]) -> None:
    refused = {(run.scenario, run.strategy): judge(run.times).worst for run in runs}
    for place, (strategy, colour) in enumerate(colours.items()):
        ran = [group for group, scenario in enumerate(scenarios) if (scenario, strategy) in refused]
        drawn = bars.bar(
            [group + 0.2 * (place - (len(colours) - 1) / 2) for group in ran],
            [refused[scenarios[group], strategy] for group in ran],
            width=0.18,
            color=colour,
            label=strategy,
        )
        bars.bar_label(drawn, fontsize=12, padding=2)
    bars.set_xticks(range(len(scenarios)), scenarios, fontsize=14)
    bars.set_ylabel("refused", fontsize=12)
    bars.set_xlim(-0.5, len(scenarios) - 0.5)
    bars.margins(y=0.14)
    bars.legend(fontsize=13, ncols=len(colours), loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)


# --- the command


def _messages(text: str) -> int:
    messages = int(text)
    if messages < 2 * RATE:
        raise argparse.ArgumentTypeError(f"at least {2 * RATE}: a rate does not show in less than two seconds")
    return messages


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--messages", type=_messages, default=900, help="messages a run (default: %(default)s)")
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        choices=[scenario.name for scenario in SCENARIOS],
        help="run only this one; repeatable: " + ", ".join(scenario.name for scenario in SCENARIOS),
    )
    parser.add_argument(
        "--strategy",
        action="append",
        default=[],
        metavar="NAME",
        choices=list(STRATEGIES),
        help="run only this one, in every scenario; repeatable: " + "; ".join(STRATEGIES),
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the recorded times and judgements")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a PNG")
    parser.add_argument("--read", type=Path, metavar="FILE", help="read a recording of --json, and measure nothing")
    return parser


def main() -> None:
    """Measure, or read a recording, and print the table."""
    options = build_parser().parse_args()
    # A SIGTERM then runs `finally`, as an interrupt does, so that no sandbox is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.read:
        record = cattrs.structure(json.loads(options.read.read_text()), Record)
    else:
        record = measure_all(options.messages, options.scenario, options.strategy)
    # Before anything is drawn, so that a missing library does not lose twenty minutes of measurements.
    if options.json:
        options.json.write_text(as_json(record))
    print((as_markdown if options.markdown else as_text)(table(record)))
    print(f"\n{circumstances(record)}")
    if options.picture:
        draw(record, options.picture)


if __name__ == "__main__":
    main()
