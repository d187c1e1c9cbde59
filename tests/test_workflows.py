"""The workflows use pinned actions and have only the permissions that they need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import pico_async

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
NEEDED = {
    ("ci.yml", "gate"): {"contents": "read"},
    ("ci.yml", "tests"): {"contents": "read"},
    ("release.yml", "ci"): {"contents": "read"},
    ("release.yml", "build"): {"contents": "read"},
    ("release.yml", "provenance"): {"id-token": "write", "attestations": "write"},
    ("release.yml", "publish"): {"id-token": "write"},
}


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job.get("steps", [])]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_to_a_commit_and_says_which_version_that_is(workflow: Path) -> None:
    """
    Each action is pinned to a commit, because a tag can be moved to another commit. A workflow of this repository is
    always of the same commit.
    """
    used = re.findall(r"^[ -]*uses: *(.*)$", workflow.read_text(), re.MULTILINE)

    assert used
    for action in used:
        assert action.startswith("./.github/") or re.fullmatch(
            r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action
        )


def test_one_action_is_one_version() -> None:
    """All workflows use the same version of each action."""
    used = {
        line for workflow in WORKFLOWS for line in re.findall(r"uses: *(\S+@.*)$", workflow.read_text(), re.MULTILINE)
    }

    assert len(used) == len({line.partition("@")[0] for line in used})


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_is_permitted_but_what_a_job_needs(workflow: Path) -> None:
    """
    A workflow permits nothing by default, and each job only what the table lists. No credentials stay on the disk, and
    each job has a time limit.
    """
    read = yaml.safe_load(workflow.read_text())

    assert read["permissions"] == {}
    assert "concurrency" in read
    # YAML 1.1 reads the key `on` as True.
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(read[True])
    for name, job in jobs(workflow).items():
        assert job["permissions"] == NEEDED[workflow.name, name]
        assert "uses" in job or job["timeout-minutes"] <= 60
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_what_was_checked_is_published() -> None:
    """
    The release builds once and publishes that build. The publishing job runs only actions, in its own environment and
    without a secret.
    """
    release = jobs(RELEASE)
    publish = release["publish"]

    assert [step["run"].count("-m build") for step in steps(RELEASE) if "-m build" in step.get("run", "")] == [1]
    assert {"ci", "build"} <= set(publish["needs"])
    assert publish["environment"] == "pypi"
    assert all("uses" in step for step in [*publish["steps"], *release["provenance"]["steps"]])
    assert "secrets." not in RELEASE.read_text()


@pytest.mark.parametrize(("tag", "passes"), [("v{}", True), ("{}", False), ("v{}.1", False), ("v9.9.9", False)])
def test_a_tag_that_is_not_the_version_is_refused(tag: str, passes: bool) -> None:
    """A tag that differs from the version is refused by a script that needs no installed package."""
    (script,) = (step["run"] for step in jobs(RELEASE)["build"]["steps"] if "TAG" in step.get("env", {}))
    python = Path(sys.executable).parent

    ran = subprocess.run(
        [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", script.replace("python -c", "python -S -c")],
        cwd=ROOT,
        env={"TAG": tag.format(pico_async.__version__), "PATH": f"{python}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode == 0) is passes, ran.stderr
    assert passes or f"the tag must be v{pico_async.__version__}" in ran.stderr


def test_all_supported_pythons_are_tried_by_the_readmes_command() -> None:
    """
    The gate runs the oldest Python of the classifiers, and the other jobs run the README's test command on the others.
    """
    project = (ROOT / "pyproject.toml").read_text()
    supported = set(re.findall(r"Python :: (3\.\d+)\"", project))
    ci = jobs(ROOT / ".github" / "workflows" / "ci.yml")
    (gate,) = (
        step["with"]["python-version"] for step in ci["gate"]["steps"] if "python-version" in step.get("with", {})
    )
    # The last one is the one that the README's command finds as `python3`.
    oldest = gate.split()[-1]
    tested_by = re.findall(r"^```sh\n(.*?)\n^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]

    assert {oldest, *ci["tests"]["strategy"]["matrix"]["python"]} == supported
    assert f'requires-python = ">={oldest}"' in project
    assert ci["tests"]["steps"][-1]["run"] == tested_by
    assert ci["gate"]["steps"][-1]["run"] == ".ci/run"


@pytest.mark.tools
def test_zizmor_finds_nothing() -> None:
    """`zizmor`, which knows how workflows are attacked, finds no fault in the workflows."""
    zizmor = Path(sys.executable).parent / "zizmor"

    ran = subprocess.run(
        [zizmor, "--offline", "--no-progress", ".github"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
