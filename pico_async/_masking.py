"""Numbers in a text, masked, so that no log, error or repr shows a whole one."""

from __future__ import annotations

import re

from pico_async._characters import SEPARATOR

# Compiled by their first use, and not with the import. \d is a digit of any script.
_NUMBER_IN_TEXT = rf"\+?\d(?:{SEPARATOR}*\d){{6,}}"
_WITH_PLUS = rf"[+\uff0b]{SEPARATOR}*\(?\d(?:(?:{SEPARATOR}|[.()])*\d){{6,}}"
_DOTTED = r"(?<![\d.])\d+(?:\.\d+)+(?!\.?\d)"
_IP_ADDRESS = r"(?:(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?!$)|$)){4}"
# More digits than a date, and no more than a number with its prefix.
_FEWEST_DOTTED = 9


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
