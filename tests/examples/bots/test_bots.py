"""The README's chatbots run unchanged, with real libraries, Telegram's API on loopback, and the sandbox on a socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from attrs import define, field, frozen

from pico_async.sandbox import Ledger
from tests.examples.bots.telegram_server import TOKEN, TelegramServer, telegram_server
from tests.support.fleet_worker import wait_for_accepted
from tests.support.readme import RECIPES, ROOT, environment, write_recipe
from tests.support.sandbox_process import KEY, SandboxProcess, sandbox_process

pytestmark = pytest.mark.processes

BOTS = RECIPES["bots"]
ADMIN, STRANGER = 7, 8
PEOPLE = {str(user): f"86123456{user:05}" for user in range(1000, 1090)}
# One number is wrong, and other numbers come after it.
LISTED = dict(sorted([*PEOPLE.items(), ("1080x", "0912 345 678")]))
# The last users of the newsletter, which reaches them after their codes.
ASKS, IN_DOUBT, REFUSED = 1087, 1088, 1089
NEWS = "We moved"
# A warning is an error, but for the one that python-telegram-bot brings about with Python 3.12 and newer.
WARNINGS = ("-W", "error", "-W", "ignore:There is no current event loop:DeprecationWarning")


@frozen(kw_only=True)
class BotRun:
    """The answers of a bot, and what the sandbox received."""

    answers: dict[str, str]
    at_the_stop: Ledger
    at_the_end: Ledger
    log: str
    said_to_a_stranger: list[str]

    @property
    def codes(self) -> list[tuple[int, str, str]]:
        """Return for each code its index among all messages, its recipient and its text."""
        return [
            (place, sent.to, str(sent.text)) for place, sent in enumerate(self.at_the_end.accepted) if sent.text != NEWS
        ]


@define
class Stage:
    """One of the README's bots, with the servers that it connects to."""

    program: str
    directory: Path
    telegram: TelegramServer
    sandbox: SandboxProcess
    runner: subprocess.Popen[str] = field(init=False)

    @property
    def log(self) -> str:
        """Return the output on stderr of all runs of the bot."""
        return (self.directory / "stderr").read_text()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Keep a process from which the bot is started, with warnings as errors; kill it at the end of the context."""
        with (self.directory / "stderr").open("w") as errors:
            self.runner = subprocess.Popen(
                [sys.executable, *WARNINGS, "-m", "tests.examples.bots.on_loopback", self.program, self.telegram.url],
                cwd=self.directory,
                env=environment(self.sandbox.base_url, BOT_TOKEN=TOKEN, ADMIN_ID=str(ADMIN), PYTHONPATH=str(ROOT)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            yield self
        finally:
            os.killpg(self.runner.pid, signal.SIGKILL)
            self.runner.communicate()

    @contextmanager
    def bot(self) -> Iterator[None]:
        """Run the bot in its own process; end it with SIGTERM, as a deployment does, and check that it succeeded."""
        assert self.runner.stdin is not None
        assert self.runner.stdout is not None
        self.runner.stdin.write("run\n")
        self.runner.stdin.flush()
        process = int(self.runner.stdout.readline())
        yield
        os.kill(process, signal.SIGTERM)
        assert int(self.runner.stdout.readline()) == 0, self.log

    def inject(self, fault: str, user: int) -> None:
        """Inject the fault for the next message to *user*."""
        rule = {"fault": fault, "to": PEOPLE[str(user)], "times": 1}
        self.sandbox.control("POST", "faults", rule)

    def ask(self, user: int, text: str) -> str:
        """Send *text* to the bot as *user*, and return its answer."""
        self.telegram.say(user, text)
        return self.telegram.wait_for(user, "")


def run_bot(program: str, directory: Path) -> BotRun:
    """
    Run a bot through a newsletter, codes meanwhile, a restart in its middle, and a code while Pico is unreachable.
    """
    write_recipe("bots", directory)
    (directory / "people.json").write_text(json.dumps(LISTED))
    answers = {}
    with telegram_server() as telegram, ExitStack() as plugged, ExitStack() as running:
        sandbox = plugged.enter_context(sandbox_process("--rate-rule=sliding-log"))
        stage = running.enter_context(Stage(program, directory, telegram, sandbox).running())
        with stage.bot():
            telegram.say(STRANGER, "/newsletter")
            telegram.say(ADMIN, "/newsletter")
            wait_for_accepted(sandbox, 5)
            answers["sent"] = stage.ask(ASKS, "/code")
            stage.inject("accept-then-drop", IN_DOUBT)
            answers["in doubt"] = stage.ask(IN_DOUBT, "/code")
            stage.inject("bad-request", REFUSED)
            answers["refused"] = stage.ask(REFUSED, "/code")
            answers["no number"] = stage.ask(STRANGER, "/code")
            telegram.wait_for(ADMIN, "so far")  # the first of its messages, then the fifty-first
            answers["progress"] = telegram.wait_for(ADMIN, "so far")
            telegram.latency_s = 0.5
        telegram.latency_s = 0.0
        answers["stopped"] = telegram.wait_for(ADMIN, "accepted")
        at_the_stop = sandbox.ledger()
        with stage.bot():
            telegram.say(ADMIN, "/newsletter")
            answers["done"] = telegram.wait_for(ADMIN, "accepted")
            at_the_end = sandbox.ledger()
            plugged.close()
            answers["not sent"] = stage.ask(ASKS, "/code")
        return BotRun(
            answers=answers,
            at_the_stop=at_the_stop,
            at_the_end=at_the_end,
            log=stage.log,
            said_to_a_stranger=telegram.answers.get(STRANGER, []),
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[BotRun]]]:
    """Run both bots at the same time, because each of them waits for most of its time."""
    with ThreadPoolExecutor() as threads:
        yield {program: threads.submit(run_bot, program, tmp_path_factory.mktemp("bot")) for program in BOTS}


@pytest.fixture(params=BOTS)
def run(request: pytest.FixtureRequest, runs: dict[str, Future[BotRun]]) -> BotRun:
    return runs[request.param].result()


def test_a_code_overtakes_the_newsletter(run: BotRun) -> None:
    """
    A code waits neither for the newsletter's end nor for its handler: at least a third of all messages follow the
    codes.
    """
    assert [to for _, to, _ in run.codes] == [PEOPLE[str(ASKS)], PEOPLE[str(IN_DOUBT)]]
    assert max(place for place, _, _ in run.codes) < len(PEOPLE) * 2 // 3
    assert "on its way" in run.answers["sent"]


def test_a_user_hears_whether_to_ask_again(run: BotRun) -> None:
    """
    The bot's answer says whether the user may ask again: not in doubt or after a refusal, but after a send that did not
    happen.
    """
    assert "do not ask again" in run.answers["in doubt"]
    assert "cannot be sent" in run.answers["refused"]
    assert "cannot be sent" in run.answers["no number"]
    assert "was not sent. Please ask again" in run.answers["not sent"]


def test_a_newsletter_that_was_stopped_tells_so_and_goes_on(run: BotRun) -> None:
    """
    A newsletter that was stopped reports how many messages were accepted. The second run sends the rest, and each user
    with a valid number gets it once.
    """
    arrived = len(run.at_the_stop.accepted) - len(run.codes)

    # The wrong number, which is reported when it is read, is counted in "so far".
    assert 40 <= int(run.answers["progress"].removesuffix(" so far")) <= arrived + 1 <= len(PEOPLE)
    assert f" {arrived} were accepted, 0 are in doubt: the " in run.answers["stopped"]
    assert "91 messages 90 were accepted, 0 are in doubt: done." in run.answers["done"]
    assert sorted(sent.to for sent in run.at_the_end.accepted if sent.text == NEWS) == sorted(PEOPLE.values())


def test_a_bot_takes_one_token_and_only_the_admin_a_newsletter(run: BotRun) -> None:
    """
    One session serves all handlers of a bot, so each of its two runs takes one token. Only the admin starts a
    newsletter.
    """
    assert (run.at_the_stop.token_requests, run.at_the_end.token_requests) == (1, 2)
    assert "newsletter" not in "".join(run.said_to_a_stranger)


def test_a_bots_log_holds_no_secret_and_no_complaint(run: BotRun) -> None:
    """A bot's log contains no number, text, code or token, no traceback, and no report of an unfinished task."""
    codes = [text[-6:] for _, _, text in run.codes]

    assert all(re.fullmatch(r"Your code is \d{6}", text) for _, _, text in run.codes)
    assert not [word for word in ("8612345", NEWS, "Your code", TOKEN, KEY, *codes) if word in run.log]
    assert not [word for word in ("Traceback", "Task", "Error", "Unclosed") if word in run.log]
