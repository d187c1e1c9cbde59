"""`PICO_LOG` and the logger `pico_async` write a session's events as log lines."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import typing
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from pico_async import BlastEnded, CallEnded, ConfigurationError, Event, InDoubtError, Outcome, PicoSession, SmsMessage
from pico_async._event_log import StderrHandler, words
from pico_async.sandbox import Fault, Sandbox

TO = "8612345678901"
# Two sessions, one after the other, each with a single send and a bulk send.
SCRIPT = """
import asyncio
from pico_async import PicoSession, SmsMessage
from pico_async.sandbox import Sandbox

async def main():
    box = Sandbox()
    for _ in range(2):
        async with PicoSession(
            username=box.username, api_key=box.api_key, sender="PICO", transport=box.transport()
        ) as pico:
            await pico.sms.send("8612345678901", "hello")
            await pico.send_bulk([SmsMessage("8612345678901", "hello again")])

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("pico_async")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def session(sandbox: Sandbox) -> PicoSession:
    return PicoSession(username=sandbox.username, api_key=sandbox.api_key, sender="PICO", transport=sandbox.transport())


def stderr_of(script: str, monkeypatch: pytest.MonkeyPatch, level: str | None) -> list[str]:
    if level is None:
        monkeypatch.delenv("PICO_LOG", raising=False)
    else:
        monkeypatch.setenv("PICO_LOG", level)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ran.stderr.splitlines()


def test_without_pico_log_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `PICO_LOG`, a session writes nothing to standard error."""
    assert stderr_of(SCRIPT, monkeypatch, None) == []


def test_info_is_a_line_for_each_single_call_and_two_for_each_blast(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At INFO, each single call is logged in one line and each bulk send in two, once, also with several sessions. A bulk
    send of a million accepted messages does not write a million lines.
    """
    lines = stderr_of(SCRIPT, monkeypatch, "info")

    assert all(" INFO " in line for line in lines)
    told = [line.partition("pico_async  ")[2] for line in lines]
    assert len(told) == 7
    assert "token.get: accepted (HTTP 200)" in told.pop(0)
    for send, began, ended in (told[:3], told[3:]):
        assert "sms.send: accepted (HTTP 200)" in send
        assert "1 attempt, request_id " in send
        assert began.endswith("began, at most 64 in flight")
        assert ": 1 message in " in ended
        assert "1 accepted, 0 rejected, 0 not sent, 0 in doubt, 0 skipped" in ended


def test_debug_has_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """At DEBUG, each step is logged, also of a bulk send's calls. The level may be written in capitals."""
    lines = stderr_of(SCRIPT, monkeypatch, "DEBUG")

    assert sum("attempt 1 began" in line for line in lines) == 5
    assert sum("of blast" in line for line in lines) == 2
    assert sum("a fresh token" in line for line in lines) == 1


def test_another_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other value of `PICO_LOG` raises an error, because a mistyped level would silently log nothing."""
    monkeypatch.setenv("PICO_LOG", "verbose")

    with pytest.raises(ConfigurationError, match="PICO_LOG must be 'debug' or 'info'"):
        PicoSession(username="user333", api_key="k")


async def test_the_application_s_own_logging_has_the_lines_without_pico_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without `PICO_LOG`, the application's own logging gets the lines. At INFO, a bulk send logs its failed calls and not
    its accepted ones.
    """
    monkeypatch.delenv("PICO_LOG", raising=False)
    caplog.set_level(logging.INFO, "pico_async")

    async with session(Sandbox()) as pico:
        await pico.send_bulk([SmsMessage(TO, "hello"), SmsMessage(Fault.BAD_REQUEST.magic_number, "hello")])
        with pytest.raises(InDoubtError):
            await pico.sms.send(Fault.ACCEPT_THEN_DROP.magic_number, "hello")

    assert not any(isinstance(handler, StderrHandler) for handler in logging.getLogger("pico_async").handlers)
    told = [record.getMessage() for record in caplog.records if record.name == "pico_async"]
    sends = [line for line in told if "sms.send" in line]
    assert len(sends) == 2
    assert "rejected (BadRequestError, HTTP 400)" in sends[0]
    assert "in_doubt (NoResponseError)" in sends[1]


async def test_each_record_has_its_event_for_formatters_of_json(caplog: pytest.LogCaptureFixture) -> None:
    """
    Each record has its event as a dict of plain JSON types, so a JSON log can be searched by operation, outcome,
    status, duration, request ID and attempts. It contains neither the number nor the text.
    """
    caplog.set_level(logging.DEBUG, "pico_async")

    async with session(Sandbox()) as pico:
        accepted = await pico.sms.send(TO, "hello there")

    records = [record.__dict__["pico"] for record in caplog.records if record.name == "pico_async"]
    assert {record["event"] for record in records} >= {"CallStarted", "SlotGranted", "AttemptEnded", "CallEnded"}
    ended = records[-1]
    assert ended.pop("duration_s") > 0
    assert ended.pop("waited_s") >= 0
    assert ended.pop("call") > 0
    assert ended == {
        "event": "CallEnded",
        "blast": None,
        "operation": "sms.send",
        "outcome": "accepted",
        "status_code": 200,
        "request_id": accepted.request_id,
        "error": None,
        "attempts": 1,
    }
    written = json.dumps(records)
    assert TO not in written
    assert "hello" not in written


async def test_it_writes_to_the_stderr_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Log lines go to the current `sys.stderr`, because a progress bar replaces it and other lines would break the bar.
    """
    monkeypatch.setenv("PICO_LOG", "info")

    first, then = io.StringIO(), io.StringIO()

    async with session(Sandbox()) as pico:
        with redirect_stderr(first):
            await pico.token.ensure()
        with redirect_stderr(then):
            await pico.sms.send(TO, "hello")

    assert "token.get" in first.getvalue()
    assert "sms.send" in then.getvalue()
    assert "token.get" not in then.getvalue()


@pytest.mark.parametrize("kind", typing.get_args(Event), ids=lambda kind: kind.__name__)
def test_each_event_has_its_words(kind: type) -> None:
    """Each kind of event has a log line, with and without its optional fields."""
    given = {
        "operation": "sms.send",
        "rate_group": "sms",
        "method": "POST",
        "host": "rest.picotw.com",
        "outcome": Outcome.REJECTED,
        "reason": "NotSentError",
        "error": "NotSentError",
        "ended_early": True,
    }
    fields = [name for name in kind.__slots__ if name != "__weakref__"]
    optional = {"blast", "pace", "status_code", "error", "retry_after_s", "request_id"} & set(fields)
    if kind.__name__.startswith("Blast"):
        optional = set()
    whole = kind(**{name: given.get(name, 7) for name in fields})
    bare = kind(**{name: None if name in optional else given.get(name, 7) for name in fields})

    assert len(words(whole)) >= len(words(bare)) > 10
    assert "None" not in words(bare)
    assert "=" not in words(whole)


def test_the_words_of_an_end_tell_what_there_is_to_know() -> None:
    """The log line of a call's end and of a bulk send's end contain all the facts of these two examples."""
    assert words(
        CallEnded(
            call=3,
            blast=None,
            operation="sms.send",
            outcome=Outcome.IN_DOUBT,
            status_code=502,
            request_id=None,
            error="ServerError",
            attempts=2,
            waited_s=1.25,
            duration_s=2.5,
        )
    ) == ("call 3 sms.send: in_doubt (ServerError, HTTP 502) in 2.500 s, 1.250 s of it for slots; 2 attempts")
    assert words(
        BlastEnded(
            blast=2,
            total=21,
            accepted=1,
            rejected=2,
            not_sent=3,
            in_doubt=4,
            skipped=5,
            suppressed=6,
            duration_s=0.5,
            rate=2.0,
            ended_early=False,
        )
    ) == (
        "blast 2 ended: 21 messages in 0.500 s, 1 accepted, 2 rejected, 3 not sent, 4 in doubt, 5 skipped, 6 suppressed"
    )
