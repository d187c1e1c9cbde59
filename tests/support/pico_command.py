"""`pico` in a process of its own, and the files that it reads and writes."""

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
    """How a `pico` ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said on stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


@cache
def command() -> Any:
    """Put the commands together for this process: typer does it anew for each call, which takes longer than most."""
    return get_command(app)


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Give this process's environment, without a developer's own account and with what the test sets."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PICO_")}
    return {**own, "NO_COLOR": "1", "COLUMNS": "120", **(env or {})}


def people(count: int) -> list[tuple[str, str]]:
    """Make recipients, each with a code of its own."""
    return [(f"8613{person:09d}", f"{person:06d}") for person in range(count)]


def report_rows(path: Path) -> list[dict[str, str]]:
    """Read a report."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def running(
    *args: object, env: dict[str, str], ignored: Sequence[signal.Signals] = ()
) -> Iterator[subprocess.Popen[str]]:
    """
    Run a `pico` for as long as the context lasts, or its command is done.

    Args:
        ignored: Signals that it is to ignore from its start, as nohup does with SIGHUP.
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
    """Wait until a `pico` says that it has heard a signal."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Stopping"):
            return
