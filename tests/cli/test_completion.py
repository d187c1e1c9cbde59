"""TAB completes commands, values and files in real shells on a terminal, and offers the right values."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from pico_async.cli.sandbox import DialectName, RateRuleName, ReceiptFormName
from pico_async.sandbox import Dialect, RateRule, ReceiptForm
from tests.cli.terminal import terminal_of
from tests.support.pico_command import PICO, Ran, environment

pytestmark = pytest.mark.lower_bounds

Pico = Callable[..., Ran]

# The commands that start an interactive shell without a user's own settings.
SHELLS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config"]}


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")


def surroundings(home: Path) -> dict[str, str]:
    path = f"{PICO.parent}{os.pathsep}{os.environ['PATH']}"
    return environment({"PATH": path, "HOME": str(home), "TERM": "dumb", "PS1": "$ ", "INPUTRC": "/dev/null"})


class Terminal:
    """A shell on a terminal, and the text on its screen."""

    def __init__(self, screen: int) -> None:
        self._screen = screen

    def type(self, keys: str, *, until: str) -> str:
        """Type keys, wait until the expected text appears, and return the new text on the screen."""
        os.write(self._screen, keys.encode())
        seen, deadline = "", time.monotonic() + 60
        while until not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self._screen], [], [], 0.1)[0]:
                seen += os.read(self._screen, 65536).decode()
        return seen


@contextmanager
def shell(name: str, home: Path, *options: str) -> Iterator[Terminal]:
    """Run a shell until the context ends."""
    with terminal_of(options or SHELLS[name], surroundings(home), home) as (_, screen):
        terminal = Terminal(screen)
        # The quotes make the typed line differ from its output, because both appear on the screen.
        terminal.type("echo re''ady\n", until="ready\r")
        yield terminal


def test_bash_completes_after_the_installation(tmp_path: Path) -> None:
    """After `--install-completion` in an empty home, the next bash completes commands, values and file names."""
    need("bash")
    (tmp_path / "people.csv").touch()
    with shell("bash", tmp_path) as terminal:
        terminal.type("pico --install-completion\n", until="installed in")

    with shell("bash", tmp_path, "bash", "--noprofile", "-i") as terminal:
        terminal.type("pico camp\t", until="campaigns ")
        terminal.type("\x15pico sandbox --rate-rule first\t", until="first-request-window ")
        terminal.type("\x15pico blast peo\t", until="people.csv ")

    assert sorted(path.name for path in tmp_path.glob(".bash[_r]*") if path.name != ".bash_history") == [
        ".bash_completions",
        ".bashrc",
    ]


def test_zsh_completes(tmp_path: Path) -> None:
    """Zsh completes values with the script that `pico --show-completion` prints."""
    need("zsh")
    setup = 'autoload -Uz compinit; compinit -u -D; eval "$(pico --show-completion)"; compdef _pico_completion pico'

    with shell("zsh", tmp_path) as terminal:
        terminal.type(f"unsetopt zle_bracketed_paste; {setup}; echo do''ne\n", until="done\r")
        terminal.type("pico sandbox --rate-rule first\t", until="first-request-window ")


def test_fish_completes(tmp_path: Path) -> None:
    """Fish offers values with the script that `pico --show-completion` prints, as its own `complete -C` lists them."""
    need("fish")
    script = "pico --show-completion | source; complete -C 'pico sandbox --rate-rule first'"

    ran = subprocess.run(
        [*SHELLS["fish"], "-c", script],
        env=surroundings(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ran.stdout.split() == ["first-request-window"]


@pytest.fixture
def offered(pico_here: Pico) -> Callable[[str], list[str]]:
    """Return a function that returns the offers for a command line, requested as bash's script does."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        ran = pico_here(env={"_PICO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)})
        assert ran.err == ""
        return ran.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("pico do", ["doctor"]),
        ("pico templates list --status ", ["pending", "approved", "rejected"]),
        ("pico sandbox --dialect ", ["documented", "ruoyi"]),
        ("pico sandbox --rate-rule ", [*get_args(RateRuleName)]),
        ("pico sandbox --rate-rule s", ["sliding-log"]),
        ("pico campaigns delete ", []),  # a list of the IDs would need a request to Pico
        ("pico doctor --jou", ["--journal"]),
    ],
)
def test_what_is_offered(offered: Callable[[str], list[str]], line: str, values: list[str]) -> None:
    """TAB offers exactly the values that are valid at the end of the line."""
    assert offered(line) == values


def test_the_values_are_those_that_the_sandbox_takes() -> None:
    """
    The command has its own copies of the sandbox's values, because an import of the sandbox at each TAB would load a
    web server. The copies are equal.
    """
    assert {*get_args(RateRuleName)} == {*RateRule, "none"}
    assert {*get_args(DialectName)} == {*Dialect}
    assert {*get_args(ReceiptFormName)} == {*ReceiptForm}


# Run `pico`. An attempt to connect or to resolve a name exits with 99, an imported server or Redis client with 98.
_ALONE = """
import os, socket, sys
def refuse(*_, **__): os._exit(99)
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from pico_async.cli import main
try: main()
finally: os._exit(98 if {"starlette", "uvicorn", "redis"} & set(sys.modules) else 0)
"""


@pytest.mark.parametrize("line", ["pico campaigns delete "])
def test_tab_makes_no_request_and_imports_no_server(line: str) -> None:
    """A completion opens no connection and imports no server and no Redis client, because users press TAB often."""
    account = {"PICO_USERNAME": "user333", "PICO_API_KEY": "k", "PICO_BASE_URL": "http://127.0.0.1:9"}
    words = {"_PICO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}

    ran = subprocess.run([sys.executable, "-c", _ALONE], env=environment(account | words), timeout=60, check=False)

    assert ran.returncode == 0
