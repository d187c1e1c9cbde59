"""`pico doctor` checks the fleet's Redis and the journal of a bulk send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.doctor.diagnosis import Doctor
from tests.cli.scripted_pico import ScriptedPico, silent_host
from tests.support.pico_command import TEXT, Ran
from tests.support.sandbox_process import SandboxProcess
from tests.support.valkey_server import valkey_server, valkey_server_with_clock


@pytest.mark.parametrize("rights", ["+@all", "+@read +time", "+get"])
def test_the_fleets_redis(doctor: Doctor, cloud: ScriptedPico, rights: str) -> None:
    """
    Redis and its clock are checked with the rights that reading a fleet needs; with fewer rights, the check names those
    needed.
    """
    with valkey_server() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "looker", "on", ">redis-password", "~pico:*", "-@all", *rights.split())
        found = doctor(cloud.base_url, "--redis", server.url.replace("unix://", "unix://looker:redis-password@"))

    facts = found.checks["redis"]["facts"]
    assert found.checks["configuration"]["facts"]["redis"] == {"value": "set, not shown", "from": "--redis"}
    assert found.states["redis"] == ("failed" if rights == "+get" else "ok")
    if rights == "+get":
        assert "The user needs the rights +@read +time" in found.said("redis")
    else:
        assert abs(facts["ahead_s"]) < 10
        assert (facts["version"] is not None) == (rights == "+@all")


@pytest.mark.parametrize(("by", "said"), [(7200, "behind"), (-7200, "ahead of")])
def test_a_redis_whose_clock_is_off(doctor: Doctor, cloud: ScriptedPico, by: int, said: str) -> None:
    """A Redis whose clock is two hours off is a warning."""
    with valkey_server_with_clock() as (server, clock):
        clock.step(by)
        found = doctor(cloud.base_url, "--redis", server.url)

    assert found.states["redis"] == "warning"
    assert f"s {said} it" in found.said("redis")


def test_a_redis_that_cannot_be_reached(doctor: Doctor, cloud: ScriptedPico) -> None:
    """When Redis cannot be reached, the account is still checked, and the address is not repeated."""
    found = doctor(cloud.base_url, env={"PICO_REDIS_URL": "redis://:redis-password@127.0.0.1:9/0"})

    assert found.states["redis"] == "failed"
    assert found.states["balance"] == "ok"


def test_a_redis_that_does_not_reply(doctor: Doctor, cloud: ScriptedPico) -> None:
    """The doctor waits for a Redis that does not answer no longer than its timeout."""
    with silent_host() as port:
        found = doctor(cloud.base_url, "--timeout", "0.3", "--redis", f"redis://127.0.0.1:{port}")

    assert found.states["redis"] == "failed"
    assert "Redis did not answer within 0.3 s." in found.said("redis")


def test_a_journal_that_does_not_exist(doctor: Doctor, cloud: ScriptedPico, tmp_path: Path) -> None:
    """A journal that does not exist is not made, because an empty journal would let everything be sent again."""
    path = tmp_path / "blast.db"

    found = doctor(cloud.base_url, "--journal", path)

    assert found.states["journal"] == "failed"
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "state", "said"),
    [("8612345678901", "ok", "1 message, none in doubt"), ("99900000001", "warning", "1 message may have been sent.")],
)
def test_a_journal(
    doctor: Doctor,
    pico_here: Callable[..., Ran],
    quick: SandboxProcess,
    write_csv: Callable[..., Path],
    tmp_path: Path,
    number: str,
    state: str,
    said: str,
) -> None:
    """A message in doubt in the journal is a warning that names the command for a decision."""
    path = tmp_path / "blast.db"
    pico_here("blast", write_csv([(number, "1234")]), "--text", TEXT, "--journal", path, "--no-progress", env=quick.env)

    found = doctor(quick.base_url, "--journal", path)

    assert found.states["journal"] == state
    assert said in found.said("journal")
    assert ("mark-sent" in found.said("journal")) == (state == "warning")
