"""Tests can run `pico` on a real terminal and read its screen."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.pico_command import Ran, command, environment

OnTerminal = Callable[..., Ran]


class _Screen:
    """The output on a terminal, and the answer that is typed once a question appears there."""

    def __init__(self, end: int, typed: str) -> None:
        self.seen = b""
        self._end = end
        self._typed = typed
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def finished(self) -> str:
        self._thread.join(60)
        return self.seen.decode().replace("\r\n", "\n")

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._end, 65536)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            self.seen += part
            if self._typed and b"[y/N]" in self.seen:
                os.write(self._end, self._typed.encode())
                self._typed = ""


# The script makes its terminal the controlling terminal, so that Ctrl-C there sends SIGINT, and then executes the
# command. A `preexec_fn` could do the same, but Python warns about a fork in a process that has threads.
_SIT_DOWN = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def terminal_of(
    command: Sequence[str | Path], env: Mapping[str, str], folder: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command on its own terminal until the context ends; return the process and the terminal's other end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _SIT_DOWN, *command],
        env=env,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


@contextmanager
def _attached(patch: pytest.MonkeyPatch, end: int) -> Iterator[None]:
    """Replace this process's standard streams with the terminal."""
    streams: dict[str, Any] = {
        "stdin": open(os.dup(end), encoding="utf-8"),  # noqa: SIM115
        "stdout": open(os.dup(end), "w", encoding="utf-8"),  # noqa: SIM115
        "stderr": open(os.dup(end), "w", encoding="utf-8"),  # noqa: SIM115
    }
    os.close(end)
    try:
        for name, stream in streams.items():
            patch.setattr(f"sys.{name}", stream)
        yield
    finally:
        for stream in streams.values():
            stream.close()


def on_terminal(
    patch: pytest.MonkeyPatch,
    *args: object,
    env: Mapping[str, str],
    columns: int = 80,
    typed: str = "",
    colours: bool = False,
) -> Ran:
    """
    Run `pico` in this process on a terminal with that many columns; stdout and stderr both appear on the screen.

    Args:
        typed: The answer to type once `pico` asks a question.
        colours: Remove NO_COLOR from the environment.
    """
    variables = environment({**env, "TERM": "xterm-256color", "COLUMNS": str(columns)})
    if colours:
        del variables["NO_COLOR"]
    ours, theirs = pty.openpty()
    screen = _Screen(ours, typed)
    with patch.context() as here:
        for name in [name for name in os.environ if name.startswith("PICO_") or name == "NO_COLOR"]:
            here.delenv(name)
        for name, value in variables.items():
            here.setenv(name, value)
        with _attached(here, theirs), pytest.raises(SystemExit) as ended:
            command()([str(arg) for arg in args], prog_name="pico")
    said = screen.finished()
    os.close(ours)
    assert isinstance(ended.value.code, int)
    # The sequences for bold headers come from `pico` itself. All others stay, so that a test can find them.
    return Ran(ended.value.code, said if colours else said.replace("\x1b[1m", "").replace("\x1b[0m", ""), "")
