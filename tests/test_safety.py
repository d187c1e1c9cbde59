"""No log, error, repr, traceback, event, span or metric contains a key, a token, a message text or a whole number."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pico_async import Event, PicoError, PicoSession, Rates, SendResult, SmsMessage
from pico_async.integrations.opentelemetry import OpenTelemetry
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.support.clock_jump import LONG_S, jump_when

KEY = "k3y-THAT-NOBODY-MAY-SEE-0123456789"
NUMBER = "8612345678901"
TEXT = "Your verification code is 735914 and nobody else's"
NAME = f"order-for-{NUMBER}"
CALLBACK = "https://shop.example/receipts?signature=S1GNED-THAT-NOBODY-MAY-SEE"


class Everything(logging.Handler):
    """A handler that keeps each record of every logger as a line."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {self.format(record)}")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, root, before = Everything(), logging.getLogger(), logging.getLogger().level
    own, own_before = logging.getLogger("pico_async"), logging.getLogger("pico_async").level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(before)
    own.setLevel(own_before)  # `PICO_LOG` sets it


@asynccontextmanager
async def session(
    sandbox: Sandbox, base_url: str = "http://127.0.0.1", **settings: Any
) -> AsyncIterator[tuple[PicoSession, list[str]]]:
    async with PicoSession(
        username="user333",
        api_key=KEY,
        sender="PICO",
        base_url=base_url,
        timeout=LONG_S,
        retries=1,
        rates=Rates(sms=None),
        **settings,
    ) as pico:
        yield pico, [KEY, NUMBER, TEXT, "735914", "S1GNED", (await pico.token.get()).token]


def told(error: BaseException) -> Iterator[str]:
    """Yield all texts that an error and its chain can show, with the local variables of the package's frames."""
    yield repr(error)
    yield str(error)
    yield repr(getattr(error, "__dict__", {}))
    yield pickle.dumps(error).decode("latin-1")
    yield "".join(traceback.format_exception(error))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        # The caller's frames and the method that received the text necessarily contain it.
        if "pico_async/_engine" in frame.f_code.co_filename or "pico_async/bulk" in frame.f_code.co_filename:
            yield repr(frame.f_locals)
    assert error.__cause__ is None
    assert error.__context__ is None or isinstance(error.__context__, asyncio.CancelledError)


@pytest.mark.parametrize("fault", list(Fault), ids=[fault.value for fault in Fault])
async def test_no_fault_makes_anybody_talk(fault: Fault, logged: list[str]) -> None:
    """For each fault, with httpx and httpcore at DEBUG, neither the logs nor the error show a secret."""
    sandbox = Sandbox(api_key=KEY, rate_rule=None, faults=[FaultRule(fault, delay_s=3600.0)])

    async with (
        sandbox.serve() as base_url,
        session(sandbox, base_url) as (pico, secrets),
        asyncio.TaskGroup() as tasks,
    ):
        if fault in (Fault.ACCEPT_THEN_HANG, Fault.HANG_BEFORE_ACCEPT):
            tasks.create_task(jump_when(lambda: sandbox.ledger.arrivals[-1].fault))
        shown = [repr(pico)]
        try:
            shown.append(repr(await pico.sms.send(NUMBER, TEXT)))
        except PicoError as error:
            shown += told(error)

    for secret in secrets:
        assert not [line for line in shown if secret in line]
        assert not [line for line in logged if secret in line]
    assert any("httpcore" in line for line in logged), "the logs were listened to"


@pytest.mark.virtual_time
@pytest.mark.parametrize("fault", list(Fault), ids=[fault.value for fault in Fault])
async def test_no_fault_makes_telemetry_talk(
    fault: Fault, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """
    For each fault, `PICO_LOG=debug`, events, spans and metrics show no secret, in a single send and in a bulk send.
    """
    monkeypatch.setenv("PICO_LOG", "debug")
    monkeypatch.setattr(logging.getLogger("pico_async"), "handlers", [])
    sandbox, events = Sandbox(api_key=KEY, rate_rule=None, faults=[FaultRule(fault, delay_s=3600.0)]), list[Event]()
    spans, metrics, traces = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    listeners = [events.append, OpenTelemetry(traces, MeterProvider([metrics]))]
    message = SmsMessage(NUMBER, TEXT, key=NAME, callback=CALLBACK)

    async with session(sandbox, transport=sandbox.transport(), on_event=listeners) as (pico, secrets):
        with suppress(PicoError):
            await pico.send(message)
        await pico.send_bulk([message], outage_s=0)

    exported = [span.to_json() for span in spans.get_finished_spans()]
    data = metrics.get_metrics_data()
    assert data is not None
    written = capsys.readouterr().err
    shown = [*map(repr, events), *(repr(attrs.asdict(event)) for event in events), *exported, data.to_json(), written]
    for secret in secrets:
        assert not [line for line in shown if secret in line]
        assert not [line for line in logged if secret in line]
    assert sum('"name": "sms.send"' in span for span in exported) == 2
    assert "pico.client.calls" in data.to_json()
    assert "call" in written
    assert "BlastEnded" in shown[len(events) - 1]


@pytest.mark.parametrize(
    "reply",
    [
        {"errors": [f"to {NUMBER} may not get '{TEXT}'", f"+{NUMBER[:2]} {NUMBER[2:]}"], "request_id": "r"},
        {"errors": ["is 735914 a code?", f"key {KEY}", "Bearer TOKEN-THAT-NOBODY-MAY-SEE"]},
        {"code": 500, "msg": f"{TEXT} {KEY} TOKEN-THAT-NOBODY-MAY-SEE"},
        {"code": f"{KEY}", "msg": "odd"},
        {"errors": [f"no such callback: {CALLBACK}"], "request_id": CALLBACK},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_what_pico_echoes_is_not_repeated(reply: dict[str, object], status: int) -> None:
    """When Pico's reply repeats private values of the request, the error does not repeat them."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(200, json={"token": "TOKEN-THAT-NOBODY-MAY-SEE"})
        return httpx.Response(status, json=reply)

    async with PicoSession(
        username="user333", api_key=KEY, sender="PICO", transport=httpx.MockTransport(answer), retries=0
    ) as pico:
        with pytest.raises(PicoError) as raised:
            await pico.sms.send(NUMBER, TEXT, callback=CALLBACK)

    for secret in (KEY, "S1GNED", NUMBER, TEXT, "735914", "TOKEN-THAT-NOBODY-MAY-SEE"):
        assert not [line for line in told(raised.value) if secret in line]


async def test_a_blast_s_results_and_report_show_nothing() -> None:
    """The results and the report of a bulk send show no secret, whether messages were accepted or failed."""
    sandbox = Sandbox(api_key=KEY, rate_rule=None, seed=1, fault_rate=0.5)
    results: list[SendResult] = []

    async with sandbox.serve() as base_url, session(sandbox, base_url) as (pico, secrets):
        report = await pico.send_bulk(
            (SmsMessage(NUMBER, f"{TEXT} {n}", key=f"order for {NUMBER}") for n in range(40)), on_result=results.append
        )

    assert report.in_doubt
    assert report.accepted
    shown = [repr(report), *map(repr, results), *(str(result.error) for result in results)]
    for secret in secrets:
        assert not [line for line in shown if secret in line]
