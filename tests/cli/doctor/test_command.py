"""`pico doctor` runs its checks in order and at little cost, ends cleanly, and shows no secret."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli.doctor.diagnosis import CHECKS, SENDER, Doctor
from tests.cli.scripted_pico import CREDIT, ScriptedPico
from tests.support.pico_command import PICO, Ran, environment, running
from tests.support.sandbox_process import KEY, SandboxProcess
from tests.support.waiting import wait_until


def test_all_is_well(doctor: Doctor, quick: SandboxProcess) -> None:
    """
    When all is well, the checks run in order, at the cost of one token request, one balance request and no message.
    """
    found = doctor(quick.base_url)

    assert list(found.checks) == CHECKS
    assert set(found.states.values()) == {"ok", "not_checked"}
    assert found.states["clock"] == "not_checked"  # the sandbox's replies have no date
    assert found.checks["tls"]["message"] == "It is not used on loopback."
    # Other tests have spent a part of the balance.
    assert 900 < Decimal(found.checks["balance"]["facts"]["balance"]) <= 1000
    assert sorted(arrival.operation for arrival in quick.arrivals()) == ["balance.get", "token.get"]


def test_the_output_for_a_person_has_the_same_findings(pico_here: Callable[..., Ran], cloud: ScriptedPico) -> None:
    """The output for people has a line for each check, and the advice below that line."""
    cloud.reply = (200, CREDIT % "0")

    ran = pico_here("doctor", env={"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "user333", "PICO_API_KEY": KEY})

    lines = ran.out.splitlines()
    assert ran.code == 0
    assert [line.split()[1] for line in lines if line[0] != " "] == [f"{check}:" for check in CHECKS]
    assert lines[-2] == "warning      balance: 0: nothing is left."
    assert lines[-1].startswith("             What to do: Top it up")


def test_each_setting_is_shown_with_its_source(doctor: Doctor, cloud: ScriptedPico, tmp_path: Path) -> None:
    """Each setting is shown with its source; a value that may be secret is not shown."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")

    found = doctor(
        cloud.base_url,
        "--api-key-file",
        key_file,
        "--username",
        "somebody",
        env={"PICO_CALLBACK": "https://example.com/dlr?sig=callback-secret"},
    )

    assert found.checks["configuration"]["facts"] == {
        "username": {"value": "somebody", "from": "--username"},
        "api_key": {"value": "set, not shown", "from": str(key_file)},
        "base_url": {"value": cloud.base_url, "from": "PICO_BASE_URL"},
        "sender": {"value": "86…88", "from": "PICO_SENDER"},
        "callback": {"value": "a URL at example.com", "from": "PICO_CALLBACK"},
        "callback_secrets": {"value": None, "from": None},
        "log": {"value": None, "from": None},
        "redis": {"value": None, "from": None},
        "whitelist_host": False,
    }
    assert cloud.asked == ["GET /token/somebody", "GET /balance/somebody"]


@pytest.mark.parametrize("terminal", [False, True])
def test_control_characters_are_not_repeated(
    pico_here: Callable[..., Ran], pico_on_terminal: Callable[..., Ran], cloud: ScriptedPico, terminal: bool
) -> None:
    """Control characters in the server's reply are not written to the terminal."""
    cloud.token = (400, json.dumps({"errors": ["\x1b]0;title\x07 \x9b2J \u202e gnp.exe \u2066 \r\n ok balance: 1"]}))

    ran = (pico_on_terminal if terminal else pico_here)("doctor", env=cloud.env)

    assert ran.code == 1
    assert "gnp.exe" in ran.out
    ours = ran.out.replace("\x1b[2m", "")  # dim is no colour
    assert not [character for character in ours if not character.isprintable() and character != "\n"]


def test_ctrl_c_ends_the_doctor_with_one_line(cloud: ScriptedPico) -> None:
    """While the doctor waits for a reply, Ctrl+C ends it with one line; the findings until then are shown."""
    cloud.hangs = True
    env = {"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "user333", "PICO_API_KEY": KEY}
    with running("doctor", env=env) as process:
        wait_until(lambda: bool(cloud.asked))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err == "error: interrupted.\n"
    assert "connection" in out  # each finding is shown as soon as it is found


# `pico` on a system that waits for a name server that does not answer.
_SLOW_NAMES = """
import socket, time
def wait(*_, **__): time.sleep(60)
socket.getaddrinfo = wait
from pico_async.cli import main
main()
"""


def test_a_silent_name_server_delays_nothing() -> None:
    """
    A name server that does not answer delays neither the check nor the end of the process, although its thread cannot
    be stopped.
    """
    ran = subprocess.run(
        [sys.executable, "-c", _SLOW_NAMES, "doctor", "--json", "--timeout", "0.2"],
        env=environment({"PICO_USERNAME": "user333", "PICO_API_KEY": KEY}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    states = {check["check"]: check for check in json.loads(ran.stdout)["checks"]}
    assert ran.returncode == 1
    assert ran.stderr == ""
    assert states["dns"]["message"] == "rest.picotw.com was not resolved within 0.2 s."


def test_the_doctor_needs_no_home_and_no_unicode(cloud: ScriptedPico) -> None:
    """The doctor runs without HOME and with an ASCII locale, as in a container."""
    env = {"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "kö\x1b[31m", "PICO_API_KEY": KEY, "PICO_SENDER": SENDER}
    env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run([PICO, "doctor"], env=env, capture_output=True, timeout=60, check=False)

    assert ran.returncode in (0, 1)
    assert b"\x1b" not in ran.stdout + ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"configuration" in ran.stdout
