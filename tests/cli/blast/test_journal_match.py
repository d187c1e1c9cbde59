"""`pico blast --resume` stops where the journal is that of other rows, and a dry run counts what it would skip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.pico_command import Ran
from tests.support.sandbox_process import SandboxProcess

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
COUNT = 40
ROWS = [(f"order-{number}", f"8613{number:09}", f"{number:06}") for number in range(COUNT)]
HEADER = ("id", "phone", "code")


@pytest.mark.parametrize(
    ("first", "then", "rows", "said"),
    [
        (("--text", "Your code si {{code}}"), ("--text", "Your code is {{code}}"), ROWS, "the text changed."),
        (("--text", "{{code}}"), ("--template-id", "t-1"), ROWS, "the text and the template changed."),
        (
            ("--text", "{{code}}", "--key-column", "id"),
            ("--text", "{{code}}"),
            ROWS,
            "the key column changed: it had --key-column id.",
        ),
        (
            ("--text", "{{code}}"),
            ("--text", "{{code}}", "--key-column", "id"),
            ROWS,
            "the key column changed: it had no --key-column.",
        ),
        (
            ("--text", "{{code}}", "--key-column", "id"),
            ("--text", "{{code}}", "--key-column", "code"),
            ROWS,
            "the key column changed: it had --key-column id.",
        ),
        (("--text", "{{code}}"), ("--text", "{{code}}"), [(a, b, f"9{c}") for a, b, c in ROWS], "40 others. They"),
    ],
)
def test_a_resume_with_other_messages_is_stopped(
    pico_here: Pico,
    quick: SandboxProcess,
    write_csv: WriteCsv,
    tmp_path: Path,
    first: Sequence[str],
    then: Sequence[str],
    rows: Sequence[Sequence[str]],
    said: str,
) -> None:
    """
    `--resume` with another text, template, key column or other values sends nothing and says what changed.

    A dry run says the same and ends with 1. `--yes` sends the rows.
    """
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    path = write_csv(ROWS, header=HEADER)
    pico_here("blast", path, *first, "--journal", journal, *QUICK, env=quick.env)
    path = write_csv(rows, header=HEADER)
    again = ("blast", path, *then, "--journal", journal, "--resume", *QUICK)

    dry = pico_here(*again, "--dry-run", env=quick.env)
    stopped = pico_here(*again, "--report", report, env=quick.env)
    before = len(quick.accepted())
    agreed = pico_here(*again, "--yes", "--json", env=quick.env)

    for ran in (dry, stopped):
        assert f"None of the 40 rows is in the journal {journal}, which has 40 others." in ran.err
        assert "They would all be sent again." in ran.err
        assert said in ran.err
    assert (dry.code, stopped.code, before) == (1, 2, COUNT)
    assert "Nothing was sent." in stopped.err
    assert not report.exists()
    assert (agreed.code, agreed.json["skipped"]) == (0 if "--text" in then else agreed.code, 0)
    assert "--text" not in then or agreed.json["accepted"] == COUNT


def test_a_dry_run_counts_what_a_resume_would_skip(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """`--resume --dry-run` reads the journal and counts what is skipped, in doubt, refused and to be sent."""
    journal = tmp_path / "blast.db"
    drops = ("order-d", "99900000001", "1")
    common = ("--text", "{{code}}", "--key-column", "id", "--journal", journal)
    first = write_csv([*ROWS[:30], drops], header=HEADER)
    pico_here("blast", first, *common, *QUICK, env=quick.env)
    rows = [*ROWS[:29], (*ROWS[29][:2], "changed"), drops, *ROWS[30:], ROWS[5]]
    again = ("blast", write_csv(rows, header=HEADER), *common, "--resume", *QUICK)

    dry = pico_here(*again, "--dry-run", env=quick.env)
    as_json = pico_here(*again, "--dry-run", "--json", env=quick.env).json
    ran = pico_here(*again, "--json", env=quick.env)

    assert as_json["journal"] == {
        "messages": 42,
        "skipped": 29,
        "in_doubt": 1,
        "unsent": 0,
        "new": 10,
        "refused": 2,
        "total": 31,
    }
    for line in (
        "       29 to skip: accepted according to the journal",
        "        1 in doubt",
        "        2 not sent: key of an earlier row",
        "  line 43 has the key of line 7",
    ):
        assert line in dry.out
    assert as_json["repeated_key_rows"] == [{"line": 43, "first_line": 7}]
    assert as_json["duration_s"] < 1
    assert (ran.json["skipped"], ran.json["in_doubt"], ran.json["accepted"]) == (29, 1, 10)
    assert ran.json["not_sent"] == 2


@pytest.mark.parametrize(("journal", "code"), [(("--journal", "new.db"), 1), ((), 0)])
def test_two_rows_with_one_key_are_found_by_the_dry_run(
    pico_here: Pico, write_csv: WriteCsv, journal: Sequence[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run lists rows whose key an earlier row has; with a journal, which would not send them, it ends with 1."""
    path = write_csv([("a", *ROWS[0][1:]), ("b", *ROWS[1][1:]), ("a", *ROWS[2][1:])], header=HEADER)
    monkeypatch.chdir(path.parent)

    ran = pico_here("blast", path, "--text", "{{code}}", "--key-column", "id", "--dry-run", *journal)

    assert "line 4 has the key of line 2" in ran.out
    assert ("not sent: a journal identifies a message by its key" in ran.out) == bool(journal)
    assert ran.code == code
    assert not Path("new.db").exists()
