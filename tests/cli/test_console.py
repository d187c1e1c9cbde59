"""A table on stdout is one line for each row where there is room, and is wrapped in parts where there is not."""

from __future__ import annotations

import re
import sys

import pytest
from rich.cells import cell_len

from pico_async.cli.console import print_table

ROWS = [(f"id-{number}", "多" * 3, None, f"[b]{number}") for number in range(2500)]


def test_a_table_in_a_pipe_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe, each row is one line with aligned columns, without padding at its end and without escape codes."""
    print_table(("ID", "name", "none", "text"), ROWS)

    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "ID       name    none  text"
    assert lines[7] == "id-7     多多多        [b]7"
    assert len(lines) == len(ROWS)


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    """A table without rows is its header alone."""
    print_table(("ID", "name"), [])

    assert capsys.readouterr().out == "ID  name\n"


@pytest.mark.parametrize(("columns", "headers"), [(80, 1), (20, 3)])
def test_a_terminal_shows_the_first_rows_of_a_long_table_before_it_measures_the_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, headers: int
) -> None:
    """A table that is too wide for its terminal is wrapped in parts, each with a header, and no cell is cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    print_table(("ID", "name", "none", "text"), ROWS)

    shown = capsys.readouterr().out
    assert shown.count("ID ") == headers
    assert all(cell_len(re.sub("\x1b[^m]*m", "", line)) <= columns for line in shown.splitlines())
    assert shown.count("多") == 3 * len(ROWS)
