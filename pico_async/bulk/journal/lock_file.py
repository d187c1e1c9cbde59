"""One owner of a journal at a time: a lock that the operating system takes back from the dead."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from pico_async.errors import JournalError

# A look at the journal from elsewhere, and a decision about a line of it, hold it for a moment.
TRIES = 10
BETWEEN_TRIES_S = 0.05

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        # Not `lockf`: that one is gone as soon as anything in the process closes the file.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Ownership:
    """
    Hold the lock file of a journal, `FILE-lock`, beside it; blocks for up to half a second.

    It is a file of its own, for SQLite's locks on the journal must not be touched. It stays there: who removes it may
    part two owners from each other.

    Raises:
        JournalError: Somebody else holds it, or it cannot be made.
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
            if _is_locked(self._file):
                break
            time.sleep(BETWEEN_TRIES_S)
        else:
            owner = path.read_bytes()[:20].decode("ascii", "replace").strip()
            os.close(self._file)
            raise JournalError(
                f"The journal {journal} is in use by another blast"
                f"{f', of process {owner}' if owner.isdigit() else ''}. Wait for its end, or name another file."
            )
        # For the error that the next one gets. A full disk has no room for it, and that is told by SQLite.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give it back."""
        os.close(self._file)


def is_in_use(journal: Path) -> bool:
    """Say whether somebody holds the journal at this moment."""
    try:
        file = os.open(_lock_file(journal), os.O_RDWR)
    except OSError:
        return False
    try:
        return not _is_locked(file)
    finally:
        os.close(file)


def _is_locked(file: int) -> bool:
    try:
        _lock(file)
    except OSError:
        return False
    return True


def _lock_file(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-lock")
