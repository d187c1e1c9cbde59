"""The journal's file: SQLite, found sound, taken from all others, and changed in transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from pico_async.bulk.digests import SALT_BYTES, account_digest
from pico_async.bulk.ownership import Ownership, is_in_use
from pico_async.errors import JournalError

# "Pico" in ASCII. It tells this file from the SQLite files of others.
APPLICATION_ID = 0x5069636F
VERSION = 1
BUSY_S = 5.0

_SCHEMA = """
CREATE TABLE journal (
    epoch INTEGER NOT NULL,     -- how often it was taken; who took it before the last time may not write
    salt BLOB NOT NULL,         -- of the digests
    account BLOB                -- digest of whose messages these are; NULL until the first blast
);
CREATE TABLE message (
    row INTEGER PRIMARY KEY,    -- in the order of the input, so that one commit touches few pages
    name BLOB NOT NULL UNIQUE,  -- digest of its key, or of its content and occurrence
    content BLOB,               -- digest of what the recipient gets; NULL: whatever comes next under this name
    state TEXT NOT NULL,
    request_id TEXT,
    epoch INTEGER NOT NULL,     -- of the run that read it last
    position INTEGER NOT NULL,  -- its place in that run's input, from 0
    changed_at INTEGER NOT NULL -- Unix time of the last change of its state
);
"""


class JournalFile:
    """
    An open journal. Use it in one thread, and each change inside `transaction`.

    Args:
        owned: Take it from all others, and what they left as "sending" is in doubt. Without it, look only, or note
            what is beyond doubt whoever owns it.
        account: Whose messages it must hold; any where None.
        create: Make the file where there is none.
        checked: Look through all of it for damage first, which takes a second for a million messages.

    Raises:
        JournalError: It cannot be used, and why.
    """

    def __init__(
        self, path: Path, *, owned: bool, account: str | None = None, create: bool = False, checked: bool = True
    ) -> None:
        self.path = path
        # The lock beside it must be the same, whichever way it is reached.
        self._place = path.resolve()
        if self._place.is_dir():
            raise JournalError(f"The journal {path} is a folder: name a file.")
        if not create and not self._place.exists():
            raise JournalError(f"There is no journal {path}.")
        self._ownership = Ownership(self._place) if owned else None
        self.epoch = 0
        self.salt = b""
        try:
            self.connection = self._connect(create)
            try:
                with self.told("cannot be used"):
                    self._prepare(create, checked)
                if owned:
                    self._take(account)
            except BaseException:
                self.connection.close()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close it. What was committed is safe already, so what goes wrong here is of no consequence."""
        with suppress(sqlite3.Error):
            self.connection.close()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Commit what is done inside, all of it or nothing. It is on the disk when this ends.

        Raises:
            JournalError: It was not committed.
        """
        with self.told("could not be written on"):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self._fence()
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def is_in_use(self) -> bool:
        """Say whether a blast holds it at this moment."""
        return is_in_use(self._place)

    def _connect(self, create: bool) -> sqlite3.Connection:
        with self.told("cannot be used"):
            if create:
                with suppress(FileExistsError):
                    # For its owner's eyes. SQLite gives the same mode to what it makes beside it.
                    os.close(os.open(self._place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            # Its own transactions would begin without IMMEDIATE, and fail late.
            return sqlite3.connect(self._place, timeout=BUSY_S, isolation_level=None)

    def _prepare(self, create: bool, checked: bool) -> None:
        execute = self.connection.execute
        (application,), (version,) = (
            execute("PRAGMA application_id").fetchone(),
            execute("PRAGMA user_version").fetchone(),
        )
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application or tables or version) and application != APPLICATION_ID:
            raise JournalError(f"{self.path} is no journal: it is another program's. Name another file.")
        if application and version != VERSION:
            raise JournalError(
                f"The journal {self.path} is of version {version}, and this pico_async knows version {VERSION}. "
                "Use the one that wrote it, or name another file."
            )
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise JournalError(f"The journal {self.path} cannot be used: this file system does not bear a WAL.")
        # FULL: with WAL, less than that forgets the last commits in a power cut, and what they tell was sent already.
        execute("PRAGMA synchronous = FULL")
        (sound,) = execute("PRAGMA quick_check(1)").fetchone() if checked else ("ok",)
        if sound != "ok":
            raise JournalError(
                f"The journal {self.path} is damaged. What it told of is unknown: restore it, and do not send again "
                "what may have gone out."
            )
        if not application:
            if not create:
                raise JournalError(f"{self.path} is no journal: it is empty, as one whose first blast never began.")
            execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                execute(statement)
            execute("INSERT INTO journal (epoch, salt) VALUES (0, ?)", (os.urandom(SALT_BYTES),))
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {VERSION}")
            execute("COMMIT")
        ((self.epoch, self.salt),) = execute("SELECT epoch, salt FROM journal")

    def _take(self, account: str | None) -> None:
        with self.transaction():
            ((known,),) = self.connection.execute("SELECT account FROM journal")
            if account is not None:
                digest = account_digest(self.salt, account)
                if known not in (None, digest):
                    raise JournalError(
                        f"The journal {self.path} is another account's, or another host's. Name another file."
                    )
                self.connection.execute("UPDATE journal SET account = ?", (digest,))
            self.connection.execute("UPDATE journal SET epoch = epoch + 1")
            self.connection.execute("UPDATE message SET state = 'in_doubt' WHERE state = 'sending'")
            self.epoch += 1

    def _fence(self) -> None:
        if self._ownership is None:
            return
        ((epoch,),) = self.connection.execute("SELECT epoch FROM journal")
        if epoch != self.epoch:
            # The lock is advisory, and a file system in a network may know none.
            raise JournalError(f"The journal {self.path} was taken over by another blast.")

    def _release(self) -> None:
        if self._ownership is not None:
            self._ownership.release()

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error))
        except OSError as error:
            reason = error.strerror or type(error).__name__
        else:
            return
        raise JournalError(f"The journal {self.path} {what}: {reason}.")


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it, or its folder, is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; it, and the folder, must be there and writable",
    sqlite3.SQLITE_NOTADB: "it is no journal, or it is damaged",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}
