"""A blast with a journal: killed, stopped, resumed, and its doubts decided; real `pico`s in processes of their own."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pico_command import (
    KEY,
    PICO,
    TEXT,
    Ran,
    environment,
    people,
    report_rows,
    running,
    wait_for_stopping,
)
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import wait_until

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
HANGS = "99900000003"  # accepted, and answered after 30 s


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

    received = sandbox.accepted_by_number()
    rows = {recipients[int(row["line"]) - 2][0]: row for row in report_rows(report)}
    outcomes = {to: row["outcome"] for to, row in rows.items()}
    request_ids = {message.to: message.request_id for message in sandbox.accepted()}
    assert set(received.values()) == {1}
    assert {to for to, outcome in outcomes.items() if outcome in ("accepted", "skipped")} <= set(received)
    assert set(received) <= {to for to, outcome in outcomes.items() if outcome != "not_sent"}
    assert len(outcomes) == 400
    known = {to: row["request_id"] for to, row in rows.items() if row["outcome"] in ("accepted", "skipped")}
    assert known.items() <= request_ids.items()
    assert ran.json["skipped"] >= 20
    assert ran.json["skipped"] + ran.json["accepted"] + ran.json["in_doubt"] == 400
    assert ran.code == (1 if ran.json["in_doubt"] else 0)
    assert 0 < ran.json["in_doubt"] <= 64


def test_a_bad_row_is_no_reason_to_run_it_again(
    pico: Pico, start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, tmp_path: Path
) -> None:
    """The same command would do nothing about it; about what Pico refused, it would."""
    rows = write_csv([*people(3), ("12", "1234")])
    out = {}
    for name, options in (("takes", ()), ("refuses", ("--fault-rate", "1", "--fault-kinds", "bad-request"))):
        sandbox = start_sandbox("--rate-rule", "none", *options)
        blast = ("blast", rows, *QUICK, "--text", TEXT, "--journal", tmp_path / f"{name}.db")
        out[name] = pico(*blast, env=sandbox.env).out

    assert "1 not sent" in out["takes"]
    assert "Run the same command" not in out["takes"]
    assert "Run the same command with --resume to go on." in out["refuses"]


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
    assert set(sandbox.accepted_by_number().values()) == {1}
    assert len(sandbox.accepted_by_number()) == 600


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
        wait_until(lambda: sandbox.accepted_by_number()[HANGS] == 2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=9)
    first = json.loads(out)
    second = pico(*command, "--resume", "--rate", 2000, env=sandbox.env)
    listed = pico("journal", "in-doubt", journal, "--json").json["in_doubt"]

    marked = pico("journal", "mark-sent", journal, "order-0")
    resent = pico("journal", "resend", journal, listed[1]["id"][:12], "--yes")

    with running(*command, "--resume", "--grace", 0, env=sandbox.env) as process:
        wait_until(lambda: sandbox.accepted_by_number()[HANGS] == 3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    last = pico(*command, "--resume", env=sandbox.env).json
    assert process.returncode == 130
    assert "Stopping: what is on the wire is left in doubt." in err
    assert (first["in_doubt"], first["stopped"]) == (2, "interrupted")
    assert first["accepted"] + first["not_sent"] == 300
    assert second.code == 1
    assert (second.json["in_doubt"], second.json["not_sent"]) == (2, 0)
    assert [record["position"] for record in listed] == [0, 1]
    assert (marked.code, resent.code) == (0, 0)
    assert (last["skipped"], last["in_doubt"]) == (301, 1)
    assert sandbox.accepted_by_number()[HANGS] == 3
    assert {count for to, count in sandbox.accepted_by_number().items() if to != HANGS} == {1}


def test_a_journal_that_cannot_be_written_on_ends_the_blast(
    pico: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Nothing leaves that is not in it: with room again, the same blast goes on, and nobody gets two."""
    journal = tmp_path / "blast.db"
    command = ("blast", write_csv(people(500)), "--text", TEXT, "--journal", journal, "--json", *QUICK)
    full = subprocess.run(
        [PICO, *map(str, command)],
        env=environment(quick.env),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    first = json.loads(full.stdout)
    sent = len(quick.accepted())

    ran = pico(*command, "--resume", env=quick.env)

    assert full.returncode == 1
    assert "the journal failed" in first["stopped"]
    assert first["total"] == 500
    assert first["accepted"] + first["in_doubt"] >= sent > 0
    assert first["never_read"] > 0
    assert ran.json["skipped"] + ran.json["accepted"] + ran.json["in_doubt"] == 500
    assert set(quick.accepted_by_number().values()) == {1}


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
