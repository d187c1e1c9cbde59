"""What a character is called, and whether a text has only whole ones."""

from __future__ import annotations

import unicodedata

# Invisible marks, as in a number that was copied from a chat, a web page or a right-to-left text.
INVISIBLE = r"\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
# Also the spaces and dashes of spreadsheets. A text that is accepted as a number is also masked as one.
DASH = r"\u2010-\u2015\u2212-"
SEPARATOR = rf"[\s{INVISIBLE}{DASH}]"


def described(character: str) -> str:
    """Name a character as people look for it: "U+2019 RIGHT SINGLE QUOTATION MARK"."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '(no name)')}"


def is_encodable(text: str) -> bool:
    """Return whether the text can be encoded as UTF-8. Python's own error would contain the whole text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
