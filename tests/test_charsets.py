"""These tests check which texts some bytes are read as, with and without the name of a charset."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pico_async._charsets import charset_of, texts

SIMPLIFIED = "访问过于频繁，请稍候再试"
TRADITIONAL = "重複提交，請稍後再試：功能許可"


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("plain", "ascii"),
        (SIMPLIFIED, "utf-8"),
        (SIMPLIFIED, "gbk"),
        (SIMPLIFIED, "gb18030"),
        (TRADITIONAL, "utf-8"),
        (TRADITIONAL, "big5"),
        (TRADITIONAL, "cp950"),
        ("驗證失敗,無法訪問系统資源", "gbk"),  # traditional and simplified characters in one text
        ('{"a": "功"}', "utf-16"),
        ('{"a": "功"}', "utf-16-le"),
        ('{"a": "功"}', "utf-16-be"),
        ('{"a": "功"}', "utf-32"),
        ('{"a": "功"}', "utf-8-sig"),
        ("é", "latin-1"),
    ],
)
def test_a_charset_that_is_not_named_is_found(text: str, codec: str) -> None:
    """The first text is the right one for each charset of the region, although the sender names none."""
    assert next(texts(text.encode(codec))) == text


@pytest.mark.parametrize(
    ("named", "codec"),
    [
        *[(name, "gbk") for name in ("GBK", "gb2312", "GB18030", "x-gbk", "windows-936", "CP936")],
        *[(name, "big5") for name in ("Big5", "x-x-big5", "BIG5", "CP950", "ms950", "cn-big5")],
        ("Big5-HKSCS", "big5hkscs"),
        ("UTF-16", "utf-16"),
        ("utf-16le", "utf-16-le"),
        ("utf8", "utf-8"),
    ],
)
def test_the_charset_that_is_named_comes_first(named: str, codec: str) -> None:
    """A text is read in the charset that is named, by any of its common names, also where another one would do."""
    text = "驗證失敗" if "big" in codec else "联通"  # in other charsets, these bytes are other characters

    assert next(texts(text.encode(codec), named)) == text


@pytest.mark.parametrize(
    "named", ["iso-8859-1", "us-ascii", "nonsense", "", "punycode", "unicode_escape", "big5", "\0"]
)
def test_a_charset_that_is_wrong_or_not_known_is_not_heeded(named: str) -> None:
    """A text in UTF-8 is read as UTF-8, although the sender names a charset that cannot be right or is not known."""
    text = "訪問過於頻繁 €"

    assert next(texts(text.encode(), named)) == text


def test_what_the_bytes_prove_counts_before_the_name() -> None:
    """A byte order mark and the zeros of UTF-16 are believed, and a name that contradicts them is not."""
    assert next(texts('{"a": "功"}'.encode("utf-16-le"), "gbk")) == '{"a": "功"}'
    assert next(texts('{"a": "功"}'.encode("utf-8-sig"), "gbk")) == '{"a": "功"}'


@given(st.binary(), st.none() | st.text())
def test_any_bytes_are_some_text(content: bytes, named: str | None) -> None:
    """Any bytes give at least one text, with any name of a charset, and nothing is raised."""
    assert list(texts(content, named))


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (None, None),
        ("", None),
        ("application/json", None),
        ("application/json; charset=GBK", "GBK"),
        ('application/json;Charset = "big5";x=y', "big5"),
        ("text/html; charset=", None),
    ],
)
def test_the_charset_is_read_from_the_content_type(content_type: str | None, charset: str | None) -> None:
    """The charset of a Content-Type is found in any spelling; there is none where the header names none."""
    assert charset_of(content_type) == charset
