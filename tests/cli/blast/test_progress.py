"""The progress of a bulk send is drawn as a bar on a terminal, and printed as lines elsewhere."""

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from pico_async import Outcome
from pico_async.cli.blast.progress import BarDisplay, Display, LineDisplay, Progress, RateMeter, display_for

OUTCOMES = Counter({Outcome.ACCEPTED: 1230, Outcome.REJECTED: 2, Outcome.IN_DOUBT: 2})


def console(*, terminal: bool) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=80, no_color=True, legacy_windows=False)


def written(display: Display) -> str:
    file = display._console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_the_bar_shows_rate_time_and_outcomes() -> None:
    """
    The bar shows the rate, the time left and the outcomes in two lines that fit into 80 columns, even with a million
    rows.
    """
    bar = BarDisplay(console(terminal=True))

    with bar:
        bar.show_sending(Progress(total=1_000_000, outcomes=OUTCOMES, per_s=29.6))

    first, second = [line for line in written(bar).splitlines() if "1,2" in line][-2:]
    assert "1,234/1,000,000  29.6/s, 9:22:22 left" in first
    assert all(said in second for said in ("accepted 1,230", "rejected 2", "not sent 0", "in doubt 2"))


def test_without_a_terminal_a_line_is_printed_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, a line is printed every five seconds, and not for each message."""
    now = [100.0]
    monkeypatch.setattr("pico_async.cli.blast.progress.time.monotonic", lambda: now[0])
    lines = LineDisplay(console(terminal=False))

    for second in range(1, 13):
        now[0] = 100.0 + second
        lines.show_sending(Progress(total=2000, outcomes=OUTCOMES, per_s=10.0))

    line = "1,234 of 2,000 (10.0/s, 0:01:17 left): 1,230 accepted, 2 rejected, 0 not sent, 2 in doubt\n"
    assert written(lines) == line * 2


def test_the_display_suits_the_terminal() -> None:
    """
    A terminal gets the bar, and another output gets lines, because escape sequences do not belong in a log file.
    Without progress, neither is shown.
    """
    assert isinstance(display_for(console(terminal=True), wanted=True), BarDisplay)
    assert isinstance(display_for(console(terminal=False), wanted=True), LineDisplay)
    assert type(display_for(console(terminal=True), wanted=False)) is Display


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """
    The rate shown is the average of the last ten seconds. After a longer pause it is zero, however high it was before.
    """
    meter = RateMeter()

    speeds = [meter.per_s(float(second), Counter({Outcome.ACCEPTED: min(second, 30) * 20})) for second in range(60)]

    assert speeds[0] == 0.0
    assert speeds[25] == pytest.approx(20)
    assert speeds[35] == pytest.approx(10)
    assert speeds[45] == 0.0


def test_skipped_rows_do_not_count_towards_the_rate() -> None:
    """
    Rows that are skipped because of the journal do not count towards the rate, and neither does the time that they
    take.
    """
    meter = RateMeter()

    skipping = [meter.per_s(float(second), Counter({Outcome.SKIPPED: second * 10_000})) for second in range(6)]
    sending = [
        meter.per_s(5.0 + second, Counter({Outcome.SKIPPED: 50_000 + second, Outcome.ACCEPTED: second * 20}))
        for second in range(1, 4)
    ]

    assert skipping == [0.0] * 6
    assert sending == pytest.approx([20.0] * 3)


def test_skipped_rows_are_shown_if_there_are_any() -> None:
    """
    The bar shows the count of skipped rows only if there are any, so that users without a journal do not see the word.
    """
    bar, plain = BarDisplay(console(terminal=True)), BarDisplay(console(terminal=True))

    with bar:
        bar.show_sending(Progress(total=2000, outcomes=OUTCOMES | Counter({Outcome.SKIPPED: 500}), per_s=10.0))
    with plain:
        plain.show_sending(Progress(total=2000, outcomes=OUTCOMES, per_s=10.0))

    assert "1,734/2,000  10.0/s, 0:00:27 left" in written(bar)
    assert "skipped 500" in written(bar)
    assert "skipped" not in written(plain)
