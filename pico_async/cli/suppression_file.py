"""The file of numbers that opted out."""

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
    Read the numbers: one a line, or a column of a CSV file that is named as that of a blast. None without a file.

    *read* makes a number of what stands there, as it does for the messages. A line that holds no number ends it:
    somebody who opted out would get the message. The numbers are held in memory, some 100 bytes each; each is found in
    any spelling.

    Raises:
        ConfigurationError: The file cannot be read, or changes meanwhile, or a line holds no number; the line is told,
            and not the number. Or PICO_SUPPRESS is there and empty.
    """
    if path is None:
        # Of what was to be put there in its place, as in a script or a compose file, nothing may have been set.
        if os.environ.get("PICO_SUPPRESS") == "":
            raise ConfigurationError(
                "PICO_SUPPRESS is set, and empty: it must name the file of the numbers that opted out. Unset it where "
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
            raise ConfigurationError(f"{path}, line {line}, is no number that opted out: {fault} Nothing was sent.")
        if file.has_changed:
            raise ConfigurationError(
                f"{path} was written to while it was read, so that somebody who opted out may be missing. Write it "
                "beside, and rename it into its place. Nothing was sent."
            )
    return found


def _numbers(file: CsvFile, to_column: str | None) -> Iterator[tuple[int, str]]:
    likely = [name for name in file.columns if name == to_column]
    likely = likely or [name for name in file.columns if name.lower() in NUMBER_COLUMNS]
    if len(likely) > 1:
        # Not the first of them: whoever opted out by another would get the message.
        raise ConfigurationError(
            f"{file.path}: more than one column may hold the numbers: {', '.join(f'`{name}`' for name in likely)}. "
            "Keep one of them in it, or name it with --to-column."
        )
    if likely:
        column = likely[0]
    else:
        if len(file.columns) > 1:
            raise ConfigurationError(
                f"{file.path}: its first line must name a column {', '.join(NUMBER_COLUMNS)}, or that of --to-column; "
                "or the file holds one number a line."
            )
        # There is no header: the first line holds a number, too.
        column = file.columns[0]
        yield 1, column
    for row in file.rows():
        if row.fault is not None:
            raise ConfigurationError(f"{file.path}, line {row.line}: {row.fault}")
        yield row.line, row.values[column]
