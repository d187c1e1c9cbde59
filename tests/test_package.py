"""The package has five core dependencies, exports documented names, and imports a module only when it is needed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pico_async

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"httpx", "attrs", "cattrs", "aiolimiter", "anyio"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def named(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0]


def test_the_core_depends_on_five_packages_alone() -> None:
    """The core depends only on the five packages that the project's card names."""
    assert {named(requirement) for requirement in PROJECT["dependencies"]} == CORE


def test_each_lower_bound_is_the_version_that_is_tested() -> None:
    """Each lower bound in pyproject.toml is the version that .ci/lowest.txt installs."""
    extras = PROJECT["optional-dependencies"]
    not_of_users = ("all", "test", "dev", "bench")
    promised = dict(
        re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        for requirement in PROJECT["dependencies"]
        + [bound for extra in extras if extra not in not_of_users for bound in extras[extra]]
    )

    lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert tested.pop("psycopg-binary") == tested["psycopg"]

    assert promised == tested


def test_the_version_is_one() -> None:
    """The project, the module, the installed metadata and the newest changelog entry have the same version."""
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest is not None
    assert pico_async.__version__ == PROJECT["version"] == newest[1] == importlib.metadata.version("pico-async")


def test_everything_that_is_exported_is_there_and_documented() -> None:
    """Every exported name exists, every exported class has a docstring, and the package is marked as typed."""
    for name in pico_async.__all__:
        thing = getattr(pico_async, name)
        assert not isinstance(thing, type) or thing.__doc__, name
    assert (Path(pico_async.__file__).parent / "py.typed").exists()


def test_importing_the_package_alone_loads_nothing() -> None:
    """
    `import pico_async` loads only the package and its version; each name is loaded by its first use. The pytest plugin
    relies on this.
    """
    loaded = run(
        "import sys, importlib, typing; before = set(sys.modules); import pico_async; print(*set(sys.modules) - before)"
    )

    assert loaded.returncode == 0, loaded.stderr
    assert set(loaded.stdout.split()) == {"pico_async", "pico_async._version"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """`dir` lists every public name before it is loaded, and an unknown name raises an `AttributeError`."""
    assert set(pico_async.__all__) <= set(dir(pico_async))
    with pytest.raises(AttributeError, match="no attribute 'PicoSesion'"):
        pico_async.PicoSesion  # type: ignore[attr-defined] # noqa: B018


def test_a_module_of_the_package_can_be_reached_without_a_second_import() -> None:
    """After `import pico_async`, a module is available as `pico_async.errors` without a second import, as in 0.1.0."""
    ran = run("import pico_async as it; print(it.errors.PicoError.__name__, it.messages.SmsMessage.__name__)")

    assert ran.stdout == "PicoError SmsMessage\n"


@pytest.mark.tools
def test_a_type_checker_finds_a_name_that_is_not_there(tmp_path: Path) -> None:
    """mypy reports a mistyped name, although the names are loaded later."""
    slip = "import pico_async\nfrom pico_async import PicoSession, PicoSesion\npico_async.nope\n"
    (tmp_path / "slip.py").write_text(slip)

    checked = subprocess.run(
        [
            sys.executable,
            *("-m", "mypy", "--cache-dir", str(tmp_path), "--follow-imports=skip"),
            *(str(ROOT / "pico_async" / "__init__.py"), str(tmp_path / "slip.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert [line.rpartition("[")[2] for line in checked.stdout.splitlines()[:-1]] == ["attr-defined]"] * 2


def test_importing_it_loads_what_its_five_packages_load_and_little_else() -> None:
    """Importing `PicoSession` loads no package besides the five of the core and what they load: no extra."""
    loaded = run(
        "import sys, httpx, attrs, cattrs, aiolimiter, anyio, asyncio, anyio._backends._asyncio\n"
        "import cattrs.gen, anyio.streams.memory\n"
        "before = set(sys.modules)\n"
        "from pico_async import PicoSession\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names)))"
    )

    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == ["pico_async"]


def test_a_session_that_only_sends_loads_nothing_that_needs_an_extra() -> None:
    """A session that sends one message loads no module that needs an extra; their first use loads them."""
    later = ("pico_async._engine.http.aiohttp_transport", "pico_async.coordination.redis", "pico_async.integrations")

    loaded = run(
        "import asyncio, sys\n"
        "from pico_async import PicoSession\n"
        "from pico_async.sandbox import Sandbox\n"
        "async def main():\n"
        "    sandbox = Sandbox()\n"
        "    account = dict(username=sandbox.username, api_key=sandbox.api_key, sender='Pico')\n"
        "    async with PicoSession(transport=sandbox.transport(), **account) as pico:\n"
        "        await pico.sms.send('8612345678901', 'Hello')\n"
        "    assert len(sandbox.ledger.accepted) == 1\n"
        "asyncio.run(main())\n"
        "print(*(name for name in sys.modules if name.startswith('pico_async.')))"
    )

    assert loaded.returncode == 0, loaded.stderr
    assert "pico_async.resources.sms" in loaded.stdout.split()
    assert [name for name in loaded.stdout.split() if name.startswith(later)] == []


MISSING = [
    ("from pico_async.cli import main; main()", "typer", "cli"),
    ("from pico_async.cli import main; main()", "rich", "cli"),
    ("import pico_async.sandbox", "starlette", "sandbox"),
    ("import pico_async.sandbox", "uvicorn", "sandbox"),
    ("from pico_async import RedisCoordinator", "redis", "redis"),
    ("from pico_async import RedisSeenReceipts", "redis", "redis"),
    ("from pico_async import AiohttpTransport", "aiohttp", "fast"),
    ("import pico_async.integrations.procrastinate", "procrastinate", "procrastinate"),
    ("import pico_async.integrations.procrastinate", "psycopg", "procrastinate"),
    ("import pico_async.integrations.opentelemetry", "opentelemetry.context", "otel"),
    ("import pico_async; pico_async.destination('0912 345 678', region='TW')", "phonenumbers", "numbers"),
]
# Run each statement without the packages named, and print the last line of what it says. Each runs in a process of its
# own, which begins with the core's packages imported.
_WITHOUT_EXTRAS = """
import json, os, sys, traceback
import aiolimiter, anyio, attrs, cattrs, httpx
for statement, missing, _ in json.loads(sys.argv[1]):
    if not os.fork():
        sys.stderr = sys.stdout
        sys.modules[missing] = None
        try:
            exec(f"from pico_async import *\\n{statement}", {"__name__": "__main__"})
            print("nothing is missing")
        except SystemExit as end:
            assert end.code == 1
        except Exception:
            traceback.print_exc()
        print("---", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def without_extras() -> dict[tuple[str, str], str]:
    """Return the last line of what each statement says without its package."""
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRAS, json.dumps(MISSING)], capture_output=True, text=True, check=True
    )
    said = ran.stdout.split("---\n")[:-1]
    return {row[:2]: text.splitlines()[-1] for row, text in zip(MISSING, said, strict=True)}


@pytest.mark.parametrize(("statement", "missing", "extra"), MISSING)
def test_a_missing_extra_is_one_sentence_that_names_the_pip_line(
    without_extras: dict[tuple[str, str], str], statement: str, missing: str, extra: str
) -> None:
    """
    A missing extra raises an error whose last line names the `pip install` command; `import pico_async` needs no extra.
    """
    assert f"pip install 'pico-async[{extra}]'" in without_extras[statement, missing]
