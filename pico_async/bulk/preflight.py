"""Preflight: checks what a bulk send would send, and sends nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Self, TypeAlias, TypeVar

import anyio.lowlevel

from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async.bulk.duplicates import Duplicates
from pico_async.bulk.preflight_report import FORCED_LISTED, Country, Fault, Forced, NumberKind, Preflight, Repeat
from pico_async.bulk.source import END, Input, Source, invalid_item
from pico_async.bulk.suppression import OptOuts, Suppression
from pico_async.errors import ConfigurationError, InvalidMessageError, SuppressedError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.numbers import country_code, kind_of
from pico_async.segmentation import Encoding, foreign_characters, segments

Price: TypeAlias = Decimal | int | float | str
"""Price of one part, in the balance's unit."""

Kept = TypeVar("Kept")

FIRST_KEPT = 20
_MAX_DISTINCT_CHARACTERS = 1000
_SHORT_DIGITS = 9  # a number with no more may lack its country code
_NO_SMS = frozenset({"fixed line", "toll free", "premium rate", "shared cost", "pager", "uan", "voicemail", "unknown"})
_MAX_PRICE = 10**9
# Other tasks run after the work of this many characters, which takes some 5 ms. A message without a text is the work of
# 1,000 characters.
_CHARACTERS_PER_STEP = 125_000
_CHARACTERS_PER_MESSAGE = 1000


class Checklist:
    """
    Counts messages one by one. It keeps only a digest of each, on disk if there are many, so memory use does not grow.

    Args:
        check: Raises InvalidMessageError for a message that cannot be sent.
    """

    def __init__(self, check: Callable[[Message], object] | None = None) -> None:
        self._check = check
        self._duplicates = Duplicates()
        self._counts: Counter[str] = Counter()  # by the names of Preflight's fields
        self._parts: Counter[Encoding] = Counter()
        self._forced: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._repeats: dict[str, list[Repeat]] = {"duplicates": [], "same_number": [], "repeated_keys": []}
        self._countries: Counter[str] = Counter()
        self._short: Counter[str] = Counter()
        self._no_sms: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._duplicates.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._duplicates.__exit__()

    def check(self, index: int, item: object) -> Message | None:
        """Count one item, and return it if it is a valid message."""
        self._counts["total"] += 1
        if isinstance(item, SmsMessage | MmsMessage | VoiceMessage):
            try:
                if self._check is not None:
                    self._check(item)
            except InvalidMessageError as error:
                item = error
            else:
                return item
        if isinstance(item, SuppressedError):
            self.suppress()
            return None
        self._counts["invalid"] += 1
        _keep(self._faults, Fault(index, str(invalid_item(item))))
        return None

    def suppress(self) -> None:
        self._counts["suppressed"] += 1

    def admit(self, index: int, message: Message) -> None:
        """Count a message that would be sent; raise if the disk for temporary files is full."""
        self._counts["valid"] += 1
        self._count_repeat("duplicates", index, self._duplicates.first_with_content(message, index))
        self._count_repeat("same_number", index, self._duplicates.first_with_number(message.to, index))
        self._count_number(message)
        if message.key is not None:
            self._count_repeat("repeated_keys", index, self._duplicates.first_with_key(message.key, index))
        if isinstance(message, SmsMessage):
            self._counts["texts"] += 1
        if not isinstance(message, SmsMessage) or message.text is None:
            self._counts["unmeasured"] += 1
            return
        found = segments(message.text)
        self._parts[found.encoding] += found.parts
        if found.encoding is Encoding.UCS_2 and len(foreign := foreign_characters(message.text)) <= FORCED_LISTED:
            for character in foreign:
                if character in self._forced or len(self._forced) < _MAX_DISTINCT_CHARACTERS:
                    self._forced[character] += 1

    def _count_repeat(self, count: str, index: int, first: int | None) -> None:
        if first is not None:
            self._counts[count] += 1
            _keep(self._repeats[count], Repeat(index, first))

    def _count_number(self, message: Message) -> None:
        code = country_code(message.to)
        self._countries[code] += 1
        # Some countries with a code of three digits have numbers as short as that.
        if len(code) < 3 and len(message.to) <= _SHORT_DIGITS:
            self._short[code] += 1
        if not isinstance(message, VoiceMessage) and (kind := kind_of(message.to)) in _NO_SMS:
            self._no_sms[kind] += 1

    def preflight(
        self,
        *,
        price: Decimal | None = None,
        balance: Decimal | None = None,
        per_s: float | None = None,
        stopped: str | None = None,
    ) -> Preflight:
        """Return the present numbers."""
        return Preflight(
            **self._counts,
            gsm7_parts=self._parts[Encoding.GSM_7],
            ucs2_parts=self._parts[Encoding.UCS_2],
            forced=tuple(Forced(character, messages) for character, messages in self._forced.most_common(10)),
            price=price,
            balance=balance,
            per_s=per_s,
            faults=tuple(self._faults),
            repeats=tuple(self._repeats["duplicates"]),
            same_numbers=tuple(self._repeats["same_number"]),
            countries=tuple(Country(code, count, self._short[code]) for code, count in self._countries.most_common()),
            no_sms=tuple(NumberKind(name, count) for name, count in self._no_sms.most_common()),
            key_repeats=tuple(self._repeats["repeated_keys"]),
            stopped=stopped,
        )


async def preflight(
    messages: Input,
    *,
    price: Price | None = None,
    balance: Decimal | None = None,
    per_s: float | None = None,
    suppression: Suppression | None = None,
    check: Callable[[Message], object] | None = None,
) -> Preflight:
    """
    Check what `send_bulk` would send, and send nothing.

    The input is read to its end, so pass one that can be read again. Memory use does not grow with its length.
    `pico.preflight` does the same with the session's rate and balance, and checks that a sender is set.

    Args:
        messages: Any iterable or async iterable of messages, as for `send_bulk`. An item may be an InvalidMessageError
            or a SuppressedError instead of a message.
        price: Price of one part in the balance's unit, such as "0.04".
        balance: Remaining credit.
        per_s: Text messages sent per second.
        suppression: Numbers that opted out, or a function that is called with each number, as for `send_bulk`.
        check: Raises InvalidMessageError for a message that cannot be sent.

    Raises:
        ConfigurationError: An argument is wrong, or the disk for temporary files is full.
        Exception: Raised by *messages* or *suppression*.
    """
    cost = checked_price(price)
    if per_s is not None and not (isinstance(per_s, int | float) and per_s > 0):
        raise ConfigurationError("`per_s` must be a positive number, or None.")
    if balance is not None and not isinstance(balance, Decimal | int):
        raise ConfigurationError("`balance` must be a Decimal, as `balance.get()` returns it, or None.")
    opt_outs = None if suppression is None else OptOuts(suppression)
    source = Source(messages)
    cancelled_before = cancellations()
    try:
        with Checklist(check) as checklist:
            characters = 0
            for index in itertools.count():
                item = await source.anext() if source.is_async else source.next()
                # The source may have treated the cancellation as the input's own.
                await end_if_cancelled(cancelled_before)
                if item is END:
                    break
                if (message := checklist.check(index, item)) is not None:
                    if opt_outs is not None and message.promotional and await opt_outs.has(message.to):
                        checklist.suppress()
                    else:
                        checklist.admit(index, message)
                    characters += len(message.text or "")
                characters += _CHARACTERS_PER_MESSAGE
                if characters >= _CHARACTERS_PER_STEP:
                    characters = 0
                    await anyio.lowlevel.checkpoint()
            if source.error is not None:
                raise source.error
            return checklist.preflight(price=cost, balance=balance, per_s=per_s, stopped=source.stopped)
    finally:
        await source.aclose()


def checked_price(price: object) -> Decimal | None:
    """Return the price as an exact decimal, so that 0.04 means what it says; raise if it is no number or too large."""
    if price is None:
        return None
    if isinstance(price, Decimal | int | float | str) and not isinstance(price, bool):
        try:
            exact = Decimal(str(price))
        except InvalidOperation:
            pass
        else:
            if exact.is_finite() and 0 <= exact <= _MAX_PRICE:
                return exact
    raise ConfigurationError("The price of a part must be a number from 0 to a billion, such as '0.04'.")


def _keep(kept: list[Kept], one: Kept) -> None:
    if len(kept) < FIRST_KEPT:
        kept.append(one)
