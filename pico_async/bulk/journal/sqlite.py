"""The journal in a file of its own, off the event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread

from pico_async._boundary import boundary
from pico_async.bulk.journal.protocols import JournalRecord, JournalState
from pico_async.errors import ConfigurationError, JournalError, NotInDoubtError
from pico_async.messages import Message
from pico_async.numbers import mask_numbers

if TYPE_CHECKING:
    from pico_async.bulk.journal.match import JournalMatch
    from pico_async.bulk.journal.sqlite_rows import JournalRows
    from pico_async.bulk.journal.sqlite_writer import SqliteRun

# SQLite takes 10 ms to import, a tenth of all that pico_async imports, and most keep no journal: so the modules that
# use it are imported where they are needed.

Value = TypeVar("Value")


@boundary
class SqliteJournal:
    """
    What became of each message of a blast, in one SQLite file.

    It holds digests and outcomes: no number, no text, no key of yours, no secret. Each change is on the disk (WAL,
    `synchronous=FULL`) before the blast goes on. It must be on a disk of this machine.

    Beside the file lie SQLite's `-wal` and `-shm` while it is open, and a small `-lock`. Copy or move it only when no
    blast runs; after a crash together with its `-wal`, which has the last changes. Without that it is refused, as is a
    file with a second hard link. A blast whose journal is deleted, moved or replaced stops.

    In a crash, what was on the wire, and up to 16 messages that were about to be, are in doubt. The same blast, run
    again with the same journal, sends what was not sent; what is in doubt waits for your word:

        journal = SqliteJournal("blast.db")
        for record in await journal.in_doubt():
            ...
        await journal.mark_sent("order-17")     # by its key, or by record.id
        await journal.resend("order-18")

    A journal is that of one blast and its repeats. Where it has few of the messages with which an input begins, nothing
    is sent: after a change of the keys or the text, all would be sent once more. Of an async input the first message
    is looked at, else as many as may be in flight.

    Args:
        path: The file. It is made when a blast begins.
        many_blasts: It serves many blasts, of other messages each, so none of them needs to be in it.
        made_from: What the messages are made from, by name, such as the text with its places. The file keeps a digest
            of each, by which `pico blast --resume` says what changed.
        line_of: Gives the line of a file from which the message of an index was read; `in_doubt` gives it back.

    Raises:
        ConfigurationError: *path* names no file.
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
            raise ConfigurationError("A journal is a file that stays: pass its path, as 'blast.db'.")
        self.path = Path(path)
        self.many_blasts = many_blasts
        self._made_from = made_from
        self._line_of = line_of

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r})"

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[SqliteRun]:
        """
        Hold the journal for one blast; `send_bulk` does that by itself.

        Raises:
            JournalError: On entering: it is in use, another account's, of another version, damaged, without its
                `-wal`, or cannot be written.
        """
        from pico_async.bulk.journal.sqlite_writer import SqliteRun

        run = SqliteRun(self.path, account, self._made_from, self._line_of)
        try:
            await run.opened
            yield run
        finally:
            with anyio.CancelScope(shield=True):
                await run.aclose()

    async def require_match(self, messages: Sequence[Message]) -> None:
        """
        Make sure that it is the journal of an input that begins with these messages; `send_bulk` does that by itself.

        Raises:
            JournalError: It has few of them, and has others.
        """
        if self.many_blasts:
            return

        def look(lines: JournalRows, _: bool) -> JournalMatch:
            from pico_async.bulk.journal.match import JournalMatch

            return JournalMatch.of(lines.count_known(messages), messages=len(messages), total=lines.total)

        match = await self._look(look, checked=False)
        if match.is_foreign:
            few = f"{match.known or 'None'} of the first {len(messages)} messages {'are' if match.known > 1 else 'is'}"
            said = "The first message is not" if len(messages) == 1 else few
            raise JournalError(
                f"{said} in the journal {self.path}, which has {match.others}. Nothing was sent. If this is the same "
                "blast with other keys or texts, all of it would be sent again: make the messages as before. If it is "
                "another blast, name another journal, or pass SqliteJournal(path, many_blasts=True)."
            )

    async def counts(self) -> Mapping[JournalState, int]:
        """
        Count the messages by state, also while a blast runs.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._look(lambda lines, _: lines.counts())

    async def in_doubt(self) -> list[JournalRecord]:
        """
        Give the messages that may have been sent, in the order of the input.

        What a running blast has on the wire is not yet among them.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._look(lambda lines, idle: lines.in_doubt(also_sending=idle))

    async def mark_sent(self, *names: str) -> int:
        """
        Decide that messages in doubt were sent: no later run sends them.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 6 characters of it.

        Returns:
            How many were in doubt until now; of the others Pico's acceptance was known.

        Raises:
            JournalError: One of them is not there, or provably not sent; then none is changed. Or a blast is running.
        """

        def mark(lines: JournalRows) -> int:
            decided = 0
            for name in names:
                found = lines.find(name)
                if found.state is JournalState.ACCEPTED:
                    continue
                if not found.may_have_gone_out:
                    raise JournalError(
                        f"{mask_numbers(name)!r} was provably not sent ({found.state}): run the blast again to send it."
                    )
                lines.change({found.row: (JournalState.ACCEPTED, None)})
                decided += 1
            return decided

        return await self._change(mark, owned=True)

    async def resend(self, *names: str) -> None:
        """
        Decide that messages in doubt, or refused, are sent by the next run. One that went out is then sent twice.

        The next run may give them another content. Where it does not send one that was in doubt, either, that one is in
        doubt again, and the run after it sends it.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 6 characters of it.

        Raises:
            JournalError: One of them is not there, or was accepted; then none is changed. Or a blast is running.
        """

        def let_go(lines: JournalRows) -> None:
            for name in names:
                found = lines.find(name)
                if found.state is JournalState.ACCEPTED:
                    raise JournalError(
                        f"{mask_numbers(name)!r} was accepted. To send another one, give it another key."
                    )
                lines.release(found.row)

        await self._change(let_go, owned=True)

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """
        Take note of a proof that a message went out, such as its delivery receipt; also while a blast runs.

        Args:
            name: Its `key`, or its ID.
            request_id: Pico's name for it, where the proof gives one.

        Returns:
            Whether it was in doubt, or on the wire, until now.

        Raises:
            NotInDoubtError: There is no such message, or it was provably not sent; or no blast has begun the file yet.
            JournalError: The journal cannot be used.
        """
        if not self.path.exists():
            # What goes out with a journal is in it beforehand, so this proof is of something else.
            raise NotInDoubtError(f"There is no journal {self.path} yet, so nothing of it is in doubt.")

        def settle(lines: JournalRows) -> bool:
            found = lines.find(name, whole=True)
            if found.state is JournalState.ACCEPTED:
                return False
            if not found.may_have_gone_out:
                raise NotInDoubtError(
                    f"{mask_numbers(name)!r} was provably not sent ({found.state}), so this is no proof."
                )
            lines.change({found.row: (JournalState.ACCEPTED, request_id)})
            return True

        return await self._change(settle, owned=False)

    async def _look(self, look: Callable[[JournalRows, bool], Value], *, checked: bool = True) -> Value:
        def work() -> Value:
            from pico_async.bulk.journal.sqlite_file import JournalFile
            from pico_async.bulk.journal.sqlite_rows import JournalRows

            with JournalFile(self.path, owned=False, checked=checked) as file:
                return look(JournalRows(file), not file.is_in_use())

        return await to_thread.run_sync(work)

    async def _change(self, change: Callable[[JournalRows], Value], *, owned: bool) -> Value:
        def work() -> Value:
            from pico_async.bulk.journal.sqlite_file import JournalFile
            from pico_async.bulk.journal.sqlite_rows import JournalRows

            # Receipts come as fast as messages went: what one of them needs is found by its index.
            with JournalFile(self.path, owned=owned, checked=owned) as file, file.transaction():
                return change(JournalRows(file))

        return await to_thread.run_sync(work)
