"""Error reporters print the local variables of each frame, and none prints a key, a token, a number or a text."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import sys
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import rich.traceback
import sentry_sdk
import sentry_sdk.serializer
import sentry_sdk.utils
import stackprinter
import structlog.tracebacks
from rich.console import Console

from pico_async import (
    AiohttpTransport,
    CallbackSigner,
    DeliveryReceipt,
    MmsMessage,
    Outcome,
    PicoError,
    PicoSession,
    Rates,
    RedisCoordinator,
    SendResult,
    SmsMessage,
    SqliteJournal,
    VoiceMessage,
)
from pico_async._engine.http.exchange import SLOT_FRESH_S
from pico_async.integrations.send_once import send_once
from pico_async.models import Template, UserToken
from pico_async.receipts.callbacks import SignedCallback
from pico_async.receipts.deduplication import LocalSeenReceipts
from pico_async.receipts.handler import ReceiptHandler, ReceiptVerdict
from pico_async.receipts.redis_deduplication import RedisSeenReceipts
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.support.clock_jump import LONG_S, jump_when
from tests.support.waiting import until


class Vault:
    """The secrets. A test that held them in variables of its own would be the one to show them."""

    def __init__(self) -> None:
        self._secrets = {
            "key": "k3y-THAT-NOBODY-MAY-SEE-0123456789",
            "number": "8613900027182",
            "text": "Your verification code is 735914",
            "signing": "s1gning-THAT-NOBODY-MAY-SEE",
            "redis": "r3dis-THAT-NOBODY-MAY-SEE",
        }

    def __getitem__(self, name: str) -> str:
        return self._secrets[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._secrets[name] = value

    def found_in(self, text: str) -> list[str]:
        """Return the names of the secrets that *text* shows, of a text its code."""
        return [
            name for name, value in self._secrets.items() if value.removeprefix("Your verification code is ") in text
        ]


secret = Vault()


def by_rich(error: BaseException) -> str:
    console = Console(file=io.StringIO(), width=300)
    traceback = rich.traceback.Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=10_000, locals_max_length=1000
    )
    console.print(traceback)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def by_cgitb(error: BaseException) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import cgitb
    # It reads attributes that an OSError lacks, so it gets an error of another type with the same frames.
    return cgitb.text((RuntimeError, RuntimeError(str(error)), error.__traceback__), context=11)


def by_stackprinter(error: BaseException) -> str:
    return str(stackprinter.format((type(error), error, error.__traceback__), show_vals="all", truncate_vals=10_000))


def by_structlog(error: BaseException) -> str:
    transformed = structlog.tracebacks.ExceptionDictTransformer(
        show_locals=True, locals_max_string=10_000, locals_max_length=1000, use_rich=True
    )((type(error), error, error.__traceback__))
    return json.dumps(transformed, default=repr)


@cache
def sentry_options() -> dict[str, Any]:
    """Return the default options of sentry-sdk; a client takes long to make, because it looks for all frameworks."""
    return dict(sentry_sdk.Client().options)


def by_sentry(error: BaseException) -> str:
    event, _ = sentry_sdk.utils.event_from_exception(
        (type(error), error, error.__traceback__), client_options=sentry_options()
    )
    return json.dumps(sentry_sdk.serializer.serialize(event, max_value_length=10_000), default=repr)


REPORTERS: list[Callable[[BaseException], str]] = [by_rich, by_stackprinter, by_structlog, by_sentry]
if importlib.util.find_spec("cgitb"):  # not since Python 3.13
    REPORTERS.append(by_cgitb)


def assert_nothing_shown(error: BaseException) -> None:
    """Check what each reporter prints of an error, of the errors that it arose from, and of those in its group."""
    for reporter in REPORTERS:
        text = reporter(error)
        assert secret.found_in(text) == [], reporter
        frames = ("_boundary.py", Path(__file__).name, "contextlib.py")
        assert error.__traceback__ is None or any(frame in text for frame in frames), "it prints frames"
    group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for one in (error.__cause__, error.__context__, *group):
        if one is not None and one.__traceback__ is not None:
            assert_nothing_shown(one)


@asynccontextmanager
async def session(
    transport: Callable[[], AiohttpTransport | None], *faults: FaultRule
) -> AsyncIterator[tuple[PicoSession, Callable[[], bool]]]:
    """
    Open a session to a sandbox on a socket; its token joins the secrets.

    Yield a function, too, that says whether a fault has befallen the latest request. A test that held the sandbox would
    show its ledger.
    """
    sandbox = Sandbox(api_key=secret["key"], rate_rule=None, faults=list(faults))
    async with (
        sandbox.serve() as base_url,
        PicoSession(
            username="user333",
            api_key=secret["key"],
            sender="PICO",
            base_url=base_url,
            timeout=LONG_S,
            retries=0,
            rates=Rates(sms=None, token=None),
            transport=transport(),
        ) as pico,
    ):
        secret["token"] = (await pico.token.get()).token
        yield pico, lambda: sandbox.ledger.arrivals[-1].fault is not None


def by_httpx() -> None:
    """Return no transport: the session makes its own, of httpx."""


TRANSPORTS = pytest.mark.parametrize("transport", [by_httpx, AiohttpTransport], ids=["httpx", "aiohttp"])


@TRANSPORTS
@pytest.mark.parametrize("fault", list(Fault), ids=[fault.value for fault in Fault])
async def test_no_fault_of_the_server(fault: Fault, transport: Callable[[], AiohttpTransport | None]) -> None:
    """No reporter shows a secret of a send that fails by any fault of the server."""
    async with session(transport, FaultRule(fault, delay_s=3600.0)) as (pico, struck), asyncio.TaskGroup() as tasks:
        if fault in (Fault.ACCEPT_THEN_HANG, Fault.HANG_BEFORE_ACCEPT):
            tasks.create_task(jump_when(struck))
        try:
            await pico.sms.send(secret["number"], secret["text"])
        except PicoError as error:
            assert_nothing_shown(error)


async def by_a_timeout(send: Awaitable[object], struck: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S / 2):
        await send


async def by_a_cancellation(send: Awaitable[object], struck: Callable[[], bool]) -> None:
    sending = asyncio.ensure_future(send)
    await until(struck)
    sending.cancel()
    await sending


async def by_a_sibling(send: Awaitable[object], struck: Callable[[], bool]) -> None:
    async with asyncio.TaskGroup() as siblings:
        siblings.create_task(fail_when(struck))
        await send


async def fail_when(happened: Callable[[], object]) -> None:
    await until(happened)
    raise ValueError("a sibling failed")


def calls(pico: PicoSession) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the calls that a caller may interrupt, by their names."""
    return {
        "sms.send": lambda: pico.sms.send(secret["number"], secret["text"]),
        "mms.send": lambda: pico.mms.send(secret["number"], "https://shop.example/1.png", text=secret["text"]),
        "voice.send": lambda: pico.voice.send(secret["number"], secret["text"]),
        "send": lambda: pico.send(SmsMessage(secret["number"], secret["text"])),
        "send_bulk": lambda: pico.send_bulk([SmsMessage(secret["number"], secret["text"])]),
        "templates.create_sms": lambda: pico.templates.create_sms("7", "codes", secret["text"]),
    }


CALLS = ("sms.send", "mms.send", "voice.send", "send", "send_bulk", "templates.create_sms")
ENDS = (by_a_timeout, by_a_cancellation, by_a_sibling)


@pytest.mark.parametrize(
    ("name", "end", "transport"),
    [
        # Each call with each end. The transports alternate, so that each of them meets each call and each end.
        pytest.param(name, end, transport, id=f"{name}-{end.__name__}-{transport.__name__}")
        for row, name in enumerate(CALLS)
        for column, end in enumerate(ENDS)
        for transport in [[by_httpx, AiohttpTransport][(row + column) % 2]]
    ],
)
async def test_no_end_that_the_caller_brings_about(
    name: str, end: Callable[..., Awaitable[None]], transport: Callable[[], AiohttpTransport | None]
) -> None:
    """No reporter shows a secret of a call that its caller's timeout, cancellation or task group ends."""
    hangs = FaultRule(Fault.HANG_BEFORE_ACCEPT, "*", after=1, delay_s=3600.0)
    async with session(transport, hangs) as (pico, struck), asyncio.TaskGroup() as tasks:
        if end is by_a_timeout:
            tasks.create_task(jump_when(struck, LONG_S / 2))
        failure = await failure_of(end(calls(pico)[name](), struck))

    assert_nothing_shown(failure)


async def failure_of(call: Awaitable[object]) -> BaseException:
    try:
        await call
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("it did not fail")


class Refusing:
    """A callback of the caller's that fails."""

    def __call__(self, *_: object) -> bool:
        raise ValueError("the caller's own fault")


REFUSED: dict[str, Callable[[PicoSession], Awaitable[object]]] = {
    "a number": lambda pico: pico.sms.send(secret["number"] + "x", secret["text"]),
    "a text": lambda pico: pico.voice.send(secret["number"], secret["text"] + "\ud800"),
    "a URL": lambda pico: pico.mms.send(secret["number"], "ftp://shop.example", text=secret["text"]),
    "a key": lambda pico: pico.sms.send(secret["number"], secret["text"], key=""),
    "a priority": lambda pico: pico.sms.send(secret["number"], secret["text"], priority=7),  # type: ignore[arg-type]
    "a campaign": lambda pico: pico.templates.create_sms("a/b", "codes", secret["text"]),
    "what listens to results": lambda pico: pico.send_bulk(
        [SmsMessage(secret["number"], secret["text"])], on_result=Refusing()
    ),
    "what it is to send": lambda pico: pico.send_bulk(broken_input()),
    "a message without a key": lambda pico: send_once(
        pico, SmsMessage(secret["number"], secret["text"]), journal="/nowhere/at/all"
    ),
}


def broken_input() -> Iterator[SmsMessage]:
    yield SmsMessage(secret["number"], secret["text"])
    raise ValueError("the caller's file is damaged")


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
async def test_no_argument_that_is_refused(call: Callable[[PicoSession], Awaitable[object]]) -> None:
    """No reporter shows a secret of a call that fails by its arguments, or by a callback of the caller's."""
    async with session(by_httpx) as (pico, _):
        failure = await failure_of(later(call, pico))

    assert_nothing_shown(failure)


async def later(call: Callable[[PicoSession], Awaitable[object]], pico: PicoSession) -> object:
    return await call(pico)


MADE: dict[str, Callable[[], object]] = {
    "a message": lambda: SmsMessage(secret["number"], secret["text"], template_id="7"),
    "an MMS": lambda: MmsMessage(secret["number"], "no address", text=secret["text"]),
    "a voice message": lambda: VoiceMessage(secret["number"], secret["text"], lang="?"),
    "a session": lambda: PicoSession(username="user333", api_key=secret["key"], timeout=-1),
    "a session with a bad key": lambda: PicoSession(username="user333", api_key=secret["key"] + " "),
    "a signer": lambda: CallbackSigner([secret["signing"], ""]),
    "a coordinator": lambda: RedisCoordinator.from_url(f"redis://:{secret['redis']}@127.0.0.1:nowhere"),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
async def test_no_value_that_cannot_be_made(make: Callable[[], object]) -> None:
    """No reporter shows a secret that a constructor was given with a wrong argument."""
    try:
        make()
    except Exception as error:  # noqa: BLE001
        failure = error

    assert_nothing_shown(failure)


class Reporting:
    """
    A listener that reports the stack in which it is called, as sentry-sdk does with `attach_stacktrace`.

    It is slow, so that a connection opens only after the slot of its request has expired.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.shown: set[tuple[str, str, str]] = set()

    def __call__(self, event: object) -> None:
        self.events.append(type(event).__name__)
        for frame, _ in traceback.walk_stack(sys._getframe(1)):
            for name, value in frame.f_locals.items():
                if secret.found_in(repr(value)):
                    self.shown.add((self.events[-1], frame.f_code.co_qualname, name))
        if self.events[-1] == "AttemptStarted":
            time.sleep(2 * SLOT_FRESH_S)


@TRANSPORTS
@pytest.mark.parametrize("name", CALLS)
async def test_no_frame_under_a_listener(name: str, transport: Callable[[], AiohttpTransport | None]) -> None:
    """No frame in which a listener is called shows a secret, even if a connection opens after its slot expired."""
    reporting = Reporting()
    sandbox = Sandbox(api_key=secret["key"], rate_rule=None)

    async with sandbox.serve() as base_url:
        # At a rate so high, other requests have their turns in that time.
        rates = Rates(sms=1000, token=None, mms=1000, voice=1000, management=1000)
        settings: dict[str, Any] = {"sender": "PICO", "base_url": base_url, "rates": rates}
        async with PicoSession(
            username="user333", api_key=secret["key"], transport=transport(), on_event=reporting, **settings
        ) as pico:
            secret["token"] = (await pico.token.get()).token
            await asyncio.gather(*(calls(pico)[name]() for _ in range(5)), return_exceptions=True)

    assert reporting.events.count("CallEnded") >= 6
    assert reporting.events.count("SlotGranted") > reporting.events.count("CallStarted"), "a connection opened late"
    assert reporting.shown == set()


async def test_no_result_of_a_bulk_send() -> None:
    """No reporter shows a secret of the errors that the results hold, nor of the error that the report raises."""
    results: list[SendResult] = []

    async with session(by_httpx, FaultRule(Fault.BAD_REQUEST)) as (pico, _):
        report = await pico.send_bulk([SmsMessage(secret["number"], secret["text"])], on_result=results.append)
    (result,) = results
    assert result.error is not None
    with pytest.raises(PicoError) as raised:
        report.raise_for_failures()

    assert_nothing_shown(result.error)
    assert_nothing_shown(raised.value)


class FailingLock(LocalSeenReceipts):
    """A store of seen receipts that cannot lock."""

    def lock(self, callback_id: str) -> Any:
        raise RuntimeError("the lock failed")


def broken_receipt(receipt: DeliveryReceipt) -> None:
    raise ValueError("the caller's own fault")


FAULTS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "on_receipt": lambda *_: {"on_receipt": broken_receipt},
    "the lock": lambda *_: {"seen_receipts": FailingLock()},
    "no Redis": lambda *_: {"seen_receipts": RedisSeenReceipts.from_url(f"redis://:{secret['redis']}@127.0.0.1:1")},
    "a password that Redis does not take": lambda folder, redis_url: {
        "seen_receipts": RedisSeenReceipts.from_url(redis_url, username="me", password=secret["redis"])
    },
    "a damaged journal": lambda folder, _: {"journal": SqliteJournal(folder / "damaged.db")},
}


@pytest.mark.parametrize("name", FAULTS)
async def test_no_record_of_a_receipt_that_fails(
    name: str, tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No reporter that listens to the log shows a secret of a receipt that is asked for again."""
    (tmp_path / "damaged.db").write_bytes(b"damaged" * 1000)

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps({"status": "DELIVRD", "to": secret["number"], "text": secret["text"]}).encode()

    signer = CallbackSigner([secret["signing"]])
    url = urlsplit(signer.sign("https://shop.example/receipts", secret["number"]))
    secret["signature"] = url.query[-40:]
    verdict = await ReceiptHandler(signer, **FAULTS[name](tmp_path, redis_url)).handle(
        "POST", url.path, url.query, body()
    )

    assert verdict is ReceiptVerdict.FAILED
    (error,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert error is not None
    assert_nothing_shown(error)
    assert secret.found_in(caplog.text) == []
    assert (name == "on_receipt") == ("broken_receipt" in caplog.text)


async def test_no_record_of_a_listener_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """No reporter that listens to the log shows a secret of a call whose listener fails, and the listener is named."""

    def broken_listener(event: object) -> None:
        raise ValueError("the caller's own fault")

    sandbox = Sandbox(api_key=secret["key"])
    async with PicoSession(
        username=sandbox.username,
        api_key=secret["key"],
        sender="PICO",
        transport=sandbox.transport(),
        on_event=broken_listener,
    ) as pico:
        await pico.sms.send(secret["number"], secret["text"])

    (error,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert error is not None
    assert_nothing_shown(error)
    assert "broken_listener" in caplog.text
    assert "observer.py" not in caplog.text.partition("Traceback")[2]


VALUES = {
    "SmsMessage": lambda: SmsMessage(secret["number"], secret["text"], key=secret["number"]),
    "MmsMessage": lambda: MmsMessage(secret["number"], "https://shop.example/735914", text=secret["text"]),
    "VoiceMessage": lambda: VoiceMessage(secret["number"], secret["text"]),
    "UserToken": lambda: UserToken(secret["key"], extra={"number": secret["number"]}),
    "Template": lambda: Template("7", content=secret["text"]),
    "SendResult": lambda: SendResult(
        index=0, message=SmsMessage(secret["number"], secret["text"]), outcome=Outcome.ACCEPTED
    ),
    "SignedCallback": lambda: SignedCallback(id="x", key=secret["number"], expires_at=0),
    "DeliveryReceipt": lambda: DeliveryReceipt.parse(query=f"to={secret['number']}&text={secret['text']}"),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_no_value_in_the_callers_own_frame(make: Callable[[], object]) -> None:
    """No reporter looks into a value that stands in the caller's frame, where its repr masks a field."""

    def fail(value: object) -> None:
        raise ValueError("the caller's own fault")

    with pytest.raises(ValueError) as raised:
        fail(make())

    assert_nothing_shown(raised.value)


async def test_a_fault_of_the_package_names_its_place() -> None:
    """An unforeseen error keeps the file and the line where it arose, although its frames are gone."""
    with pytest.raises(TypeError) as raised:
        DeliveryReceipt.parse(body=7)  # type: ignore[arg-type]

    assert "receipt.py" in "".join(raised.value.__notes__)
    assert_nothing_shown(raised.value)
