"""`pico` sends single messages and shows the balance and the token, against a sandbox in another process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.pico_command import Ran
from tests.support.sandbox_process import KEY, SandboxProcess

Pico = Callable[..., Ran]
WriteCsv = Callable[..., Path]


@pytest.fixture
def ask(pico_here: Pico, quick: SandboxProcess) -> Callable[..., Ran]:
    """Return a function that runs `pico` with the sandbox's account."""
    return lambda *args: pico_here(*args, env=quick.env)


@pytest.fixture
def ask_alone(pico_here: Pico, start_sandbox: Callable[..., SandboxProcess]) -> Callable[..., Ran]:
    """Return a function that runs `pico` with the account of a sandbox that no other test uses."""
    sandbox = start_sandbox("--rate-rule", "none")
    return lambda *args: pico_here(*args, env=sandbox.env)


@pytest.mark.parametrize(
    ("args", "carried_out"),
    [
        (("sms", "send", "+86 123-4567 8901", "Your code is 1234"), {"kind": "sms", "text": "Your code is 1234"}),
        (
            ("mms", "send", "8612345678901", "https://example.com/a.jpg", "--text", "look"),
            {"kind": "mms", "media_url": "https://example.com/a.jpg", "text": "look"},
        ),
        (
            ("voice", "send", "8612345678901", "您好", "--lang", "zh-CN"),
            {"kind": "voice", "text": "您好", "lang": "zh-CN"},
        ),
    ],
)
def test_a_sent_message_is_reported_with_its_number_masked(
    ask: Pico, quick: SandboxProcess, args: tuple[str, ...], carried_out: dict[str, Any]
) -> None:
    """
    A sent message is reported with its masked number, and with the request ID that finds it in Pico's own records.
    """
    ran = ask(*args)

    (message,) = quick.accepted()
    assert ran.code == 0
    assert ran.out == f"accepted: the message to 86…01, request_id {message.request_id}\n"
    assert message.to == "8612345678901"
    assert {name: getattr(message, name) for name in carried_out} == carried_out


def test_a_message_by_template(ask: Pico, quick: SandboxProcess) -> None:
    """A message can be sent with a template ID and no text, and the result can be printed as JSON."""
    campaign = ask("campaigns", "create", "codes", "--json").json["campaign_id"]
    ask("templates", "create-sms", campaign, "welcome", "Your code is {{code}}")
    (template,) = ask("templates", "list", "--campaign-id", campaign, "--json").json["templates"]

    ran = ask("sms", "send", "8612345678901", "--template-id", template["id"], "--json")

    (message,) = quick.accepted()
    assert ran.json == {"outcome": "accepted", "request_id": message.request_id}
    assert message.template_id == template["id"]


@pytest.mark.parametrize(("to", "outcome", "sent"), [("99900000018", "rejected", 0), ("99900000001", "in doubt", 1)])
def test_a_failed_send_reports_its_outcome(ask: Pico, quick: SandboxProcess, to: str, outcome: str, sent: int) -> None:
    """A failed send prints its outcome in one line on stderr, and with `--json` also on stdout."""
    ran = ask("sms", "send", to, "hello", "--json")

    assert ran.code == 1
    assert ran.err.startswith(f"error: {outcome}: POST /sms: ")
    assert ran.err.count("\n") == 1
    assert ran.json["outcome"] == outcome.replace(" ", "_")
    assert to not in ran.out + ran.err
    assert len(quick.accepted()) == sent


def test_a_send_without_a_connection_was_not_sent(pico_here: Pico, quick: SandboxProcess) -> None:
    """A send that cannot connect is reported as not sent, so the user knows that a retry is safe."""
    ran = pico_here("sms", "send", "8612345678901", "x", env={**quick.env, "PICO_BASE_URL": "http://127.0.0.1:9"})

    assert ran.code == 1
    assert ran.err.startswith("error: not sent: POST /sms: ")


@pytest.mark.parametrize(
    "args",
    [
        ("sms", "send", "0912", "x"),
        ("sms", "send", "8612345678901"),
        ("sms", "send", "8612345678901", "x", "--template-id", "t-1"),
        ("mms", "send", "8612345678901", "nowhere"),
        ("voice", "send", "8612345678901", "x", "--lang", "?"),
        ("campaigns", "update", "c-1"),
        ("campaigns", "delete", "../balance"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_nothing_is_sent(
    ask: Pico, quick: SandboxProcess, args: tuple[str, ...]
) -> None:
    """A wrong argument ends with exit code 2 and one error line, and no request is made."""
    ran = ask(*args)

    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert quick.arrivals() == []


def test_the_balance(ask_alone: Pico) -> None:
    """The balance is printed as the exact decimal that Pico sent."""
    plain, by_json = ask_alone("balance"), ask_alone("balance", "--json")

    assert plain.out == "1000.00\n"
    assert by_json.json["balance"] == "1000.00"


def test_a_token_is_shown_on_request_only(ask: Pico) -> None:
    """`pico token` prints only the length of the token; `--show` prints the token itself."""
    hidden, shown, by_json = ask("token"), ask("token", "--show"), ask("token", "--json")

    token = shown.out.strip()
    assert hidden.out == f"A token of {len(token)} characters was received.\n"
    assert by_json.json["length"] == len(token)
    assert "token" not in by_json.json


def test_ca_certificates_that_cannot_be_loaded_are_one_error_line(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Any
) -> None:
    """CA certificates that cannot be loaded are one error line that names SSL_CERT_FILE, without a traceback."""
    path = tmp_path / "ca.pem"
    path.write_text("nothing")

    secure = {"PICO_BASE_URL": "https://127.0.0.1:1", "SSL_CERT_FILE": str(path)}
    ran = pico_here("balance", env={**quick.env, **secure})

    assert ran.code == 2
    assert "Check SSL_CERT_FILE" in ran.err
    assert ran.err.count("\n") == 1


def test_a_missing_key_is_requested_on_a_terminal(
    pico_here: Pico, quick: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, a missing API key is requested once, on stderr, and the typed key is not shown."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[dict[str, Any]] = []

    def prompt(text: str, **options: Any) -> str:
        asked.append(options)
        return KEY

    monkeypatch.setattr("typer.prompt", prompt)

    ran = pico_here("balance", env={**quick.env, "PICO_API_KEY": ""})

    assert ran.code == 0
    assert asked == [{"hide_input": True, "err": True}]


@pytest.mark.parametrize(
    ("content", "said"), [(b" \n", "is empty"), (b"\xff\xfe", "not UTF-8 text"), (None, "No such")]
)
def test_a_key_file_without_a_key_is_an_error(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Any, content: bytes | None, said: str
) -> None:
    """
    A key file that is empty, not UTF-8 or missing is an error. The key in the environment is not used instead, because
    it may belong to another account.
    """
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    ran = pico_here("balance", "--api-key-file", path, env=quick.env)

    assert ran.code == 2
    assert said in ran.err


SENDS = {
    "sms": ("hello",),
    "mms": ("https://example.com/cat.png",),
    "voice": ("hello",),
}


@pytest.mark.parametrize("kind", SENDS)
def test_pico_suppress_applies_to_a_single_message(
    pico_here: Pico, quick: SandboxProcess, tmp_path: Path, kind: str
) -> None:
    """PICO_SUPPRESS names the file of opt-outs for a single message, too, but for one with `--no-promotional`."""
    (tmp_path / "out.txt").write_text("0912 345 678\n")
    env = quick.env | {"PICO_SUPPRESS": str(tmp_path / "out.txt"), "PICO_REGION": "TW"}

    ran = pico_here(kind, "send", "0912-345-678", *SENDS[kind], env=env)
    assert (ran.code, quick.accepted()) == (1, [])
    assert "not sent: The number has opted out. Nothing was sent." in ran.err
    assert "912" not in ran.out + ran.err

    wanted = pico_here(kind, "send", "0912-345-678", *SENDS[kind], "--no-promotional", env=env)
    other = pico_here(kind, "send", "+886 912 345 679", *SENDS[kind], env=env)

    assert (wanted.code, other.code) == (0, 0)
    assert [message.to for message in quick.accepted()] == ["886912345678", "886912345679"]


@pytest.mark.parametrize(
    "name", ["", " ", ".", "none.txt", "~/none.txt", "/dev/null", "out.txt\n", "out.txt/x", "x" * 5000]
)
def test_an_invalid_path_of_opt_outs_sends_nothing(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, tmp_path: Path, name: str
) -> None:
    """Where PICO_SUPPRESS names no file that can be read, neither a message nor a bulk send goes out."""
    (tmp_path / "out.txt").write_text("8613000000002\n")
    env = quick.env | {"PICO_SUPPRESS": str(tmp_path / name) if name.startswith("out") else name}
    path = write_csv([["8613000000001", 1]])

    one = pico_here("sms", "send", "8613000000001", "hello", env=env)
    many = pico_here("blast", path, "--text", "hello {{code}}", env=env)

    assert (one.code, many.code) == (2, 2)
    assert "error: " in one.err
    assert quick.accepted() == []


def test_opt_outs_that_cannot_be_read_send_nothing(pico_here: Pico, quick: SandboxProcess, tmp_path: Path) -> None:
    """A file of opt-outs that is missing, or holds what is no number, ends the command before anything is sent."""
    (tmp_path / "out.txt").write_text("0912345678.0\n")

    for name, said in (
        ("none.txt", "cannot be read"),
        ("out.txt", "line 1, is not a phone number: `to` has a dec"),
    ):
        ran = pico_here("sms", "send", "8613000000001", "hello", "--suppress", tmp_path / name, env=quick.env)

        assert ran.code == 2
        assert said in ran.err
    assert quick.accepted() == []
