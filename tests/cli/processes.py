"""`pico` and the sandbox in processes of their own, and the files between them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

from attrs import evolve, frozen
from typer.main import get_command

from pico_async.cli.app import app

PICO = Path(sys.executable).with_name("pico")
KEY = "0123key-that-nobody-may-see"
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


@frozen
class SandboxProcess:
    """
    A sandbox in a process of its own.

    Attributes:
        since: How many requests had reached it when the test began.
    """

    base_url: str
    since: int = 0

    @property
    def env(self) -> dict[str, str]:
        """The environment that points `pico` at it."""
        return {
            "PICO_BASE_URL": self.base_url,
            "PICO_USERNAME": "user333",
            "PICO_API_KEY": KEY,
            "PICO_SENDER": "8612345678888",
        }

    def ledger(self, since: int | None = None) -> Any:
        """Ask for what reached it since the test began. Its totals are those of its whole life."""
        since = self.since if since is None else since
        with urllib.request.urlopen(f"{self.base_url}/_sandbox/ledger?since={since}", timeout=10) as reply:
            return json.load(reply)

    def arrivals(self) -> list[Any]:
        """Ask for the requests that reached it."""
        arrivals: list[Any] = self.ledger()["arrivals"]
        return arrivals

    def accepted(self) -> list[Any]:
        """Ask for the messages that it carried out."""
        messages: list[Any] = self.ledger()["accepted"]
        return messages

    def fresh(self) -> Self:
        """Forget what reached it so far."""
        return evolve(self, since=self.ledger(since=10**9)["total_arrivals"])


@cache
def command() -> Any:
    """Put the commands together for this process: typer does it anew for each call, which takes longer than most."""
    return get_command(app)


@contextmanager
def sandbox_process(*options: str) -> Iterator[SandboxProcess]:
    """Run a sandbox for as long as the context lasts."""
    command = [sys.executable, "-m", "pico_async.sandbox", "--port", "0", "--api-key", KEY, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("listening on "))
            yield SandboxProcess(line.split()[-1])
        finally:
            process.terminate()


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Give this process's environment, without a developer's own account and with what the test sets."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PICO_")}
    return {**own, "NO_COLOR": "1", "COLUMNS": "120", **(env or {})}


def people(count: int) -> list[tuple[str, str]]:
    """Make recipients, each with a code of its own."""
    return [(f"8613{person:09d}", f"{person:06d}") for person in range(count)]


def numbers_of(sandbox: SandboxProcess) -> Counter[str]:
    """Count what the sandbox carried out by number."""
    return Counter(message["to"] for message in sandbox.accepted())


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

    def inherit() -> None:
        # A test run in the background of a shell ignores SIGINT, and its children would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    command = [PICO, *map(str, args)]
    with subprocess.Popen(
        command,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=inherit,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for something that takes some seconds at most."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_stopping(process: subprocess.Popen[str]) -> None:
    """Wait until a `pico` says that it has heard a signal."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Stopping"):
            return
