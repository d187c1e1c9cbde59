"""The parts of a text agree with the standard, with an independent package, and with a search over all cuts."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

import pytest
import smsutil
from hypothesis import assume, example, given, settings, strategies as st

import pico_async
from pico_async import Encoding, InvalidMessageError, segments

BASIC = smsutil.codecs.GSM_BASIC_CHARSET.replace("\x1b", "")
EXTENDED = smsutil.codecs.GSM_EXT_CHARSET

TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]


def runs_of(characters: str) -> st.SearchStrategy[str]:
    """Return texts of long runs, because texts of single characters are too short to reach the end of a part."""
    run = st.tuples(st.sampled_from(characters), st.integers(1, 160))
    return st.lists(run, max_size=8).map(lambda found: "".join(character * length for character, length in found))


GSM7_TEXTS = runs_of("aé \r\n" + EXTENDED) | st.text(st.sampled_from(BASIC + EXTENDED))
UCS2_TEXTS = runs_of("a€’中😀\uffff") | st.text(st.characters(exclude_categories=["Cs"]))
TEXTS = GSM7_TEXTS | UCS2_TEXTS


@pytest.mark.parametrize(
    ("text", "encoding", "parts", "units", "left"),
    [
        pytest.param("", Encoding.GSM_7, 0, 0, 160, id="empty"),
        pytest.param("a", Encoding.GSM_7, 1, 1, 159, id="one character"),
        pytest.param("a" * 160, Encoding.GSM_7, 1, 160, 0, id="160"),
        pytest.param("a" * 161, Encoding.GSM_7, 2, 161, 145, id="161"),
        pytest.param("a" * 306, Encoding.GSM_7, 2, 306, 0, id="two full parts"),
        pytest.param("a" * 307, Encoding.GSM_7, 3, 307, 152, id="one more than two"),
        pytest.param("€" * 80, Encoding.GSM_7, 1, 160, 0, id="80 of two septets"),
        pytest.param("a" * 159 + "€", Encoding.GSM_7, 2, 161, 145, id="two septets at the border of 160"),
        pytest.param("a" * 152 + "€" + "a" * 7, Encoding.GSM_7, 2, 161, 144, id="two septets at the border of 153"),
        pytest.param("a" * 151 + "€" + "a" * 8, Encoding.GSM_7, 2, 161, 145, id="two septets before the border"),
        pytest.param("€" * 81, Encoding.GSM_7, 2, 162, 143, id="76 of two septets fill a part of 153 but one"),
        pytest.param("\r\n\f", Encoding.GSM_7, 1, 4, 156, id="line and page breaks: the page break is of the table"),
        pytest.param("’", Encoding.UCS_2, 1, 1, 69, id="curly quote"),
        pytest.param("a\u00a0b", Encoding.UCS_2, 1, 3, 67, id="no-break space"),
        pytest.param("a\tb", Encoding.UCS_2, 1, 3, 67, id="tab"),
        pytest.param("中" * 70, Encoding.UCS_2, 1, 70, 0, id="70"),
        pytest.param("中" * 71, Encoding.UCS_2, 2, 71, 63, id="71"),
        pytest.param("中" * 134, Encoding.UCS_2, 2, 134, 0, id="two full parts of UCS-2"),
        pytest.param("😀" * 35, Encoding.UCS_2, 1, 70, 0, id="35 pairs"),
        pytest.param("中" * 66 + "😀" + "中" * 3, Encoding.UCS_2, 2, 71, 62, id="a pair at the border of 67"),
        pytest.param("中" * 65 + "😀" + "中" * 4, Encoding.UCS_2, 2, 71, 63, id="a pair before the border"),
        pytest.param("\U00010000", Encoding.UCS_2, 1, 2, 68, id="the first of the pairs"),
        pytest.param("\ue000\uffff", Encoding.UCS_2, 1, 2, 68, id="the last of the others"),
        pytest.param("中€", Encoding.UCS_2, 1, 2, 68, id="the table has no say in UCS-2"),
    ],
)
def test_a_text_takes_the_parts_that_the_standard_says(
    text: str, encoding: Encoding, parts: int, units: int, left: int
) -> None:
    """Each text is counted as the standard defines; a character of two units is never split between two parts."""
    found = segments(text)

    assert (found.encoding, found.parts, found.units, found.left) == (encoding, parts, units, left)


# Some long texts take long on a busy machine.
@settings(deadline=None)
@given(TEXTS)
@example("a" * 152 + "€" * 5)
@example("中" * 66 + "😀" * 5)
def test_an_independent_package_cuts_in_the_same_places(text: str) -> None:
    """
    The independent package `smsutil` cuts each text in the same places, except in two cases where `smsutil` is wrong.

    `smsutil` counts the escape (U+001B) as a character of the alphabet. 23.038 has no character there, and a handset
    shows a single escape as a space. `smsutil` also counts an empty text as one part of UCS-2, where there is nothing
    to send.
    """
    assume(text and "\x1b" not in text)

    found, expected = segments(text), smsutil.split(text)

    assert found.texts == tuple(part.content for part in expected.parts)
    assert found.parts == len(expected.parts)
    assert (found.encoding is Encoding.GSM_7) == (expected.encoding == "gsm0338")
    assert found.units * (1 if found.encoding is Encoding.GSM_7 else 2) == expected.total_bytes


def test_the_escape_is_no_character_of_the_alphabet() -> None:
    """A text with an escape character is UCS-2, although `smsutil` counts it as GSM-7. An empty text has no parts."""
    assert segments("\x1b").encoding is Encoding.UCS_2
    assert smsutil.split("\x1b").encoding == "gsm0338"
    assert segments("").parts == 0


@pytest.mark.no_cover
@settings(deadline=None)
@given(TEXTS)
def test_no_other_cut_takes_fewer_parts(text: str) -> None:
    """No other cut of a text has fewer parts: this test tries all cuts and counts the units with code of its own."""
    found = segments(text)

    assert "".join(found.texts) == text
    assert len(found.texts) == found.parts == fewest_parts(text)
    joined = 153 if found.encoding is Encoding.GSM_7 else 67
    alone = 160 if found.encoding is Encoding.GSM_7 else 70
    lengths = [len(units_of(part, found.encoding)) for part in found.texts]
    assert sum(lengths) == found.units
    assert all(0 < length <= (alone if found.parts == 1 else joined) for length in lengths)
    if lengths:
        assert found.left == (alone if found.parts == 1 else joined) - lengths[-1]


def units_of(text: str, encoding: Encoding) -> list[object]:
    """Return the septets, or the UTF-16 code units, of a text by the tables of `smsutil`."""
    if encoding is Encoding.GSM_7:
        return [unit for character in text for unit in (("esc", character) if character in EXTENDED else (character,))]
    raw = text.encode("utf-16-be")
    return [raw[place : place + 2] for place in range(0, len(raw), 2)]


def fewest_parts(text: str) -> int:
    """Return the smallest number of parts over all cuts between characters."""
    gsm7 = set(text) <= set(BASIC + EXTENDED)
    alone, joined = (160, 153) if gsm7 else (70, 67)
    widths = [
        (2 if character in EXTENDED else 1) if gsm7 else len(character.encode("utf-16-be")) // 2 for character in text
    ]
    if sum(widths) <= alone:
        return 1 if text else 0
    fewest = [0]
    for end in range(1, len(widths) + 1):
        length, begin, best = 0, end, len(text)
        while begin > 0 and length + widths[begin - 1] <= joined:
            begin -= 1
            length += widths[begin]
            best = min(best, fewest[begin] + 1)
        fewest.append(best)
    return fewest[-1]


def test_what_made_it_ucs_2_is_returned_with_its_positions() -> None:
    """
    `foreign` lists each character that requires UCS-2 once, in order, with its indexes; its str is the character's
    name.
    """
    foreign = segments("It’s a\u00a0‘code’ – 😀").foreign

    assert [(one.character, one.positions) for one in foreign] == [
        ("’", (2, 12)),
        ("\u00a0", (6,)),
        ("‘", (7,)),
        ("–", (14,)),
        ("😀", (16,)),
    ]
    assert str(foreign[0]) == "U+2019 RIGHT SINGLE QUOTATION MARK"
    assert str(segments("\x85").foreign[0]) == "U+0085 (no name)"


@given(GSM7_TEXTS)
def test_a_text_of_the_alphabet_names_no_character(text: str) -> None:
    """A text of the GSM-7 alphabet has no foreign characters."""
    assert segments(text).foreign == ()


@pytest.mark.parametrize("text", ["Secret €1234", "Secret’ 1234"])
def test_no_repr_shows_anything_of_the_text(text: str) -> None:
    """The repr shows neither the parts nor the foreign characters of the text, and a pickled copy is equal."""
    found = segments(text)

    shown = repr(found) + str(found) + repr(found.foreign)

    assert not any(character in shown for character in ("Secret", "1234", "’"))
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    "text",
    ["4711\ud800", "a\udfff4711", "4711\ud83d\ude00", "\ude004711\ud83d" * 40, b"4711", 4711, ["4711"]],
)
def test_what_no_message_can_carry_is_refused(text: object) -> None:
    """
    A text with half of a surrogate pair is refused, also where two halves look like a pair. Any value but a str is
    refused. The error contains nothing of the text, and has no context, which could contain it.
    """
    with pytest.raises(InvalidMessageError) as caught:
        segments(text)  # type: ignore[arg-type]

    assert "4711" not in f"{caught.value!r} {vars(caught.value)}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("length", [200_000, pytest.param(1_000_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("character", ["a", "€", "中", "😀"])
def test_a_megabyte_is_counted(character: str, length: int) -> None:
    """
    A text of a million characters is cut completely; a recursion would fail, and quadratic time would exceed the
    timeout.
    """
    found = segments(character * length)

    assert found.parts == len(found.texts)
    assert sum(map(len, found.texts)) == length


def _lines_executed(text: str) -> int:
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        segments(text)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("character", ["€", "[", "中", "😀"])
def test_one_character_of_two_units_does_not_make_a_text_slow(character: str) -> None:
    """A text is cut part by part, and not character by character, whatever it contains."""
    plain, other = _lines_executed("a" * 20_000), _lines_executed("a" * 19_999 + character)

    assert other < 3 * plain


def test_the_function_is_public_whatever_was_imported_before() -> None:
    """`pico_async.segments` is the function. A module of that name would replace the function once it was imported."""
    assert pico_async.segments is segments
    assert callable(pico_async.segments)
