"""`pico blast --dry-run`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.processes import TEXT, Ran, SandboxProcess, environment, people

Pico = Callable[..., Ran]
WriteCsv = Callable[..., Path]


def test_a_dry_run_says_what_there_is_and_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path
) -> None:
    """Counts, lines, the time it takes, and the first messages with masked numbers. No report is begun."""
    path = write_csv([("8613000000001", "a\tb"), ("8613000000001", "a\tb"), ("12", "c"), ("8613000000004", " ")])
    report = tmp_path / "out.csv"

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run", "--report", report, env=quick.env)

    assert ran.code == 1
    for said in (
        "Nothing was sent.",
        "4 rows, numbers from `phone`",
        "2 to send, which takes 0.1 s at 29.",
        "2 without a message",
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
    """It opens no socket; where every row makes a message it ends with 0."""
    ran = pico_here("blast", write_csv(people(7)), "--text", TEXT, "--dry-run", "--json", "--rate", 100)

    assert ran.code == 0
    assert ran.json["valid"] == 7
    assert ran.json["samples"][0] == {"line": 2, "to": "86…00", "text": "Your code is 000000"}


def test_a_dry_run_complains_of_what_the_blast_would(pico_here: Pico, write_csv: WriteCsv) -> None:
    """Otherwise it would say yes to a command that fails."""
    path = write_csv(people(3))

    ran = pico_here("blast", path, "--text", TEXT, "--dry-run", "--report", path)

    assert ran.code == 2


# The peak of the process is asked for at its end: nothing else in it grows with the file.
_MEASURED = """
import resource, sys
from pico_async.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
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


@pytest.mark.skipif(os.name != "posix", reason="ru_maxrss is POSIX")
@pytest.mark.parametrize(("few", "many"), [(10_000, 100_000), pytest.param(100_000, 1_000_000, marks=pytest.mark.full)])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, few: int, many: int) -> None:
    """Ten times the rows take no more than the cache for duplicates, 2 MB; a set of digests would take 9 or 90."""
    small = _peak_mib(_write(tmp_path / "few.csv", few))

    large = _peak_mib(_write(tmp_path / "many.csv", many))

    assert large - small < 5
