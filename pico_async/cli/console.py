"""The output of `pico`: results on stdout, everything else, questions among it, on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pico_async.errors import ConfigurationError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def print_line(text: str = "") -> None:
    """Print a result for people."""
    typer.echo(text)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a result for programs: one JSON object on one line, in ASCII, so that any encoding of stdout works."""
    plain = json.dumps(value, default=lambda it: it.isoformat() if isinstance(it, datetime) else str(it))
    typer.echo(plain)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a listing for people."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # As `Text`, so that brackets in a name are not read as markup.
        table.add_row(*(Text("" if cell is None else printable(str(cell)), overflow="fold") for cell in row))
    # A file or a pipe has no width, so nothing is wrapped there.
    Console(width=None if sys.stdout.isatty() else 100_000).print(table)


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
    return "".join(character if character.isprintable() else " " for character in text)
