"""
The output of `pico`: results on stdout, everything else on stderr.

`rich` is imported by the functions that need it, because most commands print lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

# Columns between two cells of a table, and rows that are wrapped together.
_GAP = 2
_ROWS_PER_TABLE = 1000


def print_line(text: str = "") -> None:
    """Print a result for people."""
    typer.echo(text)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a result for programs: one JSON object on one line, in ASCII, so that any encoding of stdout works."""
    typer.echo(json.dumps(value, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a listing for people: one line for each row, wrapped only where a terminal is too narrow."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    widths = [cell_len(column) for column in columns]
    for row in cells:
        widths = [max(width, cell_len(cell)) for width, cell in zip(widths, row, strict=True)]

    def padded(row: Sequence[str]) -> str:
        parts = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        return (" " * _GAP).join(parts).rstrip()

    console = Console()
    # A file or a pipe has no width, so nothing is wrapped there.
    if not sys.stdout.isatty() or sum(widths) + _GAP * (len(widths) - 1) <= console.width:
        console.print(Text(padded(columns), style="bold"), soft_wrap=True)
        if cells:
            # At once, because each `print_line` flushes.
            print_line("\n".join(padded(row) for row in cells))
        return
    # A table measures all its rows before it prints the first.
    for start in range(0, max(len(cells), 1), _ROWS_PER_TABLE):
        table = Table(*columns, box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for row in cells[start : start + _ROWS_PER_TABLE]:
            # As `Text`, so that brackets in a name are not read as markup.
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        console.print(table)


def print_finding(check: str, state: str, message: str, details: Sequence[str], advice: str | None) -> None:
    """Print the result of a check, and below it the details and the advice."""
    word = state.replace("_", " ").ljust(len("not checked"))
    below = [*map(printable, details), *([] if advice is None else [f"What to do: {printable(advice)}"])]
    if not sys.stdout.isatty():
        # One line each, so that `grep` finds them.
        print_line(f"{word}  {check}: {printable(message)}")
        for line in below:
            print_line(f"{'':{len(word)}}  {line}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failed": "bold red"}.get(state, "dim")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(word, style=style), Text.assemble((check, "bold"), ": ", printable(message)))
    for line in below:
        grid.add_row("", Text(line))
    Console().print(grid)


def print_note(text: str) -> None:
    """Print a line that is not part of the result, on stderr."""
    typer.echo(text, err=True)


def print_error(text: str) -> None:
    """Print an error as one line, on stderr."""
    typer.echo(f"error: {' '.join(printable(text).split())}", err=True)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would execute: names and error texts may come from a server."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
