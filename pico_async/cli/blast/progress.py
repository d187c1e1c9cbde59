"""How far a blast has come, on stderr: a bar for people, lines for logs, or nothing."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Literal, Protocol, Self

from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pico_async.cli.format import format_outcome
from pico_async.errors import Outcome

# The outcomes in the order in which they are told, and their colours.
COLOURS: Mapping[Outcome, str] = {
    Outcome.ACCEPTED: "green",
    Outcome.SKIPPED: "cyan",
    Outcome.REJECTED: "red",
    Outcome.NOT_SENT: "yellow",
    Outcome.IN_DOUBT: "magenta",
}
# The pace shown is that of the last seconds: a pause shows at once, and a single slow reply does not.
_WINDOW_S = 10.0
_BAR_WIDTH = 40


@frozen(kw_only=True)
class Progress:
    """
    How far the blast is.

    Attributes:
        total: Rows in all.
        outcomes: Rows that are settled, by outcome.
        per_s: Rows settled a second, of late, but for those that the journal had.
        word: What it does.
    """

    total: int
    outcomes: Counter[Outcome]
    per_s: float = 0.0
    word: Literal["Sending", "Stopping", "Sent", "Stopped"] = "Sending"

    @property
    def done(self) -> int:
        """Rows that are settled."""
        return self.outcomes.total()

    @property
    def shown(self) -> list[Outcome]:
        """The outcomes that are told: only a journal has any to skip."""
        return [outcome for outcome in COLOURS if outcome is not Outcome.SKIPPED or self.outcomes[outcome]]

    @property
    def speed(self) -> str:
        """The pace, and how long the rest takes at it, in words."""
        if self.word != "Sending" or self.per_s <= 0:
            return ""
        return f"{self.per_s:.1f}/s, {timedelta(seconds=round((self.total - self.done) / self.per_s))} left"


@define
class RateMeter:
    """
    Measure the pace of late.

    What the journal had goes by at thousands a second, and tells nothing of how long the rest takes: it is not counted,
    and neither is the time in which there was nothing else.
    """

    _seen: deque[tuple[float, int]] = field(factory=deque)

    def per_s(self, now: float, outcomes: Counter[Outcome]) -> float:
        """Take note of what is settled at *now* (seconds), and give the rows a second."""
        done = outcomes.total() - outcomes[Outcome.SKIPPED]
        if not done:
            self._seen.clear()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


class Display(Protocol):
    """Where the progress goes. It is entered once for the reading and once for the sending."""

    @property
    def interval_s(self) -> float:
        """How often it wants to be told of the sending."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show_reading(self, rows: int) -> None:
        """Show how many rows were read."""
        ...

    def show_sending(self, progress: Progress) -> None:
        """Show how far the sending is."""
        ...

    def print(self, text: str) -> None:
        """Say something in between."""
        ...


def display_for(console: Console, *, wanted: bool) -> Display:
    """Choose what suits the terminal, or the lack of one."""
    if not wanted:
        return QuietDisplay(console)
    return BarDisplay(console) if console.is_interactive else LineDisplay(console)


class QuietDisplay:
    """Show no progress."""

    interval_s = 60.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def show_reading(self, rows: int) -> None:
        """Nothing."""

    def show_sending(self, progress: Progress) -> None:
        """Nothing."""

    def print(self, text: str) -> None:
        """Say something in between."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LineDisplay(QuietDisplay):
    """Show a line now and then, as a log wants it."""

    interval_s = 5.0

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._next_at = time.monotonic() + self.interval_s

    def show_reading(self, rows: int) -> None:
        """Print how many rows were read, if it is time for a line."""
        if self._is_time():
            self.print(f"reading: {rows:,} rows")

    def show_sending(self, progress: Progress) -> None:
        """Print how far the sending is, if it is time for a line."""
        if self._is_time():
            counts = ", ".join(
                f"{progress.outcomes[outcome]:,} {format_outcome(outcome)}" for outcome in progress.shown
            )
            self.print(f"{progress.done:,} of {progress.total:,} ({progress.speed or progress.word.lower()}): {counts}")

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self.interval_s
        return True


class BarDisplay(QuietDisplay):
    """Show a bar that moves."""

    # Drawing takes 2 ms of the loop that sends: five times a second is 1 % of it, and smooth enough.
    interval_s = 0.2

    def __enter__(self) -> Self:
        # The caller's loop draws it. Live's own thread would draw while the loop changes the numbers.
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show_reading(self, rows: int) -> None:
        """Draw how many rows were read."""
        self._live.update(Text(f"Reading  {rows:,} rows", style="dim"), refresh=True)

    def show_sending(self, progress: Progress) -> None:
        """Draw how far the sending is; the last drawing stays on the screen."""
        self._live.transient = False
        # What stands beside the bar takes 50 characters where there are millions and hours.
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
