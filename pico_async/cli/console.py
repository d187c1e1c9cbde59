"""
The output of `pico`: results on stdout, everything else, questions among it, on stderr.

`rich` is imported by the function that needs it, because most commands print lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import typer

from pico_async.errors import ConfigurationError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# Columns between two cells of a table, and rows that are wrapped together.
_GAP = 2
_ROWS_PER_TABLE = 1000


def print_line(text: str = "") -> None:
    """Print a result for people."""
    typer.echo(text)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a result for programs: one JSON object on one line, in ASCII, so that any encoding of stdout works."""
    plain = json.dumps(value, default=lambda it: it.isoformat() if isinstance(it, datetime) else str(it))
    typer.echo(plain)


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


def print_note(text: str) -> None:
    """Print a line that is not part of the result, on stderr."""
    typer.echo(text, err=True)


def print_error(text: str) -> None:
    """Print an error as one line, on stderr."""
    typer.echo(f"error: {' '.join(printable(text).split())}", err=True)


def require_yes(question: str, *, given: bool) -> None:
    """Ask the user at the terminal, unless --yes was given; raise if there is none, or the answer is no."""
    if given:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: there is no terminal to ask at. Pass --yes to confirm.")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or Ctrl-D
        print_note("")
        agreed = False
    if not agreed:
        raise ConfigurationError("Nothing was changed.")


def printable(text: str) -> str:
    """Replace control characters, which a terminal would execute: names and error texts may come from a server."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
