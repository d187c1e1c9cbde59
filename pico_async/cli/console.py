"""What `pico` says, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_line(text: str = "") -> None:
    """Print a result for people."""
    typer.echo(text)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a result for programs: one object on one line, in ASCII, which every pipe carries."""
    typer.echo(json.dumps(value, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a listing for people."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As `Text`, for a name with brackets in it is no markup.
        table.add_row(*(Text("" if cell is None else printable(str(cell)), overflow="fold") for cell in row))
    # In a file or a pipe nothing is wrapped: it has no width.
    Console(width=None if sys.stdout.isatty() else 100_000).print(table)


def print_finding(check: str, state: str, said: str, details: Sequence[str], advice: str | None) -> None:
    """Print what a check found, and below it what more there is and what to do."""
    word = state.replace("_", " ").ljust(len("not checked"))
    below = [*map(printable, details), *([] if advice is None else [f"What to do: {printable(advice)}"])]
    if not sys.stdout.isatty():
        # A line each, for `grep`, and for whoever puts it into a letter.
        print_line(f"{word}  {check}: {printable(said)}")
        for line in below:
            print_line(f"{'':{len(word)}}  {line}")
        return
    style = {"ok": "green", "warning": "yellow", "failed": "bold red"}.get(state, "dim")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(word, style=style), Text.assemble((check, "bold"), ": ", printable(said)))
    for line in below:
        grid.add_row("", Text(line))
    Console().print(grid)


def print_note(text: str) -> None:
    """Tell the person at the terminal something that is no result."""
    typer.echo(text, err=True)


def print_error(text: str) -> None:
    """Print what went wrong, as one line."""
    typer.echo(f"error: {' '.join(printable(text).split())}", err=True)


def printable(text: str) -> str:
    """Take out what a terminal would obey: names in a listing, and words in an error, come from elsewhere."""
    return "".join(character if character.isprintable() else " " for character in text)
