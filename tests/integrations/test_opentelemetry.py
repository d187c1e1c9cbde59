"""The real OpenTelemetry SDK records spans and metrics of sends that go over sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from attrs import field, frozen
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from pico_async import NoResponseError, PicoSession, Priority, RateLimitError, Rates, SmsMessage
from pico_async.coordination.rates import RateGroup
from pico_async.integrations.opentelemetry import OpenTelemetry
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.support.waiting import PATIENCE_S, until
from tests.support.watched_slots import watch_slots

pytestmark = pytest.mark.lower_bounds

TO = "8612345678901"
UNLIMITED = Rates(sms=None, token=None, balance=None)


@frozen
class Telemetry:
    """The listener, its tracer provider, and the spans and metrics that were exported."""

    listener: OpenTelemetry
    traces: TracerProvider
    exported: InMemorySpanExporter = field(repr=False)
    reader: InMemoryMetricReader = field(repr=False)

    @contextmanager
    def span(self, name: str) -> Iterator[Any]:
        """Start a span of the caller."""
        with self.traces.get_tracer("app").start_as_current_span(name) as span:
            yield span

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exported.get_finished_spans() if span.name == name]

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Return the points of a metric by their attributes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            tuple(sorted((point.attributes or {}).items())): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def counted(self, name: str) -> dict[tuple[Any, ...], int]:
        """Return the values of a counter by the values of its attributes."""
        return {tuple(value for _, value in key): point.value for key, point in self.points(name).items()}


def telemetry_of(**settings: Any) -> Telemetry:
    exported, reader, traces = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exported))
    listener = OpenTelemetry(traces, MeterProvider([reader]), **settings)
    return Telemetry(listener, traces, exported, reader)


@pytest.fixture
def telemetry() -> Telemetry:
    return telemetry_of()


@asynccontextmanager
async def session(telemetry: Telemetry, sandbox: Sandbox, **settings: Any) -> AsyncIterator[PicoSession]:
    settings = {"rates": UNLIMITED, "timeout": PATIENCE_S, **settings}
    async with (
        sandbox.serve() as base_url,
        PicoSession(
            username=sandbox.username,
            api_key=sandbox.api_key,
            sender="PICO",
            base_url=base_url,
            on_event=telemetry.listener,
            **settings,
        ) as pico,
    ):
        yield pico


def names(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


async def test_a_send_is_a_client_span_below_its_caller_s(telemetry: Telemetry) -> None:
    """
    A send is a client span below its caller's span, and its token request is a span below the send. The HTTP attributes
    have their standard names.
    """
    async with session(telemetry, Sandbox()) as pico:
        with telemetry.span("request") as caller:
            accepted = await pico.sms.send(TO, "hello")
            assert get_current_span() is caller

    (send,), (token,) = telemetry.spans("sms.send"), telemetry.spans("token.get")
    assert send.kind is token.kind is SpanKind.CLIENT
    assert send.parent == caller.get_span_context()
    assert token.parent == send.context
    attributes = dict(send.attributes or {})
    assert isinstance(attributes.pop("server.port"), int)
    assert attributes.pop("pico.waited_s") >= 0.0
    assert attributes == {
        "pico.operation": "sms.send",
        "pico.rate_group": "sms",
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
        "pico.outcome": "accepted",
        "pico.attempts": 1,
        "pico.request_id": accepted.request_id,
    }
    assert send.status.status_code is StatusCode.UNSET
    assert names(send) == ["attempt"]


@pytest.mark.virtual_time
async def test_retries_and_refusals_are_events_of_the_span_and_are_counted(telemetry: Telemetry) -> None:
    """Attempts, retries and rate refusals are events of the span, with each attempt's status code, and are counted."""
    sandbox = Sandbox(rate_rule=None, faults=[FaultRule(Fault.RATE_LIMITED, times=1)])

    async with session(telemetry, sandbox, retries=2) as pico:
        await pico.sms.send(TO, "hello")
        sandbox.inject(FaultRule(Fault.STALE_TOKEN, times=1))
        await pico.sms.send(TO, "hello again")

    first, second = telemetry.spans("sms.send")
    assert names(first) == ["attempt", "rate refused", "retry", "attempt"]
    assert [dict(event.attributes or {}).get("http.response.status_code") for event in first.events] == [
        *(429, None, None, 200),
    ]
    assert names(second) == ["attempt", "retry", "attempt"]
    assert telemetry.counted("pico.client.retries") == {
        ("RateLimitError", "sms.send"): 1,
        ("StaleToken", "sms.send"): 1,
    }
    assert telemetry.counted("pico.client.rate_refusals") == {("sms.send", "sms"): 1}
    assert telemetry.counted("pico.client.token_refreshes") == {(): 2}
    assert telemetry.counted("pico.client.calls") == {("sms.send", "accepted"): 2, ("token.get", "accepted"): 2}
    wait = telemetry.points("pico.client.slot.wait")[("pico.operation", "sms.send"), ("pico.rate_group", "sms")]
    assert wait.count == 2  # once for each call, however many attempts it took
    assert wait.max > 0.2, "the pause after the refusal"


async def test_what_fails_has_its_class_as_error_type(telemetry: Telemetry) -> None:
    """A call that ends in doubt or rejected has its outcome and, as `error.type`, the class of its error."""
    async with session(telemetry, Sandbox(), retries=0) as pico:
        with pytest.raises(NoResponseError):
            await pico.sms.send(Fault.ACCEPT_THEN_DROP.magic_number, "hello")
        with pytest.raises(RateLimitError):
            await pico.sms.send(Fault.RATE_LIMITED.magic_number, "hello")

    doubtful, refused = (dict(span.attributes or {}) for span in telemetry.spans("sms.send"))
    assert (doubtful["pico.outcome"], doubtful["error.type"]) == ("in_doubt", "NoResponseError")
    assert "http.response.status_code" not in doubtful
    assert (refused["pico.outcome"], refused["error.type"]) == ("rejected", "RateLimitError")
    assert refused["http.response.status_code"] == 429
    assert {span.status.status_code for span in telemetry.spans("sms.send")} == {StatusCode.ERROR}
    calls = telemetry.counted("pico.client.calls")
    assert calls["NoResponseError", "sms.send", "in_doubt"] == calls["RateLimitError", "sms.send", "rejected"] == 1


async def test_a_cancelled_call_ends_its_span_and_gives_the_context_back(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A cancelled call ends its span: in doubt during its exchange, not sent before its slot. The caller's span is current
    again.
    """
    sandbox = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_HANG, delay_s=3600.0)])
    asked = 0

    async def count(rate_group: RateGroup, priority: Priority) -> None:
        nonlocal asked
        asked += rate_group is RateGroup.SMS

    async def in_its_exchange() -> None:
        await until(lambda: sandbox.ledger.accepted)

    async def before_its_slot() -> None:
        await until(lambda: asked == 2)
        await asyncio.sleep(0.2)

    async def end(call: asyncio.Timeout, when: Callable[[], Awaitable[None]]) -> None:
        await when()
        call.reschedule(asyncio.get_running_loop().time())

    async with session(telemetry, sandbox, rates=Rates(sms=0.01)) as pico, asyncio.TaskGroup() as tasks:
        watch_slots(monkeypatch, pico, count)
        await pico.token.ensure()
        for when in (in_its_exchange, before_its_slot):
            with telemetry.span("request") as caller:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(None) as call:
                        tasks.create_task(end(call, when))
                        await pico.sms.send(TO, "hello")
                assert get_current_span() is caller

    sends = [dict(span.attributes or {}) for span in telemetry.spans("sms.send")]
    assert [(span["pico.outcome"], span["error.type"], span["pico.attempts"]) for span in sends] == [
        ("in_doubt", "CancelledError", 1),
        ("not_sent", "CancelledError", 0),
    ]
    assert sends[1]["pico.waited_s"] > 0.1


@pytest.mark.parametrize("one_trace", [False, True], ids=["linked", "one trace"])
async def test_the_calls_of_a_blast_are_linked_to_its_span_or_below_it(one_trace: bool) -> None:
    """
    The calls of a bulk send are linked to its span, or below it in one trace. The span has its caller's span as its
    parent, and the totals.
    """
    telemetry = telemetry_of(blast_as_one_trace=one_trace)
    seen = []

    async def messages() -> AsyncIterator[SmsMessage]:
        for number in range(80):
            seen.append(get_current_span())
            yield SmsMessage(TO, f"hello {number}")

    async with session(telemetry, Sandbox(rate_rule=None, seed=5, fault_rate=0.2)) as pico:
        with telemetry.span("request") as caller:
            async with pico.stream_bulk(messages(), concurrency=64) as results:
                async for _ in results:
                    assert get_current_span() is caller, "the blast's span is its tasks' alone"

    report = results.report
    assert report.in_doubt
    (blast,), sends = telemetry.spans("blast"), telemetry.spans("sms.send")
    assert blast.parent == caller.get_span_context()
    assert len(sends) == 80
    assert {span.get_span_context().span_id for span in seen} == {blast.context.span_id}, (
        "who reads the input does so in the blast"
    )
    if one_trace:
        assert all(span.parent == blast.context and not span.links for span in sends)
    else:
        assert all(span.parent is None and span.links[0].context == blast.context for span in sends)
        assert len({span.context.trace_id for span in (blast, *sends)}) == 81
    totals = {name.removeprefix("pico.blast."): value for name, value in (blast.attributes or {}).items()}
    assert (totals["total"], totals["accepted"]) == (report.total, report.accepted)
    assert (totals["in_doubt"], totals["ended_early"]) == (report.in_doubt, False)
    outcomes = Counter((span.attributes or {})["pico.outcome"] for span in sends)
    assert outcomes["accepted"] == report.accepted
    counted = Counter[Any]()
    for attributes, point in telemetry.points("pico.client.calls").items():
        if dict(attributes)["pico.operation"] == "sms.send":
            counted[dict(attributes)["pico.outcome"]] += point.value
    assert counted == outcomes


async def test_two_sessions_at_once_do_not_mix_their_spans(telemetry: Telemetry) -> None:
    """When one listener serves two sessions, each send is below the span of its own caller."""
    parents = {}

    async def handle(pico: PicoSession, name: str) -> None:
        with telemetry.span(name) as caller:
            parents[name] = caller.get_span_context().span_id
            for number in range(5):
                await pico.sms.send(TO, f"{name} {number}")

    async with session(telemetry, Sandbox(username="one")) as one, session(telemetry, Sandbox(username="two")) as two:
        await asyncio.gather(handle(one, "one"), handle(two, "two"), handle(one, "three"))

    below = Counter(span.parent and span.parent.span_id for span in telemetry.spans("sms.send"))
    assert below == dict.fromkeys(parents.values(), 5)


async def test_the_exchanges_and_the_pace_are_measured(telemetry: Telemetry) -> None:
    """Each exchange is measured in seconds, in the buckets of the conventions, and the current rate is reported."""
    async with session(telemetry, Sandbox(latency_s=0.06), rates=Rates(sms=30)) as pico:
        for number in range(3):
            await pico.sms.send(TO, f"hello {number}")

    # Read the gauge first: an older SDK reports it once, and each call of `points` is a collection.
    paces = {
        dict(key)["pico.rate_group"]: point.value for key, point in telemetry.points("pico.client.limiter.rate").items()
    }
    exchanges = {
        dict(key)["pico.operation"]: (dict(key), point)
        for key, point in telemetry.points("http.client.request.duration").items()
    }
    attributes, point = exchanges["sms.send"]
    assert (attributes["http.request.method"], attributes["http.response.status_code"]) == ("POST", 200)
    assert point.count == 3
    assert 0.05 <= point.min <= point.max
    assert point.explicit_bounds[0] == 0.005
    assert 28.0 < paces["sms"] < 30.0


async def test_no_traceparent_goes_to_pico() -> None:
    """
    No `traceparent` header is sent to Pico, not even where httpx is instrumented; without the listener, one is sent.
    """
    telemetry, heads = telemetry_of(), list[bytes]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            heads.append(head)
            body = json.dumps({"token": "t-1", "request_id": "r-1"}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    account: dict[str, Any] = {"username": "u", "api_key": "k", "sender": "s", "base_url": address, "rates": UNLIMITED}
    account["timeout"] = PATIENCE_S
    HTTPXClientInstrumentor().instrument(tracer_provider=telemetry.traces)
    try:
        with telemetry.span("request"):
            async with PicoSession(**account, on_event=telemetry.listener) as pico:
                await pico.sms.send(TO, "hello")
                await pico.send_bulk([SmsMessage(TO, "hello again")])
            with_listener = list(heads)
            async with PicoSession(**account) as pico:
                await pico.sms.send(TO, "hello")
            async with httpx.AsyncClient(verify=False, timeout=PATIENCE_S) as client:
                await client.get(address)
    finally:
        HTTPXClientInstrumentor().uninstrument()
        server.close()
        await server.wait_closed()

    assert len(with_listener) == 3
    assert not [head for head in with_listener if b"traceparent" in head.lower()]
    assert b"traceparent" in heads[-1].lower(), "the instrumentation works"
    assert b"traceparent" in heads[-2].lower(), "and reaches a session's own connections"


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b": 0")
    await reader.readexactly(int(length.partition(b":")[2]))
    return head


WITHOUT_AN_SDK = """
import asyncio, sys
sys.modules["opentelemetry.sdk"] = None
from pico_async import PicoSession, SmsMessage
from pico_async.integrations.opentelemetry import OpenTelemetry
from pico_async.sandbox import Sandbox


async def main():
    sandbox = Sandbox(rate_rule=None)
    account = {"username": sandbox.username, "api_key": sandbox.api_key, "sender": "8612345678888"}
    async with PicoSession(transport=sandbox.transport(), on_event=OpenTelemetry(), **account) as pico:
        await pico.sms.send("8612345678901", "hello")
        await pico.send_bulk(SmsMessage("8612345678901", f"{n}") for n in range(3))
    print(len(sandbox.ledger.accepted))


asyncio.run(main())
"""


def test_without_an_sdk_it_harms_nothing() -> None:
    """
    Where only OpenTelemetry's API is installed, as by the extra, sends succeed with the listener.

    The listener raises no error, which the session would log.
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_AN_SDK], capture_output=True, text=True, check=False
    )

    assert (ran.stdout, ran.stderr) == ("4\n", "")
