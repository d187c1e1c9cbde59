"""What a bulk send requires of a journal, and what a journal knows of a message."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol, runtime_checkable

from attrs import frozen

from pico_async._values import Value
from pico_async.errors import Outcome
from pico_async.messages import Message


class JournalState(StrEnum):
    """How far a message is, as its journal knows it."""

    PENDING = "pending"
    """It was read. Nothing was sent."""
    SENDING = "sending"
    """It may have been sent. If its bulk send is no longer running, it is in doubt."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"


@frozen
class JournalRow:
    """
    What a journal knows of one message.

    Attributes:
        id: The journal's own name for the row.
    """

    id: int
    state: JournalState
    request_id: str | None = None


@frozen
class JournalRecord(Value):
    """
    One message, as `SqliteJournal.in_doubt` returns it.

    Attributes:
        id: The journal's own name for it, in hex. It contains neither the key nor the number.
        index: Its index in the input of the last run that read it, from 0.
        changed_at: Unix time of the last change of its state.
        line: Line of the file that it was read from, from 1, if `pico blast` read it; else None.
    """

    id: str
    state: JournalState
    request_id: str | None
    index: int
    changed_at: int
    line: int | None = None


class JournalRun(Protocol):
    """A journal, opened by one bulk send."""

    async def claim(self, message: Message, index: int) -> JournalRow:
        """
        Return the message's row as the earlier runs left it, or add one.

        Args:
            index: The message's index in the input, from 0.

        Raises:
            InvalidMessageError: The message's key occurred before in this run, or belongs to another content.
            JournalError: The journal cannot be read or written.
        """

    async def intend(self, row: JournalRow) -> None:
        """
        Commit that the message may be sent from now on. The commit is durable when this returns.

        Raises:
            JournalError: The commit failed, so nothing may be sent.
        """

    async def settle(self, row: JournalRow, outcome: Outcome, request_id: str | None) -> None:
        """
        Commit the message's outcome. The commit is durable when this returns.

        Raises:
            JournalError: The commit failed: after a crash the message is in doubt.
        """


@runtime_checkable
class Journal(Protocol):
    """
    Remembers the outcome of each message of a bulk send, also after a crash.

    `SqliteJournal` is one. Another implementation must promise two things: only one run at a time is open, and a commit
    that `intend` or `settle` returned from survives a power failure.
    """

    def run(self, account: str) -> AbstractAsyncContextManager[JournalRun]:
        """
        Open the journal for one bulk send. Messages that an earlier run left as "sending" are in doubt from here on.

        Args:
            account: Account that the messages belong to. A journal serves one account.

        Raises:
            JournalError: Raised on entering: another bulk send or another account uses it, or it cannot be used.
        """
