"""A destination number is accepted in many spellings, refused with a reason, and never shown whole."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pico_async
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.messages import SmsMessage
from pico_async.numbers import destination, mask, mask_numbers

NUMBERS = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
SEPARATORS = st.text(" -\t\n\u00a0\u00ad\u2007\u2011\u2013\u2212\u3000\ufeff", max_size=2)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Return a number, and one way in which people and spreadsheets write it."""
    number = draw(NUMBERS)
    spelled = "".join(digit + draw(SEPARATORS) for digit in number)
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
        pytest.param("86\u00a0123\u202f4567\u20098901", id="spaces of a spreadsheet"),
        pytest.param("86\u2010123\u20114567\u20138901\u2212", id="dashes of a word processor"),
        pytest.param("\ufeff86123\u00ad45678901", id="byte order mark and soft hyphen"),
    ],
)
def test_a_number_is_taken_however_it_is_spelled(to: str) -> None:
    """A leading plus, spaces and dashes are removed from a number; the remaining digits are sent unchanged."""
    assert destination(to) == "8612345678901"


@given(spellings())
def test_any_mix_of_spaces_and_dashes_comes_down_to_the_digits(spelling: tuple[str, str]) -> None:
    """Whatever spaces and dashes separate the digits of a number, no digit is lost, added or moved."""
    number, spelled = spelling

    assert destination(spelled) == number


@pytest.mark.parametrize("to", ["1234567", "123456789012345"])
def test_the_shortest_and_the_longest_number_are_taken(to: str) -> None:
    """A number of 7 digits and a number of 15 digits are accepted."""
    assert destination(to) == to


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(" - ", "is empty", id="only separators"),
        pytest.param("+", "is empty", id="only a plus"),
        pytest.param("+ +", "holds something other", id="two pluses"),
        pytest.param("++8612345678901", "holds something other", id="two pluses and a number"),
        pytest.param("861234+5678901", "holds something other", id="plus in the middle"),
        pytest.param("8612345678901+", "holds something other", id="plus at the end"),
        pytest.param("(86)12345678901", "holds something other", id="parentheses"),
        pytest.param("86.123.4567.8901", "holds something other", id="dots"),
        pytest.param("8612345678901x", "holds something other", id="letter"),
        pytest.param("8612345678901,8612345678902", "holds something other", id="two numbers"),
        pytest.param("8612345678901;", "holds something other", id="semicolon"),
        pytest.param("8612345678901\x00", "holds something other", id="null character"),
        pytest.param("8612345678901.0", "holds something other", id="a spreadsheet's float"),
        pytest.param("8.612345678901E+12", "holds something other", id="a spreadsheet's exponent"),
        pytest.param(
            "\uff18\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17", "holds something other", id="full-width"
        ),
        pytest.param(
            "\u0668\u0666\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "holds something other", id="Arabic digits"
        ),
        pytest.param("861234567890\u00b9", "holds something other", id="superscript"),
        pytest.param("\ud800", "holds something other", id="half of a surrogate pair"),
        pytest.param("008612345678901", "starts with 0", id="international prefix"),
        pytest.param("01234567", "starts with 0", id="national prefix"),
        pytest.param("123456", "has 6 digits", id="6 digits"),
        pytest.param("1234567890123456", "has 16 digits", id="16 digits"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(to: str, fault: str) -> None:
    """The error for an invalid number names the argument and the fault, and does not repeat the value."""
    with pytest.raises(InvalidMessageError, match=rf"^`to` {fault}.*\. Pass E\.164") as caught:
        destination(to)

    shown = str(caught.value).replace("8612345678901", "", 1)  # the example in every such error
    assert not to.strip(" +-") or to not in shown


@pytest.mark.parametrize("to", [None, 8612345678901, 8612345678901.0, True, b"8612345678901", ["8612345678901"]])
def test_what_is_no_text_is_refused_by_its_type(to: object) -> None:
    """Only a str is accepted as a number: even an int is refused, because a spreadsheet may have removed digits."""
    with pytest.raises(InvalidMessageError, match=rf"^`to` must be a str .* not {type(to).__name__}\.$"):
        destination(to)


@given(st.text(alphabet=st.sampled_from("0123456789+() ."), min_size=7))
def test_a_refusal_never_repeats_the_number(to: str) -> None:
    """The error for a refused number contains no run of digits that is long enough to call."""
    try:
        destination(to)
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


@pytest.mark.parametrize(
    ("to", "region", "number"),
    [
        pytest.param("0912 345 678", "TW", "886912345678", id="national"),
        pytest.param("0912-345-678", "tw", "886912345678", id="the region in small letters"),
        pytest.param("(02) 2345.6789", "TW", "886223456789", id="parentheses and dots"),
        pytest.param("886912345678", "TW", "886912345678", id="with the country code and no plus"),
        pytest.param("+886 (0)912 345 678", "TW", "886912345678", id="with the country code and the national prefix"),
        pytest.param("+86 123 4567 8901", "TW", "8612345678901", id="of elsewhere"),
        pytest.param("002 86 12345678901", "TW", "8612345678901", id="of elsewhere, as it is dialled there"),
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


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("+", "has 0 digits", id="only a plus"),
        pytest.param("091234", "is too short", id="too short"),
        pytest.param("0912345678901", "is too long", id="too long"),
        pytest.param("8612345678901", "is too long", id="of elsewhere, without its plus"),
        pytest.param("+999123456789", "begins with no country code", id="no such country"),
        pytest.param("+0912345678", "begins with no country code", id="a plus before a national number"),
        pytest.param("0912345678/0912345679", "holds something other", id="two numbers"),
        pytest.param("0912345678 ext. 5", "holds something other", id="an extension"),
        pytest.param("0800-FLOWERS", "holds something other", id="letters"),
        pytest.param("0" * 21, "has 21 digits", id="no number of this world"),
        pytest.param("\ud800", "holds something other", id="half of a surrogate pair"),
    ],
)
def test_what_is_no_number_of_a_region_is_refused_with_the_reason(to: str, fault: str) -> None:
    """
    The error for a number that is invalid in its region repeats no number. The error of `phonenumbers`, which may
    repeat it, is not its context.
    """
    with pytest.raises(InvalidMessageError, match=rf"^`to` {fault}") as caught:
        destination(to, region="TW")

    assert len(to) < 2 or to not in str(caught.value)
    assert not re.search(r"[0-9]{6}", str(caught.value))
    assert caught.value.__context__ is None


def test_a_number_without_its_area_code_is_refused() -> None:
    """A number without its area code is refused, because it can be called only from the same area."""
    with pytest.raises(InvalidMessageError, match="lacks its area code"):
        destination("2345678", region="US")


def test_a_range_that_the_package_does_not_know_is_taken() -> None:
    """
    A number only has to be "possible" and not "valid", because new ranges are in use before `phonenumbers` knows them.
    """
    import phonenumbers

    assert not phonenumbers.is_valid_number(phonenumbers.parse("+8612345678901"))
    assert destination("1234567 8901", region="CN") == "8612345678901"


def test_without_a_region_a_national_number_is_refused_as_ever() -> None:
    """Without a region, a national number is refused; no country is guessed."""
    with pytest.raises(InvalidMessageError, match="starts with 0"):
        destination("0912 345 678")


@pytest.mark.parametrize("region", ["", "XX", "Taiwan", "886", 886, "\ud800"])
def test_an_unknown_region_is_an_error_of_the_caller(region: object) -> None:
    """
    An unknown region raises a `ConfigurationError`, because it is the caller's mistake and not a fault of the number.
    """
    with pytest.raises(ConfigurationError, match="`region` must be two letters"):
        destination("0912 345 678", region=region)  # type: ignore[arg-type]


# `phonenumbers` loads the tables of a region with its first number, which takes longer.
@settings(deadline=None)
@given(
    st.text(alphabet=st.sampled_from("0123456789+() ./-x\uff11\u0661"), min_size=5), st.sampled_from(["TW", "DE", "US"])
)
def test_a_refusal_with_a_region_never_repeats_the_number(to: str, region: str) -> None:
    """With a region, any input returns a number for Pico or raises an `InvalidMessageError` that contains no number."""
    try:
        said = destination(to, region=region)
    except InvalidMessageError as error:
        said = str(error)

    assert bool(re.fullmatch(r"[1-9][0-9]{6,14}", said)) != (not re.search(r"\d{6}", said))
