"""A file of phone numbers that opted out is read whole, or refused."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from pico_async import ConfigurationError
from pico_async.cli.blast.row_mapping import number_reader
from pico_async.cli.suppression_file import read_suppressed

ONE, OTHER = "8612345678901", "8612345678902"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        pytest.param(f"{ONE}\n{OTHER}\n", {}, id="one a line"),
        pytest.param(
            f"\ufeff+86 123 4567 8901\r\n\r\n{OTHER}\n{ONE}", {}, id="spelled otherwise, twice, without an end"
        ),
        pytest.param(f"phone\n{ONE}\n{OTHER}\n", {}, id="one a line under a name"),
        pytest.param(f"since,Mobile\n2024,{ONE}\n2025,{OTHER}\n", {}, id="a column"),
        pytest.param(
            f"since;tel\n2024;{ONE}\n2025;{OTHER}\n", {"delimiter": ";", "to_column": "tel"}, id="that of the blast"
        ),
        pytest.param(f"phone,cell\n1,{ONE}\n2,{OTHER}\n", {"to_column": "cell"}, id="that of the blast before another"),
        pytest.param(
            f"(234) 567-8901\n+{OTHER}\n+{ONE}",
            {"read": number_reader(region="US", newer_ranges=True)},
            id="of a region",
        ),
    ],
)
def test_numbers_are_read_one_a_line_or_from_a_column(path: Path, content: str, options: Any) -> None:
    """Numbers are read in any spelling, one per line or from one column, with or without a header."""
    path.write_text(content, encoding="utf-8")

    assert {*(read_suppressed(path, **options) or ())} - {"12345678901"} == {ONE, OTHER}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("number\n0912345678\n", "line 2, is not a phone number: `to` starts with 0", id="national"),
        pytest.param("msisdn\n", "line 1, is not a phone number", id="an unknown column name"),
        pytest.param("since,tel\n2024,8612345678901\n", "its first line must name a column to, phone", id="no column"),
        pytest.param(
            "phone,mobile\n1,2\n", "more than one column may contain the numbers: `phone`, `mobile`", id="two"
        ),
        pytest.param("a,phone\n1\n", "line 2: It has 1 fields", id="half a row"),
        pytest.param(f"{ONE}\n{OTHER},{ONE}\n", "line 2: It has 2 fields", id="two in a line"),
        pytest.param("\ufeff", "is empty", id="a mark alone"),
        pytest.param(f"{OTHER}\v{ONE}\n", "line 1, is not a phone number: `to` has 26 digits", id="two in one"),
        pytest.param(f"{ONE}\n".encode("utf-16"), "this is UTF-16", id="UTF-16"),
        pytest.param(f"{ONE}\n".encode("utf-16-le"), "`to` holds U\\+0000", id="UTF-16 without a mark"),
        pytest.param(gzip.compress(ONE.encode()), "is not UTF-8", id="packed"),
    ],
)
def test_a_file_that_may_be_incomplete_is_refused(path: Path, content: str | bytes, said: str) -> None:
    """
    A file that may be incomplete is refused. The error names the line or the columns, and never contains the number.
    """
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ConfigurationError, match=said) as caught:
        read_suppressed(path)

    assert "0912345678" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_missing_file_is_refused(path: Path) -> None:
    """A missing file is an error, and is not read as an empty list."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_suppressed(path)


@pytest.mark.parametrize("damage", ["more", "less", "others"])
def test_a_file_that_is_written_to_while_it_is_read_is_refused(path: Path, damage: str) -> None:
    """A file that grows, shrinks or changes while it is read is refused, because somebody may be missing."""
    path.write_text(f"{ONE}\n{OTHER}\n")

    def read(number: str) -> str:
        if damage == "more":
            path.write_text(f"{ONE}\n{OTHER}\n{ONE}\n")
        else:
            path.write_text("" if damage == "less" else f"{OTHER}\n{ONE}\n")
            os.utime(path, ns=(1, 1))  # two writes may fall into one tick of the file system's clock
        return number

    with pytest.raises(ConfigurationError, match="was written to while it was read"):
        read_suppressed(path, read=read)


def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end(path: Path, tmp_path: Path) -> None:
    """A file that another one takes the place of is read whole, as it was."""
    path.write_text(f"{ONE}\n{OTHER}\n")

    def read(number: str) -> str:
        (tmp_path / "new.csv").write_text(f"{ONE}\n")
        (tmp_path / "new.csv").rename(path)
        return number

    assert read_suppressed(path, read=read) == {ONE, OTHER}


def test_an_empty_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PICO_SUPPRESS that is there and empty is refused, and one that is not there means that there is no file."""
    monkeypatch.setenv("PICO_SUPPRESS", "")
    with pytest.raises(ConfigurationError, match="PICO_SUPPRESS is set but empty"):
        read_suppressed(None)

    monkeypatch.delenv("PICO_SUPPRESS")
    assert read_suppressed(None) is None
