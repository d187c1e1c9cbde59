"""The report of a bulk send: a CSV file with one line for each row of the input."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Self, TextIO

import attrs
from attrs import frozen

from pico_async.errors import ConfigurationError, Outcome

PRIVATE = 0o600
# The first bytes of SQLite's database files and write-ahead logs.
_DATABASES = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


class ReportError(ConfigurationError):
    """The report cannot be written."""


@frozen(kw_only=True)
class ReportRow:
    """The result of one row. It has neither number nor text, so that a report can be shared."""

    line: int
    key: str | None
    outcome: Outcome
    request_id: str | None = None
    attempts: int = 0
    error: str | None = None


class ReportFile:
    """
    Write the result of each row as soon as it is known. Only the owner can read the file, as with the journal.

    Each line is passed to the operating system before the next one, so a crash of the process loses only the rows in
    flight.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self.path = path
        self._replace = replace
        self._broken = False
        self._begun = False
        self._made = False
        self._file: TextIO

    def check(self, *apart_from: Path | None) -> None:
        """Raise, before anything is sent, if the path is one of *apart_from*, or exists, or cannot be a file."""
        if any(other is not None and is_same_file(self.path, other) for other in apart_from):
            raise ConfigurationError(f"The report {self.path} is a file that this command reads: choose another path.")
        try:
            os.stat(self.path)
        except FileNotFoundError:
            if not os.path.isdir(self.path.parent):
                raise ConfigurationError(
                    f"The report {self.path} cannot be written: the folder does not exist."
                ) from None
            return
        except OSError as error:
            raise ConfigurationError(f"The report {self.path} cannot be written: {error.strerror}.") from None
        if not self._replace:
            raise ConfigurationError(
                f"The report {self.path} exists: choose another path, or pass --force to replace it."
            )
        self._require_no_database()

    def __enter__(self) -> Self:
        try:
            # "x" fails if another program has created the file since `check`. "a" keeps an old report until `begin`,
            # because the bulk send may still end before its first message.
            self._made = not os.path.exists(self.path)
            self._file = open(
                self.path,
                "a" if self._replace else "x",
                encoding="utf-8",
                newline="",
                opener=lambda path, flags: os.open(path, flags, PRIVATE),
            )
        except OSError as error:
            raise ConfigurationError(f"The report {self.path} cannot be written: {error.strerror}.") from None
        self._lines = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(self, *_: object) -> None:
        is_unused = self._made and not self._begun and self._is_own_and_empty()
        # After a failed write the buffer is not empty, and close() would fail once more.
        with suppress(OSError) if self._broken else nullcontext():
            self._file.close()
        if is_unused:
            self.path.unlink(missing_ok=True)

    def begin(self) -> None:
        """Empty an old report, unless it has become another command's journal since `check`, and write the header."""
        self._require_no_database()
        self._begun = True
        # A replaced report may have been readable by others. A device or a pipe keeps its permissions.
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                self.path.chmod(PRIVATE)
        self._write((attribute.name for attribute in attrs.fields(ReportRow)), truncate=True)

    def write(self, entry: ReportRow) -> None:
        """Write the line of one row. After a ReportError, write no more: the file may end with half a line."""
        self._write("" if value is None else value for value in attrs.astuple(entry))

    def _require_no_database(self) -> None:
        try:
            with open(self.path, "rb") as file:
                is_database = os.path.isfile(self.path) and file.read(16).startswith(_DATABASES)
        except OSError:
            return
        if is_database:
            raise ReportError(f"{self.path} is a database, perhaps a journal, and not a report: choose another path.")

    def _is_own_and_empty(self) -> bool:
        """Return whether the path still leads to the opened file, and the file is empty and so no journal."""
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
                f"The report {self.path} is incomplete, because it can no longer be written: {error.strerror}."
            ) from None


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file, by symlinks or hard links, even if it does not exist."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:  # One of them does not exist.
        return False
