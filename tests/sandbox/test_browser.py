"""Browser tests need Chromium: the gate installs it, and without it a test skips or fails with the reason."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.browser import chromium_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_chromium_a_test_is_skipped_with_a_reason(nowhere, monkeypatch) -> None:
    """Without Chromium a browser test is skipped, and the reason names the package to install."""
    monkeypatch.delenv("PICO_TEST_REQUIRE_SERVERS", raising=False)

    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium_path()


def test_without_chromium_the_gate_fails(nowhere, monkeypatch) -> None:
    """In the gate a missing Chromium is a failure, so that the gate cannot pass without the browser tests."""
    monkeypatch.setenv("PICO_TEST_REQUIRE_SERVERS", "1")

    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium_path()


@pytest.mark.parametrize(
    ("there", "user", "asked"),
    [
        (["chromium", "pgbouncer", "apt-get"], 0, []),
        (["apt-get"], 0, ["apt-get update -qq", "apt-get install"]),
        (["apt-get"], 1000, ["sudo apt-get update -qq", "sudo env DEBIAN_FRONTEND=noninteractive apt-get install"]),
        ([], 0, []),
    ],
    ids=["there", "root", "sudo", "no Debian"],
)
def test_the_gate_installs_what_is_missing(there, user, asked, tmp_path) -> None:
    """The gate installs a missing Chromium and PgBouncer with apt-get, as root or by sudo; without apt-get, nothing."""
    step = re.search(
        r"^if ! \{ command -v chromium.*?^fi$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL
    )
    commands = {name: f'echo "{name} $*" >> {tmp_path}/asked' for name in there}
    commands |= {"id": f"echo {user}", "sudo": f'echo "sudo $*" >> {tmp_path}/asked'}
    commands |= {"env": "shift; exec " + '"$@"'}
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{command}\n")
        (tmp_path / name).chmod(0o755)

    script = f"set -euo pipefail; scratch={tmp_path}\n{step[0]}"
    ran = subprocess.run(["/bin/bash", "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True)

    file = tmp_path / "asked"
    lines = file.read_text().splitlines() if file.exists() else []
    assert ran.returncode == 0, ran.stderr
    assert [line[: len(start)] for line, start in zip(lines, asked, strict=True)] == asked
    assert all("chromium" in line and "pgbouncer" in line for line in lines if "install" in line)
