"""A blast with a journal: killed, stopped, resumed, and its doubts decided; real `pico`s in processes of their own."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import (
    KEY,
    TEXT,
    Ran,
    SandboxProcess,
    people,
    report_rows,
    running,
    wait_for_stopping,
    wait_until,
)

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
HANGS = "99900000003"  # accepted, and answered after 30 s


def numbers_of(sandbox: SandboxProcess) -> Counter[str]:
    return Counter(message["to"] for message in sandbox.accepted())


def test_a_killed_blast_goes_on_where_it_was(
    pico: Pico, start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Nobody gets two, nobody none, and what was on the wire is told as in doubt."""
    sandbox = start_sandbox("--rate-rule", "none", "--latency-ms", "50")
    recipients = people(400)
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    command = ("blast", write_csv(recipients), "--text", TEXT, "--rate", 300, "--journal", journal)
    with running(*command, env=sandbox.env) as process:
        wait_until(lambda: len(sandbox.accepted()) > 50)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)

    ran = pico(*command, "--resume", "--report", report, "--json", env=sandbox.env)

    received = numbers_of(sandbox)
    outcomes = {recipients[int(row["line"]) - 2][0]: row["outcome"] for row in report_rows(report)}
    assert set(received.values()) == {1}
    assert {to for to, outcome in outcomes.items() if outcome in ("accepted", "skipped")} <= set(received)
    assert set(received) <= {to for to, outcome in outcomes.items() if outcome != "not_sent"}
    assert len(outcomes) == 400
    assert ran.json["skipped"] >= 20
    assert ran.json["skipped"] + ran.json["accepted"] + ran.json["in_doubt"] == 400
    assert ran.code == (1 if ran.json["in_doubt"] else 0)
    assert 0 < ran.json["in_doubt"] <= 64


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_blast_says_how_to_go_on_and_leaves_no_doubt(
    pico: Pico,
    start_sandbox: Callable[..., SandboxProcess],
    write_csv: WriteCsv,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """What is on the wire is settled first, so that the second run sends just what the first did not."""
    sandbox = start_sandbox("--rate-rule", "none", "--latency-ms", "100")
    command = ("blast", write_csv(people(600)), "--text", TEXT, "--rate", 200, "--journal", tmp_path / "blast.db")
    with running(*command, env=sandbox.env) as process:
        wait_until(lambda: len(sandbox.accepted()) > 30)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    sent = len(sandbox.accepted())

    ran = pico(*command, "--resume", "--json", env=sandbox.env)

    assert process.returncode == 128 + number
    assert "Run the same command with --resume to go on." in out
    assert ran.code == 0
    assert (ran.json["skipped"], ran.json["accepted"], ran.json["in_doubt"]) == (sent, 600 - sent, 0)
    assert set(numbers_of(sandbox).values()) == {1}
    assert len(numbers_of(sandbox)) == 600


def test_the_grace_period_ends_and_the_owner_decides(
    pico: Pico, start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, tmp_path: Path
) -> None:
    """What hangs is left in doubt, is not sent by the next run, and then as its owner says: marked, or sent again."""
    sandbox = start_sandbox("--rate-rule", "none")
    journal = tmp_path / "blast.db"
    hanging = [(HANGS, "000001"), (HANGS, "000002")]
    path = write_csv(
        [(f"order-{n}", *row) for n, row in enumerate([*hanging, *people(300)])], header=("id", "phone", "code")
    )
    command = ("blast", path, "--text", TEXT, "--key-column", "id", "--rate", 50, "--journal", journal, "--json")
    with running(*command, "--grace", 0.3, env=sandbox.env) as process:
        wait_until(lambda: numbers_of(sandbox)[HANGS] == 2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=9)
    first = json.loads(out)
    second = pico(*command, "--resume", "--rate", 2000, env=sandbox.env)
    listed = pico("journal", "in-doubt", journal, "--json").json["in_doubt"]

    marked = pico("journal", "mark-sent", journal, "order-0")
    resent = pico("journal", "resend", journal, listed[1]["id"][:12], "--yes")

    with running(*command, "--resume", "--grace", 0, env=sandbox.env) as process:
        wait_until(lambda: numbers_of(sandbox)[HANGS] == 3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    last = pico(*command, "--resume", env=sandbox.env).json
    assert process.returncode == 130
    assert (first["in_doubt"], first["stopped"]) == (2, "interrupted")
    assert first["accepted"] + first["not_sent"] == 300
    assert second.code == 1
    assert (second.json["in_doubt"], second.json["not_sent"]) == (2, 0)
    assert [record["position"] for record in listed] == [0, 1]
    assert (marked.code, resent.code) == (0, 0)
    assert (last["skipped"], last["in_doubt"]) == (301, 1)
    assert numbers_of(sandbox)[HANGS] == 3
    assert {count for to, count in numbers_of(sandbox).items() if to != HANGS} == {1}


def test_a_journal_serves_one_blast_at_a_time(
    pico: Pico, start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, tmp_path: Path
) -> None:
    """The second one is told whose it is, sends nothing and begins no report; the first goes on."""
    sandbox = start_sandbox("--rate-rule", "none")
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    report.write_text("an old report")
    command = ("blast", write_csv(people(120)), "--text", TEXT, "--rate", 60, "--journal", journal)
    with running(*command, env=sandbox.env) as process:
        wait_until(lambda: len(sandbox.accepted()) > 5)

        second = pico(*command, "--resume", "--report", report, "--force", env=sandbox.env)
        new_report = pico(*command, "--resume", "--report", tmp_path / "new.csv", env=sandbox.env)
        marked = pico("journal", "mark-sent", journal, "--all")
        shown = pico("journal", "show", journal, "--json")

        process.communicate(timeout=20)
    assert process.returncode == 0
    assert second.code == new_report.code == 2
    assert f"in use by another blast, of process {process.pid}" in second.err
    assert report.read_text() == "an old report"
    assert not (tmp_path / "new.csv").exists()
    assert shown.json["accepted"] > 0
    assert (marked.code, "in use" in marked.err) in {(2, True), (0, False)}
    assert set(numbers_of(sandbox).values()) == {1}
    assert len(numbers_of(sandbox)) == 120


def test_a_resume_is_wanted_or_refused(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Whoever mistypes a name must neither send everything again nor skip it."""
    path, journal = write_csv(people(3)), tmp_path / "blast.db"
    blast = ("blast", path, "--text", TEXT, *QUICK)
    missing = pico_here(*blast, "--journal", journal, "--resume", env=quick.env)
    unnamed = pico_here(*blast, "--resume", env=quick.env)
    same = pico_here(*blast, "--journal", path, "--resume", env=quick.env)
    dry = pico_here(*blast, "--journal", journal, "--dry-run")
    assert not journal.exists()
    first = pico_here(*blast, "--journal", journal, env=quick.env)

    again = pico_here(*blast, "--journal", journal, env=quick.env)
    resumed = pico_here(*blast, "--journal", journal, "--resume", env=quick.env)

    assert [ran.code for ran in (missing, unnamed, same, again)] == [2, 2, 2, 2]
    assert "There is no journal" in missing.err
    assert "name it with --journal" in unnamed.err
    assert "another file of this blast" in same.err
    assert "pass --resume to go on" in again.err
    assert [ran.code for ran in (dry, first, resumed)] == [0, 0, 0]
    assert "3 skipped: the journal had them as accepted" in resumed.out
    assert len(quick.accepted()) == 3


def test_a_journal_that_cannot_be_used_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Damaged, another program's, of another version: each is told, and the file is left as it is."""
    damaged, other, newer = (tmp_path / name for name in ("damaged.db", "other.db", "newer.db"))
    damaged.write_text("no database at all, but long enough to be taken for one" * 20)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE somebody (s)")
    connection.close()
    pico_here("blast", write_csv(people(1)), "--text", "x", "--journal", newer, *QUICK, env=quick.env)
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = {path: path.read_bytes() for path in (damaged, other, newer)}
    quick = quick.fresh()

    ran = [
        pico_here("blast", write_csv(people(3)), "--text", TEXT, "--journal", path, "--resume", *QUICK, env=quick.env)
        for path in (damaged, other, newer)
    ]

    assert [each.code for each in ran] == [2, 2, 2]
    assert "damaged" in ran[0].err
    assert "another program" in ran[1].err
    assert "version 2" in ran[2].err
    assert {path: path.read_bytes() for path in (damaged, other, newer)} == before
    assert quick.accepted() == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("mark-sent", "FILE"), "or pass --all"),
        (("mark-sent", "FILE", "order-1", "--all"), "or pass --all"),
        (("mark-sent", "FILE", "8613000000001"), "86…01"),
        (("resend", "FILE", "order-9", "--yes"), "no message of the key or ID"),
        (("resend", "FILE", "order-1"), "pass --yes where nobody can be asked"),
        (("resend", "FILE", "order-1", "--yes"), "was accepted"),
        (("show", "none.db"), "There is no journal"),
        (("in-doubt", "none.db"), "There is no journal"),
    ],
)
def test_a_wrong_decision_changes_nothing(
    pico: Pico, pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path, command: Any, said: str
) -> None:
    """It ends with 2, and the journal has what it had."""
    journal = tmp_path / "blast.db"
    path = write_csv([("order-1", "8613000000001")], header=("id", "phone"))
    pico_here("blast", path, "--text", "x", "--key-column", "id", "--journal", journal, *QUICK, env=quick.env)
    before = pico_here("journal", "show", journal, "--json").json

    ran = pico("journal", *(journal if word == "FILE" else word for word in command))

    assert ran.code == 2
    assert said in ran.err
    assert "8613000000001" not in ran.err
    assert pico_here("journal", "show", journal, "--json").json == before == before | {"accepted": 1, "in_doubt": 0}


def test_the_journal_shows_its_counts_and_doubts(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """For people, by number and place; and a report line for each row that tells the same."""
    drops, refused = "99900000001", "99900000018"
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    path = write_csv([*people(2), (drops, "1"), (refused, "2")])
    ran = pico_here("blast", path, "--text", TEXT, "--journal", journal, "--report", report, *QUICK, env=quick.env)

    shown = pico_here("journal", "show", journal)
    listed = pico_here("journal", "in-doubt", journal)
    everything = pico_here("journal", "mark-sent", journal, "--all")
    resumed = pico_here("blast", path, "--text", TEXT, "--journal", journal, "--resume", *QUICK, env=quick.env)

    assert ran.code == 1
    assert f"see `pico journal in-doubt {journal}`" in ran.out
    assert [line.split(":")[0].strip() for line in shown.out.splitlines()] == ["2 accepted", "1 in doubt", "1 rejected"]
    assert len(listed.out.splitlines()) == 2
    assert listed.out.splitlines()[1].split()[1] == "3"
    assert "1 message marked as sent." in everything.out
    assert "3 skipped" in resumed.out
    assert "1 rejected" in resumed.out
    assert numbers_of(quick) == {**dict.fromkeys((to for to, _ in people(2)), 1), drops: 1}


def test_the_journal_holds_no_number_no_text_and_no_key(
    start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Neither while it is open, with its -wal, nor afterwards."""
    sandbox = start_sandbox("--rate-rule", "none")
    recipients = people(80)
    journal = tmp_path / "blast.db"
    path = write_csv([(to, to, code) for to, code in recipients], header=("id", "phone", "code"))
    held = b""

    command = ("blast", path, "--text", "Secret {{code}}", "--key-column", "id", "--rate", 60, "--journal", journal)
    with running(*command, env=sandbox.env) as process:
        wait_until(lambda: len(sandbox.accepted()) > 40)
        held += b"".join(file.read_bytes() for file in tmp_path.glob("blast.db*"))
        process.send_signal(signal.SIGINT)
        wait_for_stopping(process)
        process.communicate(timeout=20)
    held += b"".join(file.read_bytes() for file in tmp_path.glob("blast.db*"))

    assert len(held) > 20_000
    secrets = [KEY, "Secret", *(value for row in recipients for value in row)]
    assert [secret for secret in secrets if secret.encode() in held or secret.encode("utf-16-le") in held] == []
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.glob("blast.db*")} == {"0o600"}
