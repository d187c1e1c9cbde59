"""What may be told of Pico's words: not what we had told Pico."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pico_async.numbers import mask_numbers

WORDS_SHOWN = 200
# So many characters in a row that also stand in a secret are taken to come from it; fewer are a common word.
LOOKS_LIKE_A_SECRET = 10
# What opens an account stands in a text as digits, in groups perhaps, or as a word with a digit in it.
_CODES = (r"[0-9]{4,}", r"[0-9]{2,}(?:[ -][0-9]{2,})+", r"[A-Za-z0-9]{4,}")


def redact(words: str, *, secrets: Iterable[str] = (), texts: Iterable[str] = ()) -> str:
    """
    Cut words to a line, mask the numbers in them, and blank what also stands in a secret.

    Args:
        secrets: Keys and tokens.
        texts: What was to be sent: from these, codes too short to look like a secret are blanked, too.
    """
    # Numbers first: a code that also stands in one would cut it in two, each too short to be masked.
    words = _blanked(mask_numbers(_one_line(words[: 4 * WORDS_SHOWN])), secrets, texts).rstrip(".。")
    return words if len(words) <= WORDS_SHOWN else f"{words[:WORDS_SHOWN]}…"


def echoes(name: str, *, secrets: Iterable[str] = (), texts: Iterable[str] = (), numbers: Iterable[str] = ()) -> bool:
    """Say whether a name of Pico's making, a UUID perhaps, holds any of what `redact` would blank."""
    return _blanked(name, secrets, texts) != name or any(number in name for number in numbers)


def _blanked(words: str, secrets: Iterable[str], texts: Iterable[str]) -> str:
    # Codes last: one that also stands in a key would cut that in two, each too short to look like a secret.
    texts = list(texts)
    for secret in (*secrets, *texts):
        words = _blank(words, secret)
    for code in (code for text in texts for code in _codes(text)):
        words = words.replace(code, "…")
    return words


def _one_line(words: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in words).split())


def _codes(text: str) -> Iterator[str]:
    for pattern in _CODES:
        for found in re.findall(pattern, _one_line(text)):
            if any(character.isdigit() for character in found):
                yield found


def _blank(words: str, secret: str) -> str:
    # The words were put on one line and their numbers masked, so what they are compared with is, too.
    line = _one_line(secret)
    for known in {line, mask_numbers(line)}:
        if len(known) > 3:
            words = words.replace(known, "…")
        words = _blank_runs(words, known)
    return words


def _blank_runs(words: str, secret: str) -> str:
    start = 0
    while start + LOOKS_LIKE_A_SECRET <= len(words):
        end = start + LOOKS_LIKE_A_SECRET
        if words[start:end] in secret:
            while end < len(words) and words[start : end + 1] in secret:
                end += 1
            words = f"{words[:start]}…{words[end:]}"
        start += 1
    return words
