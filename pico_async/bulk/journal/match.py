"""How many of an input's messages are in a journal: few if it is the journal of other messages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Self

from attrs import frozen

from pico_async.bulk.journal.protocols import JournalState
from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.bulk.journal.sqlite_rows import JournalRows
from pico_async.messages import Message

_MESSAGES_PER_COUNT = 1000


@frozen(kw_only=True)
class JournalMatch:
    """
    An input, compared with a journal.

    Attributes:
        messages: Messages of the input that were compared.
        skipped: Those that are accepted in the journal.
        in_doubt: Those that may have been sent, and wait for a decision.
        unsent: Those in the journal that the next run sends.
        new: Those not in the journal, which the next run sends.
        refused: Those whose key occurred before, or has another content in the journal.
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
        """Return the match for the counts of `JournalRows.count_known`."""
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
        """Messages of the input in the journal, with this content or another."""
        return self.messages - self.new

    @property
    def others(self) -> str:
        """The number of other messages in the journal, such as "1 other" or "1,234 others"."""
        count = self.total - self.known
        return f"{count:,} other{'' if count == 1 else 's'}"

    @property
    def is_foreign(self) -> bool:
        """
        Whether the journal is most likely that of other messages: less than a quarter of these are in it.

        If the journal has fewer messages than the input, a quarter of the journal's must be among these. It has fewer
        after a crash, or if the list of recipients grew.
        """
        return 4 * self.known < min(self.messages, self.total)


class JournalMatcher:
    """Compares messages with a journal one by one, in the order of the input, and changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = JournalFile(path, owned=False, checked=False)
        self._rows = JournalRows(self._file)
        self._counts: Counter[JournalState | None] = Counter()
        self._waiting: list[Message] = []
        self._messages = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, message: Message) -> None:
        self._waiting.append(message)
        if len(self._waiting) >= _MESSAGES_PER_COUNT:
            self._count()

    def match(self) -> JournalMatch:
        self._count()
        return JournalMatch.of(self._counts, messages=self._messages, total=self._rows.total)

    def is_made_from(self, what: str, value: str) -> bool | None:
        return self._file.is_made_from(what, value)

    def _count(self) -> None:
        self._messages += len(self._waiting)
        with self._file.journal_errors("cannot be read"):
            self._counts += self._rows.count_known(self._waiting)
        self._waiting.clear()
