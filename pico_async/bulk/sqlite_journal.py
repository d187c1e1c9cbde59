"""The journal in a file of its own, off the event loop."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import anyio
from anyio import to_thread

from pico_async.bulk.journal import JournalRecord, JournalState, Line
from pico_async.errors import ConfigurationError, JournalError, Outcome, PicoError
from pico_async.messages import Message
from pico_async.numbers import mask_numbers

if TYPE_CHECKING:
    from pico_async.bulk.journal_file import JournalFile

Value = TypeVar("Value")
_Answer: TypeAlias = tuple["asyncio.Future[Any]", object]

# How long a commit waits for others to share it: with a quick disk, what a commit costs is its turns at the
# interpreter's lock. It is no wait for the pace, which stands behind it.
GATHER_S = 0.004


class SqliteJournal:
    """
    What became of each message of a blast, in one SQLite file.

    It holds digests and outcomes: no number, no text, no key of yours, no secret. Each change is on the disk (WAL,
    `synchronous=FULL`) before the blast goes on. Beside the file lie SQLite's `-wal` and `-shm` while it is open, and
    an empty `-lock`; move the file only when no blast runs. It must be on a disk of this machine.

    In a crash, what was on the wire, and up to 16 messages that were about to be, are in doubt. The same blast, run
    again with the same journal, sends what was not sent; what is in doubt waits for your word:

        journal = SqliteJournal("blast.db")
        for record in await journal.in_doubt():
            ...
        await journal.mark_sent("order-17")     # by its key, or by record.id
        await journal.resend("order-18")

    Args:
        path: The file. It is made when a blast begins.

    Raises:
        ConfigurationError: *path* names no file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise ConfigurationError(f"The journal's path must be a str or a Path, not {type(path).__name__}.")
        if os.fspath(path) in ("", ":memory:") or "\0" in os.fspath(path):
            raise ConfigurationError("A journal is a file that stays: pass its path, as 'blast.db'.")
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r})"

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[SqliteRun]:
        """
        Hold the journal for one blast; `send_bulk` does that by itself.

        Raises:
            JournalError: On entering: it is in use, another account's, of another version, damaged, or cannot be
                written.
        """
        run = SqliteRun(self.path, account)
        try:
            await run.opened
            yield run
        finally:
            with anyio.CancelScope(shield=True):
                await run.aclose()

    async def counts(self) -> Mapping[JournalState, int]:
        """
        Count the messages by state, also while a blast runs.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._look(lambda file, _: file.counts())

    async def in_doubt(self) -> list[JournalRecord]:
        """
        Give the messages that may have been sent, in the order of the input.

        What a running blast has on the wire is not yet among them.

        Raises:
            JournalError: There is no such journal, or it cannot be read.
        """
        return await self._look(lambda file, idle: file.in_doubt(also_sending=idle))

    async def mark_sent(self, *names: str) -> None:
        """
        Decide that messages in doubt were sent: no later run sends them.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 6 characters of it.

        Raises:
            JournalError: One of them is not there, or provably not sent; then none is changed. Or a blast is running.
        """

        def mark(file: JournalFile) -> None:
            for name in names:
                row, state = file.find(name)
                if state not in (JournalState.IN_DOUBT, JournalState.ACCEPTED):
                    raise JournalError(
                        f"{mask_numbers(name)!r} was provably not sent ({state}): run the blast again to send it."
                    )
                file.change({row: (JournalState.ACCEPTED, None)})

        await self._decide(mark)

    async def resend(self, *names: str) -> None:
        """
        Decide that messages in doubt, or refused, are sent by the next run. One that went out is then sent twice.

        The next run may give them another content.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 6 characters of it.

        Raises:
            JournalError: One of them is not there, or was accepted; then none is changed. Or a blast is running.
        """

        def let_go(file: JournalFile) -> None:
            for name in names:
                row, state = file.find(name)
                if state is JournalState.ACCEPTED:
                    raise JournalError(
                        f"{mask_numbers(name)!r} was accepted. To send another one, give it another key."
                    )
                file.release(row)

        await self._decide(let_go)

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """
        Take note of a proof that a message went out, such as its delivery receipt; also while a blast runs.

        Args:
            name: Its `key`, or its ID.
            request_id: Pico's name for it, where the proof gives one.

        Returns:
            Whether it was in doubt, or on the wire, until now.

        Raises:
            JournalError: There is no such message, or it was provably not sent.
        """

        def settle(file: JournalFile) -> bool:
            row, state = file.find(name)
            if state is JournalState.ACCEPTED:
                return False
            if state not in (JournalState.IN_DOUBT, JournalState.SENDING):
                raise JournalError(f"{mask_numbers(name)!r} was provably not sent ({state}), so this is no proof.")
            file.change({row: (JournalState.ACCEPTED, request_id)})
            return True

        return await self._change(settle, owned=False)

    async def _look(self, look: Callable[[JournalFile, bool], Value]) -> Value:
        def work() -> Value:
            with _open(self.path, owned=False) as file:
                return look(file, not file.is_in_use())

        return await to_thread.run_sync(work)

    async def _decide(self, decide: Callable[[JournalFile], None]) -> None:
        await self._change(decide, owned=True)

    async def _change(self, change: Callable[[JournalFile], Value], *, owned: bool) -> Value:
        def work() -> Value:
            with _open(self.path, owned=owned) as file, file.transaction():
                return change(file)

        return await to_thread.run_sync(work)


class SqliteRun:
    """
    One blast's hold on the file: a thread that commits together what has come since its last commit.

    A commit takes as long as the disk takes to sync; a thousand messages a second share a few hundred of them.
    """

    def __init__(self, path: Path, account: str) -> None:
        self._path = path
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._fault: str | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # A daemon: where the loop is gone without closing this, the process may end. What was committed is safe.
        self._thread = threading.Thread(target=self._work, name="pico_async journal", daemon=True)
        self._thread.start()

    async def claim(self, message: Message, position: int) -> Line:
        """Find the message's line, or begin one."""
        self._require_sound()
        line: Line = await self._ask(_Order(self._loop.create_future(), message=(message, position)))
        return line

    async def intend(self, line: Line) -> None:
        """Commit that the message may be on the wire from now on."""
        self._require_sound()
        await self._ask(_Order(self._loop.create_future(), change=(line.row, JournalState.SENDING, None)))

    async def settle(self, line: Line, outcome: Outcome, request_id: str | None) -> None:
        """Commit what became of the message; tried also where the journal failed before."""
        await self._ask(_Order(self._loop.create_future(), change=(line.row, JournalState(outcome.value), request_id)))

    async def aclose(self) -> None:
        """Commit what was asked for, and close the file."""
        self._inbox.put(None)
        await self._closed
        self._thread.join()

    def _require_sound(self) -> None:
        if self._fault is not None:
            raise JournalError(self._fault)

    async def _ask(self, order: _Order) -> Any:
        self._inbox.put(order)
        return await order.answer

    # What follows runs in the thread.

    def _work(self) -> None:
        try:
            file = _open(self._path, owned=True, account=self._account, create=True)
        except Exception as error:  # noqa: BLE001  it is for whoever opens the run
            self._answer([(self.opened, error)])
        else:
            self._answer([(self.opened, None)])
            with file:
                self._serve(file)
        self._answer([(self._closed, None)])

    def _serve(self, file: JournalFile) -> None:
        open_ = True
        while open_:
            orders = [self._inbox.get()]
            time.sleep(GATHER_S)
            with suppress(queue.Empty):
                while True:
                    orders.append(self._inbox.get_nowait())
            open_ = None not in orders
            self._answer(self._commit(file, [order for order in orders if order is not None]))

    def _commit(self, file: JournalFile, orders: list[_Order]) -> list[_Answer]:
        # The later change of a row is the one that counts, as where a call is cancelled whose intent is under way.
        changes = {order.change[0]: order.change[1:] for order in orders if order.change is not None}
        claims = [order for order in orders if order.message is not None]
        try:
            with file.transaction():
                file.change(changes)
                lines = file.claim([order.message for order in claims if order.message is not None])
        except PicoError as error:
            self._fault = str(error)
        except Exception as error:  # noqa: BLE001  nobody else hears of it, and all these wait for an answer
            self._fault = f"The journal failed ({type(error).__name__})."
        else:
            answers: list[_Answer] = [(order.answer, None) for order in orders if order.message is None]
            return answers + [(order.answer, line) for order, line in zip(claims, lines, strict=True)]
        return [(order.answer, JournalError(self._fault)) for order in orders]

    def _answer(self, answers: list[_Answer]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(_give, answers)


class _Order(NamedTuple):
    answer: asyncio.Future[Any]
    message: tuple[Message, int] | None = None
    change: tuple[int, JournalState, str | None] | None = None


def _give(answers: list[_Answer]) -> None:
    for future, answer in answers:
        if future.done():  # whoever waited was cancelled
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _open(path: Path, *, owned: bool, account: str | None = None, create: bool = False) -> JournalFile:
    # Here, for SQLite takes 10 ms to import, a tenth of all that pico_async imports, and most keep no journal.
    from pico_async.bulk.journal_file import JournalFile

    return JournalFile(path, owned=owned, account=account, create=create)
