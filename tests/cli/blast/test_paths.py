"""
A path that leads nowhere is an error in words, and no option writes on another file of the bulk send or on a journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from pico_async.bulk.journal.sqlite_file import JournalFile
from pico_async.cli.blast.report_file import ReportError, ReportFile
from tests.support.pico_command import Ran, people
from tests.support.sandbox_process import SandboxProcess

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--text", "{{code}}", "--rate", 2000, "--no-progress")

NOWHERE = {
    "a loop of symlinks": lambda folder: _loop(folder),
    "a name that is too long": lambda folder: folder / ("x" * 300),
    "a file as a folder": lambda folder: folder / "people.csv" / "x",
    "a folder that is not there": lambda folder: folder / "none" / "x",
    "a folder": lambda folder: folder,
}


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


@pytest.mark.parametrize("kind", NOWHERE)
@pytest.mark.parametrize(
    "command",
    [
        ("blast", "FILE", "--journal", "PATH"),
        ("blast", "FILE", "--journal", "PATH", "--resume"),
        ("blast", "FILE", "--report", "PATH"),
        ("blast", "FILE", "--report", "PATH", "--force"),
        ("blast", "FILE", "--suppress", "PATH"),
        ("blast", "PATH"),
        ("journal", "show", "PATH"),
        ("journal", "in-doubt", "PATH"),
        ("journal", "mark-sent", "PATH", "k"),
        ("journal", "resend", "PATH", "k", "--yes"),
    ],
    ids=" ".join,
)
def test_a_path_where_no_file_can_be_is_reported(
    pico_here: Pico, write_csv: WriteCsv, tmp_path: Path, kind: str, command: Sequence[str]
) -> None:
    """A path where no file can be ends each command with 2 and one line that names it; nothing is sent or left."""
    file = write_csv(people(2))
    path = NOWHERE[kind](tmp_path)
    before = sorted(tmp_path.iterdir())
    words = [{"FILE": file, "PATH": path}.get(word, word) for word in command]

    ran = pico_here(*words, *((*QUICK, "--sandbox") if command[0] == "blast" else ()))

    assert ran.code == 2
    # A line about the rows may come before.
    assert str(path) in ran.err.splitlines()[-1]
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("part", ["", "-wal", "-shm", "-lock", "-journal"])
@pytest.mark.parametrize(
    ("reached", "is_there"),
    [
        ("itself", False),
        ("itself", True),
        ("by a symlink", False),
        ("by a symlink", True),
        ("by a hard link", True),
    ],
)
def test_no_other_file_of_the_bulk_send_is_a_part_of_its_journal(
    pico_here: Pico, write_csv: WriteCsv, tmp_path: Path, part: str, reached: str, is_there: bool
) -> None:
    """Report, input and suppressed numbers are refused where they are the journal, its log or its lock."""
    file, journal = write_csv(people(2)), tmp_path / "blast.db"
    target = other = tmp_path / f"blast.db{part}"
    if is_there:
        target.write_text("phone,code\n8613000000001,1\n")
    if reached != "itself":
        other = tmp_path / "other"
        link = other.symlink_to if reached == "by a symlink" else other.hardlink_to
        link(target)
    options = ("--journal", journal, *(("--resume",) if is_there and not part else ()), *QUICK, "--sandbox")

    ran = [
        pico_here("blast", file, "--report", other, "--force", *options),
        pico_here("blast", file, "--suppress", other, *options),
        pico_here("blast", other, *options),
    ]

    assert [one.code for one in ran] == [2] * 3
    assert all(f"{other} is the journal {journal}, or one of its files" in one.err for one in ran)
    if is_there:
        assert target.read_text() == "phone,code\n8613000000001,1\n"


def test_a_report_does_not_overwrite_an_input_file(pico_here: Pico, write_csv: WriteCsv, tmp_path: Path) -> None:
    """The report is refused where it is the input or the suppressed numbers, by whatever name, also with `--force`."""
    file = write_csv(people(2))
    suppressed, link = tmp_path / "gone.txt", tmp_path / "link"
    suppressed.write_text("8613999999999\n")
    link.hardlink_to(suppressed)

    for report in (file, suppressed, link):
        ran = pico_here("blast", file, "--suppress", suppressed, "--report", report, "--force", *QUICK, "--sandbox")

        assert ran.code == 2
        assert f"{report} is a file that this command reads" in ran.err
    assert suppressed.read_text() == "8613999999999\n"


def test_a_report_replaces_no_journal(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """`--report JOURNAL --force` is refused also where the bulk send has another journal, or none."""
    journal = tmp_path / "blast.db"
    pico_here("blast", write_csv(people(2)), *QUICK, "--journal", journal, env=quick.env)
    before = journal.read_bytes()

    ran = pico_here("blast", write_csv(people(2)), *QUICK, "--report", journal, "--force", env=quick.env)

    assert ran.code == 2
    assert "is a database, perhaps a journal" in ran.err
    assert journal.read_bytes() == before
    assert len(quick.accepted()) == 2


@pytest.mark.parametrize("since", ["the check", "the report was opened"])
def test_a_report_replaces_no_journal_that_was_begun_meanwhile(tmp_path: Path, since: str) -> None:
    """With `--force`, too, a report is not begun in a file that became a journal while the rows were read."""
    path = tmp_path / "out.csv"
    report = ReportFile(path, replace=True)
    report.check()

    with ExitStack() as held:
        if since == "the check":
            held.enter_context(JournalFile(path, owned=True, create=True))
        with report:
            if since != "the check":
                held.enter_context(JournalFile(path, owned=True, create=True))
            before = path.read_bytes()
            with pytest.raises(ReportError, match="is a database, perhaps a journal"):
                report.begin()
        assert path.read_bytes() == before


@pytest.mark.parametrize("replace", [False, True])
def test_an_unused_report_removes_no_file_of_another_command(tmp_path: Path, replace: bool) -> None:
    """
    A bulk send that does not begin removes the file that it made for its report, but not one that became a journal.
    """
    path = tmp_path / "out.csv"

    with ReportFile(path, replace=replace):
        assert path.exists()
    assert not path.exists()

    with ReportFile(path, replace=replace), JournalFile(path, owned=True, create=True):
        pass
    JournalFile(path, owned=True).close()

    path.unlink()
    with ReportFile(path, replace=replace):
        path.unlink()
        path.write_text("another one's")
    assert path.read_text() == "another one's"


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_a_report_is_private(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path, before: int | None
) -> None:
    """A report, which may hold keys, can be read by its owner alone, whatever the umask; also one that is replaced."""
    report = tmp_path / "out.csv"
    if before is not None:
        report.write_text("old")
        report.chmod(before)
    mask = os.umask(0)
    try:
        ran = pico_here("blast", write_csv(people(2)), *QUICK, "--report", report, "--force", env=quick.env)
    finally:
        os.umask(mask)

    assert ran.code == 0
    assert report.stat().st_mode & 0o777 == 0o600
