"""The input of a bulk send, read one item at a time, each when there is capacity for it."""

from __future__ import annotations

import asyncio

from pico_async.bulk.journal.protocols import Journal
from pico_async.bulk.journal.sqlite import SqliteJournal
from pico_async.bulk.outage import Outage
from pico_async.bulk.source import END, Source
from pico_async.errors import JournalError
from pico_async.messages import MmsMessage, SmsMessage, VoiceMessage


class Feed:
    """
    Reads the input for a dispatcher.

    At most *concurrency* messages are between the input and the caller: begun, or with a result to be taken.
    """

    def __init__(self, source: Source, *, concurrency: int, outage: Outage, journal: Journal | None) -> None:
        self.source = source
        self.exhausted: bool = False
        self._concurrency = concurrency
        self._outage = outage
        self._capacity = asyncio.BoundedSemaphore(concurrency)
        self._journal_to_match = journal if isinstance(journal, SqliteJournal) else None
        # The task that waits for the next item, while it does.
        self._reader: asyncio.Task[object] | None = None

    async def next(self) -> object:
        """Wait for the end of an outage and for capacity, and return the next item, or END."""
        self._reader = asyncio.current_task()
        try:
            await self._outage.wait()
            await self._capacity.acquire()
            if self._journal_to_match is not None:
                await self._match(self._journal_to_match)
            item = await self.source.anext() if self.source.is_async else self.source.next()
        finally:
            self._reader = None
        self.exhausted = item is END
        return item

    def release(self) -> None:
        """Free the capacity of one message: the caller has its result."""
        self._capacity.release()

    def interrupt(self) -> None:
        """Cancel the wait for the next item, if there is one."""
        # If the input's own code is what stops the bulk send, a cancellation would hit whatever the input awaits next.
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
            self._reader = None  # a second cancellation would interrupt the input's cleanup

    async def _match(self, journal: SqliteJournal) -> None:
        """Compare the first messages with the journal, before any of them is sent."""
        ahead = await self.source.ahead(self._concurrency)
        first = [item for item in ahead if isinstance(item, SmsMessage | MmsMessage | VoiceMessage)]
        try:
            await journal.require_match(first)
        except JournalError as error:
            self.source.end(error, "the journal is that of other messages")
        if first:  # otherwise all were invalid, and the next items are compared
            self._journal_to_match = None
