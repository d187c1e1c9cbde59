"""The command `pico` starts, prints help for each subcommand, and names packages that are missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pico_async import __version__
from pico_async.cli.app import COMMANDS
from tests.support.pico_command import PICO, TEXT, Ran, environment, people

Pico = Callable[..., Ran]

# Run `pico` as if the packages named in the first argument were not installed.
_WITHOUT = """
import sys
MISSING = sys.argv.pop(1).split(",")
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from pico_async.cli import main
main()
"""


def run_without(packages: str, *args: object) -> Ran:
    """Run `pico` as if *packages* were not installed."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, packages, *map(str, args)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing: str) -> None:
    """Without typer or rich, the command ends with one error line that names the extra to install, and no traceback."""
    ran = run_without(missing, "demo")

    assert ran == Ran(1, "", "error: `pico` needs typer and rich: pip install 'pico-async[cli]'\n")


@pytest.mark.parametrize(("missing", "command"), [("starlette", "demo"), ("uvicorn", "sandbox"), ("h11", "blast")])
def test_without_the_sandboxs_packages_one_line_says_what_to_install(
    missing: str, command: str, write_csv: Callable[..., Path]
) -> None:
    """A command that needs the sandbox ends with one error line if a package of the sandbox is missing."""
    options = (write_csv(people(1)), "--text", TEXT, "--sandbox") if command == "blast" else ()

    ran = run_without(missing, command, *options)

    said = "error: The sandbox needs starlette and uvicorn: pip install 'pico-async[cli,sandbox]'\n"
    assert ran == Ran(1, "", said)


def test_other_commands_work_without_the_sandboxs_packages(write_csv: Callable[..., Path]) -> None:
    """The help and a dry run need no package of the sandbox."""
    assert run_without("starlette,uvicorn,h11", "--help").code == 0
    assert run_without("starlette,uvicorn,h11", "blast", write_csv(people(1)), "--text", TEXT, "--dry-run").code == 0


def test_the_library_imports_no_command_line() -> None:
    """An import of the package, as in a web app, does not import typer or rich."""
    # httpx itself imports rich if it is installed, so httpx is imported before the comparison begins.
    code = "import httpx, sys; before = set(sys.modules); import pico_async, pico_async.cli; "
    code += "print({'typer', 'rich'} & (set(sys.modules) - before))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_the_version(pico: Pico) -> None:
    """`--version` prints the version of the package."""
    assert pico("--version").out == f"pico_async {__version__}\n"


def test_python_can_run_it_as_a_module() -> None:
    """`python -m pico_async` runs the command, for example where the script is not on the path."""
    command = [sys.executable, "-m", "pico_async", "--version"]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"pico_async {__version__}\n"


def test_a_second_script_runs_it_where_pico_is_an_editor() -> None:
    """`pico-async` is the same command under the package's own name, which its help and completion have, too."""
    command = [PICO.with_name("pico-async"), "sms", "--help"]

    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "Usage: pico-async sms [OPTIONS] COMMAND" in shown


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("blast",),
        ("sms", "send"),
        ("mms", "send"),
        ("voice", "send"),
        ("balance",),
        ("token",),
        *(("campaigns", verb) for verb in ("list", "show", "create", "update", "delete")),
        *(("templates", verb) for verb in ("list", "show", "create-sms", "create-mms", "wait", "delete")),
        ("doctor",),
        ("fleet", "status"),
        ("sandbox",),
    ],
)
def test_every_command_has_a_help(pico_here: Pico, command: tuple[str, ...]) -> None:
    """Each command prints its help, and only `sandbox` takes an API key as the value of an option."""
    ran = pico_here(*command, "--help")

    assert ran.code == 0
    assert ("--api-key " in ran.out) == (command == ("sandbox",))


def test_the_help_of_blast_lists_the_exit_codes(pico_here: Pico) -> None:
    """The help of `blast` lists the exit codes, because scripts rely on them."""
    said = " ".join(pico_here("blast", "--help").out.split())

    assert "Exit code 0: each message was accepted, now or before, or suppressed. 1: at least one was not" in said
    assert "130, 143 and 129: ended by SIGINT (Ctrl-C), SIGTERM and SIGHUP" in said


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--version"], {"typer", "httpx", "rich", "pico_async.session"}),
        (["sms", "send", "--help"], {"pico_async.cli.blast.command", "pico_async.cli.doctor", "httpx._main"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], absent: set[str]) -> None:
    """The version is printed without the packages of the commands, and a command does not import the other ones."""
    script = (
        "import sys; from pico_async.cli import main; sys.argv = ['pico', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*(name for name, module in sys.modules.items() if module), sep='\\n')"
    )
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)

    assert absent.isdisjoint(ran.stdout.splitlines())
    assert "pico_async" in ran.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_in_the_help(pico_here: Pico, command: str) -> None:
    """The help lists each command, and each of them has a help of its own."""
    assert f" {command} " in pico_here("--help").out
    assert f"Usage: pico {command} " in pico_here(command, "--help").out
