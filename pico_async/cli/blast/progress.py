"""The progress of a bulk send on stderr: a bar on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self

from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pico_async.cli.format import format_outcome
from pico_async.errors import Outcome

# The outcomes in the order of display, and their colours.
COLOURS: Mapping[Outcome, str] = {
    Outcome.ACCEPTED: "green",
    Outcome.SKIPPED: "cyan",
    Outcome.REJECTED: "red",
    Outcome.NOT_SENT: "yellow",
    Outcome.IN_DOUBT: "magenta",
}
# The rate shown is the average of the last seconds: a pause shows soon, and a single slow reply does not.
_WINDOW_S = 10.0
_BAR_WIDTH = 40


@frozen(kw_only=True)
class Progress:
    """
    The progress of a bulk send.

    Attributes:
        outcomes: Settled rows, by outcome.
        per_s: Recently settled rows per second, without those skipped because of the journal.
    """

    total: int
    outcomes: Counter[Outcome]
    per_s: float = 0.0
    word: Literal["Sending", "Stopping", "Sent", "Stopped"] = "Sending"

    @property
    def done(self) -> int:
        return self.outcomes.total()

    @property
    def shown(self) -> list[Outcome]:
        """The outcomes to show. Skipped rows are shown only if there are any, because most users have no journal."""
        return [outcome for outcome in COLOURS if outcome is not Outcome.SKIPPED or self.outcomes[outcome]]

    @property
    def speed(self) -> str:
        """The rate and the time left, in words."""
        if self.word != "Sending" or self.per_s <= 0:
            return ""
        return f"{self.per_s:.1f}/s, {timedelta(seconds=round((self.total - self.done) / self.per_s))} left"


@define
class RateMeter:
    """
    Measure the recent rate of settled rows.

    Skipped rows take almost no time, and say nothing about the rows that are left. They are not counted, and neither is
    the time before the first other row.
    """

    _seen: deque[tuple[float, int]] = field(factory=deque)

    def per_s(self, now: float, outcomes: Counter[Outcome]) -> float:
        """Record the rows settled at *now* (seconds), and return the rows per second."""
        done = outcomes.total() - outcomes[Outcome.SKIPPED]
        if not done:
            self._seen.clear()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


def display_for(console: Console, *, wanted: bool) -> Display:
    if not wanted:
        return Display(console)
    return BarDisplay(console) if console.is_interactive else LineDisplay(console)


class Display:
    """
    Show no progress. It is entered once for the scan and once for the sending.

    Attributes:
        interval_s: Seconds between two calls of `show_sending`.
    """

    interval_s: float = 60.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show_reading(self, rows: int) -> None:
        """Show how many rows were read."""

    def show_sending(self, progress: Progress) -> None:
        """Show how many rows were settled."""

    def print(self, text: str) -> None:
        """Print a line above the progress."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LineDisplay(Display):
    """Print a line every few seconds, for a log."""

    interval_s: float = 5.0

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._next_at = time.monotonic() + self.interval_s

    def show_reading(self, rows: int) -> None:
        if self._is_due():
            self.print(f"reading: {rows:,} rows")

    def show_sending(self, progress: Progress) -> None:
        if self._is_due():
            counts = ", ".join(
                f"{progress.outcomes[outcome]:,} {format_outcome(outcome)}" for outcome in progress.shown
            )
            self.print(f"{progress.done:,} of {progress.total:,} ({progress.speed or progress.word.lower()}): {counts}")

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self.interval_s
        return True


class BarDisplay(Display):
    """Draw a progress bar."""

    # A drawing takes 2 ms of the event loop that sends. Five per second take 1 % of it.
    interval_s: float = 0.2

    def __enter__(self) -> Self:
        # The event loop draws the bar. Live's own thread would draw while the loop changes the numbers.
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show_reading(self, rows: int) -> None:
        self._live.update(Text(f"Reading  {rows:,} rows", style="dim"), refresh=True)

    def show_sending(self, progress: Progress) -> None:
        """Draw how many rows were settled. The last drawing stays on the screen."""
        self._live.transient = False
        # The text beside the bar takes up to 50 characters, with millions of rows and hours left.
        width = min(_BAR_WIDTH, max(10, self._console.width - 50))
        self._live.update(_drawn(progress, width), refresh=True)


def _drawn(progress: Progress, width: int) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(f"{progress.word:<8}", style="bold"),
        ProgressBar(total=max(progress.total, 1), completed=progress.done, width=width),
        f"{progress.done:,}/{progress.total:,}",
        progress.speed,
    )
    counts = Text(" " * 10)
    for outcome in progress.shown:
        count = progress.outcomes[outcome]
        counts.append(f"{format_outcome(outcome)} {count:,}   ", style=COLOURS[outcome] if count else "dim")
    return Group(line, counts)
