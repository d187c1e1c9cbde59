"""The journal's file: SQLite, one line for each message, changed by the one thread that opened it."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from pico_async.bulk.digests import SALT_BYTES, account_digest, content_digest, key_digest, occurrence_digest
from pico_async.bulk.journal import JournalRecord, JournalState, Line
from pico_async.bulk.ownership import Ownership, is_in_use
from pico_async.errors import InvalidMessageError, JournalError
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

MAX_REQUEST_ID = 200
Row = TypeVar("Row", bound=tuple[object, ...])
SHORTEST_ID = 6
_ID = re.compile(r"[0-9a-fA-F]{32}")


class _Known(NamedTuple):
    name: bytes
    row: int
    state: JournalState
    request_id: str | None
    content: bytes | None
    epoch: int
    position: int


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
        self._occurrences: Counter[bytes] = Counter()
        self._next_row = 1
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

    # Each statement gives up the interpreter's lock, and waits for it where the event loop is busy: on a loaded machine
    # that costs more than the disk. So a commit takes a handful of statements, however many messages share it.

    def claim(self, messages: Sequence[tuple[Message, int]]) -> list[Line | InvalidMessageError]:
        """Find the line of each message, or begin one. The messages come with their places in the input."""
        contents = [content_digest(self._salt, message) for message, _ in messages]
        names = [
            self._next_occurrence(content) if message.key is None else key_digest(self._salt, message.key)
            for (message, _), content in zip(messages, contents, strict=True)
        ]
        known = self._known(names)
        began: dict[bytes, _Known] = {}
        lines: list[Line | InvalidMessageError] = []
        for (message, position), content, name in zip(messages, contents, names, strict=True):
            found = began.get(name) or known.get(name)
            if message.key is None and found is not None and found.epoch == self._epoch:
                # What came once before is not remembered but in the file.
                self._occurrences[content] += 1
                name = self._next_occurrence(content)
                found = self._known([name]).get(name)
            refusal = None if found is None or message.key is None else self._refusal(message.key, found, content)
            if refusal is not None:
                lines.append(refusal)
                continue
            row = self._next_row if found is None else found.row
            self._next_row += found is None
            state = JournalState.PENDING if found is None else found.state
            request_id = None if found is None else found.request_id
            began[name] = _Known(name, row, state, request_id, content, self._epoch, position)
            lines.append(Line(row, state, request_id))
        now = int(time.time())
        self._upsert([(*line, now) for line in began.values()])
        return lines

    def change(self, changes: Mapping[int, tuple[JournalState, str | None]]) -> None:
        """
        Give rows their new states, and request IDs where there are such.

        What was accepted stays accepted: a receipt may have been quicker than the reply.
        """
        now = int(time.time())
        rows = [(row, state, _stored(request_id), now) for row, (state, request_id) in changes.items()]
        for some in _batches(rows):
            self._connection.execute(
                "UPDATE message SET state = CASE message.state WHEN 'accepted' THEN 'accepted' ELSE new.column2 END,"  # noqa: S608  question marks
                " request_id = coalesce(new.column3, message.request_id), changed_at = new.column4"
                f" FROM (VALUES {_places(some)}) AS new WHERE message.row = new.column1",
                list(chain.from_iterable(some)),
            )

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

    def release(self, row: int) -> None:
        """Let the next run send the message, whatever it says then."""
        self._connection.execute("UPDATE message SET state = 'pending', content = NULL WHERE row = ?", (row,))

    def _next_occurrence(self, content: bytes) -> bytes:
        """Name a message without a key. Of the contents, only those that came twice in this run are remembered."""
        occurrence = self._occurrences.get(content, 0)
        if occurrence:
            self._occurrences[content] += 1
        return occurrence_digest(self._salt, content, occurrence)

    def _known(self, names: Sequence[bytes]) -> dict[bytes, _Known]:
        found: dict[bytes, _Known] = {}
        for some in _batches([(name,) for name in names]):
            rows = self._connection.execute(
                "SELECT name, row, state, request_id, content, epoch, position FROM message"  # noqa: S608  question marks
                f" WHERE name IN ({', '.join('?' * len(some))})",
                list(chain.from_iterable(some)),
            ).fetchall()
            found |= {name: _Known(name, row, JournalState(state), *rest) for name, row, state, *rest in rows}
        return found

    def _refusal(self, key: str, known: _Known, content: bytes) -> InvalidMessageError | None:
        if known.epoch == self._epoch:
            return InvalidMessageError(
                f"`key` {mask_numbers(key)!r} came before in this blast. A key names one message: give each its own, "
                "or none."
            )
        if known.content not in (None, content):
            return InvalidMessageError(
                f"`key` {mask_numbers(key)!r} names a message of other content in the journal, which is "
                f"{known.state.replace('_', ' ')}. Give a new message a new key."
            )
        return None

    def _upsert(self, rows: Sequence[tuple[object, ...]]) -> None:
        for some in _batches(rows):
            self._connection.execute(
                "INSERT INTO message (name, row, state, request_id, content, epoch, position, changed_at)"  # noqa: S608  question marks
                f" VALUES {_places(some)} ON CONFLICT (name) DO UPDATE SET"
                " epoch = excluded.epoch, position = excluded.position, content = excluded.content",
                list(chain.from_iterable(some)),
            )

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
        ((self._next_row,),) = execute("SELECT coalesce(max(row), 0) + 1 FROM message")

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


def _stored(request_id: str | None) -> str | None:
    # It is Pico's, and may be anything.
    return None if request_id is None else request_id.encode("utf-8", "replace").decode()[:MAX_REQUEST_ID]


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    # SQLite takes 32,766 values in a statement.
    for start in range(0, len(rows), 1000):
        yield rows[start : start + 1000]


def _places(rows: Sequence[tuple[object, ...]]) -> str:
    """Give the question marks of some rows: "(?, ?), (?, ?)"."""
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it, or its folder, is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; it, and the folder, must be there and writable",
    sqlite3.SQLITE_NOTADB: "it is no journal, or it is damaged",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}
