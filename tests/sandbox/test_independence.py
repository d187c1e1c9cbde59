"""The sandbox imports nothing of the client, because it is a second, independent reading of the reference."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "pico_async" / "sandbox").rglob("*.py"))
ALLOWED = {"starlette", "uvicorn", "h11", "attrs", "httpx", "anyio"} | set(sys.stdlib_module_names)


def imported(source: str) -> set[str]:
    """Return what a file of the sandbox imports, as absolute names."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["pico_async", "sandbox"][: 3 - node.level] if node.level else []
            names.add(".".join([*package, *([node.module] if node.module else [])]))
    return names


def is_allowed(name: str) -> bool:
    return name == "pico_async.sandbox" or name.startswith("pico_async.sandbox.") or name.split(".")[0] in ALLOWED


def test_the_check_would_find_an_import_of_the_client() -> None:
    """The check finds an import of the client, absolute or relative, at the top or inside a function."""
    sources = ["import pico_async.errors", "from .. import errors", "def f():\n    from ..numbers import digits"]

    assert [all(map(is_allowed, imported(source))) for source in sources] == [False, False, False]
    assert all(map(is_allowed, imported("from .rates import make_limiter\nimport asyncio, starlette.routing")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_file_imports_the_client(path) -> None:
    """Each file of the sandbox imports only the sandbox, the standard library or an allowed package."""
    assert {name for name in imported(path.read_text(encoding="utf-8")) if not is_allowed(name)} == set()


def test_the_search_finds_files() -> None:
    """The search finds the sandbox's files in all its folders, so the check above leaves none out."""
    assert len(FILES) > 10
    assert {file.parent.name for file in FILES} == {"sandbox", "outbox", "receipts"}


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_one_sentence_says_what_to_install(missing) -> None:
    """Without starlette or uvicorn, the ImportError names the pip command that installs the extra."""
    script = f"import sys; sys.modules[{missing!r}] = None\nimport pico_async.sandbox"

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )

    assert result.stderr.splitlines()[-1] == (
        "ImportError: pico_async.sandbox needs starlette and uvicorn: pip install 'pico-async[sandbox]'"
    )
