"""Whatever logging raises, a call returns what it would return without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import pico_async
from pico_async import CallbackSigner, NotSentError, PicoSession, SmsMessage
from pico_async._logger import Logger
from pico_async.errors import NotInDoubtError
from pico_async.integrations.problems import problem
from pico_async.receipts.handler import ReceiptHandler, ReceiptVerdict
from pico_async.sandbox import Sandbox

TO = "8612345678901"


class Failing(logging.Handler):
    """A handler that raises instead of handling its records."""

    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError("the log server is away")


class Cancelled(logging.Handler):
    """A handler that waits for a task that was cancelled."""

    def emit(self, record: logging.LogRecord) -> None:
        raise asyncio.CancelledError


def _wrong_filter(record: logging.LogRecord) -> bool:
    return bool(record.args["user"])  # type: ignore[call-overload,index]


def _failing_handler() -> None:
    logging.getLogger().addHandler(Failing())


def _cancelled_handler() -> None:
    logging.getLogger().addHandler(Cancelled())


def _failing_filter_of_a_handler() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(_wrong_filter)
    logging.getLogger().addHandler(handler)


def _failing_filter_of_the_logger() -> None:
    for name in ("pico_async", "pico_async.receipts", "pico_async.problems"):
        logging.getLogger(name).addFilter(_wrong_filter)


def _failing_factory() -> None:
    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        raise KeyError("request_id")

    logging.setLogRecordFactory(make)


FAULTS = [
    _failing_handler,
    _cancelled_handler,
    _failing_filter_of_a_handler,
    _failing_filter_of_the_logger,
    _failing_factory,
]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    names = ["", "pico_async", "pico_async.receipts", "pico_async.problems"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, list(logger.handlers), list(logger.filters)) for logger in loggers]
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    for logger, (level, handlers, filters) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.filters[:] = filters


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("listener", [None, "fails"])
@pytest.mark.parametrize("pico_log", ["", "debug"])
async def test_logging_that_fails_changes_no_call(
    fault: Callable[[], None], listener: str | None, pico_log: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Single sends and bulk sends are accepted although each record raises, also the record about a listener that fails.
    """
    monkeypatch.setenv("PICO_LOG", pico_log)
    logging.getLogger("pico_async").setLevel(logging.DEBUG)
    sandbox = Sandbox()

    def listen(event: object) -> None:
        if listener is not None:
            raise ValueError

    fault()
    async with PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="PICO",
        transport=sandbox.transport(),
        on_event=listen,
    ) as pico:
        accepted = await pico.sms.send(TO, "hello")
        report = await pico.send_bulk([SmsMessage(TO, "hello")], journal=tmp_path / "blast.db")

    assert accepted.request_id
    assert (report.accepted, report.stopped) == (1, None)
    assert len(sandbox.ledger.accepted) == 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_logging_that_fails_changes_no_verdict_on_a_receipt(fault: Callable[[], None]) -> None:
    """A receipt gets its own answer although each record raises: taken, or asked for again."""

    class Journal:
        async def confirm(self, name: str, request_id: str | None = None) -> bool:
            raise NotInDoubtError("none of that name")

    def fails(receipt: object) -> None:
        raise RuntimeError("the database is away")

    async def body() -> Any:
        yield b'{"status": "delivered"}'

    signer = CallbackSigner(["a-secret-of-32-characters-or-so-"])
    url = urlsplit(signer.sign("https://shop.example/receipts", "order-1"))
    logging.getLogger("pico_async").setLevel(logging.DEBUG)
    fault()

    taken = await ReceiptHandler(signer, on_receipt=print, journal=Journal()).take("POST", url.path, url.query, body())
    failed = await ReceiptHandler(signer, on_receipt=fails).take("POST", url.path, url.query, body())

    assert (taken, failed) == (ReceiptVerdict.TAKEN, ReceiptVerdict.FAILED)


@pytest.mark.parametrize("fault", FAULTS)
def test_logging_that_fails_changes_no_problem_reply(fault: Callable[[], None]) -> None:
    """An error gets its own HTTP reply although each record raises."""
    fault()

    assert problem(NotSentError("no connection")).status_code == 503


def test_what_ends_the_process_is_not_dropped() -> None:
    """KeyboardInterrupt and SystemExit in a handler go their way, because they end the process."""

    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit

    logging.getLogger().addHandler(Interrupted())

    with pytest.raises(SystemExit):
        Logger("pico_async").warning("hello")


def test_a_record_names_the_line_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A record names the file and the function that logged, and not the package's own logger."""
    Logger("pico_async").warning("hello")

    (record,) = caplog.records
    assert (record.filename, record.funcName) == ("test_logger.py", "test_a_record_names_the_line_that_logs")


def test_the_package_logs_by_no_other_logger() -> None:
    """No module but that of the logger gets one of the standard library, whose records may raise."""
    package = Path(pico_async.__file__).parent
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if "getLogger" in file.read_text("utf-8")}

    assert found == {"_logger.py"}
