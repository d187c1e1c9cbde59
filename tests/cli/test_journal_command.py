"""`pico journal` shows the content of a journal, and records decisions about the messages in doubt."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.pico_command import PICO, TEXT, Ran, environment, people, report_rows
from tests.support.sandbox_process import SandboxProcess

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
DROPS = "99900000001"  # accepted, and the connection is closed without an answer


@pytest.fixture
def doubtful(pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path) -> Path:
    """Return a journal with order-0 and order-1 in doubt, and order-2 accepted."""
    journal = tmp_path / "doubtful.db"
    rows = [("order-0", DROPS), ("order-1", DROPS), ("order-2", "8613000000001")]
    path = write_csv(rows, header=("id", "phone"), name="doubtful.csv")
    pico_here("blast", path, "--text", "x", "--key-column", "id", "--journal", journal, *QUICK, env=quick.env)
    return journal


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("mark-sent", "FILE"), "or --all"),
        (("mark-sent", "FILE", "order-1", "--all"), "or --all"),
        (("mark-sent", "FILE", "8613000000001"), "86…01"),
        (("resend", "FILE", "order-9", "--yes"), "no message of the key or ID"),
        (("resend", "FILE", "order-1"), "Pass --yes to confirm"),
        (("resend", "FILE", "--yes"), "or --all"),
        (("resend", "FILE", "order-1", "--all", "--yes"), "or --all"),
        (("resend", "FILE", "order-1", "--yes"), "was accepted"),
        (("show", "none.db"), "There is no journal"),
        (("in-doubt", "none.db"), "There is no journal"),
    ],
)
def test_a_wrong_decision_changes_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path, command: Any, said: str
) -> None:
    """A wrong command ends with exit code 2 and does not change the journal."""
    journal = tmp_path / "blast.db"
    path = write_csv([("order-1", "8613000000001")], header=("id", "phone"))
    pico_here("blast", path, "--text", "x", "--key-column", "id", "--journal", journal, *QUICK, env=quick.env)
    before = pico_here("journal", "show", journal, "--json").json

    ran = pico_here("journal", *(journal if word == "FILE" else word for word in command))

    assert ran.code == 2
    assert said in ran.err
    assert "8613000000001" not in ran.err
    assert pico_here("journal", "show", journal, "--json").json == before == before | {"accepted": 1, "in_doubt": 0}


def test_the_journal_shows_its_counts_and_doubts(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The journal shows its counts by outcome, and lists each message in doubt with its row. `mark-sent --all` makes the
    resumed bulk send skip that message.
    """
    drops, refused = "99900000001", "99900000018"
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    path = write_csv([*people(2), (drops, "1"), (refused, "2")])
    ran = pico_here("blast", path, "--text", TEXT, "--journal", journal, "--report", report, *QUICK, env=quick.env)

    shown = pico_here("journal", "show", journal)
    listed = pico_here("journal", "in-doubt", journal)
    everything = pico_here("journal", "mark-sent", journal, "--all")
    resumed = pico_here("blast", path, "--text", TEXT, "--journal", journal, "--resume", *QUICK, env=quick.env)

    assert ran.code == 1
    assert f"see `pico journal in-doubt {journal}`, then `mark-sent` or `resend`" in ran.out
    assert "with --resume to continue.\nPass another --report, or --force to replace this one.\n" in ran.out
    assert [line.split(":")[0].strip() for line in shown.out.splitlines()] == ["2 accepted", "1 in doubt", "1 rejected"]
    assert len(listed.out.splitlines()) == 2
    assert listed.out.splitlines()[1].split()[1] == "4"
    assert "1 message marked as sent." in everything.out
    assert "3 skipped" in resumed.out
    assert "1 rejected" in resumed.out
    assert quick.accepted_by_number() == {**dict.fromkeys((to for to, _ in people(2)), 1), drops: 1}


def test_one_unknown_key_stops_the_whole_decision(pico_here: Pico, doubtful: Path) -> None:
    """
    One unknown key among several stops the whole decision, because users could not know which half of it was carried
    out.
    """
    for command in (("mark-sent",), ("resend", "--yes")):
        ran = pico_here("journal", *command, doubtful, "order-0", "order-9")

        assert ran.code == 2
        assert pico_here("journal", "show", doubtful, "--json").json["in_doubt"] == 2


def test_a_message_in_doubt_is_shown_with_its_row_and_time(pico_here: Pico, doubtful: Path) -> None:
    """
    The table lists each message in doubt with its row, its time and a short ID. That ID is a prefix of the ID in the
    JSON, and `mark-sent` accepts it.
    """
    table = pico_here("journal", "in-doubt", doubtful).out.splitlines()
    listed = pico_here("journal", "in-doubt", doubtful, "--json").json["in_doubt"]
    (short, place, since, *_), (_, second, *_) = (line.split() for line in table[1:])

    marked = pico_here("journal", "mark-sent", doubtful, short)
    left = pico_here("journal", "in-doubt", doubtful, "--json").json["in_doubt"]

    assert (place, second) == ("2", "3")
    assert [record["line"] for record in listed] == [2, 3]
    assert len(short) == 12
    assert listed[0]["id"].startswith(short)
    assert len(listed[0]["id"]) == 32
    assert datetime.fromisoformat(since).timestamp() == listed[0]["changed_at"]
    assert datetime.fromisoformat(since).tzinfo is not None
    assert marked.code == 0
    assert [record["id"] for record in left] == [listed[1]["id"]]


@pytest.mark.parametrize(("answer", "code", "in_doubt"), [("y", 0, 0), ("n", 2, 2), ("\x04", 2, 2)])
def test_a_resend_is_asked_for_on_a_terminal(
    pico_here: Pico, doubtful: Path, answer: str, code: int, in_doubt: int
) -> None:
    """`resend` on a terminal warns that a message may be sent twice, and changes nothing without the answer yes."""
    terminal, theirs = pty.openpty()

    with subprocess.Popen(
        [PICO, "journal", "resend", doubtful, "--all"],
        env=environment(None),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(terminal, f"{answer}\n".encode())
        out, err = process.communicate(timeout=60)
    os.close(terminal)
    os.close(theirs)

    assert process.returncode == code
    assert "A message that was sent before is then sent twice." in out + err
    assert ("Nothing was changed." in err) == bool(code)
    assert pico_here("journal", "show", doubtful, "--json").json["in_doubt"] == in_doubt


def test_report_and_journal_name_the_same_line(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The journal shows each message in doubt with its line of the file, as the report and the summary do.

    Fields with line breaks, empty lines and bad rows come before it. A journal of Python has no lines, but indexes.
    """
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    path = write_csv(
        [("8613000000001", "two\nlines"), ("12", "bad"), (DROPS, "1"), ("8613000000002", "2"), (DROPS, "3")]
    )
    path.write_text(path.read_text().replace("12,bad\n", "12,bad\n\n\n"))
    ran = pico_here("blast", path, "--text", TEXT, "--journal", journal, "--report", report, *QUICK, env=quick.env)

    table = pico_here("journal", "in-doubt", journal).out.splitlines()
    listed = pico_here("journal", "in-doubt", journal, "--json").json["in_doubt"]

    reported = [row["line"] for row in report_rows(report) if row["outcome"] == "in_doubt"]
    assert table[0].split()[:2] == ["ID", "line"]
    # The report has them in the order in which they ended.
    assert [line.split()[1] for line in table[1:]] == sorted(reported) == ["7", "9"]
    assert [record["line"] for record in listed] == [7, 9]
    assert [record["index"] for record in listed] == [2, 4]
    assert "line 7, in doubt" in ran.out


def test_accepted_messages_need_no_decision(pico_here: Pico, doubtful: Path) -> None:
    """`mark-sent` says of a message that was accepted that there is nothing to decide, and takes `--yes`."""
    both = pico_here("journal", "mark-sent", doubtful, "order-0", "order-2", "--yes")
    again = pico_here("journal", "mark-sent", doubtful, "order-0")

    assert (both.code, again.code) == (0, 0)
    assert both.out == "1 message marked as sent.\n1 message already accepted: nothing to decide.\n"
    assert again.out == "1 message already accepted: nothing to decide.\n"
    assert pico_here("journal", "show", doubtful, "--json").json["in_doubt"] == 1
