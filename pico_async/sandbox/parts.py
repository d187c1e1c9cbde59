"""
Counts the parts of a text: GSM 03.38's alphabet in septets, else UCS-2 in 16-bit units.

Not documented in v0.4, which names no length. Handsets and operators count so; this is the sandbox's own reading.
Source: 3GPP TS 23.038, 6.2.1 and 6.2.1.1 (the alphabets), 23.040, 9.2.3.24.1 (the header of joined parts).
"""

from collections.abc import Callable

from attrs import frozen

_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"  # the basic characters
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"

BASIC: frozenset[str] = frozenset(_ALPHABET)
EXTENDED: frozenset[str] = frozenset(_EXTENSION)
_ESCAPE = "\x1b"
_ESCAPED = str.maketrans({character: _ESCAPE + character for character in _EXTENSION})


@frozen
class Parts:
    """
    Encoding and length of a text.

    Attributes:
        encoding: "GSM-7" or "UCS-2".
        units: Septets, or 16-bit units.
        count: Parts that the text is sent in; 1 for an empty text.
    """

    encoding: str
    units: int
    count: int


def count_parts(text: str) -> Parts:
    """Return the parts of *text*. A character of two units is never split between two parts."""
    characters = set(text)
    if characters <= BASIC | EXTENDED:
        septets = text.translate(_ESCAPED) if characters & EXTENDED else text
        return Parts("GSM-7", len(septets), _count_filled(len(septets), 160, 153, lambda at: septets[at] == _ESCAPE))
    units = text.encode("utf-16-be", "surrogatepass")
    count = len(units) // 2
    return Parts("UCS-2", count, _count_filled(count, 70, 67, lambda at: 0xD8 <= units[2 * at] <= 0xDB))


def _count_filled(units: int, alone: int, joined: int, begins_a_pair: Callable[[int], bool]) -> int:
    if units <= alone:
        return 1
    parts = position = 0
    while position < units:
        position += joined
        if position < units and begins_a_pair(position - 1):
            position -= 1
        parts += 1
    return parts
