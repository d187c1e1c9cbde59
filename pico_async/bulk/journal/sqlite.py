"""SqliteJournal: the journal of a bulk send in one SQLite file, used outside of the event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from pico_async._boundary import boundary
from pico_async._masking import mask_numbers
from pico_async.bulk.journal.match import JournalMatch
from pico_async.bulk.journal.protocols import JournalRecord, JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.bulk.journal.sqlite_rows import JournalRows
from pico_async.bulk.journal.sqlite_writer import SqliteRun
from pico_async.errors import ConfigurationError, JournalError, NotInDoubtError
from pico_async.messages import Message

Value = TypeVar("Value")


@boundary
class SqliteJournal:
    """
    Remembers the outcome of each message of a bulk send, in one SQLite file.

    The file contains digests and outcomes, but no number, text, key or secret. Each change is durable (WAL,
    `synchronous=FULL`) before the bulk send continues. The file must be on a local disk.

    SQLite's `-wal` and `-shm` lie beside the file while it is open; a small `-lock` lies there always. Copy or move the
    file only while no bulk send runs. After a crash, copy it together with its `-wal`, which has the last changes;
    without it the file is refused. A file with a second hard link is refused, too. A bulk send stops if its journal is
    deleted, moved or replaced.

    After a crash, messages whose request was being exchanged are in doubt, and up to 16 that waited for a slot. The
    same bulk send with the same journal then sends what was not sent. Messages in doubt wait for your decision:

        journal = SqliteJournal("bulk.db")
        for record in await journal.in_doubt():
            ...
        await journal.mark_sent("order-17")     # by its key, or by record.id
        await journal.resend("order-18")

    A journal belongs to one bulk send and its repeats. If few of the input's first messages are in it, nothing is sent:
    after a change of the keys or the text, all messages would be sent again. The check reads one message of an async
    input, and *concurrency* messages of any other.

    Args:
        path: The file. A bulk send creates it.
        many_blasts: The journal serves several bulk sends of different messages, so the first messages are not checked.
        made_from: What the messages are made from, by name, such as the text with its placeholders. The file keeps a
            digest of each, by which `pico blast --resume` says what changed.
        line_of: Returns the line of the input file that the message with this index was read from, for `in_doubt`.

    Raises:
        ConfigurationError: *path* is not the path of a file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        many_blasts: bool = False,
        made_from: Mapping[str, str] | None = None,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise ConfigurationError(f"The journal's path must be a str or a Path, not {type(path).__name__}.")
        if os.fspath(path) in ("", ":memory:") or "\0" in os.fspath(path):
            raise ConfigurationError("A journal is a file that stays: pass its path, such as 'blast.db'.")
        self.path: Path = Path(path)
        self.many_blasts = many_blasts
        self._made_from = made_from
        self._line_of = line_of

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r})"

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[SqliteRun]:
        """Open the journal for one bulk send, as `Journal.run` describes; `send_bulk` calls this."""
        run = SqliteRun(self.path, account, self._made_from, self._line_of)
        try:
            await run.opened
            yield run
        finally:
            with anyio.CancelScope(shield=True):
                await run.aclose()

    async def require_match(self, messages: Sequence[Message]) -> None:
        """
        Check that this is the journal of an input that begins with these messages; `send_bulk` calls this.

        Raises:
            JournalError: Few of these messages are in the journal, and others are.
        """
        if self.many_blasts:
            return

        def compare(rows: JournalRows, _: bool) -> JournalMatch:
            return JournalMatch.of(rows.count_known(messages), messages=len(messages), total=rows.total)

        match = await self._read(compare, checked=False)
        if match.is_foreign:
            raise JournalError(
                f"Messages of the input that are in the journal {self.path}: {match.known} of the first "
                f"{len(messages)}. It has {match.others}. Nothing was sent. If this is the same bulk send with other "
                "keys or texts, all of it would be sent again: make the messages as before. If it is another one, name "
                "another journal, or pass SqliteJournal(path, many_blasts=True)."
            )

    async def counts(self) -> Mapping[JournalState, int]:
        """
        Return the number of messages in each state, also while a bulk send runs.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._read(lambda rows, _: rows.counts())

    async def in_doubt(self) -> list[JournalRecord]:
        """
        Return the messages that may have been sent, in the order of the input.

        Messages that a running bulk send is sending are not yet among them.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._read(lambda rows, idle: rows.in_doubt(also_sending=idle))

    async def mark_sent(self, *names: str) -> int:
        """
        Record that messages in doubt were sent, so that no later run sends them.

        Args:
            names: `key` of each message, or the ID that `in_doubt` returns, or at least its first 6 characters.

        Returns:
            How many were in doubt until now. The others were accepted already.

        Raises:
            JournalError: A message does not exist, or was provably not sent; no message is changed. Or a bulk send is
                running.
        """

        def mark(rows: JournalRows) -> int:
            decided: dict[int, tuple[JournalState, str | None]] = {}
            for name in names:
                found = rows.find(name)
                if found.state is JournalState.ACCEPTED:
                    continue
                if not found.may_have_gone_out:
                    raise JournalError(
                        f"{mask_numbers(name)!r} was provably not sent ({found.state}): repeat the bulk send."
                    )
                decided[found.row] = (JournalState.ACCEPTED, None)
            rows.change(decided)
            return len(decided)

        return await self._change(mark, owned=True)

    async def resend(self, *names: str) -> None:
        """
        Release messages in doubt, or refused, for the next run. A message that had been sent is then sent twice.

        The next run may give them another content. If it does not send such a message either (not sent, or refused),
        `in_doubt` lists the message again, because an earlier run may have sent it. The run after that sends it without
        another `resend`.

        Args:
            names: `key` of each message, or the ID that `in_doubt` returns, or at least its first 6 characters.

        Raises:
            JournalError: A message does not exist, or was accepted; no message is changed. Or a bulk send is running.
        """

        def release(rows: JournalRows) -> None:
            for name in names:
                found = rows.find(name)
                if found.state is JournalState.ACCEPTED:
                    raise JournalError(
                        f"{mask_numbers(name)!r} was accepted. To send another one, give it another key."
                    )
                rows.release(found.row)

        await self._change(release, owned=True)

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """
        Record the proof that a message was sent, such as its delivery receipt; also while a bulk send runs.

        Args:
            name: Its `key`, or its ID.
            request_id: Pico's ID of the request, if the proof contains it.

        Returns:
            Whether the message was in doubt, or being sent, until now.

        Raises:
            NotInDoubtError: The message does not exist, or was provably not sent; or the file does not exist yet.
            JournalError: The journal cannot be used.
        """
        if not self.path.exists():
            # A message is in the journal before it is sent, so this proof is about another one.
            raise NotInDoubtError(f"There is no journal {self.path} yet, so nothing of it is in doubt.")

        def settle(rows: JournalRows) -> bool:
            found = rows.find(name, whole=True)
            if found.state is JournalState.ACCEPTED:
                return False
            if not found.may_have_gone_out:
                raise NotInDoubtError(
                    f"{mask_numbers(name)!r} was provably not sent ({found.state}), so this is no proof."
                )
            rows.change({found.row: (JournalState.ACCEPTED, request_id)})
            return True

        return await self._change(settle, owned=False)

    async def _read(self, read: Callable[[JournalRows, bool], Value], *, checked: bool = True) -> Value:
        def work() -> Value:
            with JournalFile(self.path, owned=False, checked=checked) as file:
                return read(JournalRows(file), not file.is_in_use())

        return await to_thread.run_sync(work)

    async def _change(self, change: Callable[[JournalRows], Value], *, owned: bool) -> Value:
        def work() -> Value:
            # Unchecked, because receipts arrive as fast as messages are sent, and a check reads the whole file.
            with JournalFile(self.path, owned=owned, checked=owned) as file, file.transaction():
                return change(JournalRows(file))

        return await to_thread.run_sync(work)
