"""The messages of a journal's file: found, begun and changed, many in one statement."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

from pico_async.bulk.journal.digests import content_digest, key_digest, occurrence_digest
from pico_async.bulk.journal.protocols import JournalRecord, JournalRow, JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.errors import InvalidMessageError, JournalError, NotInDoubtError
from pico_async.messages import Message
from pico_async.numbers import mask_numbers

MAX_REQUEST_ID = 200
SHORTEST_ID = 6
_AT_ONCE = 1000
_ID = re.compile(r"[0-9a-fA-F]{32}")

Row = TypeVar("Row", bound=tuple[object, ...])


class _Known(NamedTuple):
    name: bytes
    row: int
    state: JournalState
    request_id: str | None = None
    content: bytes | None = None
    position: int = -1
    line: int | None = None


class Found(NamedTuple):
    """
    A message's row, as its last run left it.

    Attributes:
        doubted: An earlier run may have sent it.
    """

    row: int
    state: JournalState
    doubted: bool

    @property
    def may_have_gone_out(self) -> bool:
        """Whether nobody knows that it was not sent."""
        return self.doubted or self.state in (JournalState.IN_DOUBT, JournalState.SENDING)


class JournalRows:
    """
    The lines of an open file. What changes them belongs into its `transaction`.

    Each statement gives up the interpreter's lock, and waits to have it back where the event loop is busy: on a loaded
    machine that costs more than the disk. So a commit takes a handful of statements, however many messages share it.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        with file.journal_errors("cannot be read"):
            ((self._next_row,),) = file.connection.execute("SELECT coalesce(max(row), 0) + 1 FROM message")
        # What an older version has not, where this only looks.
        self._line = "line" if file.version >= 2 else "NULL"
        self._doubted = "doubted" if file.version >= 3 else "0"
        # What a row says of all runs of its message: the last one did not send it, but an earlier one may have.
        self._state = f"CASE WHEN {self._doubted} AND state IN ('not_sent', 'rejected') THEN 'in_doubt' ELSE state END"
        # Which rows came in this run: a byte for each.
        self._came = bytearray(self._next_row)
        # How often a content came in this run, of those that came twice. What came once is known from its row.
        self._occurrences: dict[bytes, int] = {}

    @property
    def total(self) -> int:
        """The messages that it has."""
        return int(self._next_row) - 1

    def claim(self, messages: Sequence[tuple[Message, int, int | None]]) -> list[JournalRow | InvalidMessageError]:
        """
        Find the line of each message, or begin one.

        The messages come with their places in the input, and with the lines of its file where it is one.

        A line that is as it was is not written, so that a run skips what it need not send without a commit.
        """
        lines: list[JournalRow | InvalidMessageError] = []
        changed: dict[bytes, _Known] = {}
        known, named = self._look_up([message for message, _, _ in messages])
        for (message, position, line), (name, content) in zip(messages, named, strict=True):
            found = known.get(name)
            if found is not None:
                if message.key is None:
                    name, found = self._unless_it_came(name, found, content, known)
                elif (refusal := self._refusal(message.key, found, content)) is not None:
                    lines.append(refusal)
                    continue
            if found is None:
                found = _Known(name, self._next_row, JournalState.PENDING)
                self._next_row += 1
                self._came.append(0)
            if (found.content, found.position, found.line) != (content, position, line):
                found = changed[name] = found._replace(content=content, position=position, line=line)
            known[name] = found
            self._came[found.row] = 1
            lines.append(JournalRow(found.row, found.state, found.request_id))
        self._keep(list(changed.values()))
        return lines

    def count_known(self, messages: Sequence[Message]) -> Counter[JournalState | None]:
        """
        Count what a run would find of the messages by state, and change nothing; None: it would begin them.

        Those with a key that has another content, or came before, are not counted.
        """
        counts: Counter[JournalState | None] = Counter()
        known, named = self._look_up(messages)
        for message, (name, content) in zip(messages, named, strict=True):
            found = known.get(name)
            if found is not None:
                if message.key is None:
                    name, found = self._unless_it_came(name, found, content, known)
                elif self._refusal(message.key, found, content) is not None:
                    continue
            counts[None if found is None else found.state] += 1
            if found is not None:
                self._came[found.row] = 1
        return counts

    def change(self, changes: Mapping[int, tuple[JournalState, str | None]]) -> None:
        """
        Give rows their new states, and request IDs where there are such.

        What was accepted stays accepted: a receipt may have been quicker than the reply.
        """
        now = int(time.time())
        rows = [(row, state, _stored(request_id), now) for row, (state, request_id) in changes.items()]
        for some in _batches(rows):
            self._file.connection.execute(
                "UPDATE message SET state = CASE message.state WHEN 'accepted' THEN 'accepted' ELSE new.column2 END,"  # noqa: S608  question marks
                " request_id = coalesce(new.column3, message.request_id), changed_at = new.column4"
                f" FROM (VALUES {_places(some)}) AS new WHERE message.row = new.column1",
                list(chain.from_iterable(some)),
            )

    def counts(self) -> dict[JournalState, int]:
        """Count the messages by state."""
        with self._file.journal_errors("cannot be read"):
            found = dict(
                self._file.connection.execute(f"SELECT {self._state}, count(*) FROM message GROUP BY 1")  # noqa: S608  a constant
            )
        return {state: found.get(state, 0) for state in JournalState}

    def in_doubt(self, *, also_sending: bool) -> list[JournalRecord]:
        """Give what is in doubt, in the order of the input."""
        states = [JournalState.IN_DOUBT] + [JournalState.SENDING] * also_sending
        with self._file.journal_errors("cannot be read"):
            found = self._file.connection.execute(
                f"SELECT name, {self._state}, request_id, position, changed_at, {self._line} FROM message"  # noqa: S608
                f" WHERE {self._state} IN ({', '.join('?' * len(states))}) ORDER BY position, row",
                states,
            ).fetchall()
        return [
            JournalRecord(name.hex(), JournalState(state), request_id, position, changed_at, line)
            for name, state, request_id, position, changed_at, line in found
        ]

    def find(self, name: str, *, whole: bool = False) -> Found:
        """
        Find a message by its key, or by its ID or the beginning of it.

        Args:
            whole: The beginning of an ID does not do: a key of another journal may look like one.

        Raises:
            NotInDoubtError: There is none of that name.
            JournalError: There is more than one.
        """
        digests = [key_digest(self._file.salt, name), bytes.fromhex(name) if _ID.fullmatch(name) else b""]
        select = f"SELECT row, state, {self._doubted} FROM message WHERE "  # noqa: S608  a constant
        found = self._file.connection.execute(select + "name IN (?, ?)", digests).fetchall()
        if not found and not whole and len(name) >= SHORTEST_ID:
            begins = "substr(lower(hex(name)), 1, length(?1)) = ?1 LIMIT 2"
            found = self._file.connection.execute(select + begins, (name.lower(),)).fetchall()
        if len(found) != 1:
            many = "more than one message begins with" if found else "there is no message of the key or ID"
            fault = JournalError if found else NotInDoubtError
            raise fault(f"In the journal {self._file.path} {many} {mask_numbers(name)!r}. Nothing was changed.")
        row, state, doubted = found[0]
        return Found(row, JournalState(state), bool(doubted))

    def release(self, row: int) -> None:
        """
        Let the next run send the message, whatever it says then.

        That an earlier run may have sent it stays known.
        """
        self._file.connection.execute(
            "UPDATE message SET doubted = doubted OR state IN ('sending', 'in_doubt'), state = 'pending',"
            " content = NULL WHERE row = ?",
            (row,),
        )

    def _look_up(self, messages: Sequence[Message]) -> tuple[dict[bytes, _Known], list[tuple[bytes, bytes]]]:
        """Give what is known of the messages, and of each its name and the digest of its content."""
        salt = self._file.salt
        contents = [content_digest(salt, message) for message in messages]
        names = [
            occurrence_digest(salt, content, 0) if message.key is None else key_digest(salt, message.key)
            for message, content in zip(messages, contents, strict=True)
        ]
        return self._known(names), list(zip(names, contents, strict=True))

    def _unless_it_came(
        self, name: bytes, found: _Known, content: bytes, known: Mapping[bytes, _Known]
    ) -> tuple[bytes, _Known | None]:
        """Give the next message of the same content where this one came before in this run."""
        if not self._came[found.row]:
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
        later = [name for name, line in found.items() if line.row >= len(self._came)]
        if later and self._file.is_owned:
            raise JournalError(f"The journal {self._file.path} is damaged: it has a line that nobody wrote.")
        for name in later:  # of the blast that holds it now
            del found[name]
        return found

    def _refusal(self, key: str, known: _Known, content: bytes) -> InvalidMessageError | None:
        if self._came[known.row]:
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

    def _keep(self, changed: Sequence[_Known]) -> None:
        now, epoch = int(time.time()), self._file.epoch
        for some in _batches([(*line, epoch, now) for line in changed]):
            self._file.connection.execute(
                "INSERT INTO message (name, row, state, request_id, content, position, line, epoch, changed_at)"  # noqa: S608  question marks
                f" VALUES {_places(some)} ON CONFLICT (name) DO UPDATE SET"
                " position = excluded.position, line = excluded.line, content = excluded.content",
                list(chain.from_iterable(some)),
            )


def _stored(request_id: str | None) -> str | None:
    # It is Pico's, and may be anything.
    return None if request_id is None else request_id.encode("utf-8", "replace").decode()[:MAX_REQUEST_ID]


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    # SQLite takes 32,766 values in a statement.
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _places(rows: Sequence[tuple[object, ...]]) -> str:
    """Give the question marks of some rows: "(?, ?), (?, ?)"."""
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
