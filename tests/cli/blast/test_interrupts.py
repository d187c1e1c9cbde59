"""Real signals such as Ctrl-C interrupt a real `pico` at each stage of a blast."""

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pico_async.bulk.journal.lock_file import is_in_use
from tests.support.pico_command import TEXT, Ran, people, report_rows, running, wait_for_stopping
from tests.support.sandbox_process import KEY, SandboxProcess
from tests.support.waiting import wait_until

WriteCsv = Callable[..., Path]
# Shorter than the 30 s of a reply that hangs: a process that waits for that reply fails the test.
ENDS_S = 25


# SIGTERM ends a blast with a journal in test_journal.py.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_stops_reading_and_completes_requests_in_flight(
    quick: SandboxProcess,
    write_csv: WriteCsv,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """
    After the first signal no more rows are read, and requests in flight are completed. The report has each row once,
    and marks exactly the messages as accepted that the sandbox accepted.
    """
    quick.change(latency_s=0.15)
    recipients = people(2000)
    report = tmp_path / "out.csv"
    command = ("blast", write_csv(recipients), "--text", TEXT, "--rate", 200, "--report", report)

    with running(*command, env=quick.env) as process:
        wait_until(lambda: len(quick.accepted()) > 60)
        process.send_signal(number)
        out, err = process.communicate(timeout=ENDS_S)

    rows = report_rows(report)
    numbers = {line: to for line, (to, _) in enumerate(recipients, start=2)}
    assert process.returncode == 128 + number
    assert sorted(int(row["line"]) for row in rows) == list(range(2, 2002))
    reported = {(numbers[int(row["line"])], row["request_id"]) for row in rows if row["outcome"] == "accepted"}
    carried_out = {(message.to, message.request_id) for message in quick.accepted()}
    assert reported == carried_out
    assert 60 < len(carried_out) < len(recipients)
    # The grace period is much longer than the latency, so no request is left in doubt.
    assert sum(row["outcome"] == "in_doubt" for row in rows) == 0
    assert f"{len(carried_out):,} accepted" in out
    assert "It ended early: interrupted." in out
    assert "With --journal FILE, the same command could have continued from here." in out
    assert "--resume" not in out
    assert "Stopping" in err
    assert KEY not in out + err


def test_the_second_signal_leaves_requests_in_flight_in_doubt(
    quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The second signal ends the bulk send without the grace period. A request in flight is reported as in doubt: here the
    sandbox did accept the message.
    """
    hanging = ("99900000003", "000000")  # accepted, and answered after 30 s
    recipients = [*people(20), hanging, *people(400)]
    report = tmp_path / "out.csv"
    options = ("--rate", 50, "--report", report, "--json", "--grace", 600)
    command = ("blast", write_csv(recipients), "--text", TEXT, *options)

    with running(*command, env=quick.env) as process:
        wait_until(lambda: any(message.to == hanging[0] for message in quick.accepted()))
        process.send_signal(signal.SIGINT)
        wait_for_stopping(process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=ENDS_S)

    rows = {int(row["line"]): row["outcome"] for row in report_rows(report)}
    assert process.returncode == 130
    assert sorted(rows) == list(range(2, 423))
    assert rows[22] == "in_doubt"
    reported = sum(outcome in ("accepted", "in_doubt") for outcome in rows.values())
    assert reported >= len(quick.accepted()) >= 20


def test_a_signal_before_the_first_message_sends_nothing(
    quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A signal while the bulk send waits for its token ends it before a message is sent. It creates no journal and
    replaces no report.
    """
    quick.change(latency_s=3)
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    report.write_text("an old report")
    command = ("blast", write_csv(people(5)), "--text", TEXT, "--journal", journal, "--report", report, "--force")

    with running(*command, env=quick.env) as process:
        wait_until(lambda: quick.ledger().token_requests == 1)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=ENDS_S)

    assert process.returncode == 129
    assert "Nothing was sent.\nerror: interrupted.\n" in err
    assert out == ""
    assert quick.accepted() == []
    assert list(tmp_path.glob("blast.db*")) == []
    assert report.read_text() == "an old report"


@pytest.mark.parametrize("grace", [15, 0])
def test_a_signal_while_the_journal_is_opened_sends_nothing(
    pico_here: Callable[..., Ran], quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path, grace: int
) -> None:
    """
    A signal while the bulk send waits for a locked journal ends it before a message is sent. The report is not
    replaced, and the next bulk send can use the journal.
    """
    journal, report = tmp_path / "blast.db", tmp_path / "out.csv"
    command = ("blast", write_csv(people(5)), "--text", TEXT, "--journal", journal)
    pico_here(*command, env=quick.env)
    quick = quick.fresh()
    report.write_text("an old report")
    resume = (*command, "--resume", "--report", report, "--force", "--grace", grace)

    with (
        closing(sqlite3.connect(journal, isolation_level=None)) as busy,
        running(*resume, env=quick.env) as process,
    ):
        busy.execute("BEGIN IMMEDIATE")
        wait_until(lambda: is_in_use(journal))
        process.send_signal(signal.SIGTERM)
        # The blast cannot begin while this connection locks the journal.
        time.sleep(0.3)
        busy.execute("ROLLBACK")
        out, err = process.communicate(timeout=ENDS_S)
    kept = report.read_text()
    again = pico_here(*resume, "--json", env=quick.env)

    assert process.returncode == 143
    assert "Nothing was sent.\nerror: interrupted.\n" in err
    assert out == ""
    assert kept == "an old report"
    assert (again.code, again.json["skipped"]) == (0, 5)
    assert quick.accepted() == []


def test_an_ignored_hangup_ends_nothing(quick: SandboxProcess, write_csv: WriteCsv) -> None:
    """
    A bulk send that was started with SIGHUP ignored, as nohup does, continues after SIGHUP, because it is meant to
    outlive the terminal.
    """
    command = ("blast", write_csv(people(60)), "--text", TEXT, "--rate", 120)

    with running(*command, env=quick.env, ignored=[signal.SIGHUP]) as process:
        wait_until(lambda: len(quick.accepted()) > 5)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=ENDS_S)

    assert process.returncode == 0
    assert "60 accepted" in out


def test_a_file_damaged_meanwhile_ends_the_bulk_send_but_not_the_report(
    quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    If the file is damaged during the bulk send, the rows read before are completed and reported, and the error names
    the damaged line.
    """
    path = write_csv(people(400))
    report = tmp_path / "out.csv"

    with running("blast", path, "--text", TEXT, "--rate", 200, "--report", report, env=quick.env) as process:
        wait_until(lambda: len(quick.accepted()) > 10)
        with path.open("ab") as file:
            file.write(b"8613999999999,\xff\n")
        _, err = process.communicate(timeout=ENDS_S)

    assert process.returncode == 1
    assert "line 402: byte 15 of the line is not UTF-8" in err
    reported = {row["request_id"] for row in report_rows(report) if row["outcome"] == "accepted"}
    assert reported == {message.request_id for message in quick.accepted()}
    assert len(reported) > 200


def read_of(path: Path, pid: int) -> int:
    """Return how many bytes of a file a process has read, as Linux lists them; 0 where the file is not open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # A file that was closed since the folder was listed is not open.
        with suppress(FileNotFoundError):
            if descriptor.readlink() == path:
                return int(Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split()[1])
    return 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="it looks there for whether the file is open")
def test_a_signal_while_the_file_is_read_sends_nothing(quick: SandboxProcess, tmp_path: Path) -> None:
    """A signal during the first pass over a long file ends the command before a request."""
    path = tmp_path / "people.csv"
    with path.open("w") as file:
        file.write("phone,code\n")
        file.writelines(f"{to},{code}\n" for to, code in people(150_000))

    with running("blast", path, "--text", TEXT, env=quick.env) as process:
        # Of more than 3 MB: the command opens it once before, to look at the header.
        wait_until(lambda: read_of(path, process.pid) > 500_000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=ENDS_S)

    assert process.returncode == 130
    # On a busy machine it has reported by then how far it has read.
    assert err.endswith("Nothing was sent.\nerror: interrupted.\n")
    assert quick.arrivals() == []


def test_an_interrupted_send_is_in_doubt(quick: SandboxProcess) -> None:
    """
    An interrupted single send is reported as in doubt, because the client cannot know the outcome: here the sandbox did
    accept the message.
    """
    with running("sms", "send", "99900000003", "hello", env=quick.env) as process:
        wait_until(lambda: len(quick.accepted()) == 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=ENDS_S)

    assert process.returncode == 130
    assert err == "error: in doubt: interrupted. The message may have been sent.\n"
