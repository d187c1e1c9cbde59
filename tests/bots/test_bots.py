"""The README's chatbots run as they stand: real libraries, Telegram's API on loopback, and the sandbox on a socket."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from attrs import define, field

from tests.bots.telegram_server import TOKEN, TelegramServer, telegram_server
from tests.readme import RECIPES, ROOT, environment, write_recipe
from tests.sandbox_process import SandboxProcess, sandbox_process
from tests.stories.fleet_worker import wait_for_accepted

ADMIN = 7
PEOPLE = {str(user): f"86123456{user:05}" for user in range(1000, 1120)}
STRANGER = 8
NEWS = "We moved"


@define
class Stage:
    """One of the README's bots, with all that it talks to."""

    program: str
    directory: Path
    telegram: TelegramServer
    sandbox: SandboxProcess
    plugged: ExitStack
    held: ExitStack
    logged: str = field(default="", init=False)

    def start(self) -> subprocess.Popen[str]:
        """Run the bot in a process of its own, where a warning is an error."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.bots.on_loopback", self.program, self.telegram.url],
            cwd=self.directory,
            env=environment(self.sandbox.base_url, BOT_TOKEN=TOKEN, ADMIN_ID=str(ADMIN), PYTHONPATH=str(ROOT)),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.held.callback(process.communicate)
        self.held.callback(process.kill)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End it as a deploy does; it must do so in order."""
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        self.logged += errors

    def inject(self, fault: str, user: int) -> None:
        """Let this befall the next message to *user*."""
        rule = {"fault": fault, "to": PEOPLE[str(user)], "times": 1}
        httpx.post(f"{self.sandbox.base_url}/_sandbox/faults", json=rule).raise_for_status()

    def ask(self, user: int, text: str, answer: str) -> str:
        """Write to the bot as *user*, and give its answer, which has the words of *answer*."""
        self.telegram.say(user, text)
        return self.telegram.wait_for(user, answer)


@pytest.fixture(params=RECIPES["bots"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    write_recipe("bots", tmp_path)
    (tmp_path / "people.json").write_text(json.dumps(PEOPLE))
    with ExitStack() as held, ExitStack() as plugged:
        telegram = held.enter_context(telegram_server())
        sandbox = plugged.enter_context(sandbox_process("--rate-rule=sliding-log"))
        yield Stage(request.param, tmp_path, telegram, sandbox, plugged, held)


def test_a_bot_sends_codes_beside_a_newsletter_and_says_whether_to_ask_again(stage: Stage) -> None:
    """
    At the documented rate. What the bot tells is what the ledger has; nothing goes out twice, also where the newsletter
    was stopped and begun again; and the log holds no number, text, code or token.
    """
    bot = stage.start()
    stage.telegram.say(ADMIN, "/newsletter")
    wait_for_accepted(stage.sandbox, 5)
    stage.ask(1117, "/code", "is on its way")
    stage.inject("accept-then-drop", 1118)
    stage.ask(1118, "/code", "may be on its way")
    stage.inject("bad-request", 1119)
    stage.ask(1119, "/code", "cannot be sent")
    stage.ask(STRANGER, "/code", "cannot be sent")
    stage.telegram.say(STRANGER, "/newsletter")
    stage.telegram.wait_for(ADMIN, "100 so far")
    stage.end(bot)
    stopped_words = stage.telegram.wait_for(ADMIN, "accepted")
    stopped = stage.sandbox.ledger()

    bot = stage.start()
    done_words = stage.ask(ADMIN, "/newsletter", "accepted")
    ledger = stage.sandbox.ledger()
    stage.plugged.close()
    stage.ask(1117, "/code", "was not sent")
    stage.end(bot)

    codes = [(place, sent) for place, sent in enumerate(ledger.accepted) if sent.text != NEWS]
    assert [sent.to for _, sent in codes] == [PEOPLE["1117"], PEOPLE["1118"]]
    assert all(re.fullmatch(r"Your code is \d{6}", str(sent.text)) for _, sent in codes)
    # The newsletter has 64 messages waiting at any time: behind them, no code would be among the first 64.
    assert all(place < 60 for place, _ in codes)
    assert f" {len(stopped.accepted) - 2} were accepted, 0 are in doubt: " in stopped_words
    assert 100 <= len(stopped.accepted) - 2 < len(PEOPLE)
    assert "120 messages 120 were accepted, 0 are in doubt: done." in done_words
    assert sorted(sent.to for sent in ledger.accepted if sent.text == NEWS) == sorted(PEOPLE.values())
    assert not stage.telegram.answers.get(STRANGER)
    assert (stopped.token_requests, ledger.token_requests) == (1, 2)  # one for each of its lives
    secrets = ["8612345", NEWS, "Your code", TOKEN, "sandbox-api-key", *(str(sent.text)[-6:] for _, sent in codes)]
    assert not [secret for secret in secrets if secret in stage.logged]
