"""Every block of the README runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox_process import sandbox_process

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]
RECIPIENTS = "id,phone,code\nrow-1,8612345678901,1234\nrow-2,+86 123-4567-8902,5678\n"


def run(command: list[str], directory: Path, base_url: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PICO_USERNAME": "user333",
        "PICO_API_KEY": "sandbox-api-key",
        "PICO_SENDER": "8612345678888",
        "PICO_BASE_URL": base_url,
    }
    (directory / "recipients.csv").write_text(RECIPIENTS)
    ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_there_are_blocks_of_two_languages_and_no_other() -> None:
    """A block in a language that nobody runs would go stale."""
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert len(PYTHON) >= 4


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_a_python_block_runs(code: str, tmp_path: Path) -> None:
    """As a script, against a sandbox on a socket, and it has something to show."""
    with sandbox_process() as sandbox:
        shown = run([sys.executable, "-W", "error", "-c", code], tmp_path, sandbox.base_url)

    assert shown or "except" in code


def test_the_commands_run(tmp_path: Path) -> None:
    """The `pico` lines, one after the other; the blast reaches each recipient with its own code."""
    with sandbox_process() as sandbox:
        for code in SHELL[2:]:
            run(["bash", "-euo", "pipefail", "-c", code], tmp_path, sandbox.base_url)
        ledger = sandbox.ledger()

    assert [message.text for message in ledger.sent_to("8612345678902")] == ["Your code is 5678"]


def test_the_first_block_makes_an_environment_and_runs_the_demo(tmp_path: Path) -> None:
    """In a fresh copy of the project, with nothing installed; nothing else stands in the block."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist"))

    (line,) = SHELL[0].splitlines()
    shown = subprocess.run(["bash", "-c", line], cwd=checkout, capture_output=True, text=True, check=False)

    assert shown.returncode == 0, shown.stderr
    assert "accepted" in shown.stdout + shown.stderr


def test_the_gate_runs_the_second_block() -> None:
    """It is one line that makes an environment and runs the tests, and .ci/run takes it from here."""
    (line,) = SHELL[1].splitlines()

    assert line.endswith("pytest")
    gate = (ROOT / ".ci" / "run").read_text()
    extract = re.search(r"test_command=\$\((awk .*)\)$", gate, re.MULTILINE)
    assert extract is not None
    taken = subprocess.run(["bash", "-c", extract[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert taken.stdout.strip() == line
