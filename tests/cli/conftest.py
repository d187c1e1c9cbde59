"""The tests of the command share fixtures that run `pico` in its own process, in this process or on a terminal."""

import csv
import functools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pico_async.cli import fleet_address
from pico_async.coordination.redis.status import read_fleets
from tests.cli.scripted_pico import ScriptedPico, scripted_pico
from tests.cli.terminal import on_terminal
from tests.support.late_timers import watched
from tests.support.pico_command import PICO, Ran, command, environment
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def cloud() -> Iterator[ScriptedPico]:
    """Run a server whose replies the test sets."""
    with scripted_pico() as script:
        yield script


@pytest.fixture
def pico() -> Callable[..., Ran]:
    """Return a function that runs the installed `pico` in its own process."""

    def run(*args: object, env: dict[str, str] | None = None, stdin: str = "") -> Ran:
        done = subprocess.run(
            watched(PICO, *args),
            env=environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def pico_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs `pico` in this process, which is faster."""

    def run(*args: object, env: dict[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("PICO_")]:
                patch.delenv(name)
            for name, value in environment(env).items():
                patch.setenv(name, value)
            # A busy machine may take longer than a second to read Redis's answer.
            patch.setattr(fleet_address, "_TIMEOUT_S", PATIENCE_S)
            with pytest.raises(SystemExit) as ended:
                command()([str(arg) for arg in args], prog_name="pico")
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `pico fleet status` read a fleet for less than a second, where its rate does not matter."""
    assert read_fleets.__kwdefaults__ is not None
    monkeypatch.setitem(read_fleets.__kwdefaults__, "over_s", 0.05)


@pytest.fixture
def pico_on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Return a function that runs `pico` in this process on a terminal."""
    return functools.partial(on_terminal, monkeypatch)


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a CSV file of rows below a header."""

    def write(
        rows: Sequence[Sequence[object]],
        *,
        header: Sequence[str] = ("phone", "code"),
        name: str = "people.csv",
        encoding: str = "utf-8",
    ) -> Path:
        path = tmp_path / name
        with path.open("w", encoding=encoding, newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        return path

    return write
