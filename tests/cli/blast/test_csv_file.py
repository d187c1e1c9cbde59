"""A CSV file is read row by row."""

import os
from pathlib import Path

import pytest

from pico_async import ConfigurationError
from pico_async.cli.blast.csv_file import CsvFile


def rows_of(path: Path, delimiter: str = ",") -> list[tuple[int, list[str], str | None]]:
    with CsvFile(path, delimiter) as file:
        return [(row.line, list(row.values.values()), row.fault) for row in file.rows()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_and_without_a_byte_order_mark(path: Path, encoding: str) -> None:
    """A byte order mark is part of neither the first column's name nor a value, even when the file is read again."""
    path.write_text("phone,name\n8612345678901,陳大文\n", encoding=encoding)

    with CsvFile(path) as file:
        first = list(file.rows())
        second = list(file.rows())

    assert file.columns == ("phone", "name")
    assert [dict(row.values) for row in first] == [{"phone": "8612345678901", "name": "陳大文"}]
    assert second == first


def test_a_row_has_the_number_of_its_first_line(path: Path) -> None:
    """A row has the number of its first line, even after empty lines or line breaks inside a field."""
    path.write_bytes(b'phone,text\n\n1,"two\nlines"\n   \n2,"say ""yes"", please"\r\n\r\n3,x')

    assert rows_of(path) == [
        (3, ["1", "two\nlines"], None),
        (6, ["2", 'say "yes", please'], None),
        (8, ["3", "x"], None),
    ]


def test_old_macintosh_line_ends_are_lines_too(path: Path) -> None:
    """A lone carriage return ends a row."""
    path.write_bytes(b"phone,code\r1,2\r3,4\r")

    assert [line for line, _, _ in rows_of(path)] == [2, 3]


def test_rows_with_too_few_or_too_many_fields_have_a_fault(path: Path) -> None:
    """A row with too few or too many fields has a fault, and the other rows are read as usual."""
    path.write_text("phone,code\n1\n2,b\n3,c,d\n")

    assert rows_of(path) == [
        (2, [], "It has 1 fields, and the header has 2."),
        (3, ["2", "b"], None),
        (4, [], "It has 3 fields, and the header has 2."),
    ]


def test_another_delimiter_can_be_named(path: Path) -> None:
    """A file with semicolons can be read, because spreadsheets in half of Europe write them."""
    path.write_text("phone;code\n1;2\n")

    assert rows_of(path, ";") == [(2, ["1", "2"], None)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("phone,name\n1,a\n2,陳\n".encode("big5"), r"line 3: byte 3 of the line is not UTF-8.*CSV UTF-8.*iconv"),
        ("phone,name\n1,陳\n".encode("utf-16"), r"line 1: this is UTF-16.*CSV UTF-8"),
        (b"phone,name\n" + b"1,a\n" * 50_000 + b"2,\xff\n", r"line 50002: byte 3"),
    ],
)
def test_another_encoding_is_named_by_its_line(path: Path, content: bytes, said: str) -> None:
    """
    A file that is not UTF-8 is an error that gives the line and the remedy, even far down the file. The error has no
    exception chain, which could contain the data.
    """
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=said) as caught:
        rows_of(path)

    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('phone,text\n1,a\n2,"open\n3,b\n', 3),
        ('phone,text\n1,"a"b\n', 2),
        ('phone,text\n1,a\n2,"' + "x\n" * 100_000, 3),
    ],
)
def test_a_wrong_quote_ends_the_reading(path: Path, content: str, line: int) -> None:
    """A wrong quote is an error, because a guess of its end could move one person's code into another person's text."""
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=f"line {line}: .*quotes"):
        rows_of(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("phone,code,phone\n1,2,3\n", "two columns with the name `phone`"),
    ],
)
def test_a_header_that_names_no_columns_is_refused(path: Path, content: str, said: str) -> None:
    """
    A file that is empty, or whose header has a name twice, is an error, because its columns cannot be distinguished by
    name.
    """
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=said):
        rows_of(path)


def test_names_are_stripped_and_a_nameless_column_is_allowed(path: Path) -> None:
    """
    Blanks around column names are removed. Columns without a name are allowed, because spreadsheets add empty columns
    at the right.
    """
    path.write_text(" phone , code,,\n1,2,,\n")

    with CsvFile(path) as file:
        (row,) = file.rows()

    assert row.values["phone"] == "1"
    assert row.values["code"] == "2"


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A missing file, or a folder, is an error that states that the file cannot be read."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read: "), CsvFile(path):
            pass


def test_a_pipe_is_refused() -> None:
    """A pipe is refused, because the file is read twice and a pipe would be empty the second time."""
    reader, writer = os.pipe()
    os.close(writer)
    try:
        with pytest.raises(ConfigurationError, match="read twice"), CsvFile(Path(f"/dev/fd/{reader}")):
            pass
    finally:
        os.close(reader)


def test_a_file_replaced_meanwhile_is_read_as_it_was(path: Path) -> None:
    """A file that is replaced between the two passes is read as it was, so the rows sent are the rows checked."""
    path.write_text("phone,code\n1,2\n")

    with CsvFile(path) as file:
        list(file.rows())
        path.with_name("new.csv").write_text("phone,code\n9,9\n")
        path.with_name("new.csv").replace(path)
        second = [row.values["phone"] for row in file.rows()]

    assert second == ["1"]


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_is_one_character(path: Path, delimiter: str) -> None:
    """
    A delimiter that is not one usable character is a `ConfigurationError`, where the csv module would raise TypeError.
    """
    with pytest.raises(ConfigurationError, match="one character"):
        CsvFile(path, delimiter)
