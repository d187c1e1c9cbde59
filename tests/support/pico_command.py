"""This module runs `pico` in a process of its own, and makes and reads the files that it uses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen
from typer.main import get_command

from pico_async.cli.app import app
from tests.support.late_timers import watched

PICO = Path(sys.executable).with_name("pico")
TEXT = "Your code is {{code}}"


@frozen
class Ran:
    """The exit code and the output of a `pico` command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the output on stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


@cache
def command() -> Any:
    """Return the whole command; it is built once, because typer would build it for each call, which takes long."""
    return get_command(app)


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, without a developer's own account and with the test's variables."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PICO_")}
    return {**own, "NO_COLOR": "1", "COLUMNS": "120", **(env or {})}


def people(count: int) -> list[tuple[str, str]]:
    """Make *count* recipients, each with a code of its own."""
    return [(f"8613{person:09d}", f"{person:06d}") for person in range(count)]


def report_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a report."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def running(
    *args: object, env: dict[str, str], ignored: Sequence[signal.Signals] = ()
) -> Iterator[subprocess.Popen[str]]:
    """
    Run a `pico` command, and kill it at the end of the context.

    Args:
        ignored: Signals that the command ignores from its start, as nohup does with SIGHUP.
    """

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    command = watched(PICO, *args)
    with subprocess.Popen(
        command,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignore if ignored else None,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_stopping(process: subprocess.Popen[str]) -> None:
    """Wait until a `pico` command reports that it received a signal."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Stopping"):
            return
