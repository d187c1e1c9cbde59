"""The report of a blast: a CSV file with one line for each row of the input."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import attrs
from attrs import frozen

from pico_async.errors import ConfigurationError, Outcome

PRIVATE = 0o600
# How SQLite's main files begin, and its write-ahead logs.
_DATABASES = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


class ReportError(ConfigurationError):
    """The report cannot be written on."""


@frozen(kw_only=True)
class ReportRow:
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
    Write what became of each row, as soon as it is known. It is for its owner's eyes, as the journal is.

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

    def check(self, *apart_from: Path | None) -> None:
        """
        Make sure, before anything is sent, that nothing of value is overwritten.

        Raises:
            ConfigurationError: The path is that of another file of the blast, or taken, or none where a file can be.
        """
        if any(other is not None and is_same_file(self.path, other) for other in apart_from):
            raise ConfigurationError(f"The report {self.path} is a file that this blast reads: name another one.")
        try:
            os.stat(self.path)
        except FileNotFoundError:
            if not os.path.isdir(self.path.parent):
                raise ConfigurationError(
                    f"The report {self.path} cannot be written: there is no such folder."
                ) from None
            return
        except OSError as error:
            raise ConfigurationError(f"The report {self.path} cannot be written: {error.strerror}.") from None
        if not self._replace:
            raise ConfigurationError(f"The report {self.path} exists: name another one, or pass --force to replace it.")
        self._require_no_database()

    def __enter__(self) -> Self:
        try:
            # "x" looks and makes in one step: whoever took the path since `check` is not overwritten either. "a" leaves
            # an old report as it is for as long as it may turn out that there is nothing to report.
            self._made = not os.path.exists(self.path)
            self._file = open(
                self.path, "a" if self._replace else "x", encoding="utf-8", newline="", opener=_open_privately
            )
        except OSError as error:
            raise ConfigurationError(f"The report {self.path} cannot be written: {error.strerror}.") from None
        self._lines = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_needless = self._made and not self._begun and self._is_there_and_empty()
        # What could not be written is still in the buffer, and would be tried, and fail, once more.
        with suppress(OSError) if self._broken else nullcontext():
            self._file.close()
        if is_needless:
            self.path.unlink(missing_ok=True)

    def begin(self) -> None:
        """
        Write the header, and from here on lose what an old report held.

        Raises:
            ReportError: The disk is full, or gone; or another blast has made the file its journal since `check`.
        """
        self._require_no_database()
        self._begun = True
        # A replaced report may have been for everybody's eyes; a device or a pipe is as it is.
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                self.path.chmod(PRIVATE)
        self._write((attribute.name for attribute in attrs.fields(ReportRow)), truncate=True)

    def write(self, entry: ReportRow) -> None:
        """
        Write one row's line.

        Raises:
            ReportError: The disk is full, or gone. Write no more then: half a line may be there, and the next would be
                read as part of it.
        """
        self._write("" if value is None else value for value in attrs.astuple(entry))

    def _require_no_database(self) -> None:
        if _is_database(self.path):
            raise ReportError(f"{self.path} is a database, perhaps a journal, and no report: name another file.")

    def _is_there_and_empty(self) -> bool:
        """Whether the path leads to the file that was opened, and nobody has written to it, as a journal perhaps."""
        with suppress(OSError):
            found = os.stat(self.path)
            return os.path.samestat(found, os.fstat(self._file.fileno())) and not found.st_size
        return False

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


def is_same_file(one: Path, other: Path) -> bool:
    """Say whether two paths lead to one file, be it there or not, over symlinks and hard links."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there, or leads nowhere
        return False


def _is_database(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return os.path.isfile(path) and file.read(16).startswith(_DATABASES)
    except OSError:
        return False


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE)
