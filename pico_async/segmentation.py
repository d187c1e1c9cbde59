"""
The parts of a text message: GSM 03.38 and UCS-2.

This module is not called `segments`: `pico_async.segments` could then be the function or the module.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from enum import StrEnum
from itertools import pairwise

from attrs import field, frozen

from pico_async._characters import described, is_encodable
from pico_async._values import Value
from pico_async.errors import InvalidMessageError, Reason

# 3GPP TS 23.038, 6.2.1: the default alphabet, in the order of its codes. 0x1B is the escape code.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# 6.2.1.1: each of these takes two codes, of which the first is the escape.
_EXTENDED = "\f^{}\\[~]|€"
# An SMS has 140 octets. In a part of a longer text, 6 of them name the text and the part.
_ALONE = {"GSM-7": 160, "UCS-2": 70}
_JOINED = {"GSM-7": 153, "UCS-2": 67}

_NOT_GSM7 = re.compile(f"[^{re.escape(_BASIC + _EXTENDED)}]")
_ESCAPE = "\x1b"
# The first unit of a character of two, as in `_units`: a part must not end with it.
_FIRST_OF_TWO: dict[str, Container[object]] = {"GSM-7": _ESCAPE, "UCS-2": range(0xD8, 0xDC)}


class Encoding(StrEnum):
    """The encoding of a text message."""

    GSM_7 = "GSM-7"
    """The default alphabet with its extension table: 160 septets, or 153 in each of several parts."""
    UCS_2 = "UCS-2"
    """UTF-16 code units: 70, or 67 in each of several parts."""


@frozen
class Foreign(Value):
    """
    A character that is not in GSM-7, so that the whole text is sent as UCS-2. Its repr does not show it; its str does.

    Attributes:
        positions: Indexes of the character in the text, from 0.
    """

    character: str = field(repr=False)
    positions: tuple[int, ...]

    def __str__(self) -> str:
        return described(self.character)


@frozen
class Segments(Value):
    """
    The parts of a text. The repr shows nothing of the text.

    Attributes:
        parts: Number of parts; 0 for an empty text.
        units: Length of the text in septets (GSM-7) or UTF-16 code units (UCS-2).
        left: Units that still fit into the last part.
    """

    _text: str = field(repr=False)
    encoding: Encoding
    parts: int
    units: int
    left: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each part."""
        cuts = list(pairwise([0, *_ends(_units(self._text, self.encoding), self.encoding)]))
        if self.encoding is Encoding.GSM_7:
            septets = _septets(self._text)
            return tuple(septets[begin:end].replace(_ESCAPE, "") for begin, end in cuts)
        units = self._text.encode("utf-16-be")
        return tuple(units[2 * begin : 2 * end].decode("utf-16-be") for begin, end in cuts)

    @property
    def foreign(self) -> tuple[Foreign, ...]:
        """The characters that force the text into UCS-2, in the order of their first appearance."""
        if self.encoding is Encoding.GSM_7:
            return ()
        found: dict[str, list[int]] = {}
        for match in _NOT_GSM7.finditer(self._text):
            found.setdefault(match[0], []).append(match.start())
        return tuple(Foreign(character, tuple(positions)) for character, positions in found.items())


def segments(text: str) -> Segments:
    """
    Return the parts that a text is sent in, and the characters that force it into UCS-2.

    | all characters are in   | encoding | one part  | each of several parts |
    |-------------------------|----------|-----------|-----------------------|
    | the GSM 03.38 alphabet  | GSM-7    | 160 units | 153 units             |
    | no matter which         | UCS-2    | 70 units  | 67 units              |

    A character of the GSM extension table takes two units, and so does a surrogate pair in UCS-2. Neither is split. A
    single curly quote or no-break space forces the whole text into UCS-2.

    This is what the standard says, without national language tables and 16-bit references. How Pico splits and counts
    is not documented in v0.4, and it may replace characters. More than 255 parts are counted, although no handset can
    join them.

    Raises:
        InvalidMessageError: The text is not a str, or contains an unpaired surrogate.

    Source: 3GPP TS 23.038, 6.2; 3GPP TS 23.040, 9.2.3.24.1.
    """
    if not isinstance(text, str):
        raise InvalidMessageError(
            f"The text must be a str, not {type(text).__name__}.", argument="text", reason=Reason.TYPE
        )
    if not is_encodable(text):
        raise InvalidMessageError(
            "The text contains an unpaired surrogate and cannot be encoded.", argument="text", reason=Reason.CHARACTERS
        )
    encoding = Encoding.UCS_2 if _NOT_GSM7.search(text) else Encoding.GSM_7
    units = _units(text, encoding)
    ends = _ends(units, encoding)
    room = _ALONE[encoding] if len(ends) < 2 else _JOINED[encoding] + ends[-2]
    return Segments(text, encoding, len(ends), len(units), room - len(units))


def foreign_characters(text: str) -> set[str]:
    """Return the characters of a text that are not in GSM-7."""
    return set(text).difference(_BASIC, _EXTENDED)


def _septets(text: str) -> str:
    """Return the text with the escape before each character of the extension table."""
    for character in _EXTENDED:
        text = text.replace(character, _ESCAPE + character)
    return text


def _units(text: str, encoding: Encoding) -> Sequence[object]:
    """Return an item for each unit: the septets, or the first byte of each UTF-16 code unit."""
    return _septets(text) if encoding is Encoding.GSM_7 else text.encode("utf-16-be")[::2]


def _ends(units: Sequence[object], encoding: Encoding) -> list[int]:
    """Return the end of each part, in units. No character is split."""
    count = len(units)
    if count <= _ALONE[encoding]:
        return [count] if count else []
    room, first_of_two = _JOINED[encoding], _FIRST_OF_TWO[encoding]
    ends = []
    end = room
    while end < count:
        if units[end - 1] in first_of_two:
            end -= 1
        ends.append(end)
        end += room
    return [*ends, count]
