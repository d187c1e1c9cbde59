"""This module runs programs that use the blocking client against a sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import PATIENCE_S

# Python warns of each fork of a process with threads since 3.12.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process"]


def start_program(code: str, folder: Path, sandbox: SandboxProcess) -> subprocess.Popen[str]:
    """Start a program, with the account of the sandbox in its environment."""
    (folder / "program.py").write_text(code)
    return subprocess.Popen(
        [*PYTHON, "program.py"],
        cwd=folder,
        env=os.environ | sandbox.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(code: str, folder: Path, sandbox: SandboxProcess) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. It must end by itself."""
    with start_program(code, folder, sandbox) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
