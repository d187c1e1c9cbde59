"""What the command's tests share: `pico` in a process of its own or in this one, and sandboxes."""

import csv
import functools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.scripted_pico import ScriptedPico, scripted_pico
from tests.cli.terminal import on_terminal
from tests.support.late_timers import watched
from tests.support.pico_command import KEY, PICO, Ran, command, environment
from tests.support.sandbox_process import SandboxProcess, sandbox_process


@pytest.fixture
def start_sandbox() -> Iterator[Callable[..., SandboxProcess]]:
    """A function that starts a sandbox process with the options given."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(sandbox_process(*options, api_key=KEY))


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[SandboxProcess]:
    """One sandbox process for all tests that look at their own requests only: to start one takes half a second."""
    with sandbox_process("--rate-rule", "none", api_key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def quick(shared_sandbox: SandboxProcess) -> SandboxProcess:
    """A sandbox process that enforces no rate, and shows the requests of this test only."""
    return shared_sandbox.fresh()


@pytest.fixture
def cloud() -> Iterator[ScriptedPico]:
    """A server that a test writes the answers of."""
    with scripted_pico() as script:
        yield script


@pytest.fixture
def pico() -> Callable[..., Ran]:
    """A function that runs the installed `pico` in a process of its own."""

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
    """A function that runs `pico` in this process, which is quicker."""

    def run(*args: object, env: dict[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("PICO_")]:
                patch.delenv(name)
            for name, value in environment(env).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                command()([str(arg) for arg in args], prog_name="pico")
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def pico_on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """A function that runs `pico` in this process on a terminal."""
    return functools.partial(on_terminal, monkeypatch)


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a CSV file of rows under a header."""

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
