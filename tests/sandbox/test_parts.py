"""The sandbox counts in how many parts a text is sent."""

import pytest

from pico_async.sandbox.parts import BASIC, EXTENDED, count_parts


def test_the_alphabet_is_complete() -> None:
    """GSM-7 has 127 basic characters beside the escape and ten extended ones, and no character is in both tables."""
    assert len(BASIC) == 127
    assert len(EXTENDED) == 10
    assert not BASIC & EXTENDED


@pytest.mark.parametrize(
    ("text", "encoding", "units", "count"),
    [
        ("", "GSM-7", 0, 1),
        ("Your code is 1234", "GSM-7", 17, 1),
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        # 153 septets hold 76 pairs and one septet over, which stays empty: 152, 152, 2.
        ("€" * 153, "GSM-7", 306, 3),
        ("a" + "€" * 152, "GSM-7", 305, 2),
        ("验" * 70, "UCS-2", 70, 1),
        ("验" * 71, "UCS-2", 71, 2),
        ("验" * 134, "UCS-2", 134, 2),
        ("验" * 135, "UCS-2", 135, 3),
        ("ç", "UCS-2", 1, 1),  # the alphabet has the capital alone
        ("🙂" * 35, "UCS-2", 70, 1),
        ("🙂" * 36, "UCS-2", 72, 2),
        # 67 units hold 33 pairs: 66, 66, 2.
        ("🙂" * 67, "UCS-2", 134, 3),
        ("x" + "🙂" * 66, "UCS-2", 133, 2),
        ("\ud83d", "UCS-2", 1, 1),
    ],
)
def test_parts(text, encoding, units, count) -> None:
    """One part holds 160 septets or 70 units, one of several 153 or 67; a character that takes two is not split."""
    parts = count_parts(text)

    assert (parts.encoding, parts.units, parts.count) == (encoding, units, count)


@pytest.mark.parametrize("text", ["a€{b}" * 400, "验🙂x" * 300, "🙂" * 500, "[~]" * 200])
def test_a_long_text_is_filled_as_by_hand(text) -> None:
    """The count for a long text equals a count that fills part after part, character by character."""
    parts = count_parts(text)

    wide = (lambda c: c in EXTENDED) if parts.encoding == "GSM-7" else (lambda c: c > "\uffff")
    room = 153 if parts.encoding == "GSM-7" else 67
    count, left = 1, room
    for character in text:
        needed = 1 + wide(character)
        if needed > left:
            count, left = count + 1, room
        left -= needed
    assert parts.count == count
