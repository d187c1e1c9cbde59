"""How many of an input's messages a journal has: few where it is not the journal of these messages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.bulk.journal.sqlite_rows import JournalRows
from pico_async.messages import Message

_AT_ONCE = 1000


@frozen(kw_only=True)
class JournalMatch:
    """
    An input, held against a journal.

    Attributes:
        messages: Messages of the input that were looked at.
        skipped: Of them, those that the journal has as accepted.
        in_doubt: Those that may have been sent, and wait for a decision.
        unsent: Those that it has, and that the next run sends.
        new: Those that it does not have, which the next run sends.
        refused: Those with a key that came before, or that it has with another content.
        total: Messages in the journal.
    """

    messages: int
    skipped: int = 0
    in_doubt: int = 0
    unsent: int = 0
    new: int = 0
    refused: int = 0
    total: int = 0

    @classmethod
    def of(cls, counts: Counter[JournalState | None], *, messages: int, total: int) -> Self:
        """Sum up what `JournalRows.count_known` counted."""
        in_doubt = counts[JournalState.IN_DOUBT] + counts[JournalState.SENDING]
        skipped, new = counts[JournalState.ACCEPTED], counts[None]
        return cls(
            messages=messages,
            skipped=skipped,
            in_doubt=in_doubt,
            unsent=counts.total() - in_doubt - skipped - new,
            new=new,
            refused=messages - counts.total(),
            total=total,
        )

    @property
    def known(self) -> int:
        """Messages of the input that the journal has, with this content or with another one."""
        return self.messages - self.new

    @property
    def others(self) -> str:
        """How many the journal has beside these: "1 other", "1,234 others"."""
        count = self.total - self.known
        return f"{count:,} other{'' if count == 1 else 's'}"

    @property
    def is_foreign(self) -> bool:
        """
        Whether the journal is most likely that of other messages: it has fewer than a quarter of these.

        A journal with fewer messages than the input, as after a crash, or of a list that grew, is held against those.
        """
        return 4 * self.known < min(self.messages, self.total)


class JournalMatcher:
    """
    Hold messages against a journal one by one, in the order of the input; it changes nothing.

    Raises:
        JournalError: There is no such journal, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = JournalFile(path, owned=False, checked=False)
        self._lines = JournalRows(self._file)
        self._counts: Counter[JournalState | None] = Counter()
        self._waiting: list[Message] = []
        self._messages = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, message: Message) -> None:
        """Count one message."""
        self._waiting.append(message)
        if len(self._waiting) >= _AT_ONCE:
            self._count()

    def match(self) -> JournalMatch:
        """Give the numbers as they stand."""
        self._count()
        return JournalMatch.of(self._counts, messages=self._messages, total=self._lines.total)

    def is_made_from(self, what: str, value: str) -> bool | None:
        """Say whether this made the messages of the journal's last run; None where nobody knows."""
        return self._file.is_made_from(what, value)

    def _count(self) -> None:
        self._messages += len(self._waiting)
        with self._file.journal_errors("cannot be read"):
            self._counts += self._lines.count_known(self._waiting)
        self._waiting.clear()
