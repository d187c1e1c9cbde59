"""Lists and single items: fitted to the width of a terminal, or with tabs for a pipe."""

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

# The least width of a column that may be narrowed, and the gap between two columns.
_LEAST = 10
_GAP = 2


@frozen
class Column:
    """
    One column.

    Attributes:
        whole: Values are never wrapped or cut, so that users can copy them.
        one_line: Values that are too long are cut, not wrapped.
    """

    name: str
    whole: bool = field(default=False, kw_only=True)
    one_line: bool = field(default=False, kw_only=True)
    styles: Mapping[str, str] = field(factory=dict, kw_only=True)


def print_listing(columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """Print a list. For a pipe it has no header, because `cut` and `while read` expect none."""
    cells = [[_shown(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
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
        # As `Text`, so that brackets in a name are not read as markup.
        table.add_row(
            *(Text(cell, style=column.styles.get(cell, "")) for cell, column in zip(row, columns, strict=True))
        )
    console.print(table)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return the width of each column, narrowing the widest ones first; None if the columns do not fit."""
    widths = [
        max(cell_len(column.name), *(cell_len(row[index]) for row in cells)) for index, column in enumerate(columns)
    ]
    # rich would narrow, or even drop, columns that must be whole.
    narrower = [index for index, column in enumerate(columns) if not column.whole]
    for index in narrower:
        widths[index] = min(widths[index], max(room, 1))
    while sum(widths) > room:
        widest = max(narrower, key=lambda index: widths[index], default=None)
        if widest is None or widths[widest] <= _LEAST:
            return None
        widths[widest] -= 1
    return widths


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one item: a line for each field, not wrapped, so that users can copy it."""
    names = [printable(name) for name in fields]
    wide = max(map(cell_len, names), default=0)
    for name, value in zip(names, fields.values(), strict=True):
        gap = " " * (wide - cell_len(name) + 2) if sys.stdout.isatty() else "\t"
        print_line(f"{name}{gap}{_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "" if value is None else printable(str(value))
