"""A bulk send with a journal can be killed or stopped and then resumed, and users decide about messages in doubt."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.pico_command import PICO, TEXT, Ran, environment, people, report_rows, running, wait_for_stopping
from tests.support.sandbox_process import KEY, SandboxProcess
from tests.support.waiting import wait_until

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
QUICK = ("--rate", 2000, "--no-progress")
HANGS = "99900000003"  # accepted, and answered after 30 s
# Within this time a process ends after a signal, but a process that waits for a hanging reply does not end.
ENDS_S = 25


def test_a_killed_bulk_send_can_be_resumed(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    After SIGKILL, a resumed bulk send sends no message twice. Each row ends as skipped, accepted or in doubt, and only
    requests that were in flight are in doubt.
    """
    quick.change(latency_s=0.25)
    recipients = people(300)
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    command = ("blast", write_csv(recipients), "--text", TEXT, "--rate", 200, "--journal", journal)
    with running(*command, env=quick.env) as process:
        # About 70 of these requests have their replies, and 50 are in flight.
        wait_until(lambda: len(quick.accepted()) > 120)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=ENDS_S)
    quick.change(latency_s=0)

    ran = pico_here(*command, *QUICK, "--resume", "--report", report, "--json", env=quick.env)

    received = quick.accepted_by_number()
    rows = {recipients[int(row["line"]) - 2][0]: row for row in report_rows(report)}
    outcomes = {to: row["outcome"] for to, row in rows.items()}
    request_ids = {message.to: message.request_id for message in quick.accepted()}
    assert set(received.values()) == {1}
    assert {to for to, outcome in outcomes.items() if outcome in ("accepted", "skipped")} <= set(received)
    assert set(received) <= {to for to, outcome in outcomes.items() if outcome != "not_sent"}
    assert len(outcomes) == 300
    known = {to: row["request_id"] for to, row in rows.items() if row["outcome"] in ("accepted", "skipped")}
    assert known.items() <= request_ids.items()
    assert ran.json["skipped"] >= 20
    assert ran.json["skipped"] + ran.json["accepted"] + ran.json["in_doubt"] == 300
    assert ran.code == (1 if ran.json["in_doubt"] else 0)
    assert 0 < ran.json["in_doubt"] <= 64


def test_a_bad_row_is_no_reason_to_resume(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The output suggests `--resume` for rows that Pico rejected, but not for a bad row, because another run would not
    change that.
    """
    rows = write_csv([*people(3), ("12", "1234")])
    out = {}
    for name, fault_rate in (("takes", 0), ("refuses", 1)):
        quick.change(fault_rate=fault_rate, fault_kinds=["bad-request"])
        blast = ("blast", rows, *QUICK, "--text", TEXT, "--journal", tmp_path / f"{name}.db")
        out[name] = pico_here(*blast, env=quick.env).out

    assert "1 not sent" in out["takes"]
    assert "Run the same command" not in out["takes"]
    assert "Run the same command with --resume to continue." in out["refuses"]


def test_a_stopped_bulk_send_can_be_resumed_without_doubts(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A signal completes the requests in flight first, so the resumed bulk send sends exactly the rows that the first did
    not send.
    """
    quick.change(latency_s=0.1)
    command = ("blast", write_csv(people(300)), "--text", TEXT, "--rate", 60, "--journal", tmp_path / "blast.db")
    with running(*command, env=quick.env) as process:
        wait_until(lambda: len(quick.accepted()) > 30)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=ENDS_S)
    sent = len(quick.accepted())

    ran = pico_here(*command, *QUICK, "--resume", "--json", env=quick.env)

    assert process.returncode == 143
    assert "Run the same command with --resume to continue." in out
    assert ran.code == 0
    assert (ran.json["skipped"], ran.json["accepted"], ran.json["in_doubt"]) == (sent, 300 - sent, 0)
    assert set(quick.accepted_by_number().values()) == {1}
    assert len(quick.accepted_by_number()) == 300


def test_messages_in_doubt_after_the_grace_period_wait_for_a_decision(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A request that outlasts the grace period is in doubt, and the next run does not send it. `mark-sent` makes later
    runs skip the message; `resend` makes the next run send it again.
    """
    journal = tmp_path / "blast.db"
    hanging = [(HANGS, "000001"), (HANGS, "000002")]
    path = write_csv(
        [(f"order-{n}", *row) for n, row in enumerate([*hanging, *people(60)])], header=("id", "phone", "code")
    )
    command = ("blast", path, "--text", TEXT, "--key-column", "id", "--rate", 50, "--journal", journal, "--json")
    with running(*command, "--grace", 0.3, env=quick.env) as process:
        wait_until(lambda: quick.accepted_by_number()[HANGS] == 2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=ENDS_S)
    first = json.loads(out)
    second = pico_here(*command, "--resume", "--rate", 2000, env=quick.env)
    listed = pico_here("journal", "in-doubt", journal, "--json").json["in_doubt"]

    marked = pico_here("journal", "mark-sent", journal, "order-0")
    resent = pico_here("journal", "resend", journal, listed[1]["id"][:12], "--yes")

    with running(*command, "--resume", "--grace", 0, env=quick.env) as process:
        wait_until(lambda: quick.accepted_by_number()[HANGS] == 3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=ENDS_S)
    last = pico_here(*command, "--resume", env=quick.env).json
    assert process.returncode == 130
    assert "Stopping: the requests in flight are left in doubt." in err
    assert (first["in_doubt"], first["stopped"]) == (2, "interrupted")
    assert first["accepted"] + first["not_sent"] == 60
    assert second.code == 1
    assert (second.json["in_doubt"], second.json["not_sent"]) == (2, 0)
    assert [record["index"] for record in listed] == [0, 1]
    assert (marked.code, resent.code) == (0, 0)
    assert (last["skipped"], last["in_doubt"]) == (61, 1)
    assert quick.accepted_by_number()[HANGS] == 3
    assert {count for to, count in quick.accepted_by_number().items() if to != HANGS} == {1}


def test_a_journal_that_can_no_longer_be_written_ends_the_bulk_send(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    When the journal can no longer be written, the bulk send ends and sends nothing that is not in the journal. With
    space again, the resumed bulk send sends no message twice.
    """
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

    ran = pico_here(*command, "--resume", env=quick.env)

    assert full.returncode == 1
    assert "the journal failed" in first["stopped"]
    assert first["total"] == 500
    assert first["accepted"] + first["in_doubt"] >= sent > 0
    assert first["never_read"] > 0
    assert ran.json["skipped"] + ran.json["accepted"] + ran.json["in_doubt"] == 500
    assert set(quick.accepted_by_number().values()) == {1}


def test_the_journal_holds_no_number_no_text_and_no_key(
    quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The journal's files never contain a phone number, a text or a key, neither during the bulk send, with the -wal file,
    nor afterwards.
    """
    # Six digits alone would sometimes occur in a random request ID.
    recipients = [(to, f"code-{code}") for to, code in people(300)]
    journal = tmp_path / "blast.db"
    path = write_csv([(to, to, code) for to, code in recipients], header=("id", "phone", "code"))
    held = b""

    command = ("blast", path, "--text", "Secret {{code}}", "--key-column", "id", "--rate", 200, "--journal", journal)
    with running(*command, env=quick.env) as process:
        wait_until(lambda: len(quick.accepted()) > 40)
        held += b"".join(file.read_bytes() for file in tmp_path.glob("blast.db*"))
        process.send_signal(signal.SIGINT)
        wait_for_stopping(process)
        process.communicate(timeout=ENDS_S)
    held += b"".join(file.read_bytes() for file in tmp_path.glob("blast.db*"))

    assert len(held) > 20_000
    secrets = [KEY, "Secret", *(value for row in recipients for value in row)]
    assert [secret for secret in secrets if secret.encode() in held or secret.encode("utf-16-le") in held] == []
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.glob("blast.db*")} == {"0o600"}
