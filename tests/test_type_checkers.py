"""Type checkers accept the public API as users write it, and see the same types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parent.parent


def basedpyright(*options: str) -> subprocess.CompletedProcess[str]:
    """Run basedpyright on the packages of this environment: it asks the `python` that is first in the PATH."""
    programs = Path(sys.executable).parent
    return subprocess.run(
        [programs / "basedpyright", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )


def test_mypy_accepts_the_public_api_as_users_write_it() -> None:
    """mypy in strict mode accepts the programs of tests/typing, and finds each mistake that is marked there."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typing"], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert checked.returncode == 0, checked.stdout


def test_pyright_accepts_the_public_api_as_users_write_it() -> None:
    """Pyright in strict mode accepts the programs of tests/typing, and finds each mistake that is marked there."""
    checked = basedpyright()

    assert checked.returncode == 0, checked.stdout


def test_each_public_type_is_written_down() -> None:
    """No type of the public API is left to what a type checker infers: they infer differently."""
    checked = basedpyright("--verifytypes", "pico_async", "--ignoreexternal", "--outputjson")

    types = json.loads(checked.stdout)["typeCompleteness"]
    inferred = [symbol["name"] for symbol in types["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert types["exportedSymbolCounts"]["withKnownType"] > 1_000
    assert (types["completenessScore"], inferred) == (1.0, [])
