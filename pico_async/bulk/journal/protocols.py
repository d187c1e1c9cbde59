"""What a blast remembers through a crash: what it asks of a journal, and one message's line in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import anyio

from pico_async._engine.progress import CallProgress
from pico_async.bulk.report import SendResult
from pico_async.errors import InDoubtError, JournalError, Outcome, PicoError
from pico_async.messages import Message
from pico_async.models import Accepted

# Messages that wait for the pace as "sending": what a crash leaves in doubt although it never left. At 30 a second
# they cover a disk that takes half a second for its commits, and at 1,000 a second one that takes 16 ms.
AHEAD = 16


class JournalState(StrEnum):
    """How far a message has come, as its journal knows it."""

    PENDING = "pending"
    """It was read. Nothing was sent."""
    SENDING = "sending"
    """It may be on the wire. Where its blast is no more, it is in doubt."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"


class Line(NamedTuple):
    """
    What a journal knows of one message.

    Attributes:
        row: The journal's own name for the line.
    """

    row: int
    state: JournalState
    request_id: str | None = None


class JournalRecord(NamedTuple):
    """
    One message, as a look at the journal finds it.

    Attributes:
        id: The journal's own name for it, in hex; there is neither key nor number.
        position: Its place in the input of the run that read it last, from 0.
        changed_at: Unix time of the last change of its state.
        line: Line of the file that it was read from, from 1, where `pico blast` did; else None.
    """

    id: str
    state: JournalState
    request_id: str | None
    position: int
    changed_at: int
    line: int | None = None


class JournalRun(Protocol):
    """One blast's hold on a journal."""

    async def claim(self, message: Message, position: int) -> Line:
        """
        Give the message's line as the runs before left it, or begin one.

        Args:
            position: The message's place in the input, from 0.

        Raises:
            InvalidMessageError: The message's key came before in this run, or names another content.
            JournalError: The journal cannot be read or written.
        """
        ...

    async def intend(self, line: Line) -> None:
        """
        Note that the message may be on the wire from now on. It is durable when this returns.

        Raises:
            JournalError: It could not be noted, so nothing may be sent.
        """
        ...

    async def settle(self, line: Line, outcome: Outcome, request_id: str | None) -> None:
        """
        Note what became of the message. It is durable when this returns.

        Raises:
            JournalError: It could not be noted: after a crash the message is in doubt.
        """
        ...


@runtime_checkable
class Journal(Protocol):
    """
    Remember what became of each message of a blast, through a crash.

    `SqliteJournal` is one. Another one keeps two promises: no two runs at a time, and what `intend` and `settle`
    returned from is there after a power cut.
    """

    def run(self, account: str) -> AbstractAsyncContextManager[JournalRun]:
        """
        Hold the journal for one blast. What an earlier run left as "sending" is in doubt from here on.

        Args:
            account: Whose messages they are. A journal serves one account.

        Raises:
            JournalError: On entering: it is another blast's, another account's, or it cannot be used.
        """
        ...


class JournalEntry(CallProgress):
    """
    One message's way through a blast, with its line in the journal.

    Args:
        ahead: Bounds how many messages of the blast wait for the pace as "sending".
    """

    def __init__(self, run: JournalRun, ahead: asyncio.Semaphore, scope: anyio.CancelScope | None = None) -> None:
        super().__init__(scope, before_send=self.commit_intent, on_attempt=self._step_back)
        self._run = run
        self._ahead = ahead
        self._is_ahead = False
        self._line: Line | None = None
        self._intended = False

    async def claim(self, message: Message, position: int) -> SendResult | None:
        """Give what is known of the message already: skip what was accepted, leave to its owner what is in doubt."""
        with _told_as_journal_error():
            self._line = line = await self._run.claim(message, position)
        if line.state is JournalState.ACCEPTED:
            accepted = Accepted(line.request_id) if line.request_id else None
            return SendResult(index=position, message=message, outcome=Outcome.SKIPPED, accepted=accepted)
        if line.state in (JournalState.IN_DOUBT, JournalState.SENDING):
            error = InDoubtError(
                "An earlier run did not learn what became of the message. It may have been sent, so it was not sent "
                "again. Decide it: `mark_sent`, or `resend`.",
                attempts=0,
            )
            return SendResult(index=position, message=message, outcome=Outcome.IN_DOUBT, error=error)
        return None

    async def commit_intent(self) -> None:
        """Commit the intent to send, so that the journal knows after a crash what may have been sent."""
        if self._line is None or self._intended:
            return
        await self._ahead.acquire()
        self._is_ahead = True
        # Before it is sure: the commit goes on where this is cancelled.
        self._intended = True
        with _told_as_journal_error():
            await self._run.intend(self._line)

    async def settle(self, result: SendResult) -> None:
        """Commit what became of it, whoever is cancelled meanwhile."""
        self._step_back()
        if self._line is None or not self._intended:
            return
        with anyio.CancelScope(shield=True), _told_as_journal_error():
            await self._run.settle(self._line, result.outcome, result.request_id)

    def _step_back(self) -> None:
        """Let the next message wait for a slot."""
        if self._is_ahead:
            self._is_ahead = False
            self._ahead.release()


@contextmanager
def _told_as_journal_error() -> Iterator[None]:
    """Somebody else's journal may raise anything; a blast must not go on without its journal."""
    try:
        yield
    except PicoError:
        raise
    except Exception as error:
        raise JournalError(f"The journal failed ({type(error).__name__}).") from error
