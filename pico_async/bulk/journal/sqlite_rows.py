"""The rows of a journal's file: found, added and changed, many in one statement."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

from attrs import frozen

from pico_async._masking import mask_numbers
from pico_async.bulk.journal.digests import content_digest, key_digest, occurrence_digest
from pico_async.bulk.journal.protocols import JournalRecord, JournalRow, JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.errors import InvalidMessageError, JournalError, NotInDoubtError, Reason
from pico_async.messages import Message

MAX_REQUEST_ID = 200
# SQLite accepts 32,766 values in a statement.
_ROWS_PER_STATEMENT = 1000
_WHOLE_ID = 32
# At least 6 characters of an ID.
_ID = re.compile(r"[0-9a-fA-F]{6,32}")

Values = TypeVar("Values", bound=tuple[object, ...])


class _Known(NamedTuple):
    name: bytes
    row: int
    state: JournalState
    request_id: str | None = None
    content: bytes | None = None
    position: int = -1
    line: int | None = None


@frozen
class Found:
    """A message's row, as the last run left it; *doubted* means that an earlier run may have sent it."""

    row: int
    state: JournalState
    doubted: bool

    @property
    def may_have_gone_out(self) -> bool:
        """Whether the message may have been sent."""
        return self.doubted or self.state in (JournalState.IN_DOUBT, JournalState.SENDING)


class JournalRows:
    """
    The rows of an open file. Call a method that changes rows inside the file's `transaction`.

    Each statement releases the interpreter's lock, and waits for it while the event loop is busy. On a loaded machine
    that costs more than the disk. A commit therefore takes a few statements, however many messages share it.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        with file.journal_errors("cannot be read"):
            ((self._next_row,),) = file.connection.execute("SELECT coalesce(max(row), 0) + 1 FROM message")
        # A file of an older version that is only read lacks these columns.
        self._line = "line" if file.version >= 2 else "NULL"
        self._doubted = "doubted" if file.version >= 3 else "0"
        # The state over all runs: a message that the last run did not send may have been sent by an earlier one.
        self._state = f"CASE WHEN {self._doubted} AND state IN ('not_sent', 'rejected') THEN 'in_doubt' ELSE state END"
        # Which rows were used in this run: a byte for each.
        self._used = bytearray(self._next_row)
        # How often a content occurred in this run, if more than once. For the first occurrence, `_used` is enough.
        self._occurrences: dict[bytes, int] = {}

    @property
    def total(self) -> int:
        return int(self._next_row) - 1

    def claim(self, messages: Sequence[tuple[Message, int, int | None]]) -> list[JournalRow | InvalidMessageError]:
        """
        Return the row of each message, with its index and its line in a file if it has one; add missing rows.

        A row that is unchanged is not written, so that a run skips accepted messages without a commit.
        """
        rows: list[JournalRow | InvalidMessageError] = []
        changed: dict[bytes, _Known] = {}
        known, named = self._look_up([message for message, _, _ in messages])
        for (message, index, line), (name, content) in zip(messages, named, strict=True):
            found = known.get(name)
            if found is not None:
                if message.key is None:
                    name, found = self._row_of_occurrence(name, found, content, known)
                elif (refusal := self._refusal(message.key, found, content)) is not None:
                    rows.append(refusal)
                    continue
            if found is None:
                found = _Known(name, self._next_row, JournalState.PENDING)
                self._next_row += 1
                self._used.append(0)
            if (found.content, found.position, found.line) != (content, index, line):
                found = changed[name] = found._replace(content=content, position=index, line=line)
            known[name] = found
            self._used[found.row] = 1
            rows.append(JournalRow(found.row, found.state, found.request_id))
        self._write(list(changed.values()))
        return rows

    def count_known(self, messages: Sequence[Message]) -> Counter[JournalState | None]:
        """
        Count the messages by the state of their rows, and change nothing; None counts those without a row.

        A message is not counted if its key occurred before, or belongs to another content.
        """
        counts: Counter[JournalState | None] = Counter()
        known, named = self._look_up(messages)
        for message, (name, content) in zip(messages, named, strict=True):
            found = known.get(name)
            if found is not None:
                if message.key is None:
                    name, found = self._row_of_occurrence(name, found, content, known)
                elif self._refusal(message.key, found, content) is not None:
                    continue
            counts[None if found is None else found.state] += 1
            if found is not None:
                self._used[found.row] = 1
        return counts

    def change(self, changes: Mapping[int, tuple[JournalState, str | None]]) -> None:
        """
        Set the states of rows, and their request IDs if there are any.

        An accepted message stays accepted, because a receipt may have been faster than the reply.
        """
        now = int(time.time())
        rows = [(row, state, _stored(request_id), now) for row, (state, request_id) in changes.items()]
        for some in _batches(rows):
            self._file.connection.execute(
                "UPDATE message SET state = CASE message.state WHEN 'accepted' THEN 'accepted' ELSE new.column2 END,"  # noqa: S608  placeholders
                " request_id = coalesce(new.column3, message.request_id), changed_at = new.column4"
                f" FROM (VALUES {_placeholders(some)}) AS new WHERE message.row = new.column1",
                list(chain.from_iterable(some)),
            )

    def counts(self) -> dict[JournalState, int]:
        with self._file.journal_errors("cannot be read"):
            found = dict(
                self._file.connection.execute(f"SELECT {self._state}, count(*) FROM message GROUP BY 1")  # noqa: S608  a constant
            )
        return {state: found.get(state, 0) for state in JournalState}

    def in_doubt(self, *, also_sending: bool) -> list[JournalRecord]:
        """Return the messages in doubt, in the order of the input."""
        states = [JournalState.IN_DOUBT] + [JournalState.SENDING] * also_sending
        with self._file.journal_errors("cannot be read"):
            found = self._file.connection.execute(
                f"SELECT name, {self._state}, request_id, position, changed_at, {self._line} FROM message"  # noqa: S608
                f" WHERE {self._state} IN ({', '.join('?' * len(states))}) ORDER BY position, row",
                states,
            ).fetchall()
        return [
            JournalRecord(name.hex(), JournalState(state), request_id, index, changed_at, line)
            for name, state, request_id, index, changed_at, line in found
        ]

    def find(self, name: str, *, whole: bool = False) -> Found:
        """
        Return the row of a message, by its key, its ID or the beginning of its ID; raise if none or several are found.

        With *whole*, no beginning of an ID is accepted, because a key of another journal may look like one.
        """
        select = f"SELECT row, state, {self._doubted} FROM message WHERE name BETWEEN ? AND ? LIMIT 2"  # noqa: S608  a constant
        digest = key_digest(self._file.salt, name)
        found = self._file.connection.execute(select, (digest, digest)).fetchall()
        if not found and _ID.fullmatch(name) and (not whole or len(name) == _WHOLE_ID):
            # Between the first and the last ID that begin so, because the index has them in this order.
            first, last = (bytes.fromhex(name.ljust(_WHOLE_ID, digit)) for digit in "0f")
            found = self._file.connection.execute(select, (first, last)).fetchall()
        if len(found) != 1:
            many = "more than one message begins with" if found else "there is no message of the key or ID"
            kind = JournalError if found else NotInDoubtError
            raise kind(f"In the journal {self._file.path} {many} {mask_numbers(name)!r}. Nothing was changed.")
        row, state, doubted = found[0]
        return Found(row, JournalState(state), bool(doubted))

    def release(self, row: int) -> None:
        """
        Reset the row, so that the next run sends the message with any content.

        The row still records that an earlier run may have sent it.
        """
        self._file.connection.execute(
            "UPDATE message SET doubted = doubted OR state IN ('sending', 'in_doubt'), state = 'pending',"
            " content = NULL WHERE row = ?",
            (row,),
        )

    def _look_up(self, messages: Sequence[Message]) -> tuple[dict[bytes, _Known], list[tuple[bytes, bytes]]]:
        """Return the known rows by name, and for each message its name and the digest of its content."""
        salt = self._file.salt
        contents = [content_digest(salt, message) for message in messages]
        names = [
            occurrence_digest(salt, content, 0) if message.key is None else key_digest(salt, message.key)
            for message, content in zip(messages, contents, strict=True)
        ]
        return self._known(names), list(zip(names, contents, strict=True))

    def _row_of_occurrence(
        self, name: bytes, found: _Known, content: bytes, known: Mapping[bytes, _Known]
    ) -> tuple[bytes, _Known | None]:
        """Return this row, or that of the content's next occurrence if this run used the row already."""
        if not self._used[found.row]:
            return name, found
        occurrence = self._occurrences.get(content, 1)
        self._occurrences[content] = occurrence + 1
        name = occurrence_digest(self._file.salt, content, occurrence)
        return name, known.get(name) or self._known([name]).get(name)

    def _known(self, names: Sequence[bytes]) -> dict[bytes, _Known]:
        found: dict[bytes, _Known] = {}
        for some in _batches([(name,) for name in names]):
            rows = self._file.connection.execute(
                f"SELECT name, row, state, request_id, content, position, {self._line} FROM message"  # noqa: S608
                f" WHERE name IN ({', '.join('?' * len(some))})",
                list(chain.from_iterable(some)),
            ).fetchall()
            found |= {name: _Known(name, row, JournalState(state), *rest) for name, row, state, *rest in rows}
        later = [name for name, known in found.items() if known.row >= len(self._used)]
        if later and self._file.is_owned:
            raise JournalError(f"The journal {self._file.path} is damaged: it has a row that no run wrote.")
        for name in later:  # added by the run that owns the file now
            del found[name]
        return found

    def _refusal(self, key: str, known: _Known, content: bytes) -> InvalidMessageError | None:
        if self._used[known.row]:
            return InvalidMessageError(
                f"`key` {mask_numbers(key)!r} came before in this bulk send. A key names one message: give each its "
                "own, or none.",
                argument="key",
                reason=Reason.CONFLICT,
            )
        if known.content not in (None, content):
            return InvalidMessageError(
                f"`key` {mask_numbers(key)!r} belongs to a message of other content in the journal; that one "
                f"is {known.state.replace('_', ' ')}. Give a new message a new key.",
                argument="key",
                reason=Reason.CONFLICT,
            )
        return None

    def _write(self, changed: Sequence[_Known]) -> None:
        now, epoch = int(time.time()), self._file.epoch
        for some in _batches([(*known, epoch, now) for known in changed]):
            self._file.connection.execute(
                "INSERT INTO message (name, row, state, request_id, content, position, line, epoch, changed_at)"  # noqa: S608  placeholders
                f" VALUES {_placeholders(some)} ON CONFLICT (name) DO UPDATE SET"
                " position = excluded.position, line = excluded.line, content = excluded.content",
                list(chain.from_iterable(some)),
            )


def _stored(request_id: str | None) -> str | None:
    # Pico may return anything.
    return None if request_id is None else request_id.encode("utf-8", "replace").decode()[:MAX_REQUEST_ID]


def _batches(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield rows[start : start + _ROWS_PER_STATEMENT]


def _placeholders(rows: Sequence[tuple[object, ...]]) -> str:
    """Return the placeholders of the rows: "(?, ?), (?, ?)"."""
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
