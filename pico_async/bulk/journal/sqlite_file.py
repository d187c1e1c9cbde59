"""
The journal's file: SQLite, found sound and whole, taken from all others, and changed in transactions.

Nearly all that a running blast commits is in SQLite's write-ahead log, `FILE-wal`, and not in the main file. So a main
file that was copied, moved or left without its log has forgotten sends, and must be recognised. `journal.held` says so:

| held      | where              | meaning                                                                 |
|-----------|--------------------|-------------------------------------------------------------------------|
| CLOSED    | in both            | the main file has all: its last blast closed it                         |
| LACKS_LOG | in the main file   | a blast holds it, or died with it; what came since is in the log alone  |
| HAS_LOG   | in the log         | the same, seen together with the log: nothing is lacking                |

LACKS_LOG is in the main file, synced, before the first message may leave, and HAS_LOG is committed next, so that it
gets into the main file only together with everything else in the log, as where `sqlite3` opened the file after a crash.
A main file with HAS_LOG and without a log is whole where it is the one that the blast held, by its inode. Any other is
a copy, made while the blast may have gone on.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from pico_async.bulk.journal.digests import SALT_BYTES, account_digest, origin_digest
from pico_async.bulk.journal.lock_file import Ownership, is_in_use
from pico_async.errors import JournalError

# "Pico" in ASCII. It tells this file from the SQLite files of others.
APPLICATION_ID = 0x5069636F
VERSION = 3
BUSY_S = 5.0

CLOSED, LACKS_LOG, HAS_LOG = range(3)
# Rows that are changed before the log is written back into the main file: some 10 MB of it.
WRITTEN_BACK_AFTER = 4000

_SCHEMA = """
CREATE TABLE journal (
    epoch INTEGER NOT NULL,     -- how often it was taken; who took it before the last time may not write
    salt BLOB NOT NULL,         -- of the digests
    account BLOB,               -- digest of whose messages these are; NULL until the first blast
    held INTEGER NOT NULL DEFAULT 0,  -- whether a blast holds it, or died with it, and whether this lacks the log
    inode TEXT,                 -- of the main file, when it was held last
    base INTEGER NOT NULL DEFAULT 0 -- epoch that the main file had when the log was written back last
);
CREATE TABLE message (
    row INTEGER PRIMARY KEY,    -- in the order of the input, so that one commit touches few pages
    name BLOB NOT NULL UNIQUE,  -- digest of its key, or of its content and occurrence
    content BLOB,               -- digest of what the recipient gets; NULL: whatever comes next under this name
    state TEXT NOT NULL,
    request_id TEXT,
    epoch INTEGER NOT NULL,     -- of the run that began it
    position INTEGER NOT NULL,  -- its place in that run's input, from 0
    changed_at INTEGER NOT NULL,-- Unix time of the last change of its state
    line INTEGER,               -- of the file that it was read from, where it was one
    doubted INTEGER NOT NULL DEFAULT 0  -- `resend` decided it: an earlier run may have sent it
);
CREATE TABLE origin (
    what TEXT PRIMARY KEY,      -- what the messages were made from, as the text with its places
    digest BLOB NOT NULL
);
"""
_FROM_VERSION_1 = """
ALTER TABLE journal ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE journal ADD COLUMN inode TEXT;
ALTER TABLE journal ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN line INTEGER;
CREATE TABLE origin (what TEXT PRIMARY KEY, digest BLOB NOT NULL);
"""
_FROM_VERSION_2 = """
ALTER TABLE message ADD COLUMN doubted INTEGER NOT NULL DEFAULT 0;
"""
_MIGRATIONS = {1: _FROM_VERSION_1 + _FROM_VERSION_2, 2: _FROM_VERSION_2}
# The first one whose main file says whether it lacks its log.
_MARKED = 2


class JournalFile:
    """
    An open journal. Use it in one thread, and each change inside `transaction`.

    Args:
        owned: Take it from all others, and what they left as "sending" is in doubt. Without it, look only, or note
            what is beyond doubt whoever owns it.
        account: Whose messages it must hold; any where None.
        create: Make the file where there is none.
        checked: Look through all of it for damage first, which takes a second for a million messages.
        made_from: What the messages are made from, by name, such as their text; of each a digest is kept.

    Raises:
        JournalError: It cannot be used, and why.
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
        # The lock and the log beside it must be the same, whichever way it is reached. `Path.resolve` raises for a
        # loop of symlinks on some versions of Python, and SQLite's own error for one comes later.
        self._place = Path(os.path.realpath(path))
        self._log = Path(f"{self._place}-wal")
        with self.told("cannot be used"):
            self._require_one_file(create)
        self._ownership = Ownership(self._place) if owned else None
        self.version = VERSION
        self.epoch = 0
        self.salt = b""
        # By which the files are known at each commit.
        self._identities: dict[Path, tuple[int, int] | None] = {}
        self._written_back_at = 0
        try:
            self._require_own_log()
            self.connection = self._connect(create)
            try:
                with self.told("cannot be used"):
                    self._prepare(create, checked)
                    self._identities = {file: _identity(file) for file in (self._place, self._log)}
                    if owned:
                        self._take(account, made_from or {})
            except BaseException:
                self._disconnect()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close it. What was committed is safe already, so what goes wrong here is of no consequence."""
        # Where this fails, what the file says is still true: that it was not closed.
        with suppress(sqlite3.Error, JournalError):
            if self._ownership is not None:
                self._hold(CLOSED)
        self._disconnect()
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
            JournalError: It was not committed, or into files that were taken away meanwhile.
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
            # Afterwards, for what was committed into files that are no longer there is not on the disk.
            self._require_in_place()
            if self._ownership is not None and self.connection.total_changes >= (
                self._written_back_at + WRITTEN_BACK_AFTER
            ):
                self._write_back()

    def is_made_from(self, what: str, value: str) -> bool | None:
        """Say whether this made the messages of the last run; None where nobody knows."""
        with self.told("cannot be read"):
            if self.version < _MARKED:
                return None
            known = self.connection.execute("SELECT digest FROM origin WHERE what = ?", (what,)).fetchone()
        return None if known is None else bool(known[0] == origin_digest(self.salt, what, value))

    @property
    def is_owned(self) -> bool:
        """Whether it was taken from all others."""
        return self._ownership is not None

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
            connection = sqlite3.connect(self._place, timeout=BUSY_S, isolation_level=None)
            # The owner writes the log back, and marks the file as lacking what comes after.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            return connection

    def _disconnect(self) -> None:
        """
        Close the connection, and leave the log where the main file says that it lacks it.

        SQLite writes the log back and removes it as the last connection is closed. One that may only read can do
        neither.
        """
        last: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            if (LACKS_LOG,) in self.connection.execute("SELECT held FROM journal"):
                last = sqlite3.connect(f"{self._place.as_uri()}?mode=ro", uri=True)
                last.execute("SELECT held FROM journal").fetchone()
        with suppress(sqlite3.Error):
            self.connection.close()
        if last is not None:
            last.close()

    def _prepare(self, create: bool, checked: bool) -> None:
        execute = self.connection.execute
        (application,), (version,) = (
            execute("PRAGMA application_id").fetchone(),
            execute("PRAGMA user_version").fetchone(),
        )
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application or tables or version) and application != APPLICATION_ID:
            raise JournalError(f"{self.path} is no journal: it is another program's. Name another file.")
        if application and version not in (*_MIGRATIONS, VERSION):
            raise JournalError(
                f"The journal {self.path} is of version {version}, and this pico_async knows version {VERSION}. "
                "Use the one that wrote it, or name another file."
            )
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise JournalError(f"The journal {self.path} cannot be used: this file system does not bear a WAL.")
        # FULL: with WAL, less than that forgets the last commits in a power cut, and what they tell was sent already.
        execute("PRAGMA synchronous = FULL")
        if version >= _MARKED:
            self._require_log()
        (sound,) = execute("PRAGMA quick_check(1)").fetchone() if checked else ("ok",)
        if sound != "ok":
            raise JournalError(
                f"The journal {self.path} is damaged. What it told of is unknown: restore it, and do not send again "
                "what may have gone out."
            )
        if not application:
            if not create:
                raise JournalError(
                    f"{self.path} is no journal: it is empty, as one whose first blast never began. Remove it to begin "
                    "anew."
                )
            self._build(_SCHEMA)
        elif version != VERSION and self._ownership is not None:
            self._build(_MIGRATIONS[version])
        else:
            self.version = version
        ((self.epoch, self.salt),) = execute("SELECT epoch, salt FROM journal")

    def _build(self, schema: str) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in schema.split(";\n"):
            execute(statement)
        if schema is _SCHEMA:
            execute("INSERT INTO journal (epoch, salt) VALUES (0, ?)", (os.urandom(SALT_BYTES),))
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")

    def _take(self, account: str | None, made_from: Mapping[str, str]) -> None:
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
            self.connection.execute("UPDATE journal SET epoch = epoch + 1, inode = ?", (self._inode(),))
            self.connection.execute("UPDATE message SET state = 'in_doubt' WHERE state = 'sending'")
            self.epoch += 1
        if not self._write_back("FULL"):
            raise JournalError(f"The journal {self.path} cannot be used: another program reads it. Try it again.")

    def _write_back(self, mode: str = "PASSIVE") -> bool:
        """
        Bring the log into the main file, which says from then on that it lacks what comes after.

        Args:
            mode: "PASSIVE" leaves for the next time what others read at the moment; "FULL" waits for them.

        Returns:
            Whether all of it is in the main file.
        """
        self._written_back_at = self.connection.total_changes + WRITTEN_BACK_AFTER
        self._hold(LACKS_LOG)
        ((busy, pages, written),) = self.connection.execute(f"PRAGMA wal_checkpoint({mode})")
        whole = not busy and pages == written
        self._hold(HAS_LOG, written_back=whole)
        self._written_back_at = self.connection.total_changes
        return whole

    def _hold(self, held: int, *, written_back: bool = False) -> None:
        with self.transaction():
            self.connection.execute(
                "UPDATE journal SET held = ?, base = CASE WHEN ? THEN epoch ELSE base END", (held, written_back)
            )

    def _require_one_file(self, create: bool) -> None:
        """Make sure that it has one name, and that no log of another file lies beside it."""
        try:
            found = os.stat(self._place)
        except FileNotFoundError:
            if not create:
                raise JournalError(f"There is no journal {self.path}.") from None
            found = None
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise JournalError(f"The journal {self.path} is a folder: name a file.")
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise JournalError(f"{self.path} is no journal: it is no regular file. Name another one.")
        if found is not None and found.st_nlink > 1:
            raise JournalError(
                f"The journal {self.path} has {found.st_nlink} names (hard links), and what SQLite keeps beside it "
                "belongs to one of them. Remove the others: no blast may take it for another file."
            )
        if (found is None or not found.st_size) and self._has_log():
            raise JournalError(
                f"The journal {self.path} is {'gone' if found is None else 'empty'}, but {self._log.name}, which "
                "belongs to it, is there. Copy both from where they were; or remove that, where the journal was "
                "deleted for good, and all is to be sent again."
            )

    def _require_log(self) -> None:
        """Make sure that nothing is lacking; see the head of this module."""
        ((held, inode),) = self.connection.execute("SELECT held, inode FROM journal")
        if held == CLOSED:
            return
        if self._has_log():
            if held == LACKS_LOG and self._ownership is None:
                self._finish_writing_back()
            return
        if held == LACKS_LOG:
            raise JournalError(
                f"The journal {self.path} is in use, or was not closed, and most of it is in {self._log.name}, which "
                f"is not beside it. Copy both files from where the blast ran, together and while none runs. Without "
                f"{self._log.name} it is unknown what was sent."
            )
        if inode != self._inode():
            raise JournalError(
                f"The journal {self.path} is a copy of one that was in use, or not closed: what was sent since is "
                "not in it. Use the file of which it is a copy."
            )

    def _require_own_log(self) -> None:
        """
        Make sure that the log is that of this main file: SQLite takes any, and mixes the two when it closes them.

        Each log begins with the mark, and so with the salt of its journal and the epoch that the main file had.
        """
        # While its owner writes back, the main file cannot be read without the log.
        if not self._has_log() or (self._ownership is None and self.is_in_use()):
            return
        together, alone = self._mark("mode=ro"), self._mark("immutable=1")
        if together is None or alone is None:  # of version 1, or its first blast died before it began
            return
        (salt, epoch, base), (main_salt, main_epoch, _) = together, alone
        if salt != main_salt or not base <= main_epoch <= epoch:
            raise JournalError(
                f"The journal {self.path} and {self._log.name} beside it do not belong together. Copy both from where "
                "the blast ran, of one moment."
            )

    def _mark(self, how: str) -> tuple[bytes, int, int] | None:
        try:
            with closing(sqlite3.connect(f"{self._place.as_uri()}?{how}", uri=True)) as connection:
                return next(connection.execute("SELECT salt, epoch, base FROM journal"), None)
        except sqlite3.Error:
            return None

    def _finish_writing_back(self) -> None:
        """Correct the mark that a run left which died while it wrote back: closing this may remove the log."""
        with suppress(JournalError):
            ownership = Ownership(self._place)
            try:
                with self.transaction():
                    self.connection.execute("UPDATE journal SET held = ? WHERE held = ?", (HAS_LOG, LACKS_LOG))
            finally:
                ownership.release()

    def _has_log(self) -> bool:
        # SQLite makes an empty one when it opens the main file, and leaves none that is empty while it is marked.
        try:
            return os.stat(self._log).st_size > 0
        except FileNotFoundError:
            return False

    def _inode(self) -> str:
        # Without the device, whose number may be another one after a restart of the machine.
        return str(os.stat(self._place).st_ino)

    def _require_in_place(self) -> None:
        for file, identity in self._identities.items():
            if _identity(file) != identity:
                raise JournalError(
                    f"The journal {self.path} was taken away while it was in use: {file.name} was deleted, moved or "
                    "replaced. Nothing is sent without it."
                )

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


def files_of(journal: Path) -> list[Path]:
    """Give the journal's main file, and what lies beside it."""
    place = os.path.realpath(journal)
    return [Path(place + suffix) for suffix in ("", "-wal", "-shm", "-journal", "-lock")]


def _identity(file: Path) -> tuple[int, int] | None:
    """Give what tells this file from any other that bears its name at another moment; None where there is none."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it, or its folder, is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; it, and the folder, must be there and writable",
    sqlite3.SQLITE_NOTADB: "it is no journal, or it is damaged",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}
