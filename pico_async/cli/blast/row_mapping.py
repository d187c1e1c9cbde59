"""What a blast makes of each row: a message, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Self, TypeAlias

from attrs import frozen

from pico_async.bulk.duplicates import Duplicates
from pico_async.cli.blast.csv_file import Row
from pico_async.cli.blast.text_template import TextTemplate
from pico_async.errors import ConfigurationError, InvalidMessageError, SuppressedError
from pico_async.messages import SmsMessage
from pico_async.numbers import checked_region, destination, e164, mask_numbers

NUMBER_COLUMNS = ("to", "phone", "mobile", "number")
KEY_COLUMN = "key column"
# An `expires_in` must be positive; the engine finds this one run out before anything leaves.
_RUN_OUT_S = 1e-6


Mapped: TypeAlias = SmsMessage | InvalidMessageError | SuppressedError


def number_reader(
    *, region: str | None = None, newer_ranges: bool = False, for_sandbox: bool = False
) -> Callable[[str], str]:
    """
    Say how a file's numbers are read: those of the messages, and those that opted out.

    Args:
        region: Where people write them; None where they have their country code.
        newer_ranges: Take also numbers of ranges that the extra does not know.
        for_sandbox: They go to a sandbox, whose numbers need not exist.

    Raises:
        ConfigurationError: There is no such region, or the extra is missing.
    """
    if region is None and for_sandbox:
        return e164
    return partial(destination, region=None if region is None else checked_region(region), newer_ranges=newer_ranges)


@frozen(kw_only=True)
class RowMapping:
    """
    One message to each row of a file.

    Attributes:
        to_column: Holds the numbers.
        key_column: Holds the caller's names for the messages.
        text: What they get; this or *template_id*.
        read: Makes a number of what stands in its column: see `number_reader`.
        promotional: Whether an opt-out counts.
        once_per_number: Whether a number gets the first of its messages alone.
        expires_at: Moment on the monotonic clock after which nothing of it may be sent.
    """

    to_column: str
    key_column: str | None = None
    text: TextTemplate | None = None
    template_id: str | None = None
    read: Callable[[str], str] = e164
    promotional: bool = True
    once_per_number: bool = False
    expires_at: float | None = None

    @classmethod
    def for_columns(
        cls,
        columns: tuple[str, ...],
        *,
        text: str | None,
        template_id: str | None,
        to_column: str | None = None,
        key_column: str | None = None,
        read: Callable[[str], str] = e164,
        promotional: bool = True,
        once_per_number: bool = False,
        expires_in: float | None = None,
    ) -> Self:
        """
        Hold what is wanted against the columns that there are.

        Args:
            expires_in: Seconds from now. The codes of a file were made before it was read, so they all age at once.

        Raises:
            ConfigurationError: A column is missing or cannot be guessed, or there is no text.
        """
        if (text is None) == (template_id is None):
            raise ConfigurationError("Pass exactly one of --text and --template-id.")
        if expires_in is not None and not expires_in > 0:
            raise ConfigurationError("--expires-in must be a positive number of seconds.")
        template = None if text is None else TextTemplate.parse(text)
        for name in template.columns if template else ():
            if name not in columns:
                raise ConfigurationError(f"The text names {{{{{name}}}}}, and {listed(columns)}")
        for option, column in (("--to-column", to_column), ("--key-column", key_column)):
            if column is not None and column not in columns:
                raise ConfigurationError(f"{option} names `{column}`, and {listed(columns)}")
        return cls(
            to_column=to_column if to_column is not None else _guess(columns),
            key_column=key_column,
            text=template,
            template_id=template_id,
            read=read,
            promotional=promotional,
            once_per_number=once_per_number,
            expires_at=None if expires_in is None else time.monotonic() + expires_in,
        )

    @property
    def made_from(self) -> dict[str, str]:
        """What makes the messages of any row, by name. A journal keeps digests, and tells by them what changed."""
        return {
            "text": "" if self.text is None else self.text.source,
            "template": self.template_id or "",
            KEY_COLUMN: self.key_column or "",
        }

    def key_of(self, row: Row) -> str | None:
        """Give the caller's name for the row."""
        return None if self.key_column is None else row.values.get(self.key_column)

    def messages(self, rows: Iterator[Row]) -> Iterator[tuple[Row, Mapped]]:
        """Make each row's message when it is asked for, or say why it has none."""
        with Duplicates() if self.once_per_number else nullcontext() as seen:
            for row in rows:
                mapped: Mapped = self.message(row)
                if seen is not None and isinstance(mapped, SmsMessage):
                    first = seen.first_to(mapped.to, row.line)
                    if first is not None:
                        mapped = SuppressedError(
                            f"Line {first} has this number, too; --once-per-number keeps the first. Nothing was sent."
                        )
                yield row, mapped

    def message(self, row: Row) -> SmsMessage | InvalidMessageError:
        """
        Make the row's message, or say why it has none.

        The error is given and not raised: it is the row's result, and a generator that raises is at its end.
        """
        try:
            return self._message(row)
        except InvalidMessageError as error:
            # Without the frames, which hold the row.
            return error.with_traceback(None)

    def _message(self, row: Row) -> SmsMessage:
        if row.fault is not None:
            raise InvalidMessageError(row.fault)
        return SmsMessage(
            to=self.read(row.values[self.to_column]),
            text=None if self.text is None else self.text.render(row.values),
            template_id=self.template_id,
            key=self.key_of(row),
            promotional=self.promotional,
            expires_in=None if self.expires_at is None else max(self.expires_at - time.monotonic(), _RUN_OUT_S),
        )


def _guess(columns: tuple[str, ...]) -> str:
    likely = [column for column in columns if column.lower() in NUMBER_COLUMNS]
    if len(likely) == 1:
        return likely[0]
    if likely:
        raise ConfigurationError(
            f"More than one column may hold the numbers: {', '.join(f'`{column}`' for column in likely)}. "
            "Say which with --to-column."
        )
    raise ConfigurationError(f"Say with --to-column which column holds the numbers: {listed(columns)}")


def listed(columns: tuple[str, ...]) -> str:
    """Say which columns there are. Without a header they are somebody's number and code, so numbers are masked."""
    said = "the file has the columns " + ", ".join(f"`{mask_numbers(column)}`" for column in columns if column) + "."
    if any(mask_numbers(column) != column for column in columns):
        return f"{said} Does its first line name the columns?"
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return f"{said} If something else than ',' separates them, pass --delimiter."
    return said
