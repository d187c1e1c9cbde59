"""
Into how many parts a text is cut, and why: GSM 03.38 and UCS-2.

The file is not named after its function: `pico_async.segments` would be the function or the module, whichever was
imported first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from attrs import field, frozen

from pico_async._characters import described
from pico_async.errors import InvalidMessageError

# 3GPP TS 23.038, 6.2.1: the default alphabet, in the order of its codes. 0x1B is the escape, and no character.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# 6.2.1.1: each of these is the escape and a code.
_EXTENDED = "\f^{}\\[~]|€"
# An SMS holds 140 octets. In one of several, 6 of them say which part of what it is.
_ALONE = {"GSM-7": 160, "UCS-2": 70}
_JOINED = {"GSM-7": 153, "UCS-2": 67}

# Compiled by their first use, and not with the import.
_NOT_GSM7 = f"[^{re.escape(_BASIC + _EXTENDED)}]"
_TWICE_AS_LONG = {"GSM-7": f"[{re.escape(_EXTENDED)}]", "UCS-2": "[\U00010000-\U0010ffff]"}


class Encoding(StrEnum):
    """How the characters of a text message are carried."""

    GSM_7 = "GSM-7"
    """The default alphabet with its extension table: 160 septets, or 153 in each of several parts."""
    UCS_2 = "UCS-2"
    """UTF-16 code units: 70, or 67 in each of several parts."""


@frozen
class Foreign:
    """
    A character that GSM-7 lacks, so that the whole text takes UCS-2. Its repr does not show it; its str does.

    Attributes:
        positions: Where it stands in the text, from 0.
    """

    character: str = field(repr=False)
    positions: tuple[int, ...]

    def __str__(self) -> str:
        return described(self.character)


@frozen
class Segments:
    """
    The parts of a text. Its repr shows nothing of the text.

    Attributes:
        parts: Text messages that the text takes; 0 where it is empty.
        units: Its length in septets (GSM-7) or UTF-16 code units (UCS-2).
        left: Units that its last part still takes.
    """

    _text: str = field(repr=False)
    encoding: Encoding
    parts: int
    units: int
    left: int

    @property
    def texts(self) -> tuple[str, ...]:
        """What stands in each part."""
        return tuple(part for part, _ in _cut(self._text, self.encoding, self.units))

    @property
    def foreign(self) -> tuple[Foreign, ...]:
        """The characters that made it UCS-2, in the order of their first appearance; none where it is GSM-7."""
        if self.encoding is Encoding.GSM_7:
            return ()
        found: dict[str, list[int]] = {}
        for match in re.finditer(_NOT_GSM7, self._text):
            found.setdefault(match[0], []).append(match.start())
        return tuple(Foreign(character, tuple(positions)) for character, positions in found.items())


def segments(text: str) -> Segments:
    """
    Count the parts of a text, and say which characters made them short.

    A text of the GSM 03.38 alphabet is carried in septets, 160 alone and 153 in each of several parts; a character of
    its extension table takes two, which are never parted. One other character, a curly quote or a no-break space, and
    all of it is carried as UTF-16: 70 and 67 code units, where a surrogate pair is never parted.

    v0.4 documents neither how Pico cuts a text nor how it counts, and Pico may replace characters: this is what the
    standard says, with neither a national language table nor the longer header of 16-bit references. More than 255
    parts cannot be told apart by a handset; they are counted all the same.

    Raises:
        InvalidMessageError: It is no str, or holds half of a surrogate pair.

    Source: 3GPP TS 23.038, 6.2; 3GPP TS 23.040, 9.2.3.24.1.
    """
    if not isinstance(text, str):
        raise InvalidMessageError(f"The text must be a str, not {type(text).__name__}.")
    # Beside the pattern, encode() is quick at finding a single half, but its error would hold the text.
    if re.search("[\ud800-\udfff]", text):
        raise InvalidMessageError("The text holds half of a surrogate pair, which nothing can carry.")
    encoding = Encoding.UCS_2 if re.search(_NOT_GSM7, text) else Encoding.GSM_7
    long = len(re.findall(_TWICE_AS_LONG[encoding], text))
    units = len(text) + long
    alone, joined = _ALONE[encoding], _JOINED[encoding]
    if units <= alone:
        return Segments(text, encoding, min(units, 1), units, alone - units)
    if not long:
        parts = -(-units // joined)
        return Segments(text, encoding, parts, units, parts * joined - units)
    sizes = [size for _, size in _cut(text, encoding, units)]
    return Segments(text, encoding, len(sizes), units, joined - sizes[-1])


def foreign_characters(text: str) -> set[str]:
    """Give the characters of a text that GSM-7 lacks."""
    return set(text).difference(_BASIC, _EXTENDED)


def _cut(text: str, encoding: Encoding, units: int) -> Iterator[tuple[str, int]]:
    """Give each part and its length in units."""
    if units <= _ALONE[encoding]:
        if text:
            yield text, units
        return
    room = _JOINED[encoding]
    begins = used = 0
    for index, character in enumerate(text):
        width = 2 if _is_long(character, encoding) else 1
        if used + width > room:
            yield text[begins:index], used
            begins, used = index, 0
        used += width
    yield text[begins:], used


def _is_long(character: str, encoding: Encoding) -> bool:
    return character in _EXTENDED if encoding is Encoding.GSM_7 else character > "\uffff"
