"""
How many parts a text goes out in: GSM 03.38's alphabet in septets, else UCS-2 in 16-bit units.

Not documented in v0.4, which names no length: this is what handsets and operators count, in the sandbox's own reading.
Source: 3GPP TS 23.038, 6.2.1 and 6.2.1.1 (the alphabets), 23.040, 9.2.3.24.1 (what joining parts takes).
"""

from math import ceil

from attrs import frozen

_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"  # the alphabet's own
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"

BASIC = frozenset(_ALPHABET)
EXTENDED = frozenset(_EXTENSION)
_ESCAPE = "\x1b"
_ESCAPED = str.maketrans({character: _ESCAPE + character for character in _EXTENSION})


@frozen
class Parts:
    """
    What a text takes.

    Attributes:
        encoding: "GSM-7" or "UCS-2".
        units: Septets, or 16-bit units.
        count: Parts that it is sent in; a text of nothing is one.
    """

    encoding: str
    units: int
    count: int


def count_parts(text: str) -> Parts:
    """Count the parts of *text*; what takes two units is never split between two parts."""
    if set(text) <= BASIC | EXTENDED:
        septets = text.translate(_ESCAPED)
        return Parts("GSM-7", len(septets), _filled(septets, 160, 153))
    units = "".join(map(_pair, text)) if max(text) > "\uffff" else text
    return Parts("UCS-2", len(units), _filled(units, 70, 67))


def _pair(character: str) -> str:
    """What lies above U+FFFF takes two units."""
    if character <= "\uffff":
        return character
    offset = ord(character) - 0x10000
    return chr(0xD800 + (offset >> 10)) + chr(0xDC00 + (offset & 0x3FF))


def _is_first_half(unit: str) -> bool:
    return unit == _ESCAPE or "\ud800" <= unit <= "\udbff"


def _filled(units: str, alone: int, joined: int) -> int:
    if len(units) <= alone:
        return 1
    if _ESCAPE not in units and max(units) < "\ud800":
        return ceil(len(units) / joined)
    count = position = 0
    while position < len(units):
        position += joined
        if position < len(units) and _is_first_half(units[position - 1]):
            position -= 1
        count += 1
    return count
