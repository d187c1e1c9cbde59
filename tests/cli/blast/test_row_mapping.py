"""The rows of a file become messages."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pico_async import ConfigurationError, InvalidMessageError, SmsMessage
from pico_async.cli.blast.csv_file import Row
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.row_mapping import RowMapping, number_reader
from pico_async.numbers import e164

COLUMNS = ("id", "phone", "code")
TEXT = "Your code is {{code}}"


def map_columns(
    columns: tuple[str, ...] = COLUMNS, read: Callable[[str], str] = e164, text: str | None = TEXT, **options: Any
) -> RowMapping:
    return RowMapping.for_columns(columns, BlastOptions(Path("people.csv"), text=text, **options), read)


def row(**values: str) -> Row:
    return Row(7, {"id": "u1", "phone": "8612345678901", "code": "0042", **values})


def test_a_row_makes_its_message() -> None:
    """A message gets its number, its text and its key from the columns of its row."""
    made = map_columns(key_column="id").message(row(phone="+86 123-4567 8901"))

    assert made == SmsMessage(to="8612345678901", text="Your code is 0042", key="u1")


def test_a_template_takes_the_place_of_the_text() -> None:
    """
    With a template ID, the message has no text and no variables, because v0.4 does not document how variables are
    passed.
    """
    made = map_columns(text=None, template_id="welcome-1").message(row())

    assert made == SmsMessage(to="8612345678901", template_id="welcome-1")


@pytest.mark.parametrize("column", ["to", "phone", "mobile", "number", "Phone", "MOBILE"])
def test_the_column_of_the_numbers_is_guessed(column: str) -> None:
    """The column of the phone numbers is recognised by four common names, in upper or lower case."""
    assert map_columns(("code", column)).to_column == column


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("code", "tel"), r"--to-column .*: the file has the columns `code`, `tel`\."),
        (("code", "to", "phone"), "More than one column may contain the numbers: `to`, `phone`"),
    ],
)
def test_an_ambiguous_column_is_not_guessed(columns: tuple[str, ...], said: str) -> None:
    """
    If no column or more than one may contain the numbers, the error lists the columns, and `--to-column` decides.

    A wrong guess could send to order numbers.
    """
    with pytest.raises(ConfigurationError, match=said):
        map_columns(columns)

    assert map_columns(columns, to_column=columns[1]).to_column == columns[1]


@pytest.mark.parametrize(
    "options", [{"text": "Hi {{nmae}}"}, {"to_column": "nmae"}, {"key_column": "nmae"}], ids=["text", "to", "key"]
)
def test_an_unknown_column_is_reported_with_the_known_ones(options: dict[str, str]) -> None:
    """An unknown column in the text or in an option is an error that lists the columns of the file."""
    with pytest.raises(ConfigurationError, match=r"nmae.*the file has the columns `id`, `phone`, `code`"):
        map_columns(**options)


def test_a_file_without_a_header_shows_no_whole_number() -> None:
    """If a file has no header, its first row is read as column names, so the error masks phone numbers in that list."""
    with pytest.raises(ConfigurationError, match="Does its first line name the columns") as caught:
        map_columns(("8612345678901", "4711"))

    assert "8612345678901" not in str(caught.value)
    assert "`86…01`" in str(caught.value)


def test_a_file_with_another_delimiter_gets_a_hint() -> None:
    """A header with another delimiter looks like one long column, so the error suggests `--delimiter`."""
    with pytest.raises(ConfigurationError, match="pass --delimiter"):
        map_columns(("phone;code",))


@pytest.mark.parametrize("options", [{"text": None}, {"template_id": "t-1"}])
def test_there_is_exactly_one_content(options: dict[str, str | None]) -> None:
    """Neither text nor template, or both, is an error."""
    with pytest.raises(ConfigurationError, match="exactly one of --text and --template-id"):
        map_columns(**options)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(phone="0912345678"), "starts with 0"),
        (row(phone=""), "`to` is empty"),
        (row(code=" "), "Column `code` is empty"),
        (row(id=""), "`key` is empty"),
        (Row(7, {}, "It has 1 fields, and the header has 3."), "It has 1 fields"),
    ],
)
def test_a_bad_row_returns_its_error_and_raises_nothing(bad: Row, said: str) -> None:
    """
    The error of a bad row is returned and not raised: an exception would end the generator, and the other rows with it.
    """
    made = map_columns(key_column="id").message(bad)

    assert isinstance(made, InvalidMessageError)
    assert said in str(made)
    assert made.__traceback__ is None


def test_expiry_counts_from_the_start_of_the_command() -> None:
    """
    `expires_in` counts from the start of the command for each row, because all codes in the file were made before.
    """
    mapping = map_columns(expires_in=0.05)
    time.sleep(0.06)

    late = mapping.message(row())

    assert isinstance(late, SmsMessage)
    assert late.expires_in == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_an_expiry_is_positive(seconds: float) -> None:
    """A zero, negative or NaN `expires_in` is an error, because no message could be sent in time."""
    with pytest.raises(ConfigurationError, match="--expires-in"):
        map_columns(expires_in=seconds)


def test_with_a_region_national_numbers_are_accepted() -> None:
    """
    With a region, a national number is accepted and gets its country code; without a region, that number is an error.
    """
    national = row(phone="0912 345 678")

    made = map_columns(read=number_reader(region="tw")).message(national)

    assert isinstance(made, SmsMessage)
    assert made.to == "886912345678"
    assert isinstance(map_columns().message(national), InvalidMessageError)


def test_an_unknown_region_is_reported_once() -> None:
    """An unknown region is one error before the rows, and not a failure of each row."""
    with pytest.raises(ConfigurationError, match="`region`"):
        number_reader(region="Taiwan")
