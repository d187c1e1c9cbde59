"""What TAB offers: by real shells on a terminal, and value by value."""

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

import pytest

from pico_async.cli.completion import DIALECTS, RATE_RULES
from pico_async.sandbox import Dialect, RateRule
from tests.cli.terminal import terminal_of
from tests.support.pico_command import PICO, Ran, environment

Pico = Callable[..., Ran]

# A shell without anybody's settings, and what has it say when it is ready.
SHELLS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config"]}


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")


def surroundings(home: Path) -> dict[str, str]:
    path = f"{PICO.parent}{os.pathsep}{os.environ['PATH']}"
    return environment({"PATH": path, "HOME": str(home), "TERM": "dumb", "PS1": "$ ", "INPUTRC": "/dev/null"})


class Terminal:
    """A shell on a terminal, and what is on its screen."""

    def __init__(self, screen: int) -> None:
        self._screen = screen

    def type(self, keys: str, *, until: str) -> str:
        """Press keys, and give what appears, up to what is waited for."""
        os.write(self._screen, keys.encode())
        seen, deadline = "", time.monotonic() + 20
        while until not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self._screen], [], [], 0.1)[0]:
                seen += os.read(self._screen, 65536).decode()
        return seen


@contextmanager
def shell(name: str, home: Path, *options: str) -> Iterator[Terminal]:
    """Run a shell for as long as the context lasts."""
    with terminal_of(options or SHELLS[name], surroundings(home), home) as (_, screen):
        terminal = Terminal(screen)
        # Not as it is typed, for that appears as well.
        terminal.type("echo re''ady\n", until="ready\r")
        yield terminal


def test_bash_completes_after_the_installation(tmp_path: Path) -> None:
    """Commands, values and files in the next shell, in a home of which nothing else was there."""
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
    """By the script that `pico --show-completion` prints."""
    need("zsh")
    setup = 'autoload -Uz compinit; compinit -u -D; eval "$(pico --show-completion)"; compdef _pico_completion pico'

    with shell("zsh", tmp_path) as terminal:
        terminal.type(f"unsetopt zle_bracketed_paste; {setup}; echo do''ne\n", until="done\r")
        terminal.type("pico sandbox --rate-rule first\t", until="first-request-window ")


def test_fish_completes(tmp_path: Path) -> None:
    """By what it would offer itself."""
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
    """A function that gives what is offered for a line, as the script of bash asks for it."""

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
        ("pico sandbox --dialect ", list(DIALECTS)),
        ("pico sandbox --rate-rule ", list(RATE_RULES)),
        ("pico sandbox --rate-rule s", ["sliding-log"]),
        ("pico campaigns delete ", []),  # to know the IDs, it would have to ask Pico
        ("pico doctor --jou", ["--journal"]),
    ],
)
def test_what_is_offered(offered: Callable[[str], list[str]], line: str, values: list[str]) -> None:
    """All that may stand there, and nothing else."""
    assert offered(line) == values


def test_the_values_are_those_that_the_sandbox_takes() -> None:
    """They are written down twice, for to ask the sandbox would import a web server with each TAB."""
    assert set(RATE_RULES) == {*(rule.value for rule in RateRule), "none"}
    assert set(DIALECTS) == {dialect.value for dialect in Dialect}


# `pico` where whoever makes a socket, or imports a server, ends the process.
_ALONE = """
import os, socket, sys
def refuse(*_, **__): os._exit(99)
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from pico_async.cli import main
try: main()
finally: os._exit(98 if {"starlette", "uvicorn", "redis"} & set(sys.modules) else 0)
"""


@pytest.mark.parametrize("line", ["pico campaigns delete "])
def test_tab_asks_no_network_and_imports_no_server(line: str) -> None:
    """It is pressed without a thought."""
    account = {"PICO_USERNAME": "user333", "PICO_API_KEY": "k", "PICO_BASE_URL": "http://127.0.0.1:9"}
    words = {"_PICO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}

    ran = subprocess.run([sys.executable, "-c", _ALONE], env=environment(account | words), timeout=60, check=False)

    assert ran.returncode == 0
