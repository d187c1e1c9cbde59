"""A CSV file, read row by row, with the line number of each row."""

from __future__ import annotations

import csv
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, TextIO

from attrs import frozen

from pico_async.errors import ConfigurationError


@frozen
class Row:
    """
    One row, with its fields by column.

    Attributes:
        line: Line of the file where the row begins, from 1. A row may span several lines.
        fault: Why the fields do not fit the columns; None where they do.
    """

    line: int
    values: Mapping[str, str]
    fault: str | None = None


class CsvFile:
    """
    A CSV file in UTF-8, with or without a byte order mark, whose first line names the columns.

    The file is opened once, and each call of `rows` reads it from the start, in constant memory. A file that takes its
    place meanwhile is not read. Quoting is strict: a wrong guess could move one person's code into another's text.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        if len(delimiter) != 1 or delimiter in '\r\n"':
            raise ConfigurationError("The delimiter must be one character, such as ',' or ';'; for a tab pass $'\\t'.")
        self.path = path
        self.columns: tuple[str, ...] = ()
        self._delimiter = delimiter
        self._file: TextIO
        self._opened = (0, 0)

    def __enter__(self) -> Self:
        try:
            # "utf-8-sig" removes a byte order mark, also after each seek(0).
            self._file = self.path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be read: {error.strerror}.") from None
        try:
            self._require_regular()
            self._opened = self._state()
            self.columns = self._header()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """
        Read the rows from the start of the file, without the header and empty lines.

        A row with too few or too many fields has a fault. Raise if the file cannot be read to its end.
        """
        records = self._records()
        next(records, None)
        for line, fields in records:
            if len(fields) == len(self.columns):
                yield Row(line, dict(zip(self.columns, fields, strict=True)))
            else:
                yield Row(line, {}, f"It has {len(fields)} fields, and the header has {len(self.columns)}.")

    @property
    def has_changed(self) -> bool:
        """Whether the file was written to since it was opened."""
        return self._state() != self._opened

    def _state(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns

    def _require_regular(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise ConfigurationError(
                f"{self.path} is not a regular file, and must be read twice: save it to a file first."
            )

    def _header(self) -> tuple[str, ...]:
        _, fields = next(self._records(), (1, []))
        columns = tuple(field.strip() for field in fields)
        if not any(columns):
            raise ConfigurationError(f"{self.path} is empty: its first line must name the columns.")
        twice = [name for name, count in Counter(columns).items() if name and count > 1]
        if twice:
            raise ConfigurationError(f"{self.path} has two columns with the name `{twice[0]}`: rename one.")
        return columns

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        self._file.seek(0)
        reader = csv.reader(self._file, delimiter=self._delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ConfigurationError(
                    f"{self.path}, line {line}: {error}. Put a field with a quote, a line break or the delimiter in "
                    'quotes, and double each quote in it, as in "He said ""yes""".'
                ) from None
            except UnicodeDecodeError:
                # The error is raised outside of the handler, because this exception contains a piece of the file.
                break
            except OSError as error:
                raise ConfigurationError(f"{self.path} cannot be read from line {line} on: {error.strerror}.") from None
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield line, fields
        raise ConfigurationError(self._encoding_fault())

    def _encoding_fault(self) -> str:
        # The decoder reads in blocks, so the lines are counted here. Latin-1 decodes any byte.
        with self.path.open(encoding="latin-1", newline="") as file:
            for number, line in enumerate(file, start=1):
                raw = line.encode("latin-1")
                try:
                    raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                        return (
                            f"{self.path}, line {number}: this is UTF-16, not UTF-8. Save the file as 'CSV UTF-8', "
                            "or convert it: iconv -f UTF-16 -t UTF-8."
                        )
                    return (
                        f"{self.path}, line {number}: byte {error.start + 1} of the line is not UTF-8. Save the file "
                        "as 'CSV UTF-8', or convert it, as with iconv -f BIG5 -t UTF-8."
                    )
        return f"{self.path} is not UTF-8. Save the file as 'CSV UTF-8'."
