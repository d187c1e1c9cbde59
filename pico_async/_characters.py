"""What a character is called."""

from __future__ import annotations

import unicodedata


def described(character: str) -> str:
    """Name a character as people look for it: "U+2019 RIGHT SINGLE QUOTATION MARK"."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '(no name)')}"
