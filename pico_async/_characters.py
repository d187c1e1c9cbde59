"""What a character is called, and whether a text has only whole ones."""

from __future__ import annotations

import unicodedata


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
