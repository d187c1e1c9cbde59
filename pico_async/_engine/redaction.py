"""Remove from Pico's texts what the request contained: secrets, message texts and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pico_async._masking import mask_numbers

LONGEST_SHOWN = 200
# This many characters in a row that also occur in a secret are taken to come from it. Fewer may be a common word.
SECRET_RUN = 10
# One-time codes in a text: digits, perhaps in groups, or a word that contains a digit.
_CODES = [
    re.compile(code) for code in (r"[0-9]{4,}", r"[0-9]{2,}(?:[ -][0-9]{2,})+", r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{4,}")
]


def redact(words: str, *, secrets: Iterable[str] = (), texts: Iterable[str] = ()) -> str:
    """
    Return a text as one line, with its numbers masked, and without what also occurs in a secret.

    Args:
        secrets: Keys and tokens.
        texts: Message texts. Codes in them are removed too, although they are shorter than a secret.
    """
    # Numbers first: removing a code from a number would leave two parts that are too short to be masked.
    words = _blanked(mask_numbers(_one_line(words[: 4 * LONGEST_SHOWN])), secrets, texts).rstrip(".。")
    return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}…"


def echoes(name: str, *, secrets: Iterable[str] = (), texts: Iterable[str] = (), numbers: Iterable[str] = ()) -> bool:
    """Return whether an ID of Pico's, such as a UUID, contains a number, or anything that `redact` would remove."""
    texts = list(texts)
    lines = [_one_line(secret) for secret in (*secrets, *texts)]
    found_in = "\n".join(lines)
    return (
        any(number in name for number in numbers)
        or any(len(line) > 3 and line in name for line in lines)
        or any(name[start : start + SECRET_RUN] in found_in for start in range(len(name) - SECRET_RUN + 1))
        or any(code in name for text in texts for code in _codes(text))
    )


def _blanked(words: str, secrets: Iterable[str], texts: Iterable[str]) -> str:
    # Codes last: removing a code from a key would leave two parts that are too short to look like a secret.
    texts = list(texts)
    for secret in (*secrets, *texts):
        words = _blank(words, secret)
    for code in (code for text in texts for code in _codes(text)):
        words = words.replace(code, "…")
    return words


def _one_line(words: str) -> str:
    if not words.isprintable():
        words = "".join(character if character.isprintable() else " " for character in words)
    return " ".join(words.split())


def _codes(text: str) -> list[str]:
    line = _one_line(text)
    return [code for pattern in _CODES for code in pattern.findall(line)]


def _blank(words: str, secret: str) -> str:
    # Compared in the same form: on one line, with numbers masked.
    line = _one_line(secret)
    for known in {line, mask_numbers(line)}:
        if len(known) > 3:
            words = words.replace(known, "…")
        words = _blank_runs(words, known)
    return words


def _blank_runs(words: str, secret: str) -> str:
    start = 0
    while start + SECRET_RUN <= len(words):
        end = start + SECRET_RUN
        if words[start:end] in secret:
            while end < len(words) and words[start : end + 1] in secret:
                end += 1
            words = f"{words[:start]}…{words[end:]}"
        start += 1
    return words
