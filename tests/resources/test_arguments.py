"""These tests check the type and the length limits of the text arguments of management calls."""

import pytest

from pico_async.errors import InvalidMessageError
from pico_async.resources._arguments import text_of


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        ("x", {}),
        pytest.param("x" * 100_000, {}, id="no upper bound"),
        ("x", {"longest": 50}),
        pytest.param("x" * 50, {"longest": 50}, id="50 letters"),
        pytest.param("活" * 50, {"longest": 50}, id="50 ideographs"),
        pytest.param("😀" * 50, {"longest": 50}, id="50 emoji"),
        ("", {"shortest": 0, "longest": 255}),
        pytest.param("x" * 255, {"shortest": 0, "longest": 255}, id="255 letters"),
        ("line\nbreak", {}),
    ],
)
def test_a_text_within_its_bounds_comes_back_as_it_is(value: str, bounds: dict[str, int]) -> None:
    """A text within its inclusive limits is returned unchanged; a character counts once, whatever its size in bytes."""
    assert text_of("name", value, **bounds) == value


@pytest.mark.parametrize(
    ("value", "bounds", "fault"),
    [
        ("", {}, r"has 0 characters; at least 1 are allowed\."),
        ("", {"longest": 50}, r"has 0 characters; 1 to 50 are allowed\."),
        pytest.param("x" * 51, {"longest": 50}, r"has 51 characters; 1 to 50 are allowed\.", id="51 letters"),
        pytest.param(
            "x" * 256,
            {"shortest": 0, "longest": 255},
            r"has 256 characters; 0 to 255 are allowed\.",
            id="256 letters",
        ),
        ("half \ud83d pair", {}, "contains an unpaired surrogate"),
        (None, {}, r"must be a str, not NoneType\."),
        (7, {}, r"must be a str, not int\."),
        (b"bytes", {}, r"must be a str, not bytes\."),
    ],
)
def test_any_other_is_refused_by_name(value: object, bounds: dict[str, int], fault: str) -> None:
    """
    A text outside its limits or of a wrong type is refused.

    The error names the argument and what is allowed, and does not contain the value.
    """
    with pytest.raises(InvalidMessageError, match=f"^`remark` {fault}") as caught:
        text_of("remark", value, **bounds)

    assert len(str(value)) < 5 or str(value) not in str(caught.value)
    assert caught.value.__context__ is None
