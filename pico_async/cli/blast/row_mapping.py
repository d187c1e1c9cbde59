"""The mapping of a row to its message, or to the error that says why it has none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Self, TypeAlias

from attrs import frozen

from pico_async._masking import mask_numbers
from pico_async.bulk.duplicates import Duplicates
from pico_async.cli.blast.csv_file import Row
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.text_template import TextTemplate
from pico_async.errors import ConfigurationError, InvalidMessageError, SuppressedError
from pico_async.messages import SmsMessage
from pico_async.numbers import checked_region, destination, e164

NUMBER_COLUMNS = ("to", "phone", "mobile", "number")
KEY_COLUMN = "key column"
# An `expires_in` must be positive. This one has expired before a request can be made.
_EXPIRED_S = 1e-6


Mapped: TypeAlias = SmsMessage | InvalidMessageError | SuppressedError


def number_reader(
    *, region: str | None = None, newer_ranges: bool = False, for_sandbox: bool = False
) -> Callable[[str], str]:
    """
    Return the function that parses the numbers of the messages, and those that opted out.

    Raise if the region is unknown, or the extra is missing. The numbers of a sandbox need not exist.
    """
    if region is None and for_sandbox:
        return e164
    return partial(destination, region=None if region is None else checked_region(region), newer_ranges=newer_ranges)


@frozen(kw_only=True)
class RowMapping:
    """
    Map each row of a file to one message.

    Attributes:
        text: Text of the messages; None with a template ID.
        read: Parses a number: see `number_reader`.
        expires_at: Time on the monotonic clock after which no message may be sent.
    """

    options: BlastOptions
    to_column: str
    text: TextTemplate | None = None
    read: Callable[[str], str] = e164
    expires_at: float | None = None

    @classmethod
    def for_columns(cls, columns: tuple[str, ...], options: BlastOptions, read: Callable[[str], str] = e164) -> Self:
        """
        Check the options against the columns of the file, and return the mapping.

        `--expires-in` counts from now for all rows alike, because their codes were made before the file was read.
        """
        if (options.text is None) == (options.template_id is None):
            raise ConfigurationError("Pass exactly one of --text and --template-id.")
        if options.expires_in is not None and not options.expires_in > 0:
            raise ConfigurationError("--expires-in must be a positive number of seconds.")
        text = None if options.text is None else TextTemplate.parse(options.text)
        for name in text.columns if text else ():
            if name not in columns:
                raise ConfigurationError(f"The text names {{{{{name}}}}}, but {listed(columns)}")
        for option, column in (("--to-column", options.to_column), ("--key-column", options.key_column)):
            if column is not None and column not in columns:
                raise ConfigurationError(f"{option} names `{column}`, but {listed(columns)}")
        return cls(
            options=options,
            to_column=_guess(columns) if options.to_column is None else options.to_column,
            text=text,
            read=read,
            expires_at=None if options.expires_in is None else time.monotonic() + options.expires_in,
        )

    @property
    def made_from(self) -> dict[str, str]:
        """The options that all messages depend on. A journal keeps their digests, to find out what changed."""
        return {
            "text": "" if self.text is None else self.text.source,
            "template": self.options.template_id or "",
            KEY_COLUMN: self.options.key_column or "",
        }

    def key_of(self, row: Row) -> str | None:
        return None if self.options.key_column is None else row.values.get(self.options.key_column)

    def messages(self, rows: Iterator[Row]) -> Iterator[tuple[Row, Mapped]]:
        """Yield each row with its message, or with the error that says why it has none."""
        with Duplicates() if self.options.once_per_number else nullcontext() as seen:
            for row in rows:
                mapped: Mapped = self.message(row)
                if seen is not None and isinstance(mapped, SmsMessage):
                    first = seen.first_with_number(mapped.to, row.line)
                    if first is not None:
                        mapped = SuppressedError(
                            f"Line {first} has the same number; --once-per-number keeps the first. Nothing was sent."
                        )
                yield row, mapped

    def message(self, row: Row) -> SmsMessage | InvalidMessageError:
        """
        Return the row's message, or the error that says why it has none.

        The error is not raised, because an exception would end the generator of the messages.
        """
        try:
            return self._message(row)
        except InvalidMessageError as error:
            # Without the traceback, whose frames contain the row.
            return error.with_traceback(None)

    def _message(self, row: Row) -> SmsMessage:
        if row.fault is not None:
            raise InvalidMessageError(row.fault)
        return SmsMessage(
            to=self.read(row.values[self.to_column]),
            text=None if self.text is None else self.text.render(row.values),
            template_id=self.options.template_id,
            key=self.key_of(row),
            promotional=self.options.promotional,
            expires_in=None if self.expires_at is None else max(self.expires_at - time.monotonic(), _EXPIRED_S),
        )


def _guess(columns: tuple[str, ...]) -> str:
    likely = [column for column in columns if column.lower() in NUMBER_COLUMNS]
    if len(likely) == 1:
        return likely[0]
    if likely:
        raise ConfigurationError(
            f"More than one column may contain the numbers: {', '.join(f'`{column}`' for column in likely)}. "
            "Choose one with --to-column."
        )
    raise ConfigurationError(f"Pass --to-column with the column of the numbers: {listed(columns)}")


def listed(columns: tuple[str, ...]) -> str:
    """Return the columns as text. Without a header they are personal values, so numbers are masked."""
    said = "the file has the columns " + ", ".join(f"`{mask_numbers(column)}`" for column in columns if column) + "."
    if any(mask_numbers(column) != column for column in columns):
        return f"{said} Does its first line name the columns?"
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return f"{said} If they are not separated by ',', pass --delimiter."
    return said
