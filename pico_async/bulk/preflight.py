"""
What a blast would be, before anything is sent.

It lies with the blast, and not beside `segments`: it reads the same inputs in the same way.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import anyio.lowlevel
from attrs import field, frozen

from pico_async._cancellation import cancellations, end_if_cancelled
from pico_async._characters import described
from pico_async.bulk.duplicates import Duplicates
from pico_async.bulk.source import END, Input, Source, invalid_item
from pico_async.bulk.suppression import OptOuts, Suppression
from pico_async.errors import ConfigurationError, InvalidMessageError, SuppressedError
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.numbers import country_code, kind_of
from pico_async.segmentation import Encoding, foreign_characters, segments

Price: TypeAlias = Decimal | int | float | str
Kept = TypeVar("Kept")

FIRST_KEPT = 20
# More characters that GSM-7 lacks are a script, and not a slip that somebody may want to mend.
FEW = 5
_DISTINCT = 1000
SHORT = 9
COUNTRIES_TOLD = 8
NO_SMS = frozenset({"fixed line", "toll free", "premium rate", "shared cost", "pager", "uan", "voicemail", "unknown"})
_DEAREST = 10**9
# The loop has its turn after so many messages, which take a few milliseconds.
_AT_A_TIME = 250


@frozen
class Fault:
    """
    Something in the input that makes no message.

    Attributes:
        place: Where it stands in the input, from 0; of a file the line.
    """

    place: int
    reason: str


@frozen
class Repeat:
    """
    A message that an earlier one repeats: in number and content, or in the number alone.

    Attributes:
        place: Where it stands in the input, from 0; of a file the line.
        first: Where the first one stands.
    """

    place: int
    first: int


@frozen
class Country:
    """
    Where messages go.

    Attributes:
        code: Country code, as "886".
        messages: Messages to it.
        short: Those, of them, with so few digits that the country code may be none: a spreadsheet may have dropped a 0.
    """

    code: str
    messages: int
    short: int = 0

    def __str__(self) -> str:
        asked = f" ({self.short:,} of nine digits or fewer: did a spreadsheet drop a 0?)" if self.short else ""
        return f"{self.code}: {self.messages:,}{asked}"


@frozen
class Kind:
    """
    What answers at numbers that take no SMS.

    Attributes:
        name: As "fixed line" or "premium rate"; "unknown" where no such number can exist.
        messages: Texts and MMS to such numbers.
    """

    name: str
    messages: int

    def __str__(self) -> str:
        return f"{self.messages:,} {self.name}"


@frozen
class Forced:
    """
    A character that forced texts into UCS-2. Its repr does not show it; its str does.

    Attributes:
        messages: Texts with it and no more than four others.
    """

    character: str = field(repr=False)
    messages: int

    def __str__(self) -> str:
        return f"{described(self.character)} in {self.messages:,}"


@frozen(kw_only=True)
class Preflight:
    """
    A blast in numbers, before it. It holds no number and no text.

    v0.4 documents neither how Pico cuts a text into parts nor what it charges for; the parts are those of `segments`.

    Attributes:
        total: Items of the input.
        valid: Messages that would be sent, duplicates among them.
        invalid: Items that make no message.
        suppressed: Messages whose number has opted out.
        duplicates: Messages, of the valid, whose number and content an earlier one has.
        same_number: Messages, of the valid, whose number an earlier one has, whatever they say.
        countries: Where the valid go, by country code; the most frequent first.
        no_sms: Texts and MMS, of the valid, to numbers that take none, by kind. Empty without the extra `numbers`. Many
            countries' numbers do not tell a mobile one from a fixed line; those are not counted.
        gsm7_parts: Parts of the texts in GSM-7.
        ucs2_parts: Parts of the texts in UCS-2.
        forced: The characters that forced texts into UCS-2, where a text has five different ones at the most; the
            most frequent first, ten of them.
        unmeasured: Messages, of the valid, that have no parts to count: templates, MMS and voice.
        texts: Text messages, of the valid, templates among them: what the pace is for.
        price: For one part.
        balance: What credit remains.
        per_s: Text messages that leave in a second; None where nothing limits them, or nobody knows.
        faults: The first 20 of the invalid.
        repeats: The first 20 of the duplicates.
        same_numbers: The first 20 of those of the same number.
        repeated_keys: Messages, of the valid, whose key an earlier one has. With a journal they are not sent.
        key_repeats: The first 20 of them.
        stopped: Why the input ended before its time; None where it did not.
    """

    total: int = 0
    valid: int = 0
    invalid: int = 0
    suppressed: int = 0
    duplicates: int = 0
    same_number: int = 0
    countries: tuple[Country, ...] = ()
    no_sms: tuple[Kind, ...] = ()
    gsm7_parts: int = 0
    ucs2_parts: int = 0
    forced: tuple[Forced, ...] = ()
    unmeasured: int = 0
    texts: int = 0
    price: Decimal | None = None
    balance: Decimal | None = None
    per_s: float | None = None
    faults: tuple[Fault, ...] = field(default=(), repr=lambda faults: f"<the first {len(faults)}>")
    repeats: tuple[Repeat, ...] = field(default=(), repr=lambda repeats: f"<the first {len(repeats)}>")
    same_numbers: tuple[Repeat, ...] = field(default=(), repr=lambda repeats: f"<the first {len(repeats)}>")
    repeated_keys: int = 0
    key_repeats: tuple[Repeat, ...] = field(default=(), repr=lambda repeats: f"<the first {len(repeats)}>")
    stopped: str | None = None

    @property
    def parts(self) -> int:
        """Parts in all."""
        return self.gsm7_parts + self.ucs2_parts

    @property
    def cost(self) -> Decimal | None:
        """The price of the parts, in the balance's own unit; what is unmeasured is not in it. None without a price."""
        return None if self.price is None else self.parts * self.price

    @property
    def remaining(self) -> Decimal | None:
        """What of the balance the cost leaves, below 0 where it does not do; None without either."""
        return None if self.cost is None or self.balance is None else self.balance - self.cost

    @property
    def duration_s(self) -> float | None:
        """Seconds that the text messages take at the least; MMS and voice have no documented pace."""
        return None if self.per_s is None else self.texts / self.per_s

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.total:,} in the input: {self.valid:,} to send ({self.duplicates:,} of them duplicates), "
            f"{self.invalid:,} invalid, {self.suppressed:,} suppressed"
        )
        if self.countries:
            yield f"country codes: {told_countries(self.countries)}"
        if self.no_sms:
            yield f"to numbers that take no SMS: {', '.join(map(str, self.no_sms))}"
        yield f"parts: {self.parts:,} ({self.gsm7_parts:,} in GSM-7, {self.ucs2_parts:,} in UCS-2)"
        if self.forced:
            yield f"taken to UCS-2 by {', '.join(map(str, self.forced[:FEW]))}"
        if self.unmeasured:
            yield f"without parts to count: {self.unmeasured:,} (templates, MMS, voice)"
        if self.cost is not None:
            yield f"estimated cost: {self.cost:f} at {self.price:f} a part"
        if self.balance is not None:
            left = "" if self.remaining is None else f", which leaves {self.remaining:f}"
            yield f"balance: {self.balance:f}{left}"
        if self.duration_s is not None:
            yield f"takes {self.duration_s / 60:,.1f} minutes at {self.per_s:,.1f} a second"
        if self.stopped is not None:
            yield f"not read to its end: {self.stopped}"
        for fault in self.faults:
            yield f"message {fault.place}: {fault.reason}"
        for repeat in self.repeats:
            yield f"message {repeat.place} repeats {repeat.first}"
        if self.same_number > self.duplicates:
            yield f"of the number of an earlier one, whatever they say: {self.same_number:,}"
            for repeat in self.same_numbers:
                yield f"message {repeat.place} has the number of {repeat.first}"
        for repeat in self.key_repeats:
            yield f"message {repeat.place} has the key of {repeat.first}: with a journal it is not sent"


class Checklist:
    """
    Count messages one by one, in flat memory: of each no more is kept than a digest, on the disk where there are many.

    Args:
        check: Raises InvalidMessageError for a message that cannot be sent, although it is one.
    """

    def __init__(self, check: Callable[[Message], object] | None = None) -> None:
        self._check = check
        self._duplicates = Duplicates()
        self._counts: Counter[str] = Counter()
        self._parts: Counter[Encoding] = Counter()
        self._forced: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._repeats: list[Repeat] = []
        self._same_numbers: list[Repeat] = []
        self._countries: Counter[str] = Counter()
        self._short: Counter[str] = Counter()
        self._no_sms: Counter[str] = Counter()
        self._key_repeats: list[Repeat] = []

    def __enter__(self) -> Self:
        self._duplicates.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._duplicates.__exit__(kind, error, traceback)

    def message(self, place: int, item: object) -> Message | None:
        """Count one item; give the message that it is, or None where it makes none."""
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
        _keep(self._faults, Fault(place, str(invalid_item(item))))
        return None

    def suppress(self) -> None:
        """Count a message whose number has opted out."""
        self._counts["suppressed"] += 1

    def admit(self, place: int, message: Message) -> None:
        """
        Count a message that would be sent.

        Raises:
            ConfigurationError: The disk for temporary files is full.
        """
        self._counts["valid"] += 1
        if (first := self._duplicates.first_of(message, place)) is not None:
            self._counts["duplicates"] += 1
            _keep(self._repeats, Repeat(place, first))
        if (first := self._duplicates.first_to(message.to, place)) is not None:
            self._counts["same_number"] += 1
            _keep(self._same_numbers, Repeat(place, first))
        self._note_number(message)
        if message.key is not None and (first := self._duplicates.first_of_key(message.key, place)) is not None:
            self._counts["repeated_keys"] += 1
            _keep(self._key_repeats, Repeat(place, first))
        if isinstance(message, SmsMessage):
            self._counts["texts"] += 1
        if not isinstance(message, SmsMessage) or message.text is None:
            self._counts["unmeasured"] += 1
            return
        found = segments(message.text)
        self._parts[found.encoding] += found.parts
        if found.encoding is Encoding.UCS_2 and len(foreign := foreign_characters(message.text)) <= FEW:
            for character in foreign:
                if character in self._forced or len(self._forced) < _DISTINCT:
                    self._forced[character] += 1

    def _note_number(self, message: Message) -> None:
        code = country_code(message.to)
        self._countries[code] += 1
        # Where country codes have three digits, some countries' numbers are as short as that.
        if len(code) < 3 and len(message.to) <= SHORT:
            self._short[code] += 1
        if not isinstance(message, VoiceMessage) and (kind := kind_of(message.to)) in NO_SMS:
            self._no_sms[kind] += 1

    def preflight(
        self,
        *,
        price: Decimal | None = None,
        balance: Decimal | None = None,
        per_s: float | None = None,
        stopped: str | None = None,
    ) -> Preflight:
        """Give the numbers as they stand."""
        return Preflight(
            **self._counts,
            gsm7_parts=self._parts[Encoding.GSM_7],
            ucs2_parts=self._parts[Encoding.UCS_2],
            forced=tuple(Forced(character, messages) for character, messages in self._forced.most_common(10)),
            price=price,
            balance=balance,
            per_s=per_s,
            faults=tuple(self._faults),
            repeats=tuple(self._repeats),
            same_numbers=tuple(self._same_numbers),
            countries=tuple(Country(code, count, self._short[code]) for code, count in self._countries.most_common()),
            no_sms=tuple(Kind(name, count) for name, count in self._no_sms.most_common()),
            key_repeats=tuple(self._key_repeats),
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
    Look at what `send_bulk` would send, and send nothing.

    It is read to its end, so give something that can be read again for the sending. The memory is flat for any length.
    `pico.preflight` does the same with a session's pace and balance, and knows whether there is a sender.

    Args:
        messages: Any iterable or async iterable of messages, as `send_bulk` takes it, with an InvalidMessageError or a
            SuppressedError in the place of a message, too.
        price: For one part, in the balance's own unit, as "0.04".
        balance: What credit remains.
        per_s: Text messages that leave in a second.
        suppression: Numbers that opted out, or a function that is asked for each, as `send_bulk` takes it.
        check: Raises InvalidMessageError for a message that cannot be sent.

    Raises:
        ConfigurationError: An argument is wrong, or the disk for temporary files is full.
        Exception: What *messages* or *suppression* raised.
    """
    cost = checked_price(price)
    if per_s is not None and not (isinstance(per_s, int | float) and per_s > 0):
        raise ConfigurationError("`per_s` must be a positive number, or None.")
    if balance is not None and not isinstance(balance, Decimal | int):
        raise ConfigurationError("`balance` must be a Decimal, as `balance.get()` gives it, or None.")
    opt_outs = None if suppression is None else OptOuts(suppression)
    source = Source(messages)
    cancelled_before = cancellations()
    try:
        with Checklist(check) as checklist:
            for place in itertools.count():
                item = await source.anext() if source.is_async else source.next()
                # The source may have taken it for one of its own.
                await end_if_cancelled(cancelled_before)
                if item is END:
                    break
                if (message := checklist.message(place, item)) is not None:
                    if opt_outs is not None and message.promotional and await opt_outs.has(message.to):
                        checklist.suppress()
                    else:
                        checklist.admit(place, message)
                if place % _AT_A_TIME == 0:
                    await anyio.lowlevel.checkpoint()
            if source.error is not None:
                raise source.error
            return checklist.preflight(price=cost, balance=balance, per_s=per_s, stopped=source.stopped)
    finally:
        await source.aclose()


def checked_price(price: object) -> Decimal | None:
    """
    Give the price as an exact decimal: 0.04 is meant as it is written.

    Raises:
        ConfigurationError: It is no number, or out of all bounds.
    """
    if price is None:
        return None
    if isinstance(price, Decimal | int | float | str) and not isinstance(price, bool):
        try:
            exact = Decimal(str(price))
        except InvalidOperation:
            pass
        else:
            if exact.is_finite() and 0 <= exact <= _DEAREST:
                return exact
    raise ConfigurationError("The price of a part must be a number from 0 to a billion, as '0.04'.")


def told_countries(countries: Sequence[Country]) -> str:
    """Say where messages go: "886: 2, 91: 1"."""
    # What may be a slip is told, however rare it is.
    told = [country for place, country in enumerate(countries) if place < COUNTRIES_TOLD or country.short]
    others = len(countries) - len(told)
    return ", ".join(map(str, told)) + (f" and {others} more" if others else "")


def _keep(kept: list[Kept], one: Kept) -> None:
    if len(kept) < FIRST_KEPT:
        kept.append(one)
