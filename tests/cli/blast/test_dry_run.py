"""`pico blast --dry-run` checks a file and estimates time, parts and cost without sending a message."""

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.pico_command import TEXT, Ran, environment, people
from tests.support.sandbox_process import SandboxProcess

Pico = Callable[..., Ran]
WriteCsv = Callable[..., Path]


def test_a_dry_run_reports_the_rows_and_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A dry run prints counts, faulty lines, the time needed, and the first messages with masked numbers. It makes no
    request and begins no report.
    """
    path = write_csv([("8613000000001", "a\tb"), ("8613000000001", "a\tb"), ("12", "c"), ("8613000000004", " ")])
    report = tmp_path / "out.csv"

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run", "--report", report, env=quick.env)

    assert ran.code == 1
    for said in (
        "Nothing was sent.",
        "4 rows, numbers from `phone`",
        "2 to send, which takes 0.1 s at 29.",
        "2 invalid",
        "1 duplicate",
        "line 4: `to` has 2 digits",
        "line 5: Column `code` is empty",
        "line 3 repeats line 2",
        "line 2, to 86…01: Your code is a b",
    ):
        assert said in ran.out
    assert "8613000000001" not in ran.out + ran.err
    assert not report.exists()
    assert quick.arrivals() == []


def test_a_dry_run_needs_no_account_and_no_sandbox(pico_here: Pico, write_csv: WriteCsv) -> None:
    """A dry run needs no account and no server, and ends with exit code 0 if each row makes a message."""
    ran = pico_here("blast", write_csv(people(7)), "--text", TEXT, "--dry-run", "--json", "--rate", 100)

    assert ran.code == 0
    assert ran.json["valid"] == 7
    assert ran.json["samples"][0] == {"line": 2, "to": "86…00", "text": "Your code is 000000"}


def test_a_dry_run_refuses_what_the_bulk_send_would_refuse(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    A dry run refuses a report that would overwrite the input file, as the bulk send would; otherwise it would approve a
    command that fails.
    """
    path = write_csv(people(3))

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run", "--report", path)

    assert ran.code == 2


def test_a_dry_run_counts_parts_and_reports_what_forces_ucs_2(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    A dry run counts message parts by encoding, and prints and names each character that forces UCS-2, so that users can
    find it.
    """
    path = write_csv([("8613000000001", "a" * 150), ("8613000000002", "it’s"), ("8613000000003", "1"), ("1", "it’s")])

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run")
    by_json = pico_here("blast", path, "--text", TEXT, "--dry-run", "--json").json

    assert "        4 parts: 3 in GSM-7, 1 in UCS-2" in ran.out
    assert "  ’ U+2019 RIGHT SINGLE QUOTATION MARK in 1 message\n" in ran.out
    assert (by_json["parts"], by_json["gsm7_parts"], by_json["ucs2_parts"]) == (4, 3, 1)
    assert by_json["forced_ucs2"] == [
        {"character": "’", "is": "U+2019 RIGHT SINGLE QUOTATION MARK", "messages": 1},
    ]
    assert by_json["price"] is by_json["estimated_cost"] is by_json["balance"] is None


def test_a_control_character_is_named_and_not_printed(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    An escape character in a text is named by its code point and never printed, because a terminal would execute the
    sequence that it begins.
    """
    ran = pico_here("blast", write_csv([("8613000000001", "\x1b[2J")]), "--text", TEXT, "--dry-run")

    assert "U+001B (no name) in 1 message" in ran.out
    assert "\x1b" not in ran.out


def test_a_template_has_no_parts_to_count(pico_here: Pico, write_csv: WriteCsv) -> None:
    """Messages by template have no known parts and no estimated cost, because only Pico knows the template's text."""
    arguments = (
        "blast",
        write_csv(people(3)),
        "--template-id",
        "t-1",
        "--to-column",
        "phone",
        "--price",
        1,
        "--dry-run",
    )

    ran, by_json = pico_here(*arguments), pico_here(*arguments, "--json").json

    assert "3 by template: the number of parts is unknown" in ran.out
    assert (by_json["parts"], by_json["unmeasured"], by_json["estimated_cost"]) == (0, 3, "0")


def test_a_price_without_credentials_gives_the_cost_alone(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    With `--price` and no credentials, the cost is estimated, and a note on stderr explains why the balance is not
    requested.
    """
    arguments = ("blast", write_csv(people(3)), "--text", TEXT, "--price", "0.04", "--dry-run")

    ran, by_json = pico_here(*arguments), pico_here(*arguments, "--json").json

    assert ran.code == 0
    assert "Estimated cost: 0.12 at 0.04 per part.\n" in ran.out
    assert "The balance is not requested" in ran.err
    assert (by_json["price"], by_json["estimated_cost"], by_json["balance"]) == ("0.04", "0.12", None)


def test_a_price_with_credentials_gives_the_balance_beside_the_cost(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv
) -> None:
    """
    With `--price` and credentials, a dry run requests a token and the balance, and nothing else. It prints the balance
    that remains, or the amount that is missing.
    """
    arguments = ("blast", write_csv(people(3)), "--text", TEXT, "--dry-run")

    ran = pico_here(*arguments, "--price", 0.5, env=quick.env)
    operations = [arrival.operation for arrival in quick.arrivals()]
    by_json = pico_here(*arguments, "--price", 0.5, "--json", env=quick.env).json
    dear = pico_here(*arguments, "--price", 10**6, env=quick.env)

    balance = Decimal(by_json["balance"])
    assert ran.code == 0
    assert f"the balance is {by_json['balance']}, which leaves {balance - Decimal('1.5')}." in ran.out
    assert operations == ["token.get", "balance.get"]
    assert f"{3 * 10**6 - balance} too little." in dear.out


def test_an_unknown_balance_does_not_end_the_dry_run(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv
) -> None:
    """If the balance request fails, the dry run still prints the rest and ends with exit code 0."""
    env = quick.env | {"PICO_API_KEY": "another"}

    ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, "--price", 1, "--dry-run", env=env)

    assert ran.code == 0
    assert "Estimated cost: 3 at 1 per part." in ran.out
    assert "The balance is not known" in ran.err
    assert "another" not in ran.err


@pytest.mark.parametrize("price", ["nan", "-1", "much"])
def test_an_invalid_price_is_refused(pico_here: Pico, write_csv: WriteCsv, price: str) -> None:
    """A price that is not a number, or is negative, ends the command with exit code 2."""
    ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, "--dry-run", f"--price={price}")

    assert ran.code == 2
    assert "price of a part" in ran.err


def test_a_dry_run_counts_suppressed_numbers(pico_here: Pico, write_csv: WriteCsv, tmp_path: Path) -> None:
    """A dry run counts suppressed numbers apart: they add no parts, and none of them is in the samples."""
    (tmp_path / "out.txt").write_text("0912345678\n")
    path = write_csv([("0912 345 678", "1"), ("0912 345 679", "2")])
    arguments = ("blast", path, "--text", TEXT, "--region", "TW", "--suppress", tmp_path / "out.txt", "--dry-run")

    ran, by_json = pico_here(*arguments), pico_here(*arguments, "--json").json

    assert ran.code == 0
    assert "1 suppressed: the number has opted out" in ran.out
    assert (by_json["valid"], by_json["suppressed"], by_json["parts"]) == (1, 1, 1)
    assert [sample["to"] for sample in by_json["samples"]] == ["88…79"]


def test_a_dry_run_reports_countries_kinds_and_repeated_numbers(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    A dry run reports the country codes, the numbers that take no SMS, the numbers that a spreadsheet damaged, and the
    lines of repeated numbers.
    """
    numbers = ["886912345678", "+886 912 345 679", "886223456789", "912345678", "8.86912E+11", "886912345678.0"]
    path = write_csv([(number, place) for place, number in enumerate([*numbers, "\u202a+886912345678\u202c"])])

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run")
    by_json = pico_here("blast", path, "--text", TEXT, "--dry-run", "--json").json

    for said in (
        "Country codes: 886: 4.",
        "Numbers that take no SMS: 1 fixed line.",
        "line 5: `to` is too short for a number of country code 91, with 9 digits: did a spreadsheet drop a leading 0",
        "line 6: `to` is in scientific notation: Excel has rounded this number",
        "line 7: `to` has a decimal part",
        "        1 with the number of an earlier row and any text",
        "line 8 has the number of line 2",
    ):
        assert said in ran.out
    assert "912345678" not in ran.out + ran.err
    assert (by_json["countries"], by_json["no_sms"], by_json["same_number"]) == ({"886": 4}, {"fixed line": 1}, 1)
    assert by_json["same_number_rows"] == [{"line": 8, "first_line": 2}]
    assert by_json["duplicates"] == 0


def test_numbers_that_cannot_exist_are_invalid(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """
    A bulk send to Pico refuses numbers that cannot exist, in the file of opt-outs, too. `--newer-ranges` takes them,
    and a sandbox needs none that exist.
    """
    path = write_csv([("8612345678901", "1"), ("99900000001", "2")])
    (tmp_path / "out.txt").write_text("8612345678902\n")
    arguments = ("blast", path, "--text", TEXT, "--dry-run")
    suppress = ("--suppress", tmp_path / "out.txt")

    ran = pico_here(*arguments)
    newer = pico_here(*arguments, *suppress, "--newer-ranges", "--json").json
    refused = pico_here(*arguments, *suppress)
    in_sandbox = pico_here(*arguments, *suppress, "--json", env=quick.env)

    assert (ran.code, refused.code) == (1, 2)
    assert "line 2: `to` is of a range that is not in use in country code 86" in ran.out
    assert "line 3: `to` begins with no country code that there is" in ran.out
    assert (newer["valid"], newer["invalid"]) == (1, 1)
    assert "line 1, is not a phone number: `to` is of a range that is not in use" in refused.err
    assert (in_sandbox.code, in_sandbox.json["valid"]) == (0, 2)


def test_a_dry_run_counts_what_once_per_number_leaves_out(pico_here: Pico, write_csv: WriteCsv) -> None:
    """With `--once-per-number` a dry run counts what is left out, and samples only the first message to a number."""
    path = write_csv([("8613000000001", "1"), ("+86 130-0000-0001", "2"), ("8613000000002", "3")])

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run", "--once-per-number")
    by_json = pico_here("blast", path, "--text", TEXT, "--dry-run", "--once-per-number", "--json").json

    assert ran.code == 0
    assert "        2 to send" in ran.out
    assert "        1 left out by --once-per-number" in ran.out
    assert "opted out" not in ran.out
    assert (by_json["valid"], by_json["left_out"], by_json["same_number"]) == (2, 1, 0)
    assert [sample["line"] for sample in by_json["samples"]] == [2, 4]


# Run `pico`, then print the peak memory of the process. Nothing else in the process grows with the file. (Not
# `ru_maxrss`: that counts the memory of the process that started it, too, and this one's is larger.)
_MEASURED = """
import sys
from pathlib import Path
from pico_async.cli import main
try:
    main()
finally:
    _, _, peak = Path("/proc/self/status").read_text().partition("VmHWM:")
    print(peak.split()[0], file=sys.stderr)
"""


def _peak_mib(path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "blast", path, "--text", TEXT, "--dry-run", "--json", "--no-progress"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split()[-1]) / 1024


def _write(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        file.write("phone,code,note\n")
        for person in range(rows):
            file.write(f"8613{person:09d},{person:06d},whatever else there is about person {person}\n")
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads there how much memory a process takes")
@pytest.mark.parametrize(("few", "many"), [(5_000, 50_000), pytest.param(100_000, 1_000_000, marks=pytest.mark.full)])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, few: int, many: int) -> None:
    """
    Ten times the rows add less than 3 MiB of memory: the cache for duplicates takes 2 MB, but a set of digests would
    take 5 or 90 MB.
    """
    small = _peak_mib(_write(tmp_path / "few.csv", few))

    large = _peak_mib(_write(tmp_path / "many.csv", many))

    assert large - small < 3
