"""The journal's file: SQLite, one line for each message, changed by the one thread that opened it."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from pico_async.bulk.digests import SALT_BYTES, account_digest, content_digest, key_digest, occurrence_digest
from pico_async.bulk.journal import JournalRecord, JournalState, Line
from pico_async.bulk.ownership import Ownership, is_in_use
from pico_async.errors import InvalidMessageError, JournalError, Outcome
from pico_async.messages import Message
from pico_async.numbers import mask_numbers

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
CREATE INDEX message_state ON message (state) WHERE state IN ('sending', 'in_doubt');
"""

_SETTLED = {
    Outcome.ACCEPTED: JournalState.ACCEPTED,
    Outcome.REJECTED: JournalState.REJECTED,
    Outcome.NOT_SENT: JournalState.NOT_SENT,
    Outcome.IN_DOUBT: JournalState.IN_DOUBT,
}
MAX_REQUEST_ID = 200
SHORTEST_ID = 6
_ID = re.compile(r"[0-9a-fA-F]{32}")


class JournalFile:
    """
    An open journal. Use it in one thread, and each change inside `transaction`.

    Args:
        owned: Take it from all others, and what they left as "sending" is in doubt. Without it, look only, or note
            what is beyond doubt whoever owns it.
        account: Whose messages it must hold; any where None.
        create: Make the file where there is none.

    Raises:
        JournalError: It cannot be used, and why.
    """

    def __init__(self, path: Path, *, owned: bool, account: str | None = None, create: bool = False) -> None:
        self._path = path
        # The lock beside it must be the same, whichever way it is reached.
        self._place = path.resolve()
        if self._place.is_dir():
            raise JournalError(f"The journal {path} is a folder: name a file.")
        if not create and not self._place.exists():
            raise JournalError(f"There is no journal {path}.")
        self._ownership = Ownership(self._place) if owned else None
        self._seen_again: Counter[bytes] = Counter()
        self._epoch = 0
        self._salt = b""
        try:
            self._connection = self._connect(create)
            try:
                with self._told("cannot be used"):
                    self._prepare(create)
                if owned:
                    self._take(account)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close it. What was committed is safe already, so what goes wrong here is of no consequence."""
        with suppress(sqlite3.Error):
            self._connection.close()
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
        with self._told("could not be written on"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._fence()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def claim(self, message: Message, position: int) -> Line:
        """Find the message's line, or begin one."""
        content = content_digest(self._salt, message)
        name = self._free_occurrence(content) if message.key is None else key_digest(self._salt, message.key)
        found = self._connection.execute(
            "SELECT row, state, request_id, content, epoch FROM message WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            inserted = self._connection.execute(
                "INSERT INTO message (name, content, state, epoch, position, changed_at) VALUES (?, ?, ?, ?, ?, ?)",
                (name, content, JournalState.PENDING, self._epoch, position, int(time.time())),
            )
            return Line(inserted.lastrowid or 0, JournalState.PENDING)
        row, state, request_id, known_content, epoch = found
        if message.key is not None:
            if epoch == self._epoch:
                raise InvalidMessageError(
                    f"`key` {mask_numbers(message.key)!r} came before in this blast. A key names one message: give "
                    "each its own, or none."
                )
            if known_content not in (None, content):
                raise InvalidMessageError(
                    f"`key` {mask_numbers(message.key)!r} names a message of other content in the journal, which is "
                    f"{state.replace('_', ' ')}. Give a new message a new key."
                )
        self._connection.execute(
            "UPDATE message SET epoch = ?, position = ?, content = ? WHERE row = ?",
            (self._epoch, position, content, row),
        )
        return Line(row, JournalState(state), request_id)

    def intend(self, line: Line) -> None:
        """Note that it may be on the wire from now on."""
        if not self._change(line.row, JournalState.SENDING, "state IN ('pending', 'not_sent', 'rejected')"):
            raise JournalError(f"The journal {self._path} was changed by somebody else meanwhile.")

    def settle(self, line: Line, outcome: Outcome, request_id: str | None) -> None:
        """Note what became of it, unless a receipt told that already."""
        # A receipt that was quicker than the reply knew no request_id.
        where = "state IN ('sending', 'accepted')" if outcome is Outcome.ACCEPTED else "state = 'sending'"
        self._change(line.row, _SETTLED[outcome], where, request_id)

    def is_in_use(self) -> bool:
        """Say whether a blast holds it at this moment."""
        return is_in_use(self._place)

    def counts(self) -> dict[JournalState, int]:
        """Count the messages by state."""
        with self._told("cannot be read"):
            found = dict(self._connection.execute("SELECT state, count(*) FROM message GROUP BY state"))
        return {state: found.get(state, 0) for state in JournalState}

    def in_doubt(self, *, also_sending: bool) -> list[JournalRecord]:
        """Give what is in doubt, in the order of the input."""
        states = [JournalState.IN_DOUBT, JournalState.SENDING if also_sending else JournalState.IN_DOUBT]
        with self._told("cannot be read"):
            found = self._connection.execute(
                "SELECT name, state, request_id, position, changed_at FROM message WHERE state IN (?, ?)"
                " AND state IN ('sending', 'in_doubt') ORDER BY position, row",
                states,
            ).fetchall()
        return [
            JournalRecord(name.hex(), JournalState(state), request_id, position, changed_at)
            for name, state, request_id, position, changed_at in found
        ]

    def find(self, name: str) -> tuple[int, JournalState]:
        """
        Find a message by its key, or by its ID or the beginning of it.

        Raises:
            JournalError: There is none of that name, or more than one.
        """
        digests = [key_digest(self._salt, name), bytes.fromhex(name) if _ID.fullmatch(name) else b""]
        select = "SELECT row, state FROM message WHERE "
        found = self._connection.execute(select + "name IN (?, ?)", digests).fetchall()
        if not found and len(name) >= SHORTEST_ID:
            begins = "substr(lower(hex(name)), 1, length(?1)) = ?1 LIMIT 2"
            found = self._connection.execute(select + begins, (name.lower(),)).fetchall()
        if len(found) != 1:
            many = "more than one message begins with" if found else "there is no message of the key or ID"
            raise JournalError(f"In the journal {self._path} {many} {mask_numbers(name)!r}. Nothing was changed.")
        return found[0][0], JournalState(found[0][1])

    def mark_sent(self, row: int, request_id: str | None = None) -> None:
        """Note that a message in doubt was sent after all."""
        self._change(row, JournalState.ACCEPTED, "state IN ('sending', 'in_doubt')", request_id)

    def release(self, row: int) -> None:
        """Let the next run send the message, whatever it says then."""
        self._change(row, JournalState.PENDING, "state NOT IN ('sending', 'accepted')")
        self._connection.execute("UPDATE message SET content = NULL WHERE row = ?", (row,))

    def _change(self, row: int, state: JournalState, where: str, request_id: str | None = None) -> bool:
        if request_id is not None:
            # It is Pico's, and may be anything.
            request_id = request_id.encode("utf-8", "replace").decode()[:MAX_REQUEST_ID]
        update = "UPDATE message SET state = ?, request_id = coalesce(?, request_id), changed_at = ? WHERE row = ? AND "
        changed = self._connection.execute(update + where, (state, request_id, int(time.time()), row))
        return changed.rowcount == 1

    def _free_occurrence(self, content: bytes) -> bytes:
        """Name the message by how often its content came before in this run. Only what came twice is remembered."""
        occurrence = self._seen_again[content]
        name = occurrence_digest(self._salt, content, occurrence)
        if occurrence == 0:
            seen = self._connection.execute(
                "SELECT 1 FROM message WHERE name = ? AND epoch = ?", (name, self._epoch)
            ).fetchone()
            if seen is None:
                return name
            occurrence = 1
            name = occurrence_digest(self._salt, content, occurrence)
        self._seen_again[content] = occurrence + 1
        return name

    def _connect(self, create: bool) -> sqlite3.Connection:
        with self._told("cannot be used"):
            if create:
                with suppress(FileExistsError):
                    # For its owner's eyes. SQLite gives the same mode to what it makes beside it.
                    os.close(os.open(self._place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            # Its own transactions would begin without IMMEDIATE, and fail late.
            return sqlite3.connect(self._place, timeout=BUSY_S, isolation_level=None)

    def _prepare(self, create: bool) -> None:
        execute = self._connection.execute
        (application,), (version,) = (
            execute("PRAGMA application_id").fetchone(),
            execute("PRAGMA user_version").fetchone(),
        )
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application or tables or version) and application != APPLICATION_ID:
            raise JournalError(f"{self._path} is no journal: it is another program's. Name another file.")
        if application and version != VERSION:
            raise JournalError(
                f"The journal {self._path} is of version {version}, and this pico_async knows version {VERSION}. "
                "Use the one that wrote it, or name another file."
            )
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise JournalError(f"The journal {self._path} cannot be used: this file system does not bear a WAL.")
        # FULL: with WAL, less than that forgets the last commits in a power cut, and what they tell was sent already.
        execute("PRAGMA synchronous = FULL")
        (sound,) = execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise JournalError(
                f"The journal {self._path} is damaged. What it told of is unknown: restore it, and do not send again "
                "what may have gone out."
            )
        if not application:
            if not create:
                raise JournalError(f"{self._path} is no journal: it is empty.")
            execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                execute(statement)
            execute("INSERT INTO journal (epoch, salt) VALUES (0, ?)", (os.urandom(SALT_BYTES),))
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {VERSION}")
            execute("COMMIT")
        ((self._epoch, self._salt),) = execute("SELECT epoch, salt FROM journal")

    def _take(self, account: str | None) -> None:
        with self.transaction():
            ((known,),) = self._connection.execute("SELECT account FROM journal")
            if account is not None:
                digest = account_digest(self._salt, account)
                if known not in (None, digest):
                    raise JournalError(
                        f"The journal {self._path} is another account's, or another host's. Name another file."
                    )
                self._connection.execute("UPDATE journal SET account = ?", (digest,))
            self._connection.execute("UPDATE journal SET epoch = epoch + 1")
            self._connection.execute("UPDATE message SET state = 'in_doubt' WHERE state = 'sending'")
            self._epoch += 1

    def _fence(self) -> None:
        if self._ownership is None:
            return
        ((epoch,),) = self._connection.execute("SELECT epoch FROM journal")
        if epoch != self._epoch:
            # The lock is advisory, and a file system in a network may know none.
            raise JournalError(f"The journal {self._path} was taken over by another blast.")

    def _release(self) -> None:
        if self._ownership is not None:
            self._ownership.release()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error))
        except OSError as error:
            reason = error.strerror or type(error).__name__
        else:
            return
        raise JournalError(f"The journal {self._path} {what}: {reason}.")


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it, or its folder, is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; it, and the folder, must be there and writable",
    sqlite3.SQLITE_NOTADB: "it is no journal, or it is damaged",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}
