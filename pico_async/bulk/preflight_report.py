"""The result of a preflight: a bulk send in numbers, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from attrs import field, frozen

from pico_async._characters import described
from pico_async._values import Value

# Characters that are listed. A text with more different ones outside of GSM-7 is in another script, and not counted.
FORCED_LISTED = 5
COUNTRIES_LISTED = 8


@frozen
class Fault(Value):
    """
    An item of the input that is not a valid message.

    Attributes:
        index: Its index in the input, from 0; for a file, its line.
    """

    index: int
    reason: str


@frozen
class Repeat(Value):
    """
    A message that repeats an earlier one: its number and content, its number alone, or its key.

    Attributes:
        index: Its index in the input, from 0; for a file, its line.
        first: Index or line of the earlier one.
    """

    index: int
    first: int


@frozen
class Country(Value):
    """
    The messages to one country code.

    Attributes:
        code: Country code, such as "886".
        messages: Number of messages to it.
        short: How many of these have so few digits that the country code may be missing, such as after a spreadsheet
            dropped a leading 0.
    """

    code: str
    messages: int
    short: int = 0

    def __str__(self) -> str:
        question = f" ({self.short:,} of nine digits or fewer: did a spreadsheet drop a 0?)" if self.short else ""
        return f"{self.code}: {self.messages:,}{question}"


@frozen
class NumberKind(Value):
    """
    The messages to one kind of numbers that cannot receive SMS.

    Attributes:
        name: Kind of number, such as "fixed line" or "premium rate"; "unknown" if no such number can exist.
        messages: Number of SMS and MMS to such numbers.
    """

    name: str
    messages: int

    def __str__(self) -> str:
        return f"{self.messages:,} {self.name}"


@frozen
class Forced(Value):
    """
    A character that forces texts into UCS-2. Its repr does not contain the character; its str does.

    Attributes:
        messages: Number of texts with this character and at most four others that GSM-7 lacks.
    """

    character: str = field(repr=False)
    messages: int

    def __str__(self) -> str:
        return f"{described(self.character)} in {self.messages:,}"


@frozen(kw_only=True)
class Preflight(Value):
    """
    A bulk send in numbers, before anything is sent. It contains no number and no text.

    v0.4 does not document how Pico splits a text into parts, nor what it charges. The parts are those of `segments`.

    Attributes:
        total: Items of the input.
        valid: Messages that would be sent, duplicates among them.
        invalid: Items that are not valid messages.
        suppressed: Messages whose number has opted out.
        duplicates: Valid messages with the number and content of an earlier one.
        same_number: Valid messages with the number of an earlier one, whatever their content.
        countries: Country codes of the valid messages, the most frequent first.
        no_sms: Valid SMS and MMS to numbers that cannot receive them, by kind. Empty without the extra `numbers`.
            Numbers of countries where a mobile number cannot be distinguished from a fixed line are not counted.
        gsm7_parts: Parts of the texts in GSM-7.
        ucs2_parts: Parts of the texts in UCS-2.
        forced: The ten characters that most often force a text into UCS-2, the most frequent first. Texts with more
            than five different ones are not counted.
        unmeasured: Valid messages without countable parts: templates, MMS and voice.
        texts: Valid SMS, templates among them: the limiter applies to these.
        price: Price of one part.
        balance: Remaining credit.
        per_s: Text messages sent per second; None without a limit, or if it is unknown.
        faults: The first 20 invalid items.
        repeats: The first 20 duplicates.
        same_numbers: The first 20 messages with the number of an earlier one.
        repeated_keys: Valid messages with the key of an earlier one. With a journal they are not sent.
        key_repeats: The first 20 of these.
        stopped: Why the input ended early; None if it did not.
    """

    total: int = 0
    valid: int = 0
    invalid: int = 0
    suppressed: int = 0
    duplicates: int = 0
    same_number: int = 0
    countries: tuple[Country, ...] = ()
    no_sms: tuple[NumberKind, ...] = ()
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
        """All parts."""
        return self.gsm7_parts + self.ucs2_parts

    @property
    def cost(self) -> Decimal | None:
        """Price of all parts, in the balance's unit, without the unmeasured messages. None without a price."""
        return None if self.price is None else self.parts * self.price

    @property
    def remaining(self) -> Decimal | None:
        """Balance minus cost, below 0 if the balance is too low; None if either is missing."""
        return None if self.cost is None or self.balance is None else self.balance - self.cost

    @property
    def duration_s(self) -> float | None:
        """Minimum number of seconds for the text messages; MMS and voice have no documented rate."""
        return None if self.per_s is None else self.texts / self.per_s

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.total:,} in the input: {self.valid:,} to send ({self.duplicates:,} of them duplicates), "
            f"{self.invalid:,} invalid, {self.suppressed:,} suppressed"
        )
        if self.countries:
            yield f"country codes: {listed_countries(self.countries)}"
        if self.no_sms:
            yield f"to numbers that take no SMS: {', '.join(map(str, self.no_sms))}"
        yield f"parts: {self.parts:,} ({self.gsm7_parts:,} in GSM-7, {self.ucs2_parts:,} in UCS-2)"
        if self.forced:
            yield f"forced into UCS-2 by {', '.join(map(str, self.forced[:FORCED_LISTED]))}"
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
            yield f"message {fault.index}: {fault.reason}"
        for repeat in self.repeats:
            yield f"message {repeat.index} repeats {repeat.first}"
        if self.same_number > self.duplicates:
            yield f"to the number of an earlier message, with any text: {self.same_number:,}"
            for repeat in self.same_numbers:
                yield f"message {repeat.index} has the number of {repeat.first}"
        for repeat in self.key_repeats:
            yield f"message {repeat.index} has the key of {repeat.first}: with a journal it is not sent"


def listed_countries(countries: Sequence[Country]) -> str:
    """Return the most frequent country codes in one line: "886: 2, 91: 1"."""
    # A country with short numbers is listed however rare it is, because it may be a mistake.
    listed = [country for rank, country in enumerate(countries) if rank < COUNTRIES_LISTED or country.short]
    others = len(countries) - len(listed)
    return ", ".join(map(str, listed)) + (f" and {others} more" if others else "")
