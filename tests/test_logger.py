"""Whatever logging raises, a call returns what it would return without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

import pico_async
from pico_async import CallbackSigner, InDoubtError, NotSentError, PicoSession, SmsMessage
from pico_async._logger import Logger
from pico_async.errors import NotInDoubtError
from pico_async.integrations.problems import problem
from pico_async.receipts.handler import ReceiptHandler, ReceiptVerdict
from pico_async.sandbox import Sandbox
from tests.support.raw_pico import raw_pico, session

TO = "8612345678901"
HTTPCORE = ["httpcore.connection", "httpcore.http11"]


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
    names = ["", "pico_async", "pico_async.receipts", "pico_async.problems", *HTTPCORE]
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


def _failing_filter_of_httpcore() -> None:
    for name in HTTPCORE:
        logging.getLogger(name).addFilter(_wrong_filter)


@pytest.mark.parametrize(
    "fault", [_failing_handler, _cancelled_handler, _failing_filter_of_a_handler, _failing_filter_of_httpcore]
)
async def test_what_handles_the_records_of_httpcore_changes_no_call(fault: Callable[[], None]) -> None:
    """Messages are sent, once each, although a handler or a filter raises for each step that httpcore logs."""
    logging.getLogger().setLevel(logging.DEBUG)

    async with raw_pico() as pico:
        fault()
        async with session(pico.address, retries=0, transport=None) as it:
            for _ in range(3):
                assert (await it.sms.send(TO, "hello")).request_id
        assert pico.received == 3


async def test_a_record_of_httpcore_that_cannot_be_made_leaves_a_message_in_doubt() -> None:
    """A factory of records that raises for httpcore's breaks into a send, which is told in doubt and not repeated."""
    logging.getLogger().setLevel(logging.DEBUG)

    async with raw_pico() as pico, session(pico.address, retries=2, transport=None) as it:
        _failing_factory()
        with pytest.raises(InDoubtError):
            await it.sms.send(TO, "hello")
        assert pico.received <= 1


async def test_the_records_of_httpcore_come_to_their_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """The records of a request are handled once each, and the filters of an application still apply to them."""
    dropped = []

    def drop(record: logging.LogRecord) -> bool:
        dropped.append(record.getMessage())
        return not record.getMessage().startswith("send_request_body")

    logging.getLogger("httpcore.http11").addFilter(drop)
    with caplog.at_level("DEBUG"):
        async with raw_pico() as pico, session(pico.address, retries=0, transport=None) as it:
            await it.sms.send(TO, "hello")
        async with raw_pico() as pico, httpx.AsyncClient() as other:
            await other.get(pico.address)

    said = [record.getMessage().split()[0] for record in caplog.records if record.name == "httpcore.http11"]
    assert said.count("send_request_headers.started") == 2  # of the message, and of the other client
    assert "send_request_body.started" not in said
    assert len(dropped) > len(said)


async def test_a_handler_that_fails_for_another_client_fails_there() -> None:
    """What an application logs of its own requests by httpx is no business of the package's."""
    async with raw_pico() as pico, session(pico.address, retries=0, transport=None) as it:
        await it.sms.send(TO, "hello")
        logging.getLogger().setLevel(logging.DEBUG)
        _failing_handler()
        async with httpx.AsyncClient() as other:
            with pytest.raises(LookupError):
                await other.get(pico.address)


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

    taken = await ReceiptHandler(signer, on_receipt=print, journal=Journal()).handle(
        "POST", url.path, url.query, body()
    )
    failed = await ReceiptHandler(signer, on_receipt=fails).handle("POST", url.path, url.query, body())

    assert (taken, failed) == (ReceiptVerdict.HANDLED, ReceiptVerdict.FAILED)


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
    """Only the logger's module gets a logger of the standard library, but for the filter of httpcore's records."""
    package = Path(pico_async.__file__).parent
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if "getLogger" in file.read_text("utf-8")}

    assert found == {"_logger.py", "_engine/http/httpx_transport.py"}
