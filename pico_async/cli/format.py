"""Numbers, durations and outcomes as text."""

from __future__ import annotations

from collections.abc import Iterator

from pico_async.errors import Outcome


def format_outcome(outcome: Outcome) -> str:
    """Return an outcome as words, for example "not sent"."""
    return outcome.value.replace("_", " ")


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, for example "1 row" or "1,234 rows"."""
    return f"{count:,} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration as text, for example "3.2 s", "12 min" or "9 h 23 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_rest(total: int, shown: int) -> Iterator[str]:
    """Yield a line with the number of items that were not shown, if there are any."""
    if total > shown:
        yield f"  and {total - shown:,} more"
