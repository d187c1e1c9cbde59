"""Numbers, durations and outcomes as people say them."""

from __future__ import annotations

from collections.abc import Iterator

from pico_async.errors import Outcome


def format_outcome(outcome: Outcome) -> str:
    """Say an outcome: "not sent"."""
    return outcome.value.replace("_", " ")


def format_count(count: int, noun: str) -> str:
    """Say how many: "1 row", "1,234 rows"."""
    return f"{count:,} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """Give the noun as the count wants it."""
    return noun if count == 1 else f"{noun}s"


def format_duration(seconds: float) -> str:
    """Say how long: "3.2 s", "12 min", "9 h 23 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_rest(there_are: int, said: int) -> Iterator[str]:
    """Say how many of a list were left out, where any were."""
    if there_are > said:
        yield f"  and {there_are - said:,} more"
