"""Listings and single things: for people as wide as their terminal, for pipes a line each with tabs in between."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import field, frozen
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pico_async.cli.console import print_line, printable

# What a column that may be narrowed needs to be of use, and what lies between two.
_LEAST = 10
_GAP = 2


@frozen
class Column:
    """
    One column.

    Attributes:
        whole: It is copied from here, so it is neither wrapped nor cut.
        one_line: It is cut where it is too long; else it is wrapped.
        styles: Styles for some of its values.
    """

    name: str
    whole: bool = field(default=False, kw_only=True)
    one_line: bool = field(default=False, kw_only=True)
    styles: Mapping[str, str] = field(factory=dict, kw_only=True)


def for_people() -> bool:
    """Say whether somebody reads what is printed on a terminal."""
    return sys.stdout.isatty()


def print_listing(columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """Print a listing. For a pipe it has no header, as `cut` and `while read` want it."""
    cells = [[_shown(value) for value in row] for row in rows]
    if not for_people():
        for row in cells:
            print_line("\t".join(row))
        return
    console = Console()
    widths = _widths(columns, cells, console.width - _GAP * (len(columns) - 1))
    if widths is None:
        for number, row in enumerate(cells):
            if number:
                print_line()
            print_fields(dict(zip((column.name for column in columns), row, strict=True)))
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.name,
            width=width,
            no_wrap=column.whole or column.one_line,
            overflow="ellipsis" if column.one_line else "fold",
        )
    for row in cells:
        # As `Text`, for a name with brackets in it is no markup.
        table.add_row(
            *(Text(cell, style=column.styles.get(cell, "")) for cell, column in zip(row, columns, strict=True))
        )
    console.print(table)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Give each column its width, at the cost of the widest that may be narrower; None where they do not fit."""
    widths = [
        max(cell_len(column.name), *(cell_len(row[place]) for row in cells)) for place, column in enumerate(columns)
    ]
    # Not rich's own: it would narrow, and even drop, what must be whole.
    narrower = [place for place, column in enumerate(columns) if not column.whole]
    for place in narrower:
        widths[place] = min(widths[place], max(room, 1))
    while sum(widths) > room:
        widest = max(narrower, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= _LEAST:
            return None
        widths[widest] -= 1
    return widths


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one thing: a line for each field, which is not wrapped, so that it can be copied."""
    names = [printable(name) for name in fields]
    wide = max(map(cell_len, names), default=0)
    for name, value in zip(names, fields.values(), strict=True):
        print_line(
            f"{name}{' ' * (wide - cell_len(name))}  {_shown(value)}".rstrip()
            if for_people()
            else f"{name}\t{_shown(value)}"
        )


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "" if value is None else printable(str(value))
