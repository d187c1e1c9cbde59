"""One message of a bulk send, with its row in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from pico_async._engine.progress import CallProgress
from pico_async.bulk.journal.protocols import JournalRow, JournalRun, JournalState
from pico_async.bulk.report import SendResult
from pico_async.errors import InDoubtError, JournalError, Outcome, PicoError
from pico_async.messages import Message
from pico_async.models import Accepted

# How many messages may wait for a slot as "sending": a crash leaves them in doubt although they were not sent. At 30 a
# second, this covers a disk that takes half a second for a commit, and at 1,000 a second one that takes 16 ms.
MAX_WAITING_AS_SENDING = 16


class JournalEntry(CallProgress):
    """The progress of one message, which commits its intent before it is sent; *permits* bounds how many wait so."""

    def __init__(self, run: JournalRun, permits: asyncio.Semaphore, scope: anyio.CancelScope | None = None) -> None:
        super().__init__(scope, before_send=self.commit_intent, on_attempt=self._release_permit)
        self._run = run
        self._permits = permits
        self._holds_permit = False
        self._row: JournalRow | None = None
        self._intended = False

    async def claim(self, message: Message, index: int) -> SendResult | None:
        """Return the result if an earlier run decided it: accepted, or in doubt. Return None if it is to be sent."""
        with _raising_journal_errors():
            self._row = row = await self._run.claim(message, index)
        if row.state is JournalState.ACCEPTED:
            accepted = Accepted(row.request_id) if row.request_id else None
            return SendResult(index=index, message=message, outcome=Outcome.SKIPPED, accepted=accepted)
        if row.state in (JournalState.IN_DOUBT, JournalState.SENDING):
            error = InDoubtError(
                "An earlier run did not learn what became of the message. It may have been sent, so it was not sent "
                "again. Decide it: `mark_sent`, or `resend`.",
                attempts=0,
            )
            return SendResult(index=index, message=message, outcome=Outcome.IN_DOUBT, error=error)
        return None

    async def commit_intent(self) -> None:
        """Commit the intent to send, so that the journal knows after a crash what may have been sent."""
        if self._row is None or self._intended:
            return
        await self._permits.acquire()
        self._holds_permit = True
        # Set before the commit is certain, because a commit continues if this wait is cancelled.
        self._intended = True
        with _raising_journal_errors():
            await self._run.intend(self._row)

    async def settle(self, result: SendResult) -> None:
        """Commit the message's outcome, also if the caller is cancelled meanwhile."""
        self._release_permit()
        if self._row is None or not self._intended:
            return
        with anyio.CancelScope(shield=True), _raising_journal_errors():
            await self._run.settle(self._row, result.outcome, result.request_id)

    def _release_permit(self) -> None:
        if self._holds_permit:
            self._holds_permit = False
            self._permits.release()


@contextmanager
def _raising_journal_errors() -> Iterator[None]:
    """Raise a JournalError for whatever a user's journal raises: nothing may be sent without the journal."""
    try:
        yield
    except PicoError:
        raise
    except Exception as error:
        raise JournalError(f"The journal failed ({type(error).__name__}).") from error
