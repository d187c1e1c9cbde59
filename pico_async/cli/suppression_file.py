"""The file with the phone numbers that opted out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.row_mapping import NUMBER_COLUMNS
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.numbers import e164


def read_suppressed(
    path: Path | None, *, delimiter: str = ",", to_column: str | None = None, read: Callable[[str], str] = e164
) -> set[str] | None:
    """
    Return the numbers of a file, or None without a file.

    The file has one number per line, or is a CSV file whose column of numbers is found as in a bulk send. A line
    without a number is an error, because a number that opted out could otherwise get the message. The error has the
    line, but not the number. The numbers are held in memory, about 100 bytes each.
    """
    if path is None:
        # In a script or a compose file, the variable that PICO_SUPPRESS is set from may be empty by mistake.
        if os.environ.get("PICO_SUPPRESS") == "":
            raise ConfigurationError(
                "PICO_SUPPRESS is set but empty. It must name the file of the numbers that opted out; unset it where "
                "there is none. Nothing was sent."
            )
        return None
    found: set[str] = set()
    with CsvFile(path, delimiter) as file:
        for line, number in _numbers(file, to_column):
            try:
                found.add(read(number))
            except InvalidMessageError as error:
                fault = str(error)
            else:
                continue
            raise ConfigurationError(f"{path}, line {line}, is not a phone number: {fault} Nothing was sent.")
        if file.has_changed:
            raise ConfigurationError(
                f"{path} was written to while it was read, so numbers may be missing. Write a new file and rename it "
                "to this path. Nothing was sent."
            )
    return found


def _numbers(file: CsvFile, to_column: str | None) -> Iterator[tuple[int, str]]:
    likely = [name for name in file.columns if name == to_column]
    likely = likely or [name for name in file.columns if name.lower() in NUMBER_COLUMNS]
    if len(likely) > 1:
        # Not the first one: a number that opted out in the other column would get the message.
        raise ConfigurationError(
            f"{file.path}: more than one column may contain the numbers: {', '.join(f'`{name}`' for name in likely)}. "
            "Remove the others, or choose one with --to-column."
        )
    if likely:
        column = likely[0]
    else:
        if len(file.columns) > 1:
            raise ConfigurationError(
                f"{file.path}: its first line must name a column {', '.join(NUMBER_COLUMNS)}, or that of --to-column. "
                "A file without a header must have one number per line."
            )
        # There is no header, so the first line is a number, too.
        column = file.columns[0]
        yield 1, column
    for row in file.rows():
        if row.fault is not None:
            raise ConfigurationError(f"{file.path}, line {row.line}: {row.fault}")
        yield row.line, row.values[column]
