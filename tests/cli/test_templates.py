"""
`pico templates` creates templates from an argument, a file or stdin, lists, shows and deletes them, and waits for
approval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pico_async import PicoSession
from pico_async.cli.templates import decided
from tests.cli.scripted_pico import ScriptedPico
from tests.support.pico_command import Ran
from tests.support.sandbox_process import KEY, SandboxProcess, sandbox_process

pytestmark = pytest.mark.lower_bounds

Pico = Callable[..., Ran]
Ask = Callable[..., Ran]

ID = "3f6c1c1e-7f4a-4a1b-9a55-0d1f8a2b3c4d"
OTHER = "8b1d0a52-5f0e-4f43-8a41-2c6d9f00aa11"


@pytest.fixture
def ask_cloud(pico_here: Pico, cloud: ScriptedPico) -> Ask:
    """Return a function that runs `pico templates` against the server whose replies the test sets."""
    return lambda *args: pico_here("templates", *args, env=cloud.env)


@pytest.fixture(scope="module")
def account() -> Iterator[SandboxProcess]:
    """Start a sandbox process that only the tests of this module use."""
    with sandbox_process("--rate-rule", "none") as sandbox:
        yield sandbox


@pytest.fixture
def ask(pico_here: Pico, account: SandboxProcess) -> Ask:
    """Return a function that runs `pico` with the account of that sandbox."""
    return lambda *args: pico_here(*args, env=account.env)


def listing(*templates: dict[str, object]) -> tuple[int, str]:
    return 200, json.dumps({"request_id": "r-9", "templates": templates})


def test_a_templates_life(ask: Ask) -> None:
    """A template can be created, listed by campaign and status, shown and deleted."""
    campaign_id = ask("campaigns", "create", "codes").out.strip()
    handed_in = ask("templates", "create-sms", campaign_id, "otp", "Your code is {{code}}")
    assert (handed_in.code, handed_in.out) == (0, "The template was submitted for approval.\n")
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
    """
    The text of a file is used without the byte order mark at its start and one line break at its end, which editors
    add.
    """
    path = tmp_path / "text"
    path.write_bytes(content)
    campaign_id = ask("campaigns", "create", "codes").out.strip()

    assert ask("templates", "create-sms", campaign_id, "otp", "--file", path).code == 0

    (template,) = ask("templates", "list", "--campaign-id", campaign_id, "--json").json["templates"]
    assert template["content"] == text


def test_a_text_from_stdin(pico: Callable[..., Ran], account: SandboxProcess, ask: Ask) -> None:
    """`--file -` reads the text from stdin, without the line break at its end."""
    campaign_id = ask("campaigns", "create", "codes").out.strip()

    ran = pico("templates", "create-sms", campaign_id, "otp", "--file", "-", env=account.env, stdin="from a pipe\n")

    (template,) = ask("templates", "list", "--campaign-id", campaign_id, "--json").json["templates"]
    assert ran.code == 0
    assert template["content"] == "from a pipe"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Pass either the template's text or --file"),
        (("text", "--file", "{}"), "Pass either the template's text or --file"),
        (("--file", "{}/nowhere"), "Not a directory"),
        (("--file", "/nowhere"), "No such file"),
        (("--file", "/"), "Is a directory"),
        (("--file", "-", "--api-key-file", "-"), "cannot both come from stdin"),
    ],
)
def test_no_text_is_a_wrong_argument(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    """
    A text that is missing, passed twice or not readable ends with exit code 2 and one error line, and no request is
    made.
    """
    path = tmp_path / "text"
    path.write_text("text")

    ran = pico_here("templates", "create-sms", "c-1", "otp", *(arg.format(path) for arg in args), env=quick.env)

    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert quick.arrivals() == []


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "not UTF-8 text"), (b"x" * 70_000, "more than 64 KiB")])
def test_a_file_that_is_no_text(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Path, content: bytes, said: str
) -> None:
    """A file that is not UTF-8 or is larger than 64 KiB is refused, because the user probably named the wrong file."""
    path = tmp_path / "text"
    path.write_bytes(content)

    ran = pico_here("templates", "create-sms", "c-1", "otp", "--file", path, env=quick.env)

    assert ran.code == 2
    assert said in ran.err
    assert quick.arrivals() == []


def test_an_unknown_status_is_refused(pico_here: Pico, quick: SandboxProcess) -> None:
    """An unknown status is refused with the list of the valid ones, and no request is made."""
    ran = pico_here("templates", "list", "--status", "aproved", env=quick.env)

    assert ran.code == 2
    assert "'pending', 'approved', 'rejected'" in " ".join(ran.err.replace("│", "").split())
    assert quick.arrivals() == []


def test_a_template_without_fields(ask_cloud: Ask, cloud: ScriptedPico) -> None:
    """
    Fields that Pico did not send are printed empty, because the reply to a list request is not documented. Unknown
    fields are printed as they came.
    """
    cloud.reply = listing({}, {"id": "t-1", "status": 2, "state": "in review"})

    assert ask_cloud("list").out == "\t\t\t\t\nt-1\t\t2\t\t\n"
    assert "status\t2\n" in ask_cloud("show", "t-1").out
    assert "state\tin review\n" in ask_cloud("show", "t-1").out
    assert ask_cloud("list", "--json").json["templates"][1]["extra"] == {"state": "in review"}


def test_the_list_of_a_terminal_goes_by_campaign(pico_on_terminal: Pico, cloud: ScriptedPico) -> None:
    """
    On a terminal, templates are grouped by campaign, so that both IDs are whole in 80 columns, and a long text is cut.
    """
    cloud.reply = listing(
        {"id": ID, "campaignId": OTHER, "name": "otp", "status": "approved", "content": "Your code is {{code}}. " * 9},
        {"id": "t-2", "name": "other"},
    )

    lines = pico_on_terminal("templates", "list", env=cloud.env).out.splitlines()

    assert lines[0] == f"Campaign {OTHER}"
    assert ID in lines[2]
    assert lines[2].endswith("…")
    assert max(map(len, lines)) <= 80
    assert "No campaign ID" in lines


@pytest.mark.parametrize(("count", "terminal"), [(10_000, False), (1_000, True)])
def test_very_many_templates(
    ask_cloud: Ask, pico_on_terminal: Pico, cloud: ScriptedPico, count: int, terminal: bool
) -> None:
    """A long list is printed in full, with one line for each template."""
    cloud.reply = listing(*({"id": f"t-{number}", "name": "n", "content": "x" * 20} for number in range(count)))

    said = (pico_on_terminal("templates", "list", env=cloud.env) if terminal else ask_cloud("list")).out

    assert len([line for line in said.splitlines() if line.startswith("t-")]) == count


# --- waiting for the approval ---------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [("approved", 0), ("rejected", 1)])
def test_wait_returns_at_once_for_a_decided_template(
    ask_cloud: Ask, cloud: ScriptedPico, status: str, code: int
) -> None:
    """`wait` returns at once if the template is approved or rejected, after a single request for the list."""
    cloud.reply = listing({"id": "t-1", "status": status})

    ran = ask_cloud("wait", "t-1")

    assert ran.code == code
    assert ran.out == ("approved\n" if code == 0 else "")
    assert ("it is rejected" in ran.err) == (code == 1)
    assert cloud.asked == ["GET /token/user333", "GET /templates"]


@pytest.mark.parametrize(
    ("templates", "said"), [([], "There is no template t-1"), ([{"id": "t-1"}], "has no status for the template")]
)
def test_wait_fails_at_once_for_a_missing_template_or_status(
    ask_cloud: Ask, cloud: ScriptedPico, templates: list[dict[str, object]], said: str
) -> None:
    """`wait` ends at once with an error if the template is missing or has no status."""
    cloud.reply = listing(*templates)

    ran = ask_cloud("wait", "t-1")

    assert ran.code == 1
    assert said in ran.err


async def test_the_wait_ends_with_the_decision(cloud: ScriptedPico, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The wait ends once the template is approved, and reports the pending status only once. Server errors in between do
    not end it, because approval may take hours.
    """
    pending = listing({"id": "t-1", "status": "pending"})
    replies = iter([pending, (502, "<html>"), pending, (502, "<html>"), listing({"id": "t-1", "status": "approved"})])

    def decide() -> None:
        cloud.reply = next(replies)

    cloud.before_reply = decide

    async with PicoSession(username="user333", api_key=KEY, base_url=cloud.base_url, retries=0) as pico:
        template = await decided(pico, "t-1", every_s=0.01, timeout_s=None)

    said = capsys.readouterr().err
    assert template.status == "approved"
    assert said.count("The template is pending.") == 1
    assert said.count("is requested again") == 2


def test_the_wait_ends_at_its_timeout(ask_cloud: Ask, cloud: ScriptedPico) -> None:
    """`wait --timeout` ends with an error in time, and makes no further request if the next one would be too late."""
    cloud.reply = listing({"id": "t-1", "status": "pending"})

    ran = ask_cloud("wait", "t-1", "--timeout", "0.5")

    assert ran.code == 1
    assert "was not decided within 0.5 s" in ran.err
    assert cloud.asked.count("GET /templates") == 1
