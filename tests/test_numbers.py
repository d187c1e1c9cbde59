"""A destination number is accepted in many spellings, refused with a reason, and never shown whole."""

import random
import re
import sys
from contextlib import suppress
from functools import cache

import phonenumbers
import pytest
from hypothesis import given, settings, strategies as st

import pico_async
from pico_async._masking import mask, mask_numbers
from pico_async._number_kinds import _kind_in_region, is_checkable
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.messages import SmsMessage
from pico_async.numbers import country_code, e164, kind_of, spellings as ways_of

# Of countries whose numbers may be long, and begin with no 0.
NUMBERS = st.from_regex(r"(1|86|886)[1-9][0-9]{9,11}", fullmatch=True)
INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
    "\ufe0e\ufe0f\ufeff"
)
SEPARATORS = st.text(f" -\t\n\u00a0\u2007\u2011\u2013\u2212\u3000{INVISIBLE}", max_size=2)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Return a number, and one way in which people and spreadsheets write it."""
    number = draw(NUMBERS)
    # The last two stand together, for one by itself may be an extension; and a dash before two, too.
    spelled = "".join(digit + draw(SEPARATORS) for digit in number[:-3]) + number[-3:] + draw(SEPARATORS)
    return number, draw(SEPARATORS) + draw(st.sampled_from(["", "+", "+ "])) + spelled


@pytest.mark.parametrize(
    "to",
    [
        "8612345678901",
        "+8612345678901",
        "+86 123 4567 8901",
        "86-123-4567-8901",
        " +86 - 12345678901 ",
        "- 8612345678901",
        "8612345678901\n",
        pytest.param("\uff0b86 123 4567 8901", id="full-width plus"),
        pytest.param("86\u00a0123\u202f4567\u20098901", id="spaces of a spreadsheet"),
        pytest.param("86\u2010123\u20114567\u20138901\u2212", id="dashes of a word processor"),
        pytest.param("\ufeff86123\u00ad45678901", id="byte order mark and soft hyphen"),
    ],
)
def test_a_number_is_taken_however_it_is_spelled(to: str) -> None:
    """A leading plus, spaces and dashes are removed from a number; the remaining digits are sent unchanged."""
    assert e164(to) == pico_async.destination(to, newer_ranges=True) == "8612345678901"


@given(spellings())
def test_any_mix_of_spaces_and_dashes_comes_down_to_the_digits(spelling: tuple[str, str]) -> None:
    """Whatever spaces and dashes separate the digits of a number, no digit is lost, added or moved."""
    number, spelled = spelling

    assert e164(spelled) == number


@pytest.mark.parametrize("to", ["2901234", "123456789012345"])
def test_the_shortest_and_the_longest_number_are_taken(to: str) -> None:
    """A number of 7 digits, as Saint Helena has them, and a number of 15 digits are accepted."""
    assert e164(to) == to


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(" - ", "is empty", id="only separators"),
        pytest.param("\u202a\u202c\ufeff", "is empty", id="only invisible marks"),
        pytest.param("+", "is empty", id="only a plus"),
        pytest.param("+ +", r"holds U\+002B PLUS SIGN", id="two pluses"),
        pytest.param("++8612345678901", r"holds U\+002B PLUS SIGN", id="two pluses and a number"),
        pytest.param("861234+5678901", r"holds U\+002B PLUS SIGN", id="plus in the middle"),
        pytest.param("8612345678901+", r"holds U\+002B PLUS SIGN", id="plus at the end"),
        pytest.param("(86)12345678901", r"holds U\+0028 LEFT PARENTHESIS", id="parentheses"),
        pytest.param("86.123.4567.8901", r"holds U\+002E FULL STOP", id="dots"),
        pytest.param("8612345678901x", r"holds U\+0078 LATIN SMALL LETTER X", id="letter"),
        pytest.param("8612345678901,8612345678902", r"holds U\+002C COMMA", id="two numbers"),
        pytest.param("8612345678901;", r"holds U\+003B SEMICOLON", id="semicolon"),
        pytest.param("8612345678901\x00", r"holds U\+0000 \(no name\)", id="null character"),
        pytest.param("'8612345678901", r"holds U\+0027 APOSTROPHE", id="a spreadsheet's mark of a text"),
        pytest.param("\uff18\uff16\uff11\uff12\uff13\uff14\uff15", r"holds U\+FF18 FULLWIDTH DIGIT", id="full-width"),
        pytest.param("\u0668\u0666\u0661\u0662\u0663\u0664\u0665", r"holds U\+0668 ARABIC-INDIC", id="Arabic digits"),
        pytest.param("861234567890\u00b9", r"holds U\+00B9 SUPERSCRIPT ONE", id="superscript"),
        pytest.param("\ud800", r"holds U\+D800", id="half of a surrogate pair"),
        pytest.param("8" * 101 + "x", "has 102 characters", id="a text"),
        pytest.param("008612345678901", "starts with 0", id="international prefix"),
        pytest.param("01234567", "starts with 0", id="national prefix"),
        pytest.param("123456", "has 6 digits", id="6 digits"),
        pytest.param("1234567890123456", "has 16 digits", id="16 digits"),
        pytest.param("+886 0912 345 678", "has a 0 after the country code 886", id="a 0 after the country code"),
        pytest.param("860138 0013 8000", "has a 0 after the country code 86", id="the same without a plus"),
        pytest.param("912345678", "is too short .* 91, with 9 digits: did a spreadsheet drop", id="without its 0"),
        pytest.param(
            "2125551234", "is too short .* 212, with 10 digits: .* country code missing", id="without its code"
        ),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(to: str, fault: str) -> None:
    """The error for an invalid number names the argument and the fault, and does not repeat the value."""
    with pytest.raises(InvalidMessageError, match=rf"^`to` {fault}.*[.?] Pass E\.164") as caught:
        e164(to)

    shown = str(caught.value).replace("8612345678901", "", 1)  # the example in every such error
    assert not to.strip(" +-") or to not in shown


UNCLEAR = {
    "{}.0": "has a decimal part",
    "{}.00": "has a decimal part",
    "{}.000": "has a decimal part",
    "{},0": "has a decimal part",
    "{}.5": "has a decimal part",
    "{} (2)": "ends in parentheses",
    "{}(22)": "ends in parentheses",
    "{}-2": "ends in a digit or two by themselves",
    "{} 2": "ends in a digit or two by themselves",
    "{} \u2013 2": "ends in a digit or two by themselves",
    "{}x2": "has an extension",
    "{} ext. 22": "has an extension",
    "{} Ext.22": "has an extension",
    "{} #2": "has an extension",
    "{};ext=2": "has an extension",
    "{},,123": "has an extension",
    "{}\u5206\u6a5f2": "has an extension",
    "{}\u8f492": "has an extension",
    "{}e0": r"holds U\+0065 LATIN SMALL LETTER E",
    "{}*2": r"holds U\+002A ASTERISK",
    "{}/2": r"holds U\+002F SOLIDUS",
    "{}_2": r"holds U\+005F LOW LINE",
    "tel:{}": r"holds U\+0074 LATIN SMALL LETTER T",
}


@pytest.mark.parametrize("spelling", UNCLEAR)
@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("8613800138000", None),
        ("+8613800138000", None),
        ("0912345678", "TW"),
        ("0912-345-678", "TW"),
        ("0664123456", "AT"),
    ],
)
def test_what_may_be_another_number_is_refused_by_name(spelling: str, number: str, region: str | None) -> None:
    """
    A decimal part, an extension, a count or a foreign character beside a number is refused with its name, by messages
    and by `destination`. Dropping it, or taking its digits, would send to somebody else.
    """
    readings = [lambda: pico_async.destination(spelling.format(number), region=region)]
    if region is None:
        readings.append(lambda: SmsMessage(spelling.format(number), "hello"))  # type: ignore[arg-type, return-value]

    for read in readings:
        with pytest.raises(InvalidMessageError, match=f"^`to` {UNCLEAR[spelling]}") as caught:
            read()

        assert number.strip("+") not in str(caught.value)


@pytest.mark.parametrize("to", ["8.6138E+12", "8,6138E+12", "9.12E+08", "8E12", "8.613800138E12"])
@pytest.mark.parametrize("region", [None, "TW"])
def test_scientific_notation_is_explained(to: str, region: str | None) -> None:
    """The error for scientific notation says that Excel has rounded the number, because its digits are lost."""
    with pytest.raises(InvalidMessageError, match="scientific notation: Excel has rounded this number"):
        pico_async.destination(to, region=region)


@pytest.mark.parametrize("mark", [*INVISIBLE, "\u00a0", "\u202f", "\u3000"])
def test_invisible_marks_around_a_number_are_dropped(mark: str) -> None:
    """Marks that show nothing, as chats and right-to-left texts put around numbers, change no number."""
    for to in (f"{mark}+8613800138000{mark}", f"+86{mark}138{mark}0013{mark}8000"):
        assert SmsMessage(to, "hello").to == pico_async.destination(to) == "8613800138000"
    assert pico_async.destination(f"{mark}0912{mark}345678{mark}", region="TW") == "886912345678"


@cache
def examples() -> list[tuple[str, str, str, list[str]]]:
    """Return each region with the number of its mobile and fixed lines, as it is written there and from abroad."""
    from phonenumbers import (
        PhoneNumberFormat as Format,
        PhoneNumberType,
        example_number_for_type,
        format_number,
        national_significant_number,
    )

    found = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE):
            number = example_number_for_type(region, kind)
            if number is None:
                continue
            e164, national, international = (
                format_number(number, form) for form in (Format.E164, Format.NATIONAL, Format.INTERNATIONAL)
            )
            digits = "".join(filter(str.isdigit, national))
            significant = national_significant_number(number)
            trunk = [] if str(number.country_code) in ZERO_STAYS else [f"+{number.country_code} (0){significant}"]
            found.append(
                (region, e164[1:], international, [national, digits, significant, international, e164, *trunk])
            )
    return found


ZERO_STAYS = ("225", "229", "241", "242", "378", "39")
ORNAMENTS = ["{}", "\u202a{}\u202c", "\u00a0{}\u200b", "1. {}", "1) {}", "{}.", *UNCLEAR]


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_in_no_region_is_a_number_read_as_another_one(region: str, share: int) -> None:
    """
    In each region, the national and international spellings of its numbers give that number, or are refused, with
    whatever stands around them. They never give another number.

    Each spelling of a region is tried with a fourth of what may stand around it, and with another one than its next.
    """
    for place, (of, number, international, spellings) in enumerate(examples()):
        if of != region:
            continue
        for first, spelling in enumerate(spellings, start=place):
            for ornament in ORNAMENTS[first % share :: share]:
                try:
                    found = pico_async.destination(ornament.format(spelling), region=region)
                except InvalidMessageError:
                    continue
                assert found == number, (ornament, spelling)
                assert SmsMessage(found, "hello").to == number
                assert country_code(number) == str(phonenumbers.country_code_for_region(region))
        # What is written in full, and with nothing around it, is understood. Old releases part groups by "/", too.
        assert pico_async.destination(international.replace("/", " "), region=region) == number
        assert pico_async.destination(number) == number


@pytest.mark.lower_bounds
@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("ornament", ORNAMENTS)
def test_without_a_region_only_international_numbers_are_read(ornament: str, share: int) -> None:
    """
    Without a region, an international spelling gives its number or is refused, in messages, too.

    Each of what may stand around a number is tried with a fourth of the regions.
    """
    for _, number, international, _ in examples()[ORNAMENTS.index(ornament) % share :: share]:
        for read in (pico_async.destination, e164):
            for spelling in (number, f"+{number}", international):
                with suppress(InvalidMessageError):
                    assert read(ornament.format(spelling)) == number


@pytest.mark.parametrize("to", [None, 8612345678901, 8612345678901.0, True, b"8612345678901", ["8612345678901"]])
def test_what_is_no_text_is_refused_by_its_type(to: object) -> None:
    """Only a str is accepted as a number: even an int is refused, because a spreadsheet may have removed digits."""
    with pytest.raises(InvalidMessageError, match=rf"^`to` must be a str .* not {type(to).__name__}\.$"):
        e164(to)


@given(st.text(alphabet=st.sampled_from("0123456789+() ."), min_size=7))
def test_a_refusal_never_repeats_the_number(to: str) -> None:
    """The error for a refused number contains no run of digits that is long enough to call."""
    try:
        e164(to)
    except InvalidMessageError as error:
        shown = str(error).replace("8612345678901", "", 1)  # the example in every such error

        assert not re.search(r"[0-9]{7}", shown)


def test_a_masked_number_shows_two_digits_at_each_end() -> None:
    """A masked number shows two digits at each end: enough to recognise the number, too little to call it."""
    assert mask("8612345678901") == "86…01"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no route to 8612345678901 today", "no route to 86…01 today"),
        ("no route to +8612345678901", "no route to +8…01"),
        ("no route to 86 123 4567 8901, 86-123-4567-8902", "no route to 86…01, 86…02"),
        ("8612345678901 and then 8612345678902", "86…01 and then 86…02"),
        ("1234567", "12…67"),
        ("order 123456 of 2024", "order 123456 of 2024"),
        ("", ""),
        ("nothing to hide", "nothing to hide"),
        pytest.param("no route to +86.123.4567.8901", "no route to +8…01", id="dots after a plus"),
        pytest.param("no route to +86.123-4567 8901", "no route to +8…01", id="dots, dashes and spaces after a plus"),
        pytest.param("no route to +886 (0)912.345.678", "no route to +8…78", id="parentheses after a plus"),
        pytest.param("86.123.4567.8901.", "86…01.", id="dots, and the end of a sentence"),
        pytest.param("0912.345.678, 0912.345678", "09…78, 09…78", id="dots in national numbers"),
        pytest.param("256.255.255.255", "25…55", id="dots, and no address"),
        pytest.param(
            "\uff0b\uff18\uff16 \uff11\uff12\uff13\uff14\uff15\uff16", "\uff0b\uff18…\uff15\uff16", id="full-width"
        ),
        pytest.param(
            "\u0660\u0669\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
            "\u0660\u0669…\u0667\u0668",
            id="Arabic digits",
        ),
    ],
)
def test_numbers_in_a_text_are_masked_and_the_rest_stays(text: str, masked: str) -> None:
    """
    Seven digits or more in a text are masked, also with separators between them; fewer digits are no phone number.
    """
    assert mask_numbers(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "3.141592",
        "+3.14",
        "1.234.567,89 EUR",
        "12.345.678",
        "2024.11.25, 25.11.2024",
        "v10.15.7",
        "192.168.100.200:443",
        "255.255.255.255",
        "12:30:11.123456",
        "1.2.3.4.5",
    ],
)
def test_what_else_has_dots_stays(text: str) -> None:
    """Decimals, amounts, dates, versions and addresses with dots are not masked."""
    assert mask_numbers(text) == text


@given(NUMBERS, st.data())
def test_no_dotted_number_after_a_plus_survives_masking(number: str, data: st.DataObject) -> None:
    """A number after a plus is masked, wherever dots separate its digits."""
    dotted = "+" + "".join(digit + data.draw(st.sampled_from(["", "."])) for digit in number)

    assert re.sub(r"[^0-9]", "", mask_numbers(dotted)) != number


@given(NUMBERS, st.text(alphabet=st.sampled_from("abc.,:/'\"(+")), st.text(alphabet=st.sampled_from("abc.,:/'\")")))
def test_no_number_survives_masking(number: str, before: str, after: str) -> None:
    """A number in a text is masked, whatever characters surround it."""
    assert number not in mask_numbers(f"{before}{number}{after}")


@given(spellings())
def test_no_spelling_that_is_taken_survives_masking(spelling: tuple[str, str]) -> None:
    """Every spelling that is accepted as a destination is also masked in a text."""
    number, spelled = spelling

    assert re.sub(r"[^0-9]", "", mask_numbers(spelled)) != number


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("to", "region", "number"),
    [
        pytest.param("0912 345 678", "TW", "886912345678", id="national"),
        pytest.param("0912-345-678", "tw", "886912345678", id="the region in small letters"),
        pytest.param("(02) 2345.6789", "TW", "886223456789", id="parentheses and dots"),
        pytest.param("886912345678", "TW", "886912345678", id="with the country code and no plus"),
        pytest.param("+886 (0)912 345 678", "TW", "886912345678", id="with the country code and the national prefix"),
        pytest.param("912345678", "TW", "886912345678", id="without the 0 that a spreadsheet drops"),
        pytest.param("+886 0912 345 678", "TW", "886912345678", id="with the country code and the 0"),
        pytest.param("+86 138 0013 8000", "TW", "8613800138000", id="of elsewhere"),
        pytest.param("002 86 13800138000", "TW", "8613800138000", id="of elsewhere, as it is dialled there"),
        pytest.param("06 698 1234", "IT", "39066981234", id="a 0 that belongs to the number"),
        pytest.param(
            "\uff10\uff19\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18", "TW", "886912345678", id="full-width"
        ),
        pytest.param(
            "\u0660\u0661\u0660\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
            "EG",
            "201001234567",
            id="Arabic digits",
        ),
    ],
)
def test_with_a_region_a_number_is_read_as_people_write_it_there(to: str, region: str, number: str) -> None:
    """With a region, a number in the national spelling is converted to the digits that Pico and a message accept."""
    found = pico_async.destination(to, region=region)

    assert found == number
    assert SmsMessage(to=found, text="hello").to == number


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("to", "fault"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("+", "is empty", id="only a plus"),
        pytest.param("091234", "is too short", id="too short"),
        pytest.param("0912345600000", "is too long", id="more digits than there are"),
        pytest.param("0000000000", "is of a range that is not in use in country code 886", id="of no range"),
        pytest.param("0912345678901", "is too long", id="too long"),
        pytest.param("8612345678901", "is too long", id="of elsewhere, without its plus"),
        pytest.param("+999123456789", "begins with no country code", id="no such country"),
        pytest.param("+0912345678", "begins with no country code", id="a plus before a national number"),
        pytest.param("0912345678/0912345679", r"holds U\+002F SOLIDUS", id="two numbers"),
        pytest.param("0912345678 ext. 5", "has an extension", id="an extension"),
        pytest.param("0800-FLOWERS", r"holds U\+0046 LATIN CAPITAL LETTER F", id="letters"),
        pytest.param("0" * 21, "is too long", id="no number of this world"),
        pytest.param("\ud800", r"holds U\+D800", id="half of a surrogate pair"),
        pytest.param("1) 0912345678", "has a parenthesis without the other one", id="a list"),
        pytest.param("1. 0912345678", "begins with the number of a list", id="another list"),
    ],
)
def test_what_is_no_number_of_a_region_is_refused_with_the_reason(to: str, fault: str) -> None:
    """
    The error for a number that is invalid in its region repeats no number. The error of `phonenumbers`, which may
    repeat it, is not its context.
    """
    with pytest.raises(InvalidMessageError, match=rf"^`to` {fault}") as caught:
        pico_async.destination(to, region="TW")

    assert len(to) < 2 or to not in str(caught.value)
    assert not re.search(r"[0-9]{6}", str(caught.value))
    assert caught.value.__context__ is None


def test_a_number_without_its_area_code_is_refused() -> None:
    """A number without its area code is refused, because it can be called only from the same area."""
    with pytest.raises(InvalidMessageError, match="lacks its area code"):
        pico_async.destination("2345678", region="US")


@pytest.mark.parametrize("options", [{}, {"region": "CN"}])
def test_a_number_that_cannot_exist_is_refused(options: dict[str, str]) -> None:
    """
    A number of a range that the package does not know is refused, and taken with `newer_ranges`, because new ranges are
    in use before the package knows them. A message takes it, so that it reads its number alike on each machine.
    """
    assert not phonenumbers.is_valid_number(phonenumbers.parse("+8612345678901"))

    with pytest.raises(InvalidMessageError, match="is of a range that is not in use in country code 86"):
        pico_async.destination("8612345678901", **options)  # type: ignore[arg-type]

    assert pico_async.destination("8612345678901", newer_ranges=True, **options) == "8612345678901"  # type: ignore[arg-type]
    assert SmsMessage("8612345678901", "hello").to == "8612345678901"


@pytest.mark.lower_bounds
@pytest.mark.parametrize("to", ["912345678", "2125551234", "+86 123 45", "+999 1234 5678"])
@pytest.mark.parametrize("newer_ranges", [False, True])
def test_a_length_that_cannot_be_is_refused_with_newer_ranges_too(to: str, newer_ranges: bool) -> None:
    """A number that is too short, or of no country, is refused also where newer ranges are taken."""
    with pytest.raises(InvalidMessageError):
        pico_async.destination(to, newer_ranges=newer_ranges)


def test_a_number_that_may_be_of_two_countries_is_refused() -> None:
    """
    Digits without "+" that are a fixed line of the region and a number of elsewhere are refused, because a file with
    both kinds would be sent to strangers. A mobile number of the region is taken.
    """
    with pytest.raises(InvalidMessageError, match=r"can be read in two ways: .* Put '\+' before that code"):
        pico_async.destination("886912345678", region="DE")

    assert pico_async.destination("+886912345678", region="DE") == "886912345678"
    assert pico_async.destination("13802345678", region="CN") == "8613802345678"


@pytest.mark.parametrize(
    ("to", "region"),
    [
        ("4915123456789", "DE"),
        ("62812345678", "ID"),
        ("00918123456789", "TW"),
        ("00918123456789", "HK"),
        ("0033617195364", "SG"),
        ("0033617195364", "TH"),
    ],
)
def test_digits_that_are_another_number_with_their_plus_are_refused(to: str, region: str) -> None:
    """
    The region's own country code without "+" may also be an area code, and 00 with a digit more may be a carrier of
    the region: what both readings understand, and differently, is sent to neither.
    """
    with pytest.raises(InvalidMessageError, match="can be read in two ways"):
        pico_async.destination(to, region=region)


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("to", "region", "expected"),
    [
        ("004915123456789", "DE", "4915123456789"),
        ("015123456789", "DE", "4915123456789"),
        ("886912345678", "TW", "886912345678"),
        ("0086 131 2345 6789", "CN", "8613123456789"),
        ("002 886 912 345 678", "TW", "886912345678"),
        ("11 - 96123 4567", "BR", "5511961234567"),
        ("030.123456", "DE", "4930123456"),
        ("32 12 34 56", "DK", "4532123456"),
    ],
)
def test_digits_of_one_reading_are_taken(to: str, region: str, expected: str) -> None:
    """A country code after the region's prefix, or without any where it can be nothing else, is understood."""
    assert pico_async.destination(to, region=region) == expected


@pytest.mark.parametrize("to", ["(2) 015123456789", "2 - 015123456789", "12 \u2013 015123456789"])
@pytest.mark.parametrize("region", ["DE", None])
def test_the_number_of_a_list_is_never_a_part(to: str, region: str | None) -> None:
    """The number of a list, in parentheses or before a dash, does not become a country code or an area code."""
    with pytest.raises(InvalidMessageError):
        pico_async.destination(to, region=region)


@pytest.mark.parametrize("to", ["0812345678.123", "0812345678 .00", "0812345678 . 0"])
def test_a_decimal_part_of_three_digits_or_after_a_space_is_none_of_the_number(to: str) -> None:
    """A decimal part is refused also where it is as long as a group of digits, or stands apart."""
    with pytest.raises(InvalidMessageError, match="decimal part"):
        pico_async.destination(to, region="ID")


def test_without_the_extra_a_number_is_read_by_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, `destination` reads a number as a message does, and knows no kinds of numbers."""
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    for module in ("numbers", "_number_kinds"):
        monkeypatch.setattr(f"pico_async.{module}.is_checkable", is_checkable.__wrapped__)

    assert pico_async.destination("+86 123 4567 8901") == "8612345678901"
    assert kind_of("8613800138000") is None
    with pytest.raises(InvalidMessageError, match="did a spreadsheet drop a leading 0"):
        pico_async.destination("912345678")


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("886912345678", "mobile"),
        ("886223456789", "fixed line"),
        ("8612345678901", "unknown"),
        ("99900000001", "unknown"),
    ],
)
def test_a_number_tells_its_kind(number: str, kind: str) -> None:
    """The kind of a number is given in words; a number that cannot exist is of an unknown kind."""
    assert kind_of(number) == kind


@pytest.mark.lower_bounds
@pytest.mark.parametrize("code", sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
def test_a_kind_is_the_one_that_the_package_returns(code: int) -> None:
    """The kind of a number is the one that `phonenumbers` returns, for each kind of each country and near it."""
    draw = random.Random(code)
    examples = [
        phonenumbers.national_significant_number(example)
        for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]
        for kind in phonenumbers.PhoneNumberType.values()
        if (example := phonenumbers.example_number_for_type(region, kind))
    ]
    nearby = [
        national[:place] + draw.choice("0123456789") + national[place + draw.choice([0, 1, 1, 1, 2]) :]
        for national in examples * 20
        for place in [draw.randrange(len(national))]
    ]

    for national in filter(None, (*examples, *nearby)):
        assert kind_of(f"{code}{national}") == _kind_in_region(str(code), national)


def test_most_kinds_are_found_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number whose country code has one region is found by one pattern, because a list may have a million numbers."""
    monkeypatch.delattr(phonenumbers, "number_type")

    assert kind_of("886912345678") == "mobile"
    assert pico_async.destination("886912345678") == "886912345678"


def test_no_country_has_shorter_numbers_than_the_table_says() -> None:
    """
    A message refuses a number as too short only where `phonenumbers` knows no mobile or fixed-line number of that
    length, and finds the country code that `phonenumbers` finds.
    """
    from phonenumbers.phonemetadata import PhoneMetadata

    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            if region == "001":
                continue
            metadata = PhoneMetadata.metadata_for_region(region)
            lengths = [
                length
                for kind in filter(None, (metadata.mobile, metadata.fixed_line))
                for length in kind.possible_length or metadata.general_desc.possible_length
                if length > 0
            ]
            shortest = f"{code}{'9' * min(lengths)}"
            assert country_code(shortest) == str(code)
            if 7 <= len(shortest) <= 15:
                assert e164(shortest) == shortest


def test_without_a_region_a_national_number_is_refused_as_ever() -> None:
    """Without a region, a national number is refused; no country is guessed."""
    with pytest.raises(InvalidMessageError, match="starts with 0"):
        pico_async.destination("0912 345 678")


@pytest.mark.parametrize("region", ["", "XX", "Taiwan", "886", 886, "\ud800"])
def test_an_unknown_region_is_an_error_of_the_caller(region: object) -> None:
    """
    An unknown region raises a `ConfigurationError`, because it is the caller's mistake and not a fault of the number.
    """
    with pytest.raises(ConfigurationError, match="`region` must be two letters"):
        pico_async.destination("0912 345 678", region=region)  # type: ignore[arg-type]


# `phonenumbers` loads the tables of a region with its first number, which takes longer.
@settings(deadline=None)
@given(
    st.text(alphabet=st.sampled_from("0123456789+() ./-x\uff11\u0661"), min_size=5), st.sampled_from(["TW", "DE", "US"])
)
def test_a_refusal_with_a_region_never_repeats_the_number(to: str, region: str) -> None:
    """With a region, any input returns a number for Pico or raises an `InvalidMessageError` that contains no number."""
    try:
        said = pico_async.destination(to, region=region)
    except InvalidMessageError as error:
        said = str(error)

    assert bool(re.fullmatch(r"[1-9][0-9]{6,14}", said)) != (not re.search(r"\d{6}", said))


@pytest.mark.parametrize(
    ("number", "ways"),
    [
        ("5215512345678", ("525512345678", "5215512345678")),
        ("5491123456789", ("541123456789", "5491123456789")),
        ("551187654321", ("551187654321", "5511987654321")),
        ("2290190123456", ("22990123456", "2290190123456")),
        ("551132654321", ("551132654321",)),  # a fixed line in Brazil has no other spelling
        ("8612345678901", ("8612345678901",)),
        ("99900000001", ("99900000001",)),
    ],
)
def test_the_ways_to_write_one_number_are_known(number: str, ways: tuple[str, ...]) -> None:
    """A number of Mexico, Argentina, Brazil or Benin has two spellings, each with both as its ways; others have one."""
    assert ways_of(number) == ways
    assert {ways_of(way) for way in ways} == {ways}
