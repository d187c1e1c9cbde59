"""
`pico campaigns` creates, lists, shows, changes and deletes campaigns, and prints any list that Pico returns safely.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.cli.scripted_pico import ScriptedPico
from tests.cli.terminal import terminal_of
from tests.support.pico_command import PICO, Ran, environment
from tests.support.sandbox_process import SandboxProcess, sandbox_process

Pico = Callable[..., Ran]

ID = "3f6c1c1e-7f4a-4a1b-9a55-0d1f8a2b3c4d"


@pytest.fixture
def account() -> Iterator[SandboxProcess]:
    """Start a sandbox process whose account no other test uses."""
    with sandbox_process("--rate-rule", "none") as sandbox:
        yield sandbox


def listing(*campaigns: dict[str, object], **more: object) -> tuple[int, str]:
    return 200, json.dumps({"request_id": "r-9", "campaigns": campaigns, **more})


def test_a_campaigns_life(pico_here: Pico, account: SandboxProcess) -> None:
    """A campaign can be created, listed, shown, changed and deleted."""

    def ask(*args: object) -> Ran:
        return pico_here("campaigns", *args, env=account.env)

    created = ask("create", "codes [bold]", "--remark", "one-time")
    campaign_id = created.out.strip()
    (row,) = ask("list").out.splitlines()
    assert row.split("\t")[:3] == [campaign_id, "codes [bold]", "one-time"]  # the name is not read as markup
    assert "\nname\tcodes [bold]\nremark\tone-time\n" in ask("show", campaign_id).out

    assert ask("update", campaign_id, "--name", "one-time codes").code == 0
    shown = ask("show", campaign_id, "--json").json
    assert (shown["id"], shown["name"], shown["remark"]) == (campaign_id, "one-time codes", "one-time")
    assert shown["created_at"].endswith("+00:00")

    assert ask("delete", campaign_id, "--yes").out == "The campaign was deleted.\n"
    assert ask("list").out == "There are no campaigns.\n"
    assert ask("list", "--json").json["campaigns"] == []


def test_a_campaign_that_does_not_exist(pico_here: Pico, account: SandboxProcess) -> None:
    """A campaign ID that Pico's list does not contain is one error line with exit code 1."""
    ran = pico_here("campaigns", "show", "nowhere", env=account.env)

    assert (ran.code, ran.out, ran.err) == (1, "", "error: There is no campaign nowhere in Pico's list.\n")


def test_nothing_is_deleted_without_a_confirmation(pico_here: Pico, quick: SandboxProcess) -> None:
    """Without a terminal to ask at, a deletion needs `--yes`; without that option no request is made."""
    ran = pico_here("campaigns", "delete", ID, env=quick.env)

    assert ran.code == 2
    assert "Pass --yes" in ran.err
    assert quick.arrivals() == []


@pytest.mark.parametrize(("typed", "code"), [("y\n", 1), ("n\n", 2), ("\n", 2), ("\x04", 2)])
def test_a_deletion_is_asked_about(pico_on_terminal: Pico, quick: SandboxProcess, typed: str, code: int) -> None:
    """
    On a terminal, a deletion is requested only after the answer yes. Here the campaign does not exist, so that request
    fails.
    """
    ran = pico_on_terminal("campaigns", "delete", ID, env=quick.env, typed=typed)

    deletions = [arrival for arrival in quick.arrivals() if arrival.operation == "campaigns.delete"]
    assert f"Delete the campaign {ID}?" in ran.out
    assert ran.code == code
    assert bool(deletions) == (typed == "y\n")
    assert "Traceback" not in ran.out


def test_ctrl_c_at_the_question_is_a_no(quick: SandboxProcess) -> None:
    """Ctrl-C at the question, as a real signal of a real terminal, counts as no: no request is made."""
    seen = b""
    with terminal_of([PICO, "campaigns", "delete", ID], environment(quick.env)) as (process, screen), suppress(OSError):
        while b"[y/N]" not in seen:
            seen += os.read(screen, 65536)
        while True:  # until the terminal is closed, which raises OSError
            # Ctrl-C is repeated: Python's input() misses a signal that comes right before it begins to wait.
            os.write(screen, b"\x03")
            while select.select([screen], [], [], 2)[0]:
                seen += os.read(screen, 65536)
    code = process.wait(10)

    assert code == 2
    assert seen.endswith(b"error: Nothing was changed.\r\n")
    assert quick.arrivals() == []


def test_what_is_not_documented_is_in_the_json(pico_here: Pico, cloud: ScriptedPico) -> None:
    """Undocumented fields, and values of an unexpected type, are in `extra` of the JSON as Pico sent them."""
    cloud.reply = listing({"id": "c-1", "owner": {"id": 7}, "created_at": "yesterday"}, total=1)

    ran = pico_here("campaigns", "list", "--json", env=cloud.env)

    assert ran.json == {
        "campaigns": [
            {
                "id": "c-1",
                "name": None,
                "remark": None,
                "created_at": None,
                "extra": {"owner": {"id": 7}, "created_at": "yesterday"},
            }
        ],
        "request_id": "r-9",
        "extra": {"total": 1},
    }
    assert pico_here("campaigns", "list", env=cloud.env).out == "c-1\t\t\tyesterday\n"
    assert "owner\t{'id': 7}\n" in pico_here("campaigns", "show", "c-1", env=cloud.env).out


@pytest.mark.parametrize("command", [("campaigns", "list"), ("campaigns", "show", "c-1")])
def test_deeply_nested_values_are_printed_like_any_other(
    pico_here: Pico, cloud: ScriptedPico, command: tuple[str, ...]
) -> None:
    """A value of 900 nested lists is printed as JSON like any other value."""
    deep = "[" * 900 + "]" * 900
    status, body = listing({"id": "c-1", "name": "DEEP"})
    cloud.reply = status, body.replace('"DEEP"', deep)

    ran = pico_here(*command, "--json", env=cloud.env)

    assert ran.code == 0
    assert deep in ran.out


HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202egnp.exe\u2066\u200f\tone\nmore\r\x9b2J\u2028"


@pytest.mark.parametrize("command", [("list",), ("show", "c-1")])
def test_a_name_that_a_terminal_would_obey(
    pico_here: Pico, pico_on_terminal: Pico, cloud: ScriptedPico, command: tuple[str, ...]
) -> None:
    """
    Escape sequences, direction marks and line breaks in a name or a field are not printed, neither on a terminal nor
    into a pipe.
    """
    cloud.reply = listing({"id": "c-1", "name": HOSTILE, "remark": HOSTILE, HOSTILE: HOSTILE})

    screen = pico_on_terminal("campaigns", *command, env=cloud.env, columns=200).out
    piped = pico_here("campaigns", *command, env=cloud.env).out

    for said in (screen, piped):
        assert "gnp.exe" in said
        assert not [character for character in said if not character.isprintable() and character not in "\n\t"]
    assert len(piped.splitlines()) == (1 if command == ("list",) else 5)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_an_id_is_whole_on_a_terminal_of_any_width(pico_on_terminal: Pico, cloud: ScriptedPico, columns: int) -> None:
    """
    The campaign ID is printed whole at any width, because users copy it. From 80 columns on, other values are wrapped
    and no line is wider than the terminal.
    """
    cloud.reply = listing(
        {"id": ID, "name": "one-time codes", "remark": "for whoever " * 8, "created_at": "2026-01-02T03:04:05Z"}
    )

    screen = pico_on_terminal("campaigns", "list", env=cloud.env, columns=columns).out

    assert ID in screen
    assert ("NAME" in screen.splitlines()[0]) == (columns >= 80)
    if columns >= 80:
        assert max(map(len, screen.splitlines())) <= columns
        assert "2026-01-02" in screen


@pytest.mark.parametrize("colours", [False, True])
def test_no_color_is_heeded(pico_on_terminal: Pico, cloud: ScriptedPico, colours: bool) -> None:
    """Colours are printed without NO_COLOR and left out with it; bold is not a colour."""
    cloud.reply = (200, json.dumps({"templates": [{"id": "t-1", "name": "otp", "status": "approved"}]}))

    screen = pico_on_terminal("templates", "list", env=cloud.env, colours=colours).out

    assert ("\x1b[32m" in screen) == colours
    assert "approved" in screen


def test_a_reader_that_leaves_ends_it_quietly(cloud: ScriptedPico) -> None:
    """When the reader of the pipe closes it early, as `head` does, the command ends without an error message."""
    cloud.reply = listing(*({"id": f"c-{number}", "name": "x" * 50} for number in range(5000)))
    with subprocess.Popen(
        [PICO, "campaigns", "list"],
        env=environment(cloud.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert first.startswith("c-0\t")
    assert said == ""


def test_a_terminal_without_unicode_shows_what_it_can(cloud: ScriptedPico) -> None:
    """Characters that the output encoding does not have are printed as question marks."""
    cloud.reply = listing({"id": "c-1", "name": "驗證碼 x"})
    env = {**cloud.env, "PYTHONIOENCODING": "latin-1"}

    ran = subprocess.run(
        [PICO, "campaigns", "list"],
        env={**env, "PATH": os.environ["PATH"]},  # and no HOME
        capture_output=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"c-1\t??? x\t\t\n", b"")
