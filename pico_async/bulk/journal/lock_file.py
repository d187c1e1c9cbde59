"""The lock that lets one run at a time own a journal; the operating system releases it when a process dies."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from pico_async.errors import JournalError

# Reading the journal, or deciding about one of its rows, holds the lock for a moment.
TRIES = 10
BETWEEN_TRIES_S = 0.05

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        # Not `lockf`: its lock is released as soon as anything in the process closes the file.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LockFile:
    """
    Locks `FILE-lock` beside a journal, or raises after half a second if another process holds the lock.

    It is a file of its own, because SQLite's own locks on the journal must not be disturbed. It is never removed: after
    a removal, two runs could each lock a file of this name.
    """

    def __init__(self, journal: Path) -> None:
        path = _lock_file(journal)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JournalError(
                f"The journal {journal} cannot be used: {path.name} cannot be made beside it ({error.strerror})."
            ) from None
        for _ in range(TRIES):
            if _try_lock(self._file):
                break
            time.sleep(BETWEEN_TRIES_S)
        else:
            owner = path.read_bytes()[:20].decode("ascii", "replace").strip()
            os.close(self._file)
            raise JournalError(
                f"The journal {journal} is in use by another bulk send"
                f"{f', of process {owner}' if owner.isdigit() else ''}. Wait for its end, or name another file."
            )
        # For the error message above, in other processes. If the disk is full, SQLite reports that later.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)


def is_in_use(journal: Path) -> bool:
    """Return whether a process holds the lock now."""
    try:
        file = os.open(_lock_file(journal), os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(file)
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        _lock(file)
    except OSError:
        return False
    return True


def _lock_file(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-lock")
