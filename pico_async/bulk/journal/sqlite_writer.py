"""An open run of a journal: one thread owns the file, and commits for all messages at once."""

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

_Reply: TypeAlias = tuple["asyncio.Future[Any]", object]

# Seconds that a commit waits for others to share it. With a fast disk, most of a commit's cost is waiting for the
# interpreter's lock. The wait delays no slot, because messages wait for their slots afterwards.
GATHER_S = 0.004


class SqliteRun:
    """
    An open run: a thread that commits together all requests since its last commit.

    A commit takes as long as the disk needs to sync. A thousand messages a second share a few hundred commits.
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
        self._inbox: queue.SimpleQueue[list[_Request] | None] = queue.SimpleQueue()
        self._gathered: list[_Request] = []
        self._fault: str | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # A daemon, so that the process can end if the loop ended without closing this. All commits are durable.
        self._thread = threading.Thread(target=self._work, name="pico_async journal", daemon=True)
        self._thread.start()

    async def claim(self, message: Message, index: int) -> JournalRow:
        self._require_no_fault()
        line = None if self._line_of is None else self._line_of(index)
        row: JournalRow = await self._request(message=(message, index, line))
        return row

    async def intend(self, row: JournalRow) -> None:
        self._require_no_fault()
        await self._request(change=(row.id, JournalState.SENDING, None))

    async def settle(self, row: JournalRow, outcome: Outcome, request_id: str | None) -> None:
        """Commit the message's outcome; tried even if the journal failed before."""
        await self._request(change=(row.id, JournalState(outcome.value), request_id))

    async def aclose(self) -> None:
        """Commit all requests, and close the file."""
        self._hand_over()
        self._inbox.put(None)
        await self._closed
        self._thread.join()

    def _require_no_fault(self) -> None:
        if self._fault is not None:
            raise JournalError(self._fault)

    async def _request(
        self,
        *,
        message: tuple[Message, int, int | None] | None = None,
        change: tuple[int, JournalState, str | None] | None = None,
    ) -> Any:
        # One hand-over for all requests of one loop cycle, because each wakes the thread, which competes with the loop.
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        request = _Request(self._loop.create_future(), message, change)
        self._gathered.append(request)
        return await request.reply

    def _hand_over(self) -> None:
        requests, self._gathered = self._gathered, []
        self._inbox.put(requests)

    # The methods below run in the thread.

    def _work(self) -> None:
        try:
            file = JournalFile(self._path, owned=True, account=self._account, create=True, made_from=self._made_from)
            rows = JournalRows(file)
        except Exception as error:  # noqa: BLE001  raised by the run that is being opened
            self._answer([(self.opened, error)])
        else:
            self._answer([(self.opened, None)])
            with file:
                self._serve(file, rows)
        self._answer([(self._closed, None)])

    def _serve(self, file: JournalFile, rows: JournalRows) -> None:
        open_ = wrote = True
        while open_:
            batches = [self._inbox.get()]
            # Skipped messages write nothing, so there is no commit to share.
            if wrote:
                time.sleep(GATHER_S)
            with suppress(queue.Empty):
                while True:
                    batches.append(self._inbox.get_nowait())
            open_ = None not in batches
            before = file.connection.total_changes
            self._answer(self._commit(file, rows, [request for batch in batches for request in batch or ()]))
            wrote = file.connection.total_changes > before

    def _commit(self, file: JournalFile, rows: JournalRows, requests: list[_Request]) -> list[_Reply]:
        # The last change of a row counts, for example if a call is cancelled while its intent is being committed.
        changes = {request.change[0]: request.change[1:] for request in requests if request.change is not None}
        claims = [request for request in requests if request.message is not None]
        try:
            with file.transaction():
                rows.change(changes)
                claimed = rows.claim([request.message for request in claims if request.message is not None])
        except PicoError as error:
            self._fault = str(error)
        except Exception as error:  # noqa: BLE001  all these requests wait for a reply
            self._fault = f"The journal failed ({type(error).__name__})."
        else:
            replies: list[_Reply] = [(request.reply, None) for request in requests if request.message is None]
            return replies + [(request.reply, row) for request, row in zip(claims, claimed, strict=True)]
        return [(request.reply, JournalError(self._fault)) for request in requests]

    def _answer(self, replies: list[_Reply]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_set_results, replies)


class _Request(NamedTuple):
    reply: asyncio.Future[Any]
    message: tuple[Message, int, int | None] | None = None
    change: tuple[int, JournalState, str | None] | None = None


def _set_results(replies: list[_Reply]) -> None:
    for future, reply in replies:
        if future.done():  # the waiting call was cancelled
            continue
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)
