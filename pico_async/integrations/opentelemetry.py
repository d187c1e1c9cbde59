"""
Spans and metrics through OpenTelemetry: a listener for `on_event`.

    async with PicoSession(on_event=OpenTelemetry()) as pico: ...

One listener serves any number of sessions. Spans:

    sms.send, token.get, …   CLIENT, one for each call: the wait for its slot, and all attempts
      attempt                event: one exchange, with its outcome
      retry                  event: another attempt follows
      rate refused           event
    blast                    INTERNAL, one for each blast, with its totals

Metrics:

    pico.client.calls               {call}         by pico.operation, pico.outcome, error.type
    pico.client.retries             {retry}        by pico.operation, error.type (the reason)
    pico.client.rate_refusals       {refusal}      by pico.operation, pico.rate_group
    pico.client.token_refreshes     {refresh}
    pico.client.slot.wait           s              by pico.operation, pico.rate_group: of each granted slot
    pico.client.limiter.rate        {request}/s    by pico.rate_group, server.address: at the last granted slot
    http.client.request.duration    s              by the attributes of HTTP, and pico.operation: of each exchange

HTTP's attributes and metric follow the stable semantic conventions, except `url.full`, which would contain the account.
`error.type` is the name of the error's class. No attribute contains a number, a text or a key.

`traceparent` is not sent to Pico: v0.4 does not document it, and it would show Pico which requests belong to one user.
So the instrumentations of httpx and aiohttp skip a session's requests.

Needs the extra: `pip install 'pico-async[otel]'`.
"""

from __future__ import annotations

try:
    import opentelemetry.context as contexts
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider, get_tracer, set_span_in_context
except ImportError as _error:
    raise ImportError(
        "pico_async.integrations.opentelemetry needs opentelemetry-api: pip install 'pico-async[otel]'"
    ) from _error

from contextvars import Token
from typing import Any

from attrs import frozen

from pico_async._version import __version__
from pico_async.events import (
    AttemptEnded,
    BlastEnded,
    BlastStarted,
    CallEnded,
    CallStarted,
    Event,
    RateRefused,
    Retrying,
    SlotGranted,
    TokenRefreshed,
)

# The buckets that the conventions recommend for this metric.
_EXCHANGE_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# A slot is granted every 34 ms, and a blast has 64 messages in flight, so most waits are at most two seconds. A pause
# after a refusal, or a queue, takes longer.
_WAIT_S = (0.005, 0.01, 0.035, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# The instrumentations of httpx and aiohttp read it. The function that sets it is in a package that only they need.
_SKIP_INSTRUMENTATION: str = contexts._SUPPRESS_HTTP_INSTRUMENTATION_KEY
_BLAST_ATTRIBUTES = (
    *("total", "accepted", "rejected", "not_sent", "in_doubt", "skipped", "suppressed"),
    *("rate", "ended_early"),
)


@frozen
class _OpenCall:
    """A call that has not ended, with the attributes of HTTP that all its exchanges share."""

    span: Span
    http: dict[str, Any]
    rate_group: str
    attached: Token[Context]


class OpenTelemetry:
    """
    A listener that turns a session's events into spans and metrics.

    A call's span is a child of the caller's span, and the current span during the call. Each call of a blast begins a
    trace of its own and links to the blast's span. A trace of a million spans is not usable, and a sampler could only
    keep or drop all of it.

    Args:
        tracer_provider: The provider of spans; the global one if None.
        meter_provider: The provider of metrics; the global one if None.
        blast_as_one_trace: Make the calls of a blast children of the blast's span instead.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        blast_as_one_trace: bool = False,
    ) -> None:
        self._tracer = get_tracer("pico_async", __version__, tracer_provider)
        self._blast_as_one_trace = blast_as_one_trace
        self._calls: dict[int, _OpenCall] = {}
        self._blasts: dict[int, Span] = {}
        meter = get_meter("pico_async", __version__, meter_provider)
        self._ended = meter.create_counter("pico.client.calls", "{call}", "Calls that ended, by their outcome.")
        self._retries = meter.create_counter("pico.client.retries", "{retry}", "Attempts that were repeated, and why.")
        self._refusals = meter.create_counter(
            "pico.client.rate_refusals", "{refusal}", "Requests that Pico refused because they came too fast."
        )
        self._refreshes = meter.create_counter("pico.client.token_refreshes", "{refresh}", "Tokens that were fetched.")
        self._rate = meter.create_gauge(
            "pico.client.limiter.rate",
            "{request}/s",
            "Requests a second that the limiter admits, at the last slot.",
        )
        self._waits = meter.create_histogram(
            "pico.client.slot.wait",
            "s",
            "Waits of calls for slots of the limiter: one for each call, however many attempts it took.",
            explicit_bucket_boundaries_advisory=_WAIT_S,
        )
        self._exchanges = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_EXCHANGE_S,
        )

    def __call__(self, event: Event) -> None:
        """Record one event."""
        match event:
            case CallStarted():
                self._begin(event)
            case SlotGranted():
                if event.pace is not None:
                    host = self._calls[event.call].http["server.address"]
                    self._rate.set(event.pace, {"pico.rate_group": event.rate_group, "server.address": host})
            case AttemptEnded():
                self._end_attempt(event)
            case Retrying():
                attributes = {"pico.operation": event.operation, "error.type": event.reason}
                self._retries.add(1, attributes)
                self._calls[event.call].span.add_event("retry", {**attributes, "pico.delay_s": event.delay_s})
            case RateRefused():
                self._refusals.add(1, {"pico.operation": event.operation, "pico.rate_group": event.rate_group})
                self._calls[event.call].span.add_event("rate refused")
            case TokenRefreshed():
                self._refreshes.add(1)
            case CallEnded():
                self._end(event)
            case BlastStarted():
                self._blasts[event.blast] = span = self._tracer.start_span(
                    "blast", attributes={"pico.blast.concurrency": event.concurrency}
                )
                # Never detached: the session calls this in a context that only the blast's tasks use.
                contexts.attach(set_span_in_context(span))
            case BlastEnded():
                span = self._blasts.pop(event.blast)
                span.set_attributes({f"pico.blast.{name}": getattr(event, name) for name in _BLAST_ATTRIBUTES})
                if event.ended_early:
                    span.set_status(StatusCode.ERROR)
                span.end()

    def _begin(self, event: CallStarted) -> None:
        http: dict[str, Any] = {
            "http.request.method": event.method,
            "server.address": event.host,
            "server.port": event.port,
            "pico.operation": event.operation,
        }
        attributes = {**http, "pico.rate_group": event.rate_group}
        blast = None if event.blast is None or self._blast_as_one_trace else self._blasts[event.blast]
        if blast is None:
            span = self._tracer.start_span(event.operation, kind=SpanKind.CLIENT, attributes=attributes)
        else:
            span = self._tracer.start_span(
                event.operation,
                context=Context(),
                kind=SpanKind.CLIENT,
                attributes=attributes,
                links=[Link(blast.get_span_context())],
            )
        within = contexts.set_value(_SKIP_INSTRUMENTATION, True, set_span_in_context(span))
        self._calls[event.call] = _OpenCall(span, http, event.rate_group, contexts.attach(within))

    def _end_attempt(self, event: AttemptEnded) -> None:
        call = self._calls[event.call]
        reply = _known({"http.response.status_code": event.status_code, "error.type": event.error})
        self._exchanges.record(event.duration_s, {**call.http, **reply})
        call.span.add_event(
            "attempt",
            {
                **reply,
                "pico.attempt": event.attempt,
                "pico.outcome": event.outcome.value,
                "pico.duration_s": event.duration_s,
            },
        )

    def _end(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call)
        contexts.detach(call.attached)
        outcome = _known({"pico.outcome": event.outcome.value, "error.type": event.error})
        self._ended.add(1, {"pico.operation": event.operation, **outcome})
        self._waits.record(event.waited_s, {"pico.operation": event.operation, "pico.rate_group": call.rate_group})
        call.span.set_attributes(
            {
                **outcome,
                **_known({"http.response.status_code": event.status_code, "pico.request_id": event.request_id}),
                "pico.attempts": event.attempts,
                "pico.waited_s": event.waited_s,
            }
        )
        if event.error is not None:
            call.span.set_status(StatusCode.ERROR)
        call.span.end()


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
