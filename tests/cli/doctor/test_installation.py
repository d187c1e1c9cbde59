"""`pico doctor` reports packages that are too old, too new or missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.doctor.diagnosis import Doctor
from tests.cli.scripted_pico import ScriptedPico

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def installed(folder: Path, name: str, version: str, *needs: str) -> None:
    """Make a package look installed, in front of the package that is."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {need}" for need in needs]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]))


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("0.27", "ok"),
        ("0.27.0", "ok"),
        ("0.100.1", "ok"),
        ("0.26.9", "warning"),
        ("1.0rc1", "warning"),
        ("1", "warning"),
    ],
)
def test_a_package_that_is_too_old_or_too_new(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, state: str
) -> None:
    """
    A package that is too old or too new is a warning with the `pip install` command: it may work, but was not tested.
    """
    installed(tmp_path, "httpx", version)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = doctor(cloud.base_url)

    assert found.states["packages"] == state
    assert found.checks["packages"]["facts"]["installed"]["httpx"] == version
    assert ("pip install 'httpx>=0.27.0,<1'" in found.said("packages")) == (state == "warning")


def test_a_package_that_is_missing(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A required package that is missing is a failure; a package that only an extra or another system needs is not
    missing.
    """
    needs = ["nothing-like-it>=2", "not-this-one; extra == 'fast'", 'nor-this; sys_platform == "win32"', "httpx[socks]"]
    installed(tmp_path, "pico-async", "0.1.0", *needs)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = doctor(cloud.base_url)

    assert found.states["packages"] == "failed"
    assert "nothing-like-it is missing." in found.said("packages")
    assert found.checks["packages"]["facts"]["wanted"] == ["nothing-like-it>=2"]


def test_the_packages_of_all_extras_for_users_are_checked(doctor: Doctor, cloud: ScriptedPico) -> None:
    """
    The packages of all extras for users are checked, also of extras that are added later, but not the development
    tools.
    """
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = [line for extra, lines in extras.items() if extra not in ("all", "test", "dev", "bench") for line in lines]
    needed = {re.split(r"[^\w-]", line)[0] for line in named}

    found = doctor(cloud.base_url)

    installed = set(found.checks["packages"]["facts"]["installed"])
    assert {"fastapi", "phonenumberslite", "opentelemetry-api"} <= needed <= installed
    assert "pytest" not in installed
