"""Destination numbers: E.164, as digits only."""

from __future__ import annotations

import re

from pico_async.errors import InvalidMessageError

_E164 = re.compile(r"[1-9][0-9]{6,14}")
# Also what spreadsheets make of spaces and dashes. What counts as a number when it comes in counts as one when it is
# to be hidden.
_SEPARATOR = r"[\s\u00ad\u2010-\u2015\u2212\ufeff-]"
_SEPARATORS = re.compile(f"{_SEPARATOR}+")
# Compiled by its first use, and not with the import.
_NUMBER_IN_TEXT = rf"\+?[0-9](?:{_SEPARATOR}*[0-9]){{6,}}"


def destination(to: object) -> str:
    """
    Give the number as Pico takes it: country code and number, digits only.

    A leading "+", spaces and dashes are dropped. Whether Pico itself takes a "+" is not documented in v0.4.

    Raises:
        InvalidMessageError: It is not a number in E.164; the message does not repeat it.
    """
    if not isinstance(to, str):
        raise InvalidMessageError(f"`to` must be a str such as '8612345678901', not {type(to).__name__}.")
    digits = _SEPARATORS.sub("", to).removeprefix("+")
    if _E164.fullmatch(digits):
        return digits
    raise InvalidMessageError(f"`to` {_fault(digits)}. Pass E.164 with the country code, as '8612345678901'.")


def _fault(digits: str) -> str:
    if not digits:
        return "is empty"
    if not (digits.isascii() and digits.isdigit()):
        return "holds something other than digits, '+', spaces and dashes"
    if digits.startswith("0"):
        return "starts with 0, which no country code does"
    return f"has {len(digits)} digits; E.164 has 7 to 15"


def mask(number: str) -> str:
    """Show enough of a number to recognise it, and too little to call it: '86…01'."""
    return f"{number[:2]}…{number[-2:]}"


def mask_numbers(text: str) -> str:
    """Mask whatever in the text is long enough to be a destination."""
    return re.sub(_NUMBER_IN_TEXT, lambda found: mask(found[0]), text)
