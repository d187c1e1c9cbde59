"""`pico templates`: handed in from an argument, a file or stdin, listed, waited for, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pico_async import PicoSession
from pico_async.cli.templates import decided
from tests.cli.scripted_pico import ScriptedPico
from tests.support.pico_command import KEY, Ran
from tests.support.sandbox_process import SandboxProcess, sandbox_process

Pico = Callable[..., Ran]
Ask = Callable[..., Ran]

ID = "3f6c1c1e-7f4a-4a1b-9a55-0d1f8a2b3c4d"
OTHER = "8b1d0a52-5f0e-4f43-8a41-2c6d9f00aa11"


@pytest.fixture
def ask_cloud(pico_here: Pico, cloud: ScriptedPico) -> Ask:
    """A function that asks it."""
    return lambda *args: pico_here("templates", *args, env=cloud.env)


@pytest.fixture(scope="module")
def account() -> Iterator[SandboxProcess]:
    """An account for the tests here alone."""
    with sandbox_process("--rate-rule", "none") as sandbox:
        yield sandbox


@pytest.fixture
def ask(pico_here: Pico, account: SandboxProcess) -> Ask:
    """A function that runs `pico` with that account."""
    return lambda *args: pico_here(*args, env=account.env)


def listing(*templates: dict[str, object]) -> tuple[int, str]:
    return 200, json.dumps({"request_id": "r-9", "templates": templates})


def test_a_templates_life(ask: Ask) -> None:
    """Handed in, listed by campaign and status, shown, deleted."""
    campaign_id = ask("campaigns", "create", "codes").out.strip()
    handed_in = ask("templates", "create-sms", campaign_id, "otp", "Your code is {{code}}")
    assert (handed_in.code, handed_in.out) == (0, "The template was handed in.\n")
    media = ("--media-url", "https://example.com/a.jpg")
    assert ask("templates", "create-mms", campaign_id, "promo", "Look!", *media).code == 0

    rows = ask("templates", "list", "--campaign-id", campaign_id, "--status", "approved").out.splitlines()
    first, second = (row.split("\t") for row in rows)
    assert first[1:] == [campaign_id, "approved", "otp", "Your code is {{code}}"]
    assert second[1:] == [campaign_id, "approved", "promo", "Look!"]
    assert ask("templates", "list", "--status", "rejected").out == "There are no such templates.\n"

    shown = ask("templates", "show", second[0], "--json").json
    assert (shown["content"], shown["media_url"], shown["extra"]["type"]) == (
        "Look!",
        "https://example.com/a.jpg",
        "mms",
    )
    assert "content\tYour code is {{code}}\n" in ask("templates", "show", first[0]).out

    for template_id in (first[0], second[0]):
        assert ask("templates", "delete", template_id, "--yes").out == "The template was deleted.\n"
    assert ask("templates", "list", "--campaign-id", campaign_id).out == "There are no such templates.\n"
    assert ask("templates", "show", first[0]).code == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Your code is {{code}}\n", "Your code is {{code}}"),
        ("\ufeff您的驗證碼\r\n".encode(), "您的驗證碼"),
        (b"two\nlines\n\n", "two\nlines\n"),
    ],
)
def test_a_text_from_a_file(ask: Ask, tmp_path: Path, content: bytes, text: str) -> None:
    """But for the mark at its beginning and the line break at its end, which editors put there."""
    path = tmp_path / "text"
    path.write_bytes(content)
    campaign_id = ask("campaigns", "create", "codes").out.strip()

    assert ask("templates", "create-sms", campaign_id, "otp", "--file", path).code == 0

    (template,) = ask("templates", "list", "--campaign-id", campaign_id, "--json").json["templates"]
    assert template["content"] == text


def test_a_text_from_stdin(pico: Callable[..., Ran], account: SandboxProcess, ask: Ask) -> None:
    """As every pipe has it."""
    campaign_id = ask("campaigns", "create", "codes").out.strip()

    ran = pico("templates", "create-sms", campaign_id, "otp", "--file", "-", env=account.env, stdin="from a pipe\n")

    (template,) = ask("templates", "list", "--campaign-id", campaign_id, "--json").json["templates"]
    assert ran.code == 0
    assert template["content"] == "from a pipe"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Pass the template's text, or --file"),
        (("text", "--file", "{}"), "Pass the template's text, or --file"),
        (("--file", "{}/nowhere"), "Not a directory"),
        (("--file", "/nowhere"), "No such file"),
        (("--file", "/"), "Is a directory"),
        (("--file", "-", "--api-key-file", "-"), "cannot both come from stdin"),
    ],
)
def test_no_text_is_a_wrong_argument(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    """In one line, and nothing is sent."""
    path = tmp_path / "text"
    path.write_text("text")

    ran = pico_here("templates", "create-sms", "c-1", "otp", *(arg.format(path) for arg in args), env=quick.env)

    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert quick.arrivals() == []


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "no text in UTF-8"), (b"x" * 70_000, "more than 64 KiB")])
def test_a_file_that_is_no_text(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Path, content: bytes, said: str
) -> None:
    """Somebody named the wrong one."""
    path = tmp_path / "text"
    path.write_bytes(content)

    ran = pico_here("templates", "create-sms", "c-1", "otp", "--file", path, env=quick.env)

    assert ran.code == 2
    assert said in ran.err
    assert quick.arrivals() == []


def test_a_status_that_there_is_not(pico_here: Pico, quick: SandboxProcess) -> None:
    """It is told with those that there are."""
    ran = pico_here("templates", "list", "--status", "aproved", env=quick.env)

    assert ran.code == 2
    assert "'pending', 'approved', 'rejected'" in " ".join(ran.err.replace("│", "").split())
    assert quick.arrivals() == []


def test_a_template_of_which_nothing_is_known(ask_cloud: Ask, cloud: ScriptedPico) -> None:
    """The list is not documented: what Pico did not tell is empty, and nothing is made up."""
    cloud.reply = listing({}, {"id": "t-1", "status": 2, "state": "in review"})

    assert ask_cloud("list").out == "\t\t\t\t\nt-1\t\t2\t\t\n"
    assert "status\t2\n" in ask_cloud("show", "t-1").out
    assert "state\tin review\n" in ask_cloud("show", "t-1").out
    assert ask_cloud("list", "--json").json["templates"][1]["extra"] == {"state": "in review"}


def test_the_list_of_a_terminal_goes_by_campaign(pico_on_terminal: Pico, cloud: ScriptedPico) -> None:
    """So that both IDs are whole where the terminal is narrow; a text is cut, and shown whole by `show`."""
    cloud.reply = listing(
        {"id": ID, "campaignId": OTHER, "name": "otp", "status": "approved", "content": "Your code is {{code}}. " * 9},
        {"id": "t-2", "name": "other"},
    )

    lines = pico_on_terminal("templates", "list", env=cloud.env).out.splitlines()

    assert lines[0] == f"Campaign {OTHER}"
    assert ID in lines[2]
    assert lines[2].endswith("…")
    assert max(map(len, lines)) <= 80
    assert "Of no campaign that Pico tells" in lines


@pytest.mark.parametrize(("count", "terminal"), [(10_000, False), (1_000, True)])
def test_very_many_templates(
    ask_cloud: Ask, pico_on_terminal: Pico, cloud: ScriptedPico, count: int, terminal: bool
) -> None:
    """All of them, a line each."""
    cloud.reply = listing(*({"id": f"t-{number}", "name": "n", "content": "x" * 20} for number in range(count)))

    said = (pico_on_terminal("templates", "list", env=cloud.env) if terminal else ask_cloud("list")).out

    assert len([line for line in said.splitlines() if line.startswith("t-")]) == count


# --- waiting for the approval ---------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [("approved", 0), ("rejected", 1)])
def test_what_is_decided_is_not_waited_for(ask_cloud: Ask, cloud: ScriptedPico, status: str, code: int) -> None:
    """It costs one request."""
    cloud.reply = listing({"id": "t-1", "status": status})

    ran = ask_cloud("wait", "t-1")

    assert ran.code == code
    assert ran.out == ("approved\n" if code == 0 else "")
    assert ("it is rejected" in ran.err) == (code == 1)
    assert cloud.asked == ["GET /token/user333", "GET /templates"]


@pytest.mark.parametrize(
    ("templates", "said"), [([], "There is no template t-1"), ([{"id": "t-1"}], "tells no status of it")]
)
def test_what_cannot_be_waited_for(
    ask_cloud: Ask, cloud: ScriptedPico, templates: list[dict[str, object]], said: str
) -> None:
    """It ends at once."""
    cloud.reply = listing(*templates)

    ran = ask_cloud("wait", "t-1")

    assert ran.code == 1
    assert said in ran.err


async def test_the_wait_ends_with_the_decision(cloud: ScriptedPico, capsys: pytest.CaptureFixture[str]) -> None:
    """Told once what it waits for. Hours may pass, and an outage among them ends nothing."""
    pending = listing({"id": "t-1", "status": "pending"})
    replies = iter([pending, (502, "<html>"), pending, (502, "<html>"), listing({"id": "t-1", "status": "approved"})])

    def decide() -> None:
        cloud.reply = next(replies)

    cloud.before_reply = decide

    async with PicoSession(username="user333", api_key=KEY, base_url=cloud.base_url, retries=0) as pico:
        template = await decided(pico, "t-1", every_s=0.01, timeout_s=None)

    said = capsys.readouterr().err
    assert template.status == "approved"
    assert said.count("It is pending.") == 1
    assert said.count("is asked again") == 2


def test_the_wait_gives_up_when_it_is_told_to(ask_cloud: Ask, cloud: ScriptedPico) -> None:
    """Not after another round that it would not live to see."""
    cloud.reply = listing({"id": "t-1", "status": "pending"})

    ran = ask_cloud("wait", "t-1", "--timeout", "0.5")

    assert ran.code == 1
    assert "was not decided within 0.5 s" in ran.err
    assert cloud.asked.count("GET /templates") == 1
