"""Destination numbers: E.164, as digits only."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from attrs import field, frozen
from attrs.validators import optional

from pico_async._characters import DASH, INVISIBLE, SEPARATOR, described
from pico_async._number_kinds import is_checkable, kind_in_country
from pico_async._values import refusing
from pico_async.errors import ConfigurationError, InvalidMessageError, Reason

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber as ParsedNumber
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_E164 = re.compile(r"[1-9][0-9]{6,14}")
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
_SHORT_LAST_GROUP = rf".*(?:\d\d.*\D\d|\d\d\d[{DASH}]\d\d)"

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
        raise InvalidMessageError(
            f"`to` must be a str such as '8612345678901', not {type(to).__name__}.", argument="to", reason=Reason.TYPE
        )
    digits, fault = to, None
    if not (to.isascii() and to.isdigit()):
        digits, fault = re.sub(rf"{SEPARATOR}|{_PLUS}", "", to), _shape_fault(to, national=False)
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
        raise InvalidMessageError(
            f"`to` must be a str such as '8612345678901', not {type(to).__name__}.", argument="to", reason=Reason.TYPE
        )
    if region is None and not is_checkable():
        return e164(to)
    is_plain = to.isascii() and to.isdigit()
    # Most numbers of a file are of this form.
    if region is None and is_plain and _e164_fault(to) is None and kind_of(to) != "unknown":
        return to
    read_as = None if region is None else checked_region(region)
    fault = None if is_plain else _shape_fault(to, national=read_as is not None)
    if fault is None:
        written = re.sub(rf"{SEPARATOR}|[{_NATIONAL_MARKS}]", "", to).replace("\uff0b", "+")
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


def kind_of(number: str) -> str | None:
    """
    Return the kind of a number in E.164, such as "mobile" or "fixed line"; None without the extra `numbers`.

    In many countries, the number does not show whether it is mobile or fixed. A number that cannot exist is "unknown".
    """
    code = country_code(number)
    return kind_in_country(code, number[len(code) :])


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


def _is_region(_: object, __: object, region: str) -> None:
    checked_region(region)


@frozen
class NumberRule:
    """
    How pydantic reads a phone number: `Annotated[str, NumberRule(region="TW")]`.

    The value is a str of digits, as `destination` returns it. Without a region it is `PhoneNumber`.

    Args:
        region: Two letters of ISO 3166-1, as "TW". Needs the extra: `pip install 'pico-async[numbers]'`.
        newer_ranges: Accept numbers of ranges that the installed `phonenumbers` does not know.

    Raises:
        ConfigurationError: The region is unknown, or the extra is missing.
    """

    region: str | None = field(default=None, validator=optional(_is_region))
    newer_ranges: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return pydantic's schema of the annotated str."""
        from pydantic_core import core_schema

        def read(to: str) -> str:
            return refusing(partial(destination, to, region=self.region, newer_ranges=self.newer_ranges))

        return core_schema.no_info_after_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema, for OpenAPI."""
        return {**handler(schema), "format": "phone"}


PhoneNumber: TypeAlias = Annotated[str, NumberRule()]
"""A str that pydantic reads as `destination` does."""


class _Fault(NamedTuple):
    reason: Reason
    words: str


def _refused(fault: _Fault, hint: str) -> InvalidMessageError:
    text = f"`to` {fault.words}{'' if fault.words.endswith('?') else '.'} {hint}"
    return InvalidMessageError(text, argument="to", reason=fault.reason)


def _looked_up(written: str, region: str | None, *, newer_ranges: bool) -> tuple[str, _Fault | None]:
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
        return "", _UNREADABLE.get(error.error_type, _Fault(Reason.TOO_SHORT, "is too short"))
    digits = format_number(number, PhoneNumberFormat.E164).removeprefix("+")
    # Not `is_possible_number`, which accepts a number without its area code.
    length = ValidationResult.to_string(is_possible_number_with_reason(number))
    if length == "TOO_SHORT" or (length == "IS_POSSIBLE_LOCAL_ONLY" and region is None):
        return "", _too_short(digits)
    if length != "IS_POSSIBLE":
        return "", _LENGTHS.get(length, _Fault(Reason.UNUSED, "is no number that can be called"))
    if not newer_ranges and not is_valid_number(number):
        return "", _Fault(
            Reason.UNUSED,
            f"is of a range that is not in use in country code {number.country_code}, according to the package "
            "phonenumbers; newer_ranges=True, or --newer-ranges, accepts it",
        )
    if region is not None and "+" not in written and _is_ambiguous(written, number):
        return "", _Fault(
            Reason.AMBIGUOUS,
            "can be read in two ways: as it is dialled there, and with a country code. Put '+' before that code, or "
            "write the number with the 0 of the area code",
        )
    return digits, _e164_fault(digits)


def _is_ambiguous(written: str, as_dialled: ParsedNumber) -> bool:
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
_NO_COUNTRY = _Fault(Reason.COUNTRY_CODE, "begins with no country code that there is")
_TOO_LONG = _Fault(Reason.TOO_LONG, "is too long")
_UNREADABLE = {0: _NO_COUNTRY, 4: _TOO_LONG}
_LENGTHS = {
    "IS_POSSIBLE_LOCAL_ONLY": _Fault(Reason.AREA_CODE, "lacks its area code"),
    "INVALID_COUNTRY_CODE": _NO_COUNTRY,
    "INVALID_LENGTH": _Fault(Reason.UNUSED, "has a length that no number there has"),
    "TOO_LONG": _TOO_LONG,
}


def _shape_fault(to: str, *, national: bool) -> _Fault | None:
    """Return what makes the spelling unclear, or None."""
    shown = re.sub(f"[{INVISIBLE}]", "", to)
    shown = re.sub(rf"^{SEPARATOR}+|{SEPARATOR}+$", "", shown)
    if not shown:
        return _Fault(Reason.EMPTY, "is empty")
    if len(shown) > _LONGEST:
        return _Fault(Reason.TOO_LONG, f"has {len(shown):,} characters, which no number has")
    if re.fullmatch(_SCIENTIFIC, shown):
        return _Fault(
            Reason.SPREADSHEET,
            "is in scientific notation: Excel has rounded this number. Format the column as text and enter it again",
        )
    if re.fullmatch(_DECIMAL_PART, shown, re.DOTALL):
        return _Fault(
            Reason.SPREADSHEET, "has a decimal part: a spreadsheet took the column for amounts. Format it as text"
        )
    if re.fullmatch(_EXTENSION, shown, re.DOTALL | re.IGNORECASE):
        return _Fault(Reason.EXTENSION, "has an extension, which no message reaches: leave it out")
    if shown[-1] in ")\uff09":
        return _Fault(Reason.EXTENSION, "ends in parentheses, as an extension or a count does: leave them out")
    allowed = rf"\d{_NATIONAL_MARKS}" if national else "0-9"
    if (foreign := re.search(rf"[^{allowed}]", re.sub(rf"^[(\uff08]?{_PLUS}|{SEPARATOR}", "", shown))) is not None:
        named = "digits, '+', spaces, dashes, dots and parentheses" if national else "digits, '+', spaces and dashes"
        return _Fault(Reason.CHARACTERS, f"holds {described(foreign[0])}, where only {named} belong, the '+' in front")
    if not re.search(r"\d", shown):
        return _Fault(Reason.EMPTY, "is empty")
    if not re.fullmatch(_PARENTHESES, shown):
        return _Fault(Reason.CHARACTERS, "has a parenthesis without the other one")
    if re.fullmatch(_LIST_NUMBER, shown, re.DOTALL):
        return _Fault(Reason.CHARACTERS, "begins with the number of a list: leave it out")
    if re.fullmatch(_SHORT_LAST_GROUP, shown, re.DOTALL):
        return _Fault(
            Reason.EXTENSION,
            "ends in a digit or two by themselves, as an extension does: leave them out, or join them to the others",
        )
    return None


def _e164_fault(digits: str) -> _Fault | None:
    if not digits:
        return _Fault(Reason.EMPTY, "is empty")
    if digits.startswith("0"):
        return _Fault(Reason.COUNTRY_CODE, "starts with 0, which no country code does")
    if not _E164.fullmatch(digits):
        reason = Reason.TOO_SHORT if len(digits) < 7 else Reason.TOO_LONG
        return _Fault(reason, f"has {len(digits)} digit{'s' * (len(digits) > 1)}; E.164 has 7 to 15")
    code = country_code(digits)
    fewest = _FEWEST.get(code)
    if fewest is None:
        # An unknown country code: of a new country, or a sandbox's number.
        return None
    if digits[len(code)] == "0" and code not in _ZERO_STAYS:
        return _Fault(Reason.LEADING_ZERO, f"has a 0 after the country code {code}, where it is left out")
    return _too_short(digits) if len(digits) < fewest else None


def _too_short(digits: str) -> _Fault:
    return _Fault(
        Reason.TOO_SHORT,
        f"is too short for a number of country code {country_code(digits)}, with {len(digits)} digits: did a "
        "spreadsheet drop a leading 0, or is the country code missing?",
    )
