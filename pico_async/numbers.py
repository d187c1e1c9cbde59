"""Destination numbers: E.164, as digits only."""

from __future__ import annotations

import re

from pico_async.errors import ConfigurationError, InvalidMessageError

_E164 = re.compile(r"[1-9][0-9]{6,14}")
# Also what spreadsheets make of spaces and dashes. What counts as a number when it comes in counts as one when it is
# to be hidden.
_SEPARATOR = r"[\s\u00ad\u2010-\u2015\u2212\ufeff-]"
_SEPARATORS = re.compile(f"{_SEPARATOR}+")
# Compiled by their first use, and not with the import. \d is a digit of any script.
_NUMBER_IN_TEXT = rf"\+?\d(?:{_SEPARATOR}*\d){{6,}}"
_WITH_PLUS = rf"[+\uff0b]{_SEPARATOR}*\(?\d(?:(?:{_SEPARATOR}|[.()])*\d){{6,}}"
_DOTTED = r"(?<![\d.])\d+(?:\.\d+)+(?!\.?\d)"
_IP_ADDRESS = r"(?:(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?!$)|$)){4}"
# More digits than a date has, and no fewer than a number with its prefix.
_FEWEST_DOTTED = 9
# What stands in a number as people of a region write it; "/" parts two of them as often.
_NATIONAL_MARKS = rf"(?:{_SEPARATOR}|[.()\uff08\uff09])+"
_NATIONAL = r"[+\uff0b]?\d{2,20}"


def destination(to: object, *, region: str | None = None) -> str:
    """
    Give the number as Pico takes it: country code and number, digits only.

    A leading "+", spaces and dashes are dropped. Whether Pico itself takes a "+" is not documented in v0.4.

    With a *region*, a number is read as people there write it: `destination("0912 345 678", region="TW")` is
    "886912345678". Then dots and parentheses are dropped, too, and digits of any script are taken. A number of another
    country needs its "+", for without one it is read as one of the region.

    A number is refused where the region's numbers are longer or shorter, or where it lacks its area code. It is not
    asked whether its range is allotted: the package knows the ranges of its own release, and the people whose number is
    newer than that would get nothing. Nor is it asked whether it is a mobile one, which many countries' numbers do not
    tell.

    Args:
        region: Two letters of ISO 3166-1, as "TW". Needs the extra: `pip install 'pico-async[numbers]'`.

    Raises:
        InvalidMessageError: It is not a number in E.164, or none of the region; the message does not repeat it.
        ConfigurationError: There is no such region, or the extra is missing.
    """
    if not isinstance(to, str):
        raise InvalidMessageError(f"`to` must be a str such as '8612345678901', not {type(to).__name__}.")
    if region is not None:
        return _international(to, checked_region(region))
    digits = _SEPARATORS.sub("", to).removeprefix("+")
    if _E164.fullmatch(digits):
        return digits
    raise InvalidMessageError(f"`to` {_fault(digits)}. Pass E.164 with the country code, as '8612345678901'.")


def checked_region(region: object) -> str:
    """
    Make sure that there is such a region.

    Raises:
        ConfigurationError: There is none, or the extra is missing.
    """
    # Here and not above: whoever names no region needs no extra.
    try:
        from phonenumbers import SUPPORTED_REGIONS
    except ImportError:
        raise ConfigurationError(
            "Numbers of a region need phonenumberslite: pip install 'pico-async[numbers]'"
        ) from None
    if isinstance(region, str) and region.upper() in SUPPORTED_REGIONS:
        return region.upper()
    raise ConfigurationError("`region` must be two letters of ISO 3166-1, as 'TW'.")


def _international(to: str, region: str) -> str:
    from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult, format_number, parse
    from phonenumbers import is_possible_number_with_reason as length_of

    written = re.sub(_NATIONAL_MARKS, "", to)
    fault = _national_fault(written)
    if fault is None:
        try:
            number = parse(written, region)
        except NumberParseException:
            fault = "begins with no country code that there is"
        else:
            # Not `is_possible_number`, which takes a number without its area code.
            possible = length_of(number)
            digits = format_number(number, PhoneNumberFormat.E164).removeprefix("+")
            if possible == ValidationResult.IS_POSSIBLE and _E164.fullmatch(digits):
                return digits
            fault = _LENGTHS.get(ValidationResult.to_string(possible), "is no number that can be called")
    # Outside of the handler: the package's error would be this one's context.
    raise InvalidMessageError(f"`to` {fault}. It was read as a number of {region}; one of elsewhere begins with '+'.")


_LENGTHS = {
    "IS_POSSIBLE_LOCAL_ONLY": "lacks its area code",
    "INVALID_COUNTRY_CODE": "begins with no country code that there is",
    "TOO_SHORT": "is too short",
    "INVALID_LENGTH": "has a length that no number there has",
    "TOO_LONG": "is too long",
}


def _national_fault(written: str) -> str | None:
    if not written:
        return "is empty"
    if not re.fullmatch(_NATIONAL, written):
        if re.fullmatch(r"[+\uff0b]?\d*", written):
            return f"has {sum(character.isdecimal() for character in written)} digits"
        return "holds something other than digits, '+', spaces, dashes, dots and parentheses"
    return None


def _fault(digits: str) -> str:
    if not digits:
        return "is empty"
    if not (digits.isascii() and digits.isdigit()):
        return "holds something other than digits, '+', spaces and dashes"
    if digits.startswith("0"):
        return "starts with 0, which no country code does"
    return f"has {len(digits)} digit{'s' * (len(digits) > 1)}; E.164 has 7 to 15"


def mask(number: str) -> str:
    """Show enough of a number to recognise it, and too little to call it: '86…01'."""
    return f"{number[:2]}…{number[-2:]}"


def mask_numbers(text: str) -> str:
    """
    Mask whatever in the text is long enough to be a destination.

    Dots stand in decimals, dates, versions and addresses, too. So a number with dots is masked after a "+", and else
    where it has nine digits, is no IP address, and has two dots or a 0 in front, as no decimal has.
    """
    text = re.sub(_WITH_PLUS, _masked, text)
    text = re.sub(_DOTTED, lambda found: _masked(found) if _looks_like_a_number(found[0]) else found[0], text)
    return re.sub(_NUMBER_IN_TEXT, _masked, text)


def masked_repr(word: str | None) -> str:
    """Give the repr of a word that somebody else chose, a key perhaps, with its numbers masked."""
    return "None" if word is None else repr(mask_numbers(word))


def _masked(found: re.Match[str]) -> str:
    return mask(found[0])


def _looks_like_a_number(dotted: str) -> bool:
    groups = dotted.split(".")
    if sum(map(len, groups)) < _FEWEST_DOTTED or re.fullmatch(_IP_ADDRESS, dotted):
        return False
    return len(groups) > 2 or (groups[0].startswith("0") and len(groups[0]) > 1)
