"""A journal's main file, and SQLite's log beside it: that they exist, and are still the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pico_async.errors import JournalError


class FileSet:
    """
    The main file and the log of a journal.

    Attributes:
        path: The main file as the user named it, for error messages.
        main: The main file without symbolic links, because the lock and the log lie beside that one.
        log: SQLite's write-ahead log, `FILE-wal`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not `Path.resolve`, which raises for a loop of symlinks on some versions of Python.
        self.main: Path = Path(os.path.realpath(path))
        self.log: Path = Path(f"{self.main}-wal")
        self._identities: dict[Path, tuple[int, int] | None] = {}

    def require_one_file(self, *, may_be_absent: bool) -> None:
        """
        Raise if the main file is missing (unless *may_be_absent*), is no regular file, or has a second hard link.

        Raise also if it is missing or empty although its log is there.
        """
        try:
            found = os.stat(self.main)
        except FileNotFoundError:
            if not may_be_absent:
                raise JournalError(f"There is no journal {self.path}.") from None
            found = None
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise JournalError(f"The journal {self.path} is a folder: name a file.")
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise JournalError(f"{self.path} is no journal: it is no regular file. Name another one.")
        if found is not None and found.st_nlink > 1:
            raise JournalError(
                f"The journal {self.path} has {found.st_nlink} names (hard links), and the log that SQLite keeps "
                "beside it belongs to one of them. Remove the other names: two bulk sends could use it as two files."
            )
        if (found is None or not found.st_size) and self.has_log():
            raise JournalError(
                f"The journal {self.path} is {'gone' if found is None else 'empty'}, but {self.log.name}, which "
                "belongs to it, is there. Copy both from where they were. Remove the log only if the journal was "
                "deleted for good, and all is to be sent again."
            )

    def has_log(self) -> bool:
        """Return whether there is a log with content."""
        # SQLite makes an empty log when it opens the main file, so an empty one says nothing. While the main file says
        # LACKS_LOG or HAS_LOG, SQLite leaves no empty log.
        try:
            return os.stat(self.log).st_size > 0
        except FileNotFoundError:
            return False

    def inode(self) -> str:
        # Without the device, whose number may change when the machine restarts.
        return str(os.stat(self.main).st_ino)

    def remember(self) -> None:
        """Remember which files the names stand for now, for `require_in_place`."""
        self._identities = {file: _identity(file) for file in (self.main, self.log)}

    def require_in_place(self) -> None:
        """Raise if one of the files was deleted, moved or replaced since `remember`."""
        for file, identity in self._identities.items():
            if _identity(file) != identity:
                raise JournalError(
                    f"The journal {self.path} was taken away while it was in use: {file.name} was deleted, moved or "
                    "replaced. Nothing is sent without it."
                )


def files_of(journal: Path) -> list[Path]:
    """Return the journal's main file, and the files beside it."""
    main = os.path.realpath(journal)
    return [Path(main + suffix) for suffix in ("", "-wal", "-shm", "-journal", "-lock")]


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
