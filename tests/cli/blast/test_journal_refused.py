"""A journal that is in use, of another account, damaged or not intended is refused, and nothing is sent."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pico_async.bulk.journal import sqlite_file as journal_file
from tests.support.pico_command import TEXT, Ran, people, running
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import wait_until

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
ENDS_S = 60


def test_a_journal_serves_one_blast_at_a_time(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    While one bulk send uses a journal, another bulk send is refused with the process ID of the first, sends nothing and
    begins no report. The first bulk send continues.
    """
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    report.write_text("an old report")
    # The file has more rows than the first blast can send while the other commands run; the signal ends that blast.
    command = ("blast", write_csv(people(200)), "--text", TEXT, "--journal", journal)
    with running(*command, "--rate", 15, env=quick.env) as process:
        wait_until(lambda: quick.accepted())

        second = pico_here(*command, "--resume", "--report", report, "--force", env=quick.env)
        new_report = pico_here(*command, "--resume", "--report", tmp_path / "new.csv", env=quick.env)
        marked = pico_here("journal", "mark-sent", journal, "--all")
        shown = pico_here("journal", "show", journal, "--json")

        sent = len(quick.accepted())
        wait_until(lambda: len(quick.accepted()) > sent)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=ENDS_S)
    resumed = pico_here(*command, "--resume", "--rate", 2000, "--json", env=quick.env)
    assert second.code == new_report.code == marked.code == 2
    for refused in (second, new_report, marked):
        assert f"in use by another bulk send, of process {process.pid}" in refused.err
    assert "nothing was sent" in second.err
    assert report.read_text() == "an old report"
    assert not (tmp_path / "new.csv").exists()
    assert shown.json["accepted"] > 0
    assert process.returncode == 143
    assert "0 in doubt" in out
    assert (resumed.code, resumed.json["skipped"] + resumed.json["accepted"]) == (0, 200)
    assert set(quick.accepted_by_number().values()) == {1}
    assert len(quick.accepted_by_number()) == 200


def test_resume_needs_a_journal_and_a_journal_needs_resume(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    `--resume` needs a journal that exists, and an existing journal needs `--resume`: a mistyped name must neither send
    all rows again nor skip them.
    """
    path, journal = write_csv(people(3)), tmp_path / "blast.db"
    blast = ("blast", path, "--text", TEXT, *QUICK)
    missing = pico_here(*blast, "--journal", journal, "--resume", env=quick.env)
    unnamed = pico_here(*blast, "--resume", env=quick.env)
    same = pico_here(*blast, "--journal", path, "--resume", env=quick.env)
    report = pico_here(*blast, "--journal", journal, "--report", journal, env=quick.env)
    dry = pico_here(*blast, "--journal", journal, "--dry-run")
    dry_missing = pico_here(*blast, "--journal", journal, "--resume", "--dry-run")
    made = list(tmp_path.glob("blast.db*"))
    first = pico_here(*blast, "--journal", journal, env=quick.env)

    again = pico_here(*blast, "--journal", journal, env=quick.env)
    resumed = pico_here(*blast, "--journal", journal, "--resume", env=quick.env)

    assert [ran.code for ran in (missing, unnamed, same, report, dry_missing, again)] == [2] * 6
    assert made == []
    assert "There is no journal" in missing.err
    assert "name it with --journal" in unnamed.err
    assert "choose another path" in same.err
    assert "choose another path" in report.err
    assert "pass --resume to continue" in again.err
    assert [ran.code for ran in (dry, first, resumed)] == [0, 0, 0]
    assert "3 skipped: accepted before, according to the journal" in resumed.out
    assert len(quick.accepted()) == 3


def test_a_journal_that_cannot_be_used_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A journal that is damaged, of another program, of a newer version, empty, a folder, or in a missing folder is
    refused with its reason. The journals stay unchanged, and no report is begun or replaced.
    """
    names = ("damaged.db", "other.db", "newer.db", "empty.db", "theirs.db")
    damaged, other, newer, empty, theirs = journals = [tmp_path / name for name in names]
    damaged.write_text("no database at all, but long enough to be taken for one" * 20)
    empty.touch()
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE somebody (s)")
    for mine in (newer, theirs):
        pico_here("blast", write_csv(people(1)), "--text", "x", "--journal", mine, *QUICK, env=quick.env)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute(f"PRAGMA user_version = {journal_file.VERSION + 1}")
    before = {path: path.read_bytes() for path in journals}
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("an old report")
    quick = quick.fresh()
    path = write_csv(people(3))

    def blast(journal: Path, report: Path, *resume: str) -> Ran:
        user = ("--username", "user333" if journal is not theirs else "user334")
        options = ("--journal", journal, *resume, "--report", report, "--force", *QUICK)
        return pico_here("blast", path, "--text", TEXT, *options, *user, env=quick.env)

    ran = {journal: [blast(journal, report, "--resume") for report in (old, new)] for journal in journals[:4]}
    ran[tmp_path] = [blast(tmp_path, new, "--resume")]
    ran[tmp_path / "none" / "blast.db"] = [blast(tmp_path / "none" / "blast.db", new)]

    newer = f"version {journal_file.VERSION + 1}"
    said = ["damaged", "another program", newer, "is empty", "is a folder", "No such file or directory"]
    for word, each in zip(said, ran.values(), strict=True):
        assert all((one.code, one.out) == (2, "") for one in each)
        assert all(word in one.err and "othing was sent" in one.err for one in each)
    assert old.read_text() == "an old report"
    assert not new.exists()
    assert {path: path.read_bytes() for path in journals} == before
    assert quick.accepted() == []


def test_a_journal_serves_one_account(
    pico_here: Pico, quick: SandboxProcess, start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv
) -> None:
    """A journal of one account is refused for another account, because that account has not sent its messages."""
    path = write_csv(people(3))
    journal = path.with_name("blast.db")
    theirs = start_sandbox("--rate-rule", "none", "--username", "user334")
    command = ("blast", path, "--text", TEXT, "--journal", journal, *QUICK)
    pico_here(*command, env=quick.env)

    ran = pico_here(*command, "--resume", env={**theirs.env, "PICO_USERNAME": "user334"})

    assert ran.code == 2
    assert "nothing was sent. The journal" in ran.err
    assert "another account's" in ran.err
    assert theirs.accepted() == []
