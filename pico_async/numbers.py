"""Destination numbers: E.164, as digits only."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from pico_async._characters import described
from pico_async.errors import ConfigurationError, InvalidMessageError

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_E164 = re.compile(r"[1-9][0-9]{6,14}")
# Invisible marks, such as in a number that was copied from a chat, a web page or a right-to-left text.
_INVISIBLE = r"\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
# Also the spaces and dashes of spreadsheets. A text that is accepted as a number is also masked as one.
_DASH = r"\u2010-\u2015\u2212-"
_SEPARATOR = rf"[\s{_INVISIBLE}{_DASH}]"
# Compiled by their first use, and not with the import. \d is a digit of any script.
_NUMBER_IN_TEXT = rf"\+?\d(?:{_SEPARATOR}*\d){{6,}}"
_WITH_PLUS = rf"[+\uff0b]{_SEPARATOR}*\(?\d(?:(?:{_SEPARATOR}|[.()])*\d){{6,}}"
_DOTTED = r"(?<![\d.])\d+(?:\.\d+)+(?!\.?\d)"
_IP_ADDRESS = r"(?:(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?!$)|$)){4}"
# More digits than a date, and no more than a number with its prefix.
_FEWEST_DOTTED = 9

# The marks in a number as people of a region write it, besides separators. Not "/", which may separate two numbers.
_NATIONAL_MARKS = ".()\uff08\uff09"
_PLUS = r"[+\uff0b]"
_LONGEST = 100
_SCIENTIFIC = r"[+-]?\d(?:[.,]\d*)?[eE][+-]?\d+"
# A number with dots between groups of three digits, or between pairs, has more than one dot.
_DECIMAL_PART = r"[^.,]*\d\s*[.,]\s*(?:\d{1,2}|0+)|[^.,]*\d{6}[.,]\d{3}|.*\d\.\d|.*\d(?<!\.\d\d)\.\d\d"
_EXTENSION = r".*\d.*(?:ext\w*|x|[#,;~]|\u5206[\u6a5f\u673a]|[\u8f49\u8f6c])\D{0,5}\d{1,6}"
_PARENTHESES = r"[^()\uff08\uff09]*(?:[(\uff08][^()\uff08\uff09]*[)\uff09][^()\uff08\uff09]+)*"
_LIST_NUMBER = r"(?:[1-9]\d?\.\s|\(?[1-9]\d?(?:\)|\s+[\u2010-\u2015\u2212-]\s)\s*0).*"
_SHORT_LAST_GROUP = rf".*(?:\d\d.*\D\d|\d\d\d[{_DASH}]\d\d)"

# ITU-T E.164: no code begins with another one.
_COUNTRY_CODE = re.compile(r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}")
# In Ivory Coast, Benin, Gabon, Congo, San Marino and Italy, a number's first 0 is dialled from abroad, too.
_ZERO_STAYS = frozenset({"225", "229", "241", "242", "378", "39"})
# The fewest digits of a mobile or fixed-line number, with its country code, by phonenumbers 8.13 and 9.0. Countries
# make their numbers longer, and never shorter.
_FEWEST: dict[str, int] = {
    code: fewest
    for fewest, codes in {
        7: "27 290 352 43 49 683 690 82",
        8: "247 263 358 39 40 500 53 63 676 677 678 682 685 686 688 95 98",
        9: "252 298 299 359 376 421 46 48 508 597 62 672 681 687 86 880",
        10: (
            "20 220 230 231 234 238 239 241 243 246 248 254 265 267 269 291 297 32 353 354 36 372 381 423 45 47 "
            "501 507 51 57 592 595 599 60 64 65 66 670 673 674 675 679 680 691 692 960 961 967 975"
        ),
        11: (
            "1 213 216 222 223 224 226 227 228 229 232 235 236 250 253 257 258 264 266 268 31 33 34 350 355 356 "
            "357 370 371 373 374 377 378 382 383 385 386 387 389 41 44 502 503 504 505 506 509 56 591 593 598 61 "
            "689 7 81 84 850 852 853 855 856 886 92 93 94 962 963 964 965 968 970 971 972 973 974 976 977 993"
        ),
        12: (
            "211 212 218 221 233 237 240 242 244 245 249 251 255 256 260 261 262 30 351 375 380 420 52 54 55 58 "
            "590 594 596 90 91 966 992 994 995 996 998"
        ),
        13: "225",
    }.items()
    for code in codes.split()
}

# Kinds of numbers besides mobile and fixed line, in the order in which `phonenumbers` tries them.
_SPECIAL_KINDS = ("premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail")
_NOTHING = "(?!)"

# Countries that added digits to their numbers, or removed them. Both spellings are in use and reach one phone. Groups:
# the country code, perhaps the area code; the digits that only one of the two spellings has; the rest.
_OF_TWO_SPELLINGS = {
    "52": re.compile(r"(52)(1)?([2-9][0-9]{9})"),  # Mexico: mobile numbers, until 2019
    "54": re.compile(r"(54)(9)?([1-9][0-9]{9})"),  # Argentina: calls to mobile numbers; text messages go without it
    "55": re.compile(r"(55[1-9][0-9])(9)?([6-9][0-9]{7})"),  # Brazil: mobile numbers, from 2012 to 2016 on
    "22": re.compile(r"(229)(01)?([0-9]{8})"),  # Benin: all numbers, from 2024 on
}
_DIGITS_BETWEEN = {"52": "1", "54": "9", "55": "9", "22": "01"}


def e164(to: object) -> str:
    """
    Return the number as Pico takes it: country code and number, digits only.

    A leading "+", spaces, dashes and invisible marks are dropped. Whether Pico itself takes a "+" is not documented in
    v0.4. Every message reads its `to` by these rules, which are the same on each machine.

    Raises:
        InvalidMessageError: It is no number in E.164, or has fewer digits than any number of its country. The message
            names the fault, and does not repeat the number.
    """
    if not isinstance(to, str):
        raise InvalidMessageError(f"`to` must be a str such as '8612345678901', not {type(to).__name__}.")
    digits, fault = to, None
    if not (to.isascii() and to.isdigit()):
        digits, fault = re.sub(rf"{_SEPARATOR}|{_PLUS}", "", to), _shape_fault(to, national=False)
    fault = fault or _e164_fault(digits)
    if fault is None:
        return digits
    raise _refused(fault, "Pass E.164 with the country code, such as '8612345678901'.")


def destination(to: object, *, region: str | None = None, newer_ranges: bool = False) -> str:
    """
    Return a number as Pico takes it: country code and number, digits only.

    A leading "+", spaces, dashes and invisible marks are dropped. With a *region*, a number is read as people there
    write it: `destination("0912 345 678", region="TW")` is "886912345678". Then dots and parentheses are dropped, too,
    and digits of any script are accepted. A number of another country needs its "+": without it, the number is read as
    one of the region.

    If the extra `numbers` is installed, a number that cannot exist is refused: its country has no numbers of this
    length or range. The installed `phonenumbers` knows the ranges of its release; with *newer_ranges*, only the length
    is checked. Without the extra, and in a message's `to`, only the form is checked.

    An unclear number is refused, and the error says why. Examples: a decimal part, an extension, scientific notation, a
    0 after the country code, a character that no number contains.

    Args:
        region: Two letters of ISO 3166-1, such as "TW". Needs the extra: `pip install 'pico-async[numbers]'`.
        newer_ranges: Accept numbers of ranges that the installed `phonenumbers` does not know.

    Raises:
        InvalidMessageError: This is not a number, or not one of the region. The error does not repeat it.
        ConfigurationError: The region is unknown, or the extra is missing.
    """
    if not isinstance(to, str):
        raise InvalidMessageError(f"`to` must be a str such as '8612345678901', not {type(to).__name__}.")
    if region is None and not is_checkable():
        return e164(to)
    is_plain = to.isascii() and to.isdigit()
    # Most numbers of a file are of this form.
    if region is None and is_plain and _e164_fault(to) is None and kind_of(to) != "unknown":
        return to
    read_as = None if region is None else checked_region(region)
    fault = None if is_plain else _shape_fault(to, national=read_as is not None)
    if fault is None:
        written = re.sub(rf"{_SEPARATOR}|[{_NATIONAL_MARKS}]", "", to).replace("\uff0b", "+")
        digits, fault = _looked_up(written, read_as, newer_ranges=newer_ranges)
        if fault is None:
            return digits
    hint = (
        "Pass E.164 with the country code, such as '8612345678901'."
        if read_as is None
        else f"It was read as a number of {read_as}; one of elsewhere begins with '+'."
    )
    # Raised outside a handler: the error of `phonenumbers` may contain the number, and would be the context.
    raise _refused(fault, hint)


def country_code(number: str) -> str:
    """Return the country code that a number in E.164 begins with."""
    found = _COUNTRY_CODE.match(number)
    return number[:3] if found is None else found[0]


def spellings(number: str) -> tuple[str, ...]:
    """
    Return the ways in which a number in E.164 is written; equal tuples mean one phone.

    Most numbers have one. `+52 1 55 1234 5678` and `+52 55 1234 5678` are one phone in Mexico. Argentina (`9`), Brazil
    (`9`) and Benin (`01`) have such numbers, too.
    """
    country = number[:2]
    pattern = _OF_TWO_SPELLINGS.get(country)
    if pattern is None or (found := pattern.fullmatch(number)) is None:
        return (number,)
    begins, _, ends = found.groups()
    return begins + ends, begins + _DIGITS_BETWEEN[country] + ends


@cache
def is_checkable() -> bool:
    """Return whether the extra `numbers` is installed."""
    try:
        import phonenumbers  # noqa: F401
    except ImportError:
        return False
    return True


def kind_of(number: str) -> str | None:
    """
    Return the kind of a number in E.164, such as "mobile" or "fixed line"; None without the extra `numbers`.

    In many countries, the number does not show whether it is mobile or fixed. A number that cannot exist is "unknown".
    """
    if not is_checkable():
        return None
    code = country_code(number)
    national = number[len(code) :]
    if (kinds := _kinds_in_country(code, len(national))) is not None:
        found = kinds.fullmatch(national)
        return "unknown" if found is None else str(found.lastgroup).replace("_", " ")
    return _kind_in_region(code, national)


@cache
def _kinds_in_country(code: str, length: int) -> re.Pattern[str] | None:
    """
    Return a pattern of a country's national numbers of one length, whose groups have the names of the kinds.

    It is made of the patterns of `phonenumbers`, in the order in which `number_type` tries them, and takes a tenth of
    its time: a bulk send may check a million numbers. It is None for a country code of several regions.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    country = PhoneMetadata.metadata_for_region_or_calling_code(int(code), regions[0]) if len(regions) == 1 else None
    if country is None:
        return None

    def pattern(kind: str) -> str:
        described = getattr(country, kind)
        if described is None or not described.national_number_pattern:
            return _NOTHING
        fits = not described.possible_length or length in described.possible_length
        return f"(?:{described.national_number_pattern})" if fits else _NOTHING

    kinds = {kind: pattern(kind) for kind in _SPECIAL_KINDS}
    fixed, mobile = pattern("fixed_line"), pattern("mobile")
    if country.same_mobile_and_fixed_line_pattern:
        kinds["fixed_line_or_mobile"] = fixed
    else:
        kinds |= {"fixed_line_or_mobile": rf"(?={mobile}\Z){fixed}", "fixed_line": fixed, "mobile": mobile}
    named = "|".join(f"(?P<{kind}>{described})" for kind, described in kinds.items() if described != _NOTHING)
    return re.compile(rf"(?={pattern('general_desc')}\Z)(?:{named or _NOTHING})")


def _kind_in_region(code: str, national: str) -> str:
    """Return the kind of a number whose country code has several regions, or none."""
    from phonenumbers import PhoneNumber, PhoneNumberType, number_type

    zeros = len(national) - len(national.lstrip("0"))
    # Built and not parsed, which takes longer.
    kind = number_type(
        PhoneNumber(
            country_code=int(code),
            national_number=int(national),
            italian_leading_zero=True if zeros else None,
            number_of_leading_zeros=zeros if zeros > 1 else None,
        )
    )
    return PhoneNumberType.to_string(kind).lower().replace("_", " ")


def checked_region(region: object) -> str:
    """Return the region in upper case, or raise if it is unknown, or the extra is missing."""
    # Imported here: only a region needs the extra.
    try:
        from phonenumbers import SUPPORTED_REGIONS
    except ImportError:
        raise ConfigurationError(
            "Numbers of a region need phonenumberslite: pip install 'pico-async[numbers]'"
        ) from None
    if isinstance(region, str) and region.upper() in SUPPORTED_REGIONS:
        return region.upper()
    raise ConfigurationError("`region` must be two letters of ISO 3166-1, such as 'TW'.")


def _refused(fault: str, hint: str) -> InvalidMessageError:
    return InvalidMessageError(f"`to` {fault}{'' if fault.endswith('?') else '.'} {hint}")


def _looked_up(written: str, region: str | None, *, newer_ranges: bool) -> tuple[str, str | None]:
    """Return the digits of a written number, and what is wrong with it or None."""
    from phonenumbers import (
        NumberParseException,
        PhoneNumberFormat,
        ValidationResult,
        format_number,
        is_possible_number_with_reason,
        is_valid_number,
        parse,
    )

    if region is None:
        written = written.removeprefix("+")
        if (fault := _e164_fault(written)) is not None or kind_of(written) != "unknown":
            return written, fault
        written = f"+{written}"
    try:
        number = parse(written, region)
    except NumberParseException as error:
        return "", _UNREADABLE.get(error.error_type, "is too short")
    digits = format_number(number, PhoneNumberFormat.E164).removeprefix("+")
    # Not `is_possible_number`, which accepts a number without its area code.
    length = ValidationResult.to_string(is_possible_number_with_reason(number))
    if length == "TOO_SHORT" or (length == "IS_POSSIBLE_LOCAL_ONLY" and region is None):
        return "", _too_short(digits)
    if length != "IS_POSSIBLE":
        return "", _LENGTHS.get(length, "is no number that can be called")
    if not newer_ranges and not is_valid_number(number):
        return "", (
            f"is of a range that is not in use in country code {number.country_code}, according to the package "
            "phonenumbers; newer_ranges=True, or --newer-ranges, accepts it"
        )
    if region is not None and "+" not in written and _is_ambiguous(written, number):
        return "", (
            "can be read in two ways: as it is dialled there, and with a country code. Put '+' before that code, or "
            "write the number with the 0 of the area code"
        )
    return digits, _e164_fault(digits)


def _is_ambiguous(written: str, as_dialled: PhoneNumber) -> bool:
    """
    Return whether a number that was read as dialled in the region is also a valid number with a "+" in front.

        4915123456789     DE: fixed line, area code 491          or +49 1512 3456789
        00918123751350    TW: carrier 009, then +1 81…           or 00, then +91 81237 …
    """
    from phonenumbers import NumberParseException, PhoneNumberType, is_valid_number, number_type, parse

    if written.startswith("00"):
        written = written.removeprefix("00")
    elif written.startswith("0") or number_type(as_dialled) in (
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
    ):
        return False
    try:
        international = parse(f"+{written}")
    except NumberParseException:
        return False
    return is_valid_number(international) and (
        (international.country_code, international.national_number)
        != (as_dialled.country_code, as_dialled.national_number)
    )


# By the error types of phonenumbers.
_UNREADABLE = {0: "begins with no country code that there is", 4: "is too long"}
_LENGTHS = {
    "IS_POSSIBLE_LOCAL_ONLY": "lacks its area code",
    "INVALID_COUNTRY_CODE": "begins with no country code that there is",
    "INVALID_LENGTH": "has a length that no number there has",
    "TOO_LONG": "is too long",
}


def _shape_fault(to: str, *, national: bool) -> str | None:
    """Return what makes the spelling unclear, or None."""
    shown = re.sub(f"[{_INVISIBLE}]", "", to)
    shown = re.sub(rf"^{_SEPARATOR}+|{_SEPARATOR}+$", "", shown)
    if not shown:
        return "is empty"
    if len(shown) > _LONGEST:
        return f"has {len(shown):,} characters, which no number has"
    if re.fullmatch(_SCIENTIFIC, shown):
        return "is in scientific notation: Excel has rounded this number. Format the column as text and enter it again"
    if re.fullmatch(_DECIMAL_PART, shown, re.DOTALL):
        return "has a decimal part: a spreadsheet took the column for amounts. Format it as text"
    if re.fullmatch(_EXTENSION, shown, re.DOTALL | re.IGNORECASE):
        return "has an extension, which no message reaches: leave it out"
    if shown[-1] in ")\uff09":
        return "ends in parentheses, as an extension or a count does: leave them out"
    allowed = rf"\d{_NATIONAL_MARKS}" if national else "0-9"
    if (foreign := re.search(rf"[^{allowed}]", re.sub(rf"^[(\uff08]?{_PLUS}|{_SEPARATOR}", "", shown))) is not None:
        named = "digits, '+', spaces, dashes, dots and parentheses" if national else "digits, '+', spaces and dashes"
        return f"holds {described(foreign[0])}, where only {named} belong, the '+' in front"
    if not re.search(r"\d", shown):
        return "is empty"
    if not re.fullmatch(_PARENTHESES, shown):
        return "has a parenthesis without the other one"
    if re.fullmatch(_LIST_NUMBER, shown, re.DOTALL):
        return "begins with the number of a list: leave it out"
    if re.fullmatch(_SHORT_LAST_GROUP, shown, re.DOTALL):
        return "ends in a digit or two by themselves, as an extension does: leave them out, or join them to the others"
    return None


def _e164_fault(digits: str) -> str | None:
    if not digits:
        return "is empty"
    if digits.startswith("0"):
        return "starts with 0, which no country code does"
    if not _E164.fullmatch(digits):
        return f"has {len(digits)} digit{'s' * (len(digits) > 1)}; E.164 has 7 to 15"
    code = country_code(digits)
    fewest = _FEWEST.get(code)
    if fewest is None:
        # An unknown country code: of a new country, or a sandbox's number.
        return None
    if digits[len(code)] == "0" and code not in _ZERO_STAYS:
        return f"has a 0 after the country code {code}, where it is left out"
    return _too_short(digits) if len(digits) < fewest else None


def _too_short(digits: str) -> str:
    return (
        f"is too short for a number of country code {country_code(digits)}, with {len(digits)} digits: did a "
        "spreadsheet drop a leading 0, or is the country code missing?"
    )


def mask(number: str) -> str:
    """Return a number that can be recognised and not called: '86…01'."""
    return f"{number[:2]}…{number[-2:]}"


def mask_numbers(text: str) -> str:
    """
    Mask every part of the text that is long enough to be a destination.

    Decimals, dates, versions and addresses contain dots, too. So digits with dots are masked only if they

    - follow a "+", or
    - are nine digits or more, are no IP address, and have two dots or a leading 0.
    """
    text = re.sub(_WITH_PLUS, _masked, text)
    text = re.sub(_DOTTED, lambda found: _masked(found) if _looks_like_a_number(found[0]) else found[0], text)
    return re.sub(_NUMBER_IN_TEXT, _masked, text)


def masked_repr(word: str | None) -> str:
    """Return the repr of a word that the user chose, as a key, with its numbers masked."""
    return "None" if word is None else repr(mask_numbers(word))


def _masked(found: re.Match[str]) -> str:
    return mask(found[0])


def _looks_like_a_number(dotted: str) -> bool:
    groups = dotted.split(".")
    if sum(map(len, groups)) < _FEWEST_DOTTED or re.fullmatch(_IP_ADDRESS, dotted):
        return False
    return len(groups) > 2 or (groups[0].startswith("0") and len(groups[0]) > 1)
