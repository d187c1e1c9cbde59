"""The wheel and the source distribution contain the files that they should contain, and no other file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"pico_async-{PROJECT['version']}"
# Suffixes of the files that are not code and that the package needs at run time.
PACKAGE_DATA = {".md", ".css", ".html", ".ico", ".js", ".lua", ".png", ".sql", ".svg", ".typed"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the directory of both distributions: the one in PICO_TEST_DIST if it is set, otherwise one that is built now.
    """
    if given := os.environ.get("PICO_TEST_DIST"):
        return ROOT / given
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(ROOT)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return built


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def in_sdist(dist: Path) -> set[str]:
    with tarfile.open(dist / f"{NAME}.tar.gz") as sdist:
        return {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))


def package_files() -> set[str]:
    """Return the paths of the package's files in this checkout, without bytecode caches."""
    files = (path for path in (ROOT / "pico_async").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_there_is_one_wheel_and_one_sdist(dist: Path) -> None:
    """The build makes one wheel for any platform and one source distribution, both of the project's version."""
    assert {path.name for path in dist.iterdir()} == {f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Apart from its metadata, the wheel contains exactly the package's files: no test, no benchmark and no cache."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == package_files()
    assert {
        "pico_async/py.typed",
        "pico_async/pytest_plugin.py",
        "pico_async/coordination/redis/lua/reserve.lua",
    } <= names


def test_the_package_holds_code_and_known_kinds_of_data() -> None:
    """
    Every file in the package has a known suffix, because any file would be published: a key, a dump, an editor's copy.
    """
    strangers = {name for name in package_files() if Path(name).suffix not in {".py"} | PACKAGE_DATA}

    assert strangers == set()


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The wheel's metadata names the license, its entry points, the Python version and the core dependencies."""
    entry_points = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()

    assert f"{NAME}.dist-info/licenses/LICENSE" in wheel.namelist()
    scripts = r"^\[console_scripts\]\npico = pico_async\.cli:main\npico-async = pico_async\.cli:main$"
    assert re.search(scripts, entry_points, re.MULTILINE)
    assert re.search(r"^\[pytest11\]\npico_async = pico_async\.pytest_plugin$", entry_points, re.MULTILINE)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(core) == len(PROJECT["dependencies"])


def test_the_sdist_holds_what_builds_and_tests_it_and_nothing_else(in_sdist: set[str]) -> None:
    """The source distribution contains all that is needed to build and test it, and no environment and no cache."""
    tops = {"pico_async", "tests", "benchmarks", ".ci", ".github"}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}

    assert {name.partition("/")[0] for name in in_sdist} == tops | files
    assert package_files() <= in_sdist
    assert {"tests/test_distribution.py", ".ci/run", ".github/workflows/release.yml"} <= in_sdist
    assert [name for name in in_sdist if re.search(r"__pycache__|\.pyc$|\.venv|_cache/|\.egg-info|\.db$", name)] == []


def test_both_pass_twine(dist: Path) -> None:
    """`twine check` accepts both distributions: their metadata is complete and the README renders."""
    files = [str(path) for path in dist.iterdir()]
    ran = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("PASSED") == 2
