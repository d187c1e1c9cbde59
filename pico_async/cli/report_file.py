"""The report of a blast: a CSV file with one line for each row of the input."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import attrs
from attrs import frozen

from pico_async.errors import ConfigurationError, Outcome


class ReportError(ConfigurationError):
    """The report cannot be written on."""


@frozen(kw_only=True)
class Entry:
    """
    What became of one row. There is neither number nor text in it, so a report can be passed on.

    Attributes:
        line: Line of the input where the row begins.
        key: The caller's name for it, whatever the key column holds.
        attempts: Requests that were begun for it.
        error: Why it was not accepted.
    """

    line: int
    key: str | None
    outcome: Outcome
    request_id: str | None = None
    attempts: int = 0
    error: str | None = None


class ReportFile:
    """
    Write what became of each row, as soon as it is known.

    Each line is handed to the operating system before the next one, so a crash of the process loses only what was
    under way.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self.path = path
        self._replace = replace
        self._broken = False
        self._begun = False
        self._made = False
        self._file: TextIO

    def check(self, source: Path) -> None:
        """
        Make sure, before anything is sent, that nothing of value is overwritten.

        Raises:
            ConfigurationError: The path is the input's own, or taken, or in no folder.
        """
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"The report {self.path} cannot be written: there is no such folder.")
        if not self.path.exists():
            return
        if self.path.samefile(source):
            raise ConfigurationError(f"The report {self.path} is the file to be sent: name another one.")
        if not self._replace:
            raise ConfigurationError(f"The report {self.path} exists: name another one, or pass --force to replace it.")

    def __enter__(self) -> Self:
        try:
            # "x" looks and makes in one step: whoever took the path since `check` is not overwritten either. "a" leaves
            # an old report as it is for as long as it may turn out that there is nothing to report.
            self._made = not self.path.exists()
            self._file = self.path.open("a" if self._replace else "x", encoding="utf-8", newline="")
        except OSError as error:
            raise ConfigurationError(f"The report {self.path} cannot be written: {error.strerror}.") from None
        self._lines = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What could not be written is still in the buffer, and would be tried, and fail, once more.
        with suppress(OSError) if self._broken else nullcontext():
            self._file.close()
        if self._made and not self._begun:
            self.path.unlink(missing_ok=True)

    def begin(self) -> None:
        """
        Write the header, and from here on lose what an old report held.

        Raises:
            ReportError: The disk is full, or gone.
        """
        self._begun = True
        self._write((attribute.name for attribute in attrs.fields(Entry)), truncate=True)

    def write(self, entry: Entry) -> None:
        """
        Write one row's line.

        Raises:
            ReportError: The disk is full, or gone. Write no more then: half a line may be there, and the next would be
                read as part of it.
        """
        self._write("" if value is None else value for value in attrs.astuple(entry))

    def _write(self, fields: Iterable[object], *, truncate: bool = False) -> None:
        try:
            if truncate:
                self._file.truncate(0)
            self._lines.writerow(fields)
            self._file.flush()
        except OSError as error:
            self._broken = True
            raise ReportError(
                f"The report {self.path} is not complete, for it could not be written on: {error.strerror}."
            ) from None
