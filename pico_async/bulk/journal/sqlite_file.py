"""
The journal's file: an SQLite database, checked, owned by one run, and changed in transactions.

Nearly all that a running bulk send commits is in SQLite's write-ahead log, `FILE-wal`, and not in the main file. If a
main file was copied, moved or left without its log, it does not know the last sends. This must be noticed.

The row `journal` exists twice: in the main file and, newer, in the log. SQLite reads the log's if the log is there. Its
column `held` says what was read:

| held      | meaning                                                                               |
|-----------|---------------------------------------------------------------------------------------|
| CLOSED    | the last run closed the main file, which is complete                                  |
| LACKS_LOG | a run is open or crashed, and this is the main file without its log: refuse it        |
| HAS_LOG   | a run is open or crashed, and this is the log's row: nothing is missing               |

- LACKS_LOG is written to the main file, and synced, before the first message may be sent.
- HAS_LOG is committed next. It reaches the main file only together with the rest of the log, for example when `sqlite3`
  opens the file after a crash.
- SQLite copied the whole log into a main file that says HAS_LOG but has no log. The file is complete if it has the
  inode that the run stored. With another inode it is a copy, and the run may have continued after it was made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from pico_async.bulk.journal.digests import account_digest, origin_digest
from pico_async.bulk.journal.file_set import FileSet
from pico_async.bulk.journal.lock_file import LockFile, is_in_use
from pico_async.bulk.journal.sqlite_schema import APPLICATION_ID, KNOWN_VERSIONS, MARKED, VERSION, create, migrate
from pico_async.errors import JournalError

BUSY_S = 5.0

CLOSED, LACKS_LOG, HAS_LOG = range(3)
# Changed rows between two checkpoints: some 10 MB of log.
CHECKPOINT_AFTER = 4000

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it, or its folder, is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; it, and the folder, must be there and writable",
    sqlite3.SQLITE_NOTADB: "it is no journal, or it is damaged",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}


class JournalFile:
    """
    An open journal. Use it in one thread, and make each change inside `transaction`.

    Args:
        owned: Exclude all other runs; messages that they left as "sending" become in doubt. Without it, only read, or
            confirm sends that are proven, also while another run owns the file.
        account: Account that the messages must belong to; None accepts any.
        create: Create the file if there is none.
        checked: Check the whole file for damage first, which takes a second for a million messages.
        made_from: What the messages are made from, by name, such as their text. A digest of each is stored.

    Raises:
        JournalError: The file cannot be used, and why.
    """

    def __init__(
        self,
        path: Path,
        *,
        owned: bool,
        account: str | None = None,
        create: bool = False,
        checked: bool = True,
        made_from: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._files = FileSet(path)
        with self.journal_errors("cannot be used"):
            self._files.require_one_file(may_be_absent=create)
        self._lock = LockFile(self._files.main) if owned else None
        self.version: int = VERSION
        self.epoch: int = 0
        self.salt: bytes = b""
        self._checkpointed_at = 0
        self._checkpointing = False
        try:
            self._require_own_log()
            self.connection: sqlite3.Connection = self._connect(create)
            try:
                with self.journal_errors("cannot be used"):
                    self._prepare(create, checked)
                    self._files.remember()
                    if owned:
                        self._begin_run(account, made_from or {})
            except BaseException:
                self._disconnect()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close the file, and ignore what goes wrong: all commits are durable already."""
        # If this fails, the file still says, correctly, that it was not closed.
        with suppress(sqlite3.Error, JournalError):
            if self._lock is not None:
                self._mark(CLOSED)
        self._disconnect()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block durably, or none; raise if the files were deleted or replaced meanwhile."""
        with self.journal_errors("could not be written to"):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self._require_own_epoch()
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise
            # Checked after the commit, because a commit into deleted files is not durable.
            self._files.require_in_place()
            changed = self.connection.total_changes - self._checkpointed_at
            if self._lock is not None and not self._checkpointing and changed >= CHECKPOINT_AFTER:
                self._checkpoint()

    def is_made_from(self, what: str, value: str) -> bool | None:
        """Return whether the last run made its messages from this value; None if it is unknown."""
        with self.journal_errors("cannot be read"):
            if self.version < MARKED:
                return None
            known = self.connection.execute("SELECT digest FROM origin WHERE what = ?", (what,)).fetchone()
        return None if known is None else bool(known[0] == origin_digest(self.salt, what, value))

    @property
    def is_owned(self) -> bool:
        """Whether this excludes all other runs."""
        return self._lock is not None

    def is_in_use(self) -> bool:
        return is_in_use(self._files.main)

    @contextmanager
    def journal_errors(self, failure: str) -> Iterator[None]:
        """Turn errors of SQLite and the operating system into a JournalError: the journal, *failure*, the reason."""
        try:
            yield
        except sqlite3.Error as error:
            reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error))
        except OSError as error:
            reason = error.strerror or type(error).__name__
        else:
            return
        raise JournalError(f"The journal {self.path} {failure}: {reason}.")

    def _connect(self, create: bool) -> sqlite3.Connection:
        with self.journal_errors("cannot be used"):
            if create:
                with suppress(FileExistsError):
                    # Readable by its owner only. SQLite gives the same mode to the files beside it.
                    os.close(os.open(self._files.main, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            # isolation_level: sqlite3's own transactions would begin without IMMEDIATE, and fail late.
            connection = sqlite3.connect(self._files.main, timeout=BUSY_S, isolation_level=None)
            # Only the owner makes checkpoints, because it marks the main file at each.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            return connection

    def _disconnect(self) -> None:
        """
        Close the connection, and keep the log if the main file says that it lacks it.

        SQLite makes a checkpoint and removes the log when the last connection is closed. A read-only connection does
        neither, so one is closed last.
        """
        last: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            if (LACKS_LOG,) in self.connection.execute("SELECT held FROM journal"):
                last = sqlite3.connect(f"{self._files.main.as_uri()}?mode=ro", uri=True)
                last.execute("SELECT held FROM journal").fetchone()
        with suppress(sqlite3.Error):
            self.connection.close()
        if last is not None:
            last.close()

    def _prepare(self, may_create: bool, checked: bool) -> None:
        execute = self.connection.execute
        application, version = self._pragma("application_id"), self._pragma("user_version")
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application or tables or version) and application != APPLICATION_ID:
            raise JournalError(f"{self.path} is no journal: it is another program's. Name another file.")
        if application and version not in KNOWN_VERSIONS:
            raise JournalError(
                f"The journal {self.path} is of version {version}, and this pico_async knows version {VERSION}. "
                "Use the one that wrote it, or name another file."
            )
        if self._pragma("journal_mode = WAL") != "wal":
            raise JournalError(f"The journal {self.path} cannot be used: this file system does not support a WAL.")
        # FULL: in WAL mode, a lower level loses the last commits in a power failure, and their messages were sent.
        execute("PRAGMA synchronous = FULL")
        if version >= MARKED:
            self._require_log()
        if checked and self._pragma("quick_check(1)") != "ok":
            raise JournalError(
                f"The journal {self.path} is damaged, so it is unknown what was sent. Restore it, and do not send "
                "again what may have been sent."
            )
        if not application:
            if not may_create:
                raise JournalError(
                    f"{self.path} is no journal: it is empty, as one whose first bulk send never began. Remove it to "
                    "start again."
                )
            create(self.connection)
        elif version != VERSION and self._lock is not None:
            migrate(self.connection, version)
        else:
            self.version = version
        ((self.epoch, self.salt),) = execute("SELECT epoch, salt FROM journal")

    def _pragma(self, name: str) -> Any:
        return self.connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _begin_run(self, account: str | None, made_from: Mapping[str, str]) -> None:
        with self.transaction():
            ((known,),) = self.connection.execute("SELECT account FROM journal")
            if account is not None:
                digest = account_digest(self.salt, account)
                if known not in (None, digest):
                    raise JournalError(
                        f"The journal {self.path} is another account's, or another host's. Name another file."
                    )
                self.connection.execute("UPDATE journal SET account = ?", (digest,))
            self.connection.executemany(
                "INSERT OR REPLACE INTO origin VALUES (?, ?)",
                [(what, origin_digest(self.salt, what, value)) for what, value in made_from.items()],
            )
            self.connection.execute("UPDATE journal SET epoch = epoch + 1, inode = ?", (self._files.inode(),))
            self.connection.execute("UPDATE message SET state = 'in_doubt' WHERE state = 'sending'")
            self.epoch += 1
        if not self._checkpoint("FULL"):
            raise JournalError(f"The journal {self.path} cannot be used: another program reads it. Try it again.")

    def _checkpoint(self, mode: str = "PASSIVE") -> bool:
        """
        Copy the log into the main file, mark that as lacking all later changes, and return whether all was copied.

        "PASSIVE" leaves pages that others read now for the next checkpoint; "FULL" waits for the readers.
        """
        self._checkpointing = True  # the transactions below must not begin another one
        self._mark(LACKS_LOG)
        ((busy, pages, written),) = self.connection.execute(f"PRAGMA wal_checkpoint({mode})")
        complete = not busy and pages == written
        self._mark(HAS_LOG, checkpointed=complete)
        self._checkpointing, self._checkpointed_at = False, self.connection.total_changes
        return complete

    def _mark(self, held: int, *, checkpointed: bool = False) -> None:
        with self.transaction():
            self.connection.execute(
                "UPDATE journal SET held = ?, base = CASE WHEN ? THEN epoch ELSE base END", (held, checkpointed)
            )

    def _require_log(self) -> None:
        """Check that no log is missing; see the module's docstring."""
        ((held, inode),) = self.connection.execute("SELECT held, inode FROM journal")
        if held == CLOSED:
            return
        if self._files.has_log():
            if held == LACKS_LOG and self._lock is None:
                self._finish_checkpoint()
            return
        log = self._files.log.name
        if held == LACKS_LOG:
            raise JournalError(
                f"The journal {self.path} is in use, or was not closed, and most of it is in {log}, which is not "
                "beside it. Copy both files from where the bulk send ran, together and while none runs. Without "
                f"{log} it is unknown what was sent."
            )
        if inode != self._files.inode():
            raise JournalError(
                f"The journal {self.path} is a copy of one that was in use, or not closed: what was sent since is "
                "not in it. Use the file of which it is a copy."
            )

    def _require_own_log(self) -> None:
        """
        Check that the log belongs to this main file: SQLite accepts any log, and mixes the two when it closes them.

        The row `journal` in the log must have the main file's salt. The main file's epoch must lie between that of the
        last complete checkpoint (`base`) and that of the log.
        """
        # During the owner's checkpoint, the main file cannot be read without the log.
        if not self._files.has_log() or (self._lock is None and self.is_in_use()):
            return
        together, alone = self._identity("mode=ro"), self._identity("immutable=1")
        if together is None or alone is None:  # of version 1, or its first run crashed before it began
            return
        (salt, epoch, base), (main_salt, main_epoch, _) = together, alone
        if salt != main_salt or not base <= main_epoch <= epoch:
            raise JournalError(
                f"The journal {self.path} and {self._files.log.name} beside it do not belong together. Copy both "
                "again, at the same moment, from where the bulk send ran."
            )

    def _identity(self, parameter: str) -> tuple[bytes, int, int] | None:
        try:
            with closing(sqlite3.connect(f"{self._files.main.as_uri()}?{parameter}", uri=True)) as connection:
                return next(connection.execute("SELECT salt, epoch, base FROM journal"), None)
        except sqlite3.Error:
            return None

    def _finish_checkpoint(self) -> None:
        """
        Set HAS_LOG if a run crashed in a checkpoint and left LACKS_LOG although the log is there.

        When this connection is closed, SQLite may copy the log and remove it.
        """
        with suppress(JournalError):
            lock = LockFile(self._files.main)
            try:
                with self.transaction():
                    self.connection.execute("UPDATE journal SET held = ? WHERE held = ?", (HAS_LOG, LACKS_LOG))
            finally:
                lock.release()

    def _require_own_epoch(self) -> None:
        if self._lock is None:
            return
        ((epoch,),) = self.connection.execute("SELECT epoch FROM journal")
        if epoch != self.epoch:
            # The lock is advisory, and a network file system may not support it.
            raise JournalError(f"The journal {self.path} was taken over by another bulk send.")

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
