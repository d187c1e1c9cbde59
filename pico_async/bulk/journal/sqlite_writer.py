"""A blast's hold on its journal: one thread that owns the file, and commits for all messages at once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from pico_async.bulk.journal.protocols import JournalRow, JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.bulk.journal.sqlite_rows import JournalRows
from pico_async.errors import JournalError, Outcome, PicoError
from pico_async.messages import Message

_Answer: TypeAlias = tuple["asyncio.Future[Any]", object]

# How long a commit waits for others to share it: with a quick disk, what a commit costs is its turns at the
# interpreter's lock. It is no wait for the pace, which stands behind it.
GATHER_S = 0.004


class SqliteRun:
    """
    One blast's hold on the file: a thread that commits together what has come since its last commit.

    A commit takes as long as the disk takes to sync; a thousand messages a second share a few hundred of them.
    """

    def __init__(
        self,
        path: Path,
        account: str,
        made_from: Mapping[str, str] | None = None,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        self._path = path
        self._account = account
        self._made_from = made_from
        self._line_of = line_of
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[list[_Order] | None] = queue.SimpleQueue()
        self._gathered: list[_Order] = []
        self._fault: str | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # A daemon: where the loop is gone without closing this, the process may end. What was committed is safe.
        self._thread = threading.Thread(target=self._work, name="pico_async journal", daemon=True)
        self._thread.start()

    async def claim(self, message: Message, index: int) -> JournalRow:
        """Find the message's line, or begin one."""
        self._require_sound()
        read_from = None if self._line_of is None else self._line_of(index)
        row: JournalRow = await self._ask(_Order(self._loop.create_future(), message=(message, index, read_from)))
        return row

    async def intend(self, row: JournalRow) -> None:
        """Commit that the message may be on the wire from now on."""
        self._require_sound()
        await self._ask(_Order(self._loop.create_future(), change=(row.id, JournalState.SENDING, None)))

    async def settle(self, row: JournalRow, outcome: Outcome, request_id: str | None) -> None:
        """Commit what became of the message; tried also where the journal failed before."""
        await self._ask(_Order(self._loop.create_future(), change=(row.id, JournalState(outcome.value), request_id)))

    async def aclose(self) -> None:
        """Commit what was asked for, and close the file."""
        self._hand_over()
        self._inbox.put(None)
        await self._closed
        self._thread.join()

    def _require_sound(self) -> None:
        if self._fault is not None:
            raise JournalError(self._fault)

    async def _ask(self, order: _Order) -> Any:
        # Once for all that the loop has at this moment: each hand-over wakes the thread, which contends with the loop.
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(order)
        return await order.answer

    def _hand_over(self) -> None:
        orders, self._gathered = self._gathered, []
        self._inbox.put(orders)

    # What follows runs in the thread.

    def _work(self) -> None:
        try:
            file = JournalFile(self._path, owned=True, account=self._account, create=True, made_from=self._made_from)
            lines = JournalRows(file)
        except Exception as error:  # noqa: BLE001  it is for whoever opens the run
            self._answer([(self.opened, error)])
        else:
            self._answer([(self.opened, None)])
            with file:
                self._serve(file, lines)
        self._answer([(self._closed, None)])

    def _serve(self, file: JournalFile, lines: JournalRows) -> None:
        open_ = wrote = True
        while open_:
            batches = [self._inbox.get()]
            # Nothing is written for what is skipped, and so there is nothing to share.
            if wrote:
                time.sleep(GATHER_S)
            with suppress(queue.Empty):
                while True:
                    batches.append(self._inbox.get_nowait())
            open_ = None not in batches
            before = file.connection.total_changes
            self._answer(self._commit(file, lines, [order for batch in batches for order in batch or ()]))
            wrote = file.connection.total_changes > before

    def _commit(self, file: JournalFile, lines: JournalRows, orders: list[_Order]) -> list[_Answer]:
        # The later change of a row is the one that counts, as where a call is cancelled whose intent is under way.
        changes = {order.change[0]: order.change[1:] for order in orders if order.change is not None}
        claims = [order for order in orders if order.message is not None]
        try:
            with file.transaction():
                lines.change(changes)
                claimed = lines.claim([order.message for order in claims if order.message is not None])
        except PicoError as error:
            self._fault = str(error)
        except Exception as error:  # noqa: BLE001  nobody else hears of it, and all these wait for an answer
            self._fault = f"The journal failed ({type(error).__name__})."
        else:
            answers: list[_Answer] = [(order.answer, None) for order in orders if order.message is None]
            return answers + [(order.answer, line) for order, line in zip(claims, claimed, strict=True)]
        return [(order.answer, JournalError(self._fault)) for order in orders]

    def _answer(self, answers: list[_Answer]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(_give, answers)


class _Order(NamedTuple):
    answer: asyncio.Future[Any]
    message: tuple[Message, int, int | None] | None = None
    change: tuple[int, JournalState, str | None] | None = None


def _give(answers: list[_Answer]) -> None:
    for future, answer in answers:
        if future.done():  # whoever waited was cancelled
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
