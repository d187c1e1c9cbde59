"""These tests check that any CSV file causes only documented errors, and that each row is reported once."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from pico_async import ConfigurationError, InvalidMessageError, SmsMessage
from pico_async.cli.blast.csv_file import CsvFile
from pico_async.cli.blast.options import BlastOptions
from pico_async.cli.blast.row_mapping import RowMapping
from tests.support.pico_command import PICO, environment, report_rows

TEXT = "Hush {{name}}, your code is {{code}}"

NUMBERS = (
    "8613987654321", "+86 123-4567-8901", "００８６１２３４５", "٨٦١٢٣٤٥٦٧٨٩", "", " ", "0123456789", "1" * 16,
    "123", "=1+1", "8613987654321;drop", "1e15", "NaN", "86\u200b13987654321", "86\u00ad13987654321",
    "\ufeff8613987654321", "86\x001234567", "8613987654321\n", "²³⁴⁵⁶⁷⁸⁹", "-8613987654321", "++8613987654321",
    "86 1234 5678 901", "9" * 5000,
)  # fmt: skip
WORDS = (
    "1234", "", " ", "{{code}}", "{{", "}}", "{{name}} {{code}}", '"', '""', "a,b", "a\nb", "a\r\nb", "a\rb",
    "\x00", "=cmd|' /C calc'!A0", "\u202eevil", "e\u0301" * 50, "👩‍👩‍👧‍👦", "í³¿", "驗證碼", "x" * 10_000, "\t",
    "\u2028", "%s%n", "'; DROP TABLE message; --", "\x1b[31mred", "None", "NULL", "-0", "\ufffe",
)  # fmt: skip


def row(number: int) -> list[str]:
    """Make the row that belongs to this number: most rows have three fields, and some have fewer or more."""
    chance = random.Random(number)
    sound = chance.random() < 0.3
    to = f"8613{number:09d}" if sound else chance.choice(NUMBERS)
    fields = [to, chance.choice(WORDS), chance.choice(WORDS)]
    if chance.random() < 0.1:
        fields = (
            fields[: chance.randrange(1, 3)] if chance.random() < 0.5 else fields + ["more"] * chance.randrange(1, 4)
        )
    return fields


def write(path: Path, count: int) -> list[list[str]]:
    """Write a file with *count* rows, and return the rows that are not empty lines."""
    rows = [row(number) for number in range(count)]
    with path.open("w", encoding="utf-8-sig" if count % 2 else "utf-8", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([["phone", "name", "code"], *rows])
    return [fields for fields in rows if len(fields) > 1 or fields[0].strip()]


@pytest.mark.no_cover
def test_each_of_ten_thousand_rows_is_a_message_or_has_a_reason(tmp_path: Path) -> None:
    """
    Each of ten thousand hostile rows becomes a message or an InvalidMessageError, in less than 8 MiB of memory.

    A message has exactly the values of its row; an error quotes none of its values of more than six characters.
    """
    rows = write(tmp_path / "rows.csv", 10_001)
    outcomes: Counter[str] = Counter()

    tracemalloc.start()
    with CsvFile(tmp_path / "rows.csv") as file:
        mapping = RowMapping.for_columns(file.columns, BlastOptions(file.path, text=TEXT))
        for fields, parsed in zip(rows, file.rows(), strict=True):
            made = mapping.message(parsed)

            outcomes[type(made).__name__] += 1
            if isinstance(made, SmsMessage):
                assert len(fields) == 3
                assert made.text == f"Hush {fields[1]}, your code is {fields[2]}"
                assert made.to.isascii()
                assert made.to.isdigit()
            else:
                assert isinstance(made, InvalidMessageError)
                assert not [value for value in fields if len(value) > 6 and value in str(made)]
                assert len(str(made)) < 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 8 * 2**20
    assert outcomes["SmsMessage"] > 2000
    assert outcomes["InvalidMessageError"] > 2000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'phone,code\n8613987654321,"1234\n8612345678902,5678\n', "quote"),
        (b'phone,code\n8613987654321,12"34"\n8612345678902,"56"78\n', "quote"),
        (b"phone,code\n8613987654321,\xff\xfe\n", "not UTF-8"),
        ("phone,code\n8613987654321,1234\n".encode("utf-16"), "UTF-16"),
        (b"phone,code\n8613987654321," + b"9" * 200_000 + b"\n", "field"),
        (b"\x00\x00\x00\x00", "column"),
        (b"", "empty"),
        (b"\n\n\n", "empty"),
        (b"phone,phone\n1,2\n", "two columns"),
        (b"8613987654321,1234\n", "to-column"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that cannot be read raises a ConfigurationError that states the fault and quotes no number."""
    (tmp_path / "rows.csv").write_bytes(content)

    with pytest.raises(ConfigurationError) as raised, CsvFile(tmp_path / "rows.csv") as file:
        mapping = RowMapping.for_columns(file.columns, BlastOptions(file.path, text="hello"))
        for parsed in file.rows():
            mapping.message(parsed)

    assert said in str(raised.value)
    assert "8613987654321" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("count", [1500, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_the_command_tells_of_each_row_once(tmp_path: Path, count: int) -> None:
    """
    `pico blast` reports each row once, in its summary and in its report file.

    Neither the command nor its dry run prints a traceback or a row's long values.
    """
    rows = write(tmp_path / "rows.csv", count)
    blast = [PICO, "blast", tmp_path / "rows.csv", "--text", TEXT, "--json", "--no-progress"]
    runs = [
        subprocess.run([*blast, *more], env=environment(), capture_output=True, text=True, check=False)
        for more in (["--dry-run"], ["--sandbox", "--rate", "5000", "--report", tmp_path / "out.csv"])
    ]

    report = report_rows(tmp_path / "out.csv")

    said = "".join(ran.stdout + ran.stderr for ran in runs) + (tmp_path / "out.csv").read_text()
    assert [ran.returncode for ran in runs] == [1, 1]
    assert "Traceback" not in said
    assert json.loads(runs[1].stdout)["total"] == len(rows) == len(report) == len({line["line"] for line in report})
    assert [value for value in (*NUMBERS, *WORDS) if len(value) > 8 and value.isalnum() and value in said] == []
    assert f"8613{0:09d}"[:11] not in said
    assert all(line["outcome"] in ("accepted", "not_sent", "rejected", "in_doubt") for line in report)
    assert sum(line["outcome"] == "accepted" for line in report) > count / 10
