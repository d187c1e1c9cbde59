"""`pico blast` sends the rows of a file over sockets to a sandbox in another process, and reports each outcome."""

import json
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pico_async.cli.blast.progress import LineDisplay
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.pico_command import PICO, TEXT, Ran, environment, people, report_rows
from tests.support.sandbox_process import KEY, SandboxProcess

Pico = Callable[..., Ran]
WriteCsv = Callable[..., Path]

QUICK = ("--rate", 2000, "--no-progress")
HEADER = ("id", "phone", "code")


@pytest.mark.parametrize(("count", "about"), [(75, 2), pytest.param(300, 10, marks=pytest.mark.full)])
@repeat_if_starved
def test_the_main_job(
    pico: Pico,
    start_sandbox: Callable[..., SandboxProcess],
    write_csv: WriteCsv,
    tmp_path: Path,
    count: int,
    about: int,
) -> None:
    """Each recipient gets exactly their own code, once, at the documented rate and with one token."""
    sandbox = start_sandbox()
    recipients = people(count)
    report = tmp_path / "out.csv"

    ran = pico("blast", write_csv(recipients), "--text", TEXT, "--report", report, "--force", env=sandbox.env)

    ledger = sandbox.ledger()
    got = [(message.to, message.text) for message in ledger.accepted]
    assert sorted(got) == [(to, f"Your code is {code}") for to, code in recipients]
    with rate_claims():
        assert ledger.refusals == 0
    assert ledger.token_requests == 1
    assert ran.code == 0
    assert f"{count} accepted" in ran.out
    assert re.search(rf"{count} rows, numbers from `phone`, about {about}\.\d s at 29\.\d per second", ran.err)
    by_line = {int(row["line"]): row for row in report_rows(report)}
    assert sorted(by_line) == list(range(2, count + 2))
    assert {row["outcome"] for row in by_line.values()} == {"accepted"}
    assert {row["request_id"] for row in by_line.values()} == {m.request_id for m in ledger.accepted}


def test_bad_rows_are_reported_with_their_lines_and_the_others_are_sent(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """A bad number, an empty value or a short row fails only its own row; the other rows are sent."""
    path = write_csv([("u1", "8613000000001", "a"), ("u2", "0912", "b"), ("u3", "8613000000003", "")], header=HEADER)
    with path.open("a") as file:
        file.write('u4,8613000000004\nu5,8613000000005,"two\nlines"\nu6,8613000000006,f\n')
    report = tmp_path / "out.csv"

    ran = pico_here("blast", path, "--text", TEXT, "--key-column", "id", "--report", report, *QUICK, env=quick.env)

    assert sorted((m.to, m.text) for m in quick.accepted()) == [
        ("8613000000001", "Your code is a"),
        ("8613000000005", "Your code is two\nlines"),
        ("8613000000006", "Your code is f"),
    ]
    assert ran.code == 1
    for said in (
        "line 3, not sent: `to` starts with 0",
        "line 4, not sent: Column `code` is empty",
        "line 5, not sent",
    ):
        assert said in ran.out
    rows = sorted((int(row["line"]), row["key"], row["outcome"]) for row in report_rows(report))
    assert rows == [
        (2, "u1", "accepted"),
        (3, "u2", "not_sent"),
        (4, "u3", "not_sent"),
        (5, "", "not_sent"),
        (6, "u5", "accepted"),
        (8, "u6", "accepted"),
    ]


def test_the_four_outcomes_are_kept_apart(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """The JSON and the report distinguish rows that were accepted, rejected by Pico, not sent, and in doubt."""
    path = write_csv(
        [
            ("8613000000001", "a"),
            ("99900000018", "b"),  # the sandbox refuses it
            ("12", "c"),  # no number
            ("99900000001", "d"),  # the sandbox takes it, and closes the connection
        ]
    )
    report = tmp_path / "out.csv"

    ran = pico_here("blast", path, "--text", TEXT, "--report", report, "--json", *QUICK, env=quick.env)

    assert ran.code == 1
    assert {name: ran.json[name] for name in ("total", "accepted", "rejected", "not_sent", "in_doubt", "invalid")} == {
        "total": 4,
        "accepted": 1,
        "rejected": 1,
        "not_sent": 1,
        "in_doubt": 1,
        "invalid": 1,
    }
    assert sorted((row["line"], row["outcome"], row["attempts"]) for row in report_rows(report)) == [
        ("2", "accepted", "1"),
        ("3", "rejected", "1"),
        ("4", "not_sent", "0"),
        ("5", "in_doubt", "1"),
    ]


def test_the_report_holds_neither_numbers_nor_texts(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    Neither the report nor the output contains a phone number or a text, even for rows that failed, so the report can be
    shared.
    """
    path = write_csv([("8613000000001", "777111"), ("99900000018", "777222"), ("99900000001", "777333"), ("0912", "4")])
    report = tmp_path / "out.csv"

    ran = pico_here("blast", path, "--text", TEXT, "--report", report, *QUICK, env=quick.env)

    assert ran.code == 1
    for shown in (report.read_text(), ran.out, ran.err):
        assert not any(
            secret in shown for secret in ("8613000000001", "999000000", "7771", "7772", "7773", "Your code")
        )


def test_duplicates_are_reported_and_sent(pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv) -> None:
    """
    The same text to the same number again is reported as a duplicate and sent, because it may be intended. Another text
    to that number is not a duplicate.
    """
    path = write_csv([("8613000000001", "a"), ("8613000000002", "a"), ("+8613000000001", "a"), ("8613000000001", "b")])

    ran = pico_here("blast", path, "--text", TEXT, "--json", *QUICK, env=quick.env)

    assert ran.code == 0
    assert ran.json["duplicates"] == 1
    assert ran.json["duplicate_rows"] == [{"line": 4, "first_line": 2}]
    assert "line 4 repeats line 2" in ran.err
    assert len(quick.accepted()) == 4


def test_numbers_that_opted_out_get_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    Numbers that opted out are not sent to, and are no failure. The report and the summary name them as suppressed. With
    `--region`, numbers are matched in national and international form.
    """
    opted_out = write_csv([("0912-345-678", "by mail")], header=("mobile", "how"), name="out.csv")
    path = write_csv([("0912 345 678", "a"), ("+86 130 0000 0002", "b"), ("886912345678", "c")])
    report = tmp_path / "report.csv"
    options = ("--region", "TW", "--suppress", opted_out, *QUICK)

    ran = pico_here("blast", path, "--text", TEXT, "--report", report, *options, env=quick.env)
    by_json = pico_here("blast", path, "--text", TEXT, "--json", *options, env=quick.env).json

    assert ran.code == 0
    assert "1 accepted" in ran.out
    assert "2 not sent, 2 of them suppressed" in ran.out
    assert "Not accepted" not in ran.out
    assert "3 rows, numbers from `phone`, 2 suppressed" in ran.err
    assert {row["line"]: (row["outcome"], row["error"]) for row in report_rows(report)} == {
        "2": ("not_sent", "The number has opted out. Nothing was sent."),
        "3": ("accepted", ""),
        "4": ("not_sent", "The number has opted out. Nothing was sent."),
    }
    assert (by_json["accepted"], by_json["not_sent"], by_json["suppressed"]) == (1, 2, 2)
    assert {message.to for message in quick.accepted()} == {"8613000000002"}


def test_an_invalid_list_of_opt_outs_ends_the_command_before_it_begins(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A line that is no phone number in the list of opt-outs ends the command before a request; otherwise a number that
    opted out could get the message.
    """
    (tmp_path / "out.txt").write_text("8613000000001\nnobody\n")

    ran = pico_here(
        "blast", write_csv(people(3)), "--text", TEXT, "--suppress", tmp_path / "out.txt", *QUICK, env=quick.env
    )

    assert ran.code == 2
    assert "out.txt, line 2, is not a phone number" in ran.err
    assert quick.arrivals() == []


def test_stop_after_ends_the_blast_and_the_rest_is_in_the_report(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    With `--stop-after 5`, five failures in a row end the blast. The report has exactly one line for each row, including
    the rows that were never read.
    """
    path = write_csv([("99900000018", str(row)) for row in range(500)])
    report = tmp_path / "out.csv"

    ran = pico_here(
        "blast", path, "--text", TEXT, "--stop-after", 5, "--report", report, "--json", *QUICK, env=quick.env
    )

    rows = report_rows(report)
    assert ran.code == 1
    assert ran.json["stopped"] == "5 failures in a row"
    assert ran.json["total"] == 500
    assert ran.json["never_read"] > 400
    assert sorted(int(row["line"]) for row in rows) == list(range(2, 502))
    assert sum(row["outcome"] == "rejected" for row in rows) == ran.json["rejected"] < 100


def test_late_codes_are_not_sent(pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv) -> None:
    """Rows that the rate limit delays past `--expires-in` are not sent, and are reported as not sent."""
    ran = pico_here(
        "blast", write_csv(people(100)), "--text", TEXT, "--expires-in", 1, "--rate", 20, "--json", env=quick.env
    )

    assert ran.code == 1
    assert ran.json["not_sent"] == 100 - len(quick.accepted()) > 50
    assert "expires_in" in ran.json["failures"][0]["error"]


def test_without_a_terminal_the_progress_comes_in_lines(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk send whose output is no terminal prints its progress as lines on stderr."""
    monkeypatch.setattr(LineDisplay, "interval_s", 0.05)

    ran = pico_here("blast", write_csv(people(20)), "--text", TEXT, "--rate", 100, env=quick.env)

    assert re.search(r"^\d+ of 20 \(.*\): \d+ accepted, 0 rejected", ran.err, re.MULTILINE)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_chinese_text_is_sent_unchanged(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, encoding: str
) -> None:
    """Chinese column names and values are sent unchanged, whether the file begins with a byte order mark or not."""
    path = write_csv([("8613000000001", "陳大文")], header=("phone", "姓名"), encoding=encoding)

    ran = pico_here("blast", path, "--text", "{{姓名}}您好", *QUICK, env=quick.env)

    assert ran.code == 0
    assert [message.text for message in quick.accepted()] == ["陳大文您好"]


def test_a_template_is_sent_to_each_row(pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv) -> None:
    """
    With `--template-id`, each row is sent as that template, without a text, with the sender and the callback of the
    options.
    """
    campaign = pico_here("campaigns", "create", "codes", env=quick.env).out.strip()
    pico_here("templates", "create-sms", campaign, "welcome", "Welcome!", env=quick.env)
    listed = pico_here("templates", "list", "--campaign-id", campaign, "--json", env=quick.env)
    template_id = listed.json["templates"][0]["id"]
    account = ("--sender", "PICO", "--callback", "https://example.com/receipts")

    ran = pico_here(
        "blast", write_csv(people(3)), "--template-id", template_id, "--to-column", "phone", *account, env=quick.env
    )

    assert ran.code == 0
    sent = {(m.template_id, m.text, m.sender, m.callback) for m in quick.accepted()}
    assert sent == {(template_id, None, "PICO", "https://example.com/receipts")}


def test_json_is_alone_on_stdout(pico: Pico, write_csv: WriteCsv) -> None:
    """
    With `--json`, stdout holds one line of JSON for a program to read, and all else is on stderr. With `--sandbox`, the
    JSON includes the sandbox's own counts.
    """
    ran = pico("blast", write_csv(people(3)), "--text", TEXT, "--sandbox", "--json", "--rate", 200)

    assert ran.code == 0
    assert ran.out.count("\n") == 1
    assert ran.json["accepted"] == 3
    assert ran.json["sandbox"] == {
        "accepted": 3,
        "densest_second": 3,
        "refusals": 0,
        "duplicates": 0,
        "token_requests": 1,
    }
    assert "3 rows" in ran.err


def test_a_wrong_key_is_reported_once_and_nothing_begins(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A wrong API key ends the command before it sends a message or replaces an earlier report; it is not a failure of
    each row.
    """
    report = tmp_path / "out.csv"
    report.write_text("of yesterday")

    ran = pico_here(
        "blast",
        write_csv(people(5)),
        *("--text", TEXT, "--report", report, "--force"),
        env={**quick.env, "PICO_API_KEY": "another-key"},
    )

    assert ran.code == 2
    assert ran.out == ""
    assert "nothing was sent" in ran.err
    assert report.read_text() == "of yesterday"
    assert quick.accepted() == []


def test_the_key_is_in_no_output(
    pico: Pico, pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    The API key is in no output, whether the command succeeds, fails, or gets the key from a file, from stdin or as a
    wrong option.
    """
    path = write_csv([("99900000001", "1"), ("99900000018", "2"), ("99900000014", "3")])
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY} \n")
    by_file = {name: value for name, value in quick.env.items() if name != "PICO_API_KEY"}

    for ran in (
        pico_here("blast", path, "--text", TEXT, *QUICK, env=quick.env),
        pico_here("blast", path, "--text", TEXT, *QUICK, "--api-key-file", key_file, env=by_file),
        pico("blast", path, "--text", TEXT, *QUICK, "--api-key-file", "-", env=by_file, stdin=KEY + "\n"),
        pico_here("blast", path, "--text", "{{unknown}}", env=quick.env),
        pico_here("blast", path, "--text", TEXT, "--api-key", KEY, env=by_file),
        pico_here("blast", path, "--text", TEXT, f"--api-key={KEY}", env=by_file),
        pico_here("blast", "--help", env=quick.env),
        pico_here("--help", env=quick.env),
        pico_here("token", "--help", env=quick.env),
        pico_here("token", env=quick.env),
        pico_here("balance", env={**quick.env, "PICO_BASE_URL": "ftp://x"}),
    ):
        assert KEY not in ran.out + ran.err
        assert "Traceback" not in ran.err
    assert len(quick.accepted()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--text", "Hi {{nmae}}"), "names {{nmae}}, but the file has the columns `phone`, `code`"),
        (("--text", TEXT, "--to-column", "tel"), "--to-column names `tel`"),
        ((), "exactly one of --text and --template-id"),
        (("--text", TEXT, "--rate", "0"), "positive"),
        (("--text", TEXT, "--concurrency", "0"), "--concurrency"),
        (("--text", TEXT, "--stop-after", "x"), "--stop-after"),
        (("--text", TEXT, "--delimiter", ";;"), "one character"),
        (("--text", TEXT, "--base-url", "http://example.com"), "https"),
    ],
)
def test_a_wrong_usage_ends_with_2_before_anything_is_sent(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, options: tuple[str, ...], said: str
) -> None:
    """A wrong option ends the command with exit code 2 before a request, and the error names the mistake."""
    ran = pico_here("blast", write_csv(people(3)), *options, env=quick.env)

    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err
    assert quick.arrivals() == []


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("PICO_USERNAME", "pass --username or set PICO_USERNAME"),
        ("PICO_SENDER", "pass --sender or set PICO_SENDER"),
        ("PICO_API_KEY", "set PICO_API_KEY, or pass --api-key-file"),
    ],
)
def test_a_missing_setting_is_named_with_its_option(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, missing: str, said: str
) -> None:
    """
    A missing setting ends the command with exit code 2, and the error names its option and its environment variable.
    """
    ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, env={**quick.env, missing: ""})

    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert said in ran.err


def test_a_wrong_encoding_far_down_is_found_before_anything_is_sent(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv
) -> None:
    """
    A byte that is not UTF-8 near the end of the file ends the command before a request, because half a bulk send is
    worse than none.
    """
    path = write_csv(people(2000))
    with path.open("ab") as file:
        file.write("8613999999999,陳\n".encode("big5"))

    ran = pico_here("blast", path, "--text", TEXT, *QUICK, env=quick.env)

    assert ran.code == 2
    assert "line 2002: byte 15 of the line is not UTF-8" in ran.err
    assert quick.arrivals() == []


def test_a_report_is_never_overwritten_by_mistake(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    Only `--force` replaces an existing report. Nothing replaces the input file, even under the name of a symbolic link.
    """
    path = write_csv(people(3))
    before = path.read_bytes()
    report, alias = tmp_path / "out.csv", tmp_path / "alias.csv"
    report.write_text("of yesterday")
    alias.symlink_to(path)

    refused = pico_here("blast", path, "--text", TEXT, "--report", report, *QUICK, env=quick.env)
    for name in (path, alias):
        itself = pico_here("blast", path, "--text", TEXT, "--report", name, "--force", *QUICK, env=quick.env)
        assert (itself.code, "is a file that this command reads" in itself.err) == (2, True)

    assert refused.code == 2
    assert "exists: choose another path, or pass --force" in refused.err
    assert report.read_text() == "of yesterday"
    assert path.read_bytes() == before
    assert quick.accepted() == []

    replaced = pico_here("blast", path, "--text", TEXT, "--report", report, "--force", *QUICK, env=quick.env)

    assert replaced.code == 0
    assert len(report_rows(report)) == 3


def test_a_report_that_cannot_be_created_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """A report in a missing folder or on a full disk ends the command before a message is sent."""
    for report in (tmp_path / "none" / "out.csv", "/dev/full"):
        ran = pico_here(
            "blast", write_csv(people(3)), "--text", TEXT, "--report", report, "--force", *QUICK, env=quick.env
        )

        assert ran.code == 2
        assert f"The report {report} " in ran.err
    assert quick.accepted() == []


def test_a_report_that_can_no_longer_be_written_stops_the_bulk_send(
    quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    When the report can no longer be written, the bulk send stops, and only requests that were in flight may lack a line
    there.
    """
    report = tmp_path / "out.csv"
    command = [PICO, "blast", write_csv(people(2000)), "--text", TEXT, "--report", report, "--json", "--rate", "2000"]

    done = subprocess.run(
        command,
        env=environment(quick.env),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )

    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert (
        f"error: The report {report} is incomplete, because it can no longer be written: File too large." in done.stderr
    )
    assert said["stopped"] == "the report could not be written"
    assert said["total"] == 2000
    assert said["accepted"] == len(quick.accepted()) < 500


def test_a_file_with_only_a_header_sends_nothing(pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv) -> None:
    """A file with a header and no rows ends with exit code 0, because no row failed."""
    ran = pico_here("blast", write_csv([]), "--text", TEXT, "--json", env=quick.env)

    assert ran.code == 0
    assert ran.json["total"] == 0


def test_once_per_number_sends_only_the_first_message(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    With `--once-per-number` each number gets its first message alone. The others are no failures, count for no
    `--stop-after`, and name the line that the number has its message from; a resumed run decides alike.
    """
    path = write_csv(
        [
            ("8613000000001", "1"),
            ("8613000000001", ""),
            *[("+86 13000000001", n) for n in range(5)],
            ("8613000000002", "9"),
        ]
    )
    report, again, journal = tmp_path / "out.csv", tmp_path / "again.csv", tmp_path / "blast.db"
    arguments = ("blast", path, "--text", TEXT, "--once-per-number", "--stop-after", 3, "--journal", journal)

    ran = pico_here(*arguments, "--report", report, "--json", env=quick.env)
    resumed = pico_here(*arguments, "--report", again, "--resume", "--json", env=quick.env)

    assert ran.code == 1  # the row that lacks its code
    assert (ran.json["accepted"], ran.json["suppressed"], ran.json["invalid"]) == (2, 5, 1)
    assert (resumed.json["skipped"], resumed.json["suppressed"], resumed.json["accepted"]) == (2, 5, 0)
    assert sorted(message.text for message in quick.accepted()) == ["Your code is 1", "Your code is 9"]
    for rows in (report_rows(report), report_rows(again)):
        assert {row["error"] for row in rows if 4 <= int(row["line"]) <= 8} == {
            "Line 2 has the same number; --once-per-number keeps the first. Nothing was sent."
        }


def test_pico_suppress_applies_to_a_bulk_send(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """PICO_SUPPRESS names the file of opt-outs for each bulk send, but for one with `--no-promotional`."""
    (tmp_path / "out.txt").write_text("+86 130 0000 0001\n")
    path = write_csv(people(3))
    env = quick.env | {"PICO_SUPPRESS": str(tmp_path / "out.txt")}

    ran = pico_here("blast", path, "--text", TEXT, "--json", env=env)
    wanted = pico_here("blast", path, "--text", "Asked for {{code}}", "--no-promotional", "--json", env=env)

    assert (ran.code, ran.json["accepted"], ran.json["suppressed"]) == (0, 2, 1)
    assert (wanted.code, wanted.json["accepted"], wanted.json["suppressed"]) == (0, 3, 0)
    assert [message.text for message in quick.accepted() if message.to == "8613000000001"] == ["Asked for 000001"]
