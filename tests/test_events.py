"""A session emits all its events in order and with true values, and no event contains private values."""

from __future__ import annotations

import asyncio
import gc
import logging
import operator
import time
import typing
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
import pytest

from pico_async import (
    AttemptEnded,
    AttemptStarted,
    BlastEnded,
    BlastStarted,
    CallEnded,
    CallStarted,
    ConfigurationError,
    Event,
    InvalidMessageError,
    LocalCoordinator,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoError,
    PicoSession,
    Priority,
    RateLimitError,
    RateRefused,
    Rates,
    Retrying,
    SlotGranted,
    SmsMessage,
    TokenRefreshed,
)
from pico_async._engine.endpoints import SEND_SMS, Request
from pico_async._engine.http.exchange import Departure
from pico_async._engine.progress import CallEvents, CallProgress, Observer
from pico_async.sandbox import Fault, FaultRule, Sandbox
from pico_async.sandbox.faults import DRAWN_FAULTS
from tests.support.clock_jump import LONG_S, jump_when
from tests.support.endpoints import ENDPOINTS
from tests.support.waiting import until

TO = "8612345678901"
UNLIMITED = Rates(sms=None, token=None, balance=None)
Kind = TypeVar("Kind")


def session(sandbox: Sandbox, on_event: Any, base_url: str | None = None, **settings: Any) -> PicoSession:
    """Make a session that uses the sandbox in this process, or at *base_url* over a socket."""
    where: dict[str, Any] = {"transport": sandbox.transport()} if base_url is None else {"base_url": base_url}
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="PICO",
        on_event=on_event,
        **{"rates": UNLIMITED, **where, **settings},
    )


def only(events: list[Event], kind: type[Kind], operation: str = "sms.send") -> list[Kind]:
    return [
        event for event in events if isinstance(event, kind) and getattr(event, "operation", operation) == operation
    ]


def names(events: list[Event], operation: str = "sms.send") -> list[str]:
    return [type(event).__name__ for event in events if getattr(event, "operation", None) == operation]


@pytest.mark.virtual_time
async def test_a_send_emits_events_from_its_beginning_to_its_end() -> None:
    """A send emits events from its start to its end. The token request is a separate call within the send."""
    sandbox, events = Sandbox(), list[Event]()

    async with session(sandbox, events.append, base_url="http://127.0.0.1:81", transport=sandbox.transport()) as pico:
        accepted = await pico.sms.send(TO, "hello")

    assert [type(event).__name__ for event in events] == [
        "CallStarted",
        *("CallStarted", "SlotGranted", "AttemptStarted", "AttemptEnded", "TokenRefreshed", "CallEnded"),
        *("SlotGranted", "AttemptStarted", "AttemptEnded", "CallEnded"),
    ]
    send, token = events[0], events[1]
    assert isinstance(send, CallStarted)
    assert isinstance(token, CallStarted)
    assert events[0] == CallStarted(
        call=send.call, blast=None, operation="sms.send", rate_group="sms", method="POST", host="127.0.0.1", port=81
    )
    assert {event.call for event in events[1:7]} == {token.call}  # type: ignore[union-attr]
    ended = events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.call, ended.outcome, ended.status_code, ended.error) == (send.call, Outcome.ACCEPTED, 200, None)
    assert (ended.attempts, ended.request_id) == (1, accepted.request_id)


@pytest.mark.virtual_time
async def test_waits_and_durations_are_those_of_the_clock() -> None:
    """The wait for the slot, the duration of the exchange and the duration of the call are reported separately."""
    sandbox, events = Sandbox(latency_s=0.25), list[Event]()

    async with session(sandbox, events.append, rates=Rates(sms=2, token=None)) as pico:
        await pico.token.ensure()
        began = time.monotonic()
        await asyncio.gather(*(pico.sms.send(TO, f"hello {n}") for n in range(3)))
        took_s = time.monotonic() - began

    last = max(only(events, SlotGranted), key=lambda turn: turn.waited_s)
    ended = next(event for event in only(events, CallEnded) if event.call == last.call)
    assert last.pace == pico_pace(2)
    assert last.waited_s == pytest.approx(2 / last.pace, abs=0.6)
    assert ended.waited_s == last.waited_s
    assert ended.duration_s == pytest.approx(took_s, abs=0.01)
    for attempt in only(events, AttemptEnded):
        assert attempt.duration_s == pytest.approx(0.25, abs=0.01)
    assert ended.duration_s == pytest.approx(ended.waited_s + 0.25, abs=0.01)


def pico_pace(sms: int) -> float:
    pace = LocalCoordinator(Rates(sms=sms)).limiter(SEND_SMS.rate_group).per_s
    assert pace is not None
    return pace


@pytest.mark.virtual_time
async def test_refusals_and_retries_emit_events_with_their_reason() -> None:
    """Each rate refusal and each retry emits an event with its reason; waits and delays add up to the pauses."""
    sandbox, events = Sandbox(rate_rule=None, faults=[FaultRule(Fault.RATE_LIMITED, times=2)]), list[Event]()

    async with session(sandbox, events.append, retries=2) as pico:
        await pico.sms.send(TO, "hello")

    retries = only(events, Retrying)
    assert [(retry.attempt, retry.reason) for retry in retries] == [(1, "RateLimitError"), (2, "RateLimitError")]
    assert all(0 <= retry.delay_s <= 1.0 for retry in retries)
    assert [refusal.rate_group for refusal in only(events, RateRefused)] == ["sms", "sms"]
    (ended,) = only(events, CallEnded)
    assert (ended.outcome, ended.attempts) == (Outcome.ACCEPTED, 3)
    # Two pauses of one second each, as retry delays or as waits for a slot.
    assert ended.waited_s + sum(retry.delay_s for retry in retries) == pytest.approx(2.0, abs=0.01)
    assert ended.duration_s == pytest.approx(2.0, abs=0.01)


@pytest.mark.virtual_time
async def test_the_wait_that_pico_asked_for_is_in_the_event() -> None:
    """`RateRefused` reports the wait that Pico asked for, also when the call is not retried."""
    rule = FaultRule(Fault.RATE_LIMITED, retry_after_s=7.0)
    sandbox, events = Sandbox(faults=[rule]), list[Event]()

    async with session(sandbox, events.append, retries=0) as pico:
        with pytest.raises(RateLimitError):
            await pico.sms.send(TO, "hello")

    assert [refusal.retry_after_s for refusal in only(events, RateRefused)] == [7.0]
    assert not only(events, Retrying)
    (ended,) = only(events, CallEnded)
    assert (ended.outcome, ended.error, ended.status_code) == (Outcome.REJECTED, "RateLimitError", 429)


@pytest.mark.virtual_time
async def test_a_stale_token_is_a_retry_and_a_refresh() -> None:
    """When Pico refuses a stale token, the call emits one `Retrying` event and fetches a new token."""
    sandbox, events = Sandbox(rate_rule=None, faults=[FaultRule(Fault.STALE_TOKEN, times=1)]), list[Event]()

    async with session(sandbox, events.append) as pico:
        await pico.sms.send(TO, "hello")

    assert len(only(events, TokenRefreshed)) == 2
    (retry,) = only(events, Retrying)
    assert (retry.reason, retry.delay_s) == ("StaleToken", 0.0)
    first, second = only(events, AttemptEnded)
    assert (first.outcome, first.error, first.status_code) == (Outcome.REJECTED, "StaleToken", 401)
    assert (second.outcome, second.error, second.status_code) == (Outcome.ACCEPTED, None, 200)


@pytest.mark.virtual_time
async def test_an_attempt_without_a_reply_has_no_status() -> None:
    """An attempt without a reply reports no status code, not the status code of the attempt before it."""
    faults = [FaultRule(Fault.RATE_LIMITED, times=1), FaultRule(Fault.ACCEPT_THEN_DROP)]
    sandbox, events = Sandbox(rate_rule=None, faults=faults), list[Event]()

    async with session(sandbox, events.append) as pico:
        with pytest.raises(NoResponseError):
            await pico.sms.send(TO, "hello")

    assert [(event.attempt, event.status_code) for event in only(events, AttemptEnded)] == [(1, 429), (2, None)]


@pytest.mark.parametrize("fault", list(Fault), ids=[fault.value for fault in Fault])
async def test_the_last_event_says_what_the_error_says(fault: Fault) -> None:
    """
    For each fault, `CallEnded` reports the same outcome, class, status code, request ID and attempts as the error.
    """
    sandbox, events = Sandbox(rate_rule=None, faults=[FaultRule(fault, delay_s=3600.0)]), list[Event]()
    raised: PicoError | None = None

    async with (
        sandbox.serve() as base_url,
        session(sandbox, events.append, base_url, timeout=LONG_S, retries=0) as pico,
        asyncio.TaskGroup() as tasks,
    ):
        if fault in (Fault.ACCEPT_THEN_HANG, Fault.HANG_BEFORE_ACCEPT):
            tasks.create_task(jump_when(lambda: [each for each in sandbox.ledger.arrivals if each.fault]))
        try:
            await pico.sms.send(TO, "hello")
        except PicoError as error:
            raised = error

    (ended,) = only(events, CallEnded)
    if raised is None:
        assert fault is Fault.STALE_TOKEN
        assert ended.outcome is Outcome.ACCEPTED
        return
    assert ended.error == type(raised).__name__
    assert ended.outcome is raised.outcome
    assert (ended.status_code, ended.request_id) == (raised.status_code, raised.request_id)
    assert ended.attempts == raised.attempts == 1
    (attempt,) = only(events, AttemptEnded)
    assert (attempt.outcome, attempt.error, attempt.status_code) == (ended.outcome, ended.error, ended.status_code)
    assert names(events)[-1] == "CallEnded"


async def test_a_call_cancelled_on_the_wire_is_in_doubt_and_one_that_waits_is_not_sent() -> None:
    """
    A call that is cancelled during its exchange ends in doubt; a call that is cancelled before its slot ends as not
    sent.
    """
    sandbox, events = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=3600.0)]), list[Event]()

    async with (
        sandbox.serve() as base_url,
        session(sandbox, events.append, base_url, rates=Rates(sms=0.01), timeout=LONG_S) as pico,
    ):
        async with asyncio.TaskGroup() as tasks:
            exchanging = tasks.create_task(pico.sms.send(TO, "one"))
            await until(lambda: sandbox.ledger.accepted)
            waiting = tasks.create_task(pico.sms.send(TO, "two"))
            for _ in range(50):  # on a busy machine one sleep may be over before the task has come to its wait
                await asyncio.sleep(0.001)
            exchanging.cancel()
            waiting.cancel()

    first, second = sorted(only(events, CallEnded), key=lambda event: event.call)
    assert (first.outcome, first.error, first.attempts) == (Outcome.IN_DOUBT, "CancelledError", 1)
    assert (second.outcome, second.error, second.attempts) == (Outcome.NOT_SENT, "CancelledError", 0)
    assert second.waited_s > 0, "the wait for the turn that never came"
    (attempt,) = only(events, AttemptEnded)
    assert (attempt.call, attempt.outcome, attempt.error) == (first.call, Outcome.IN_DOUBT, "CancelledError")


@pytest.mark.virtual_time
async def test_an_expired_message_tells_how_long_it_waited() -> None:
    """A message that expires before its slot reports how long the call waited, and emits no slot or attempt event."""
    sandbox, events = Sandbox(), list[Event]()

    async with session(sandbox, events.append, rates=Rates(sms=0.1, token=None)) as pico:
        await pico.sms.send(TO, "one")
        with pytest.raises(MessageExpiredError):
            await pico.sms.send(TO, "two", expires_in=3.0)

    ended = only(events, CallEnded)[-1]
    assert (ended.outcome, ended.error, ended.attempts) == (Outcome.NOT_SENT, "MessageExpiredError", 0)
    assert ended.waited_s == pytest.approx(3.0, abs=0.01)
    assert names(events)[-2:] == ["CallStarted", "CallEnded"]


@pytest.mark.virtual_time
async def test_calls_that_the_closing_ends_emit_the_error_that_they_raise() -> None:
    """
    When the session closes, `CallEnded` names the error that each call raises, in its exchange or before its slot.
    """
    rule = FaultRule(Fault.ACCEPT_THEN_HANG, times=1, delay_s=3600.0)
    sandbox, events = Sandbox(faults=[rule]), list[Event]()
    pico = session(sandbox, events.append, rates=Rates(sms=1), timeout=0.3)

    calls = [asyncio.create_task(pico.sms.send(TO, f"hello {n}")) for n in range(2)]
    await until(lambda: sandbox.ledger.accepted)
    await pico.aclose()

    raised = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in raised] == [NoResponseError, NotSentError]
    ended = sorted(only(events, CallEnded), key=lambda event: event.call)
    assert [event.error for event in ended] == ["NoResponseError", "NotSentError"]
    assert [event.outcome for event in ended] == [Outcome.IN_DOUBT, Outcome.NOT_SENT]


async def test_the_events_of_a_blast_agree_with_its_report_and_with_the_server() -> None:
    """
    The events of a bulk send with many faults agree with its report and with the requests that the server received.
    """
    # Pico revokes the token three times. Drawn for each message, that would end the bulk send in some of the orders.
    revoked, kinds = FaultRule(Fault.STALE_TOKEN, times=3), [kind for kind in DRAWN_FAULTS if kind != Fault.STALE_TOKEN]
    sandbox = Sandbox(rate_rule=None, seed=3, faults=[revoked], fault_rate=0.3, fault_kinds=kinds)
    events = list[Event]()
    messages = (SmsMessage(TO, f"hello {n}") for n in range(300))

    async with sandbox.serve() as base_url, session(sandbox, events.append, base_url, timeout=LONG_S) as pico:
        report = await pico.send_bulk(messages, concurrency=64)

    assert report.in_doubt
    assert only(events, Retrying)
    began, ended = only(events, CallStarted), only(events, CallEnded)
    assert Counter(event.call for event in began) == Counter(event.call for event in ended)
    assert len(ended) == report.total == 300
    outcomes = Counter(event.outcome for event in ended)
    assert outcomes[Outcome.ACCEPTED] == report.accepted
    assert outcomes[Outcome.IN_DOUBT] == report.in_doubt
    arrived = sum(arrival.operation == "sms.send" for arrival in sandbox.ledger.arrivals)
    assert len(only(events, AttemptStarted)) == len(only(events, AttemptEnded)) == arrived
    assert sum(event.attempts for event in ended) == arrived == 300 + len(only(events, Retrying))
    assert len(only(events, TokenRefreshed)) == sandbox.ledger.token_requests
    (start,), (end,) = only(events, BlastStarted), only(events, BlastEnded)
    assert {event.blast for event in began + ended} == {start.blast} == {end.blast}
    assert {event.blast for event in only(events, CallStarted, "token.get")} == {None}
    assert start.concurrency == 64
    assert (end.total, end.accepted, end.in_doubt) == (report.total, report.accepted, report.in_doubt)
    assert (end.duration_s, end.rate, end.ended_early) == (report.elapsed, report.rate, False)


async def test_a_blast_counts_what_is_no_call(tmp_path: Any) -> None:
    """`BlastEnded` counts bad rows and rows that the journal skips, although no call is made for them."""
    sandbox, events = Sandbox(), list[Event]()
    rows: list[Any] = [SmsMessage(TO, "one"), InvalidMessageError("a bad row"), SmsMessage(TO, "two")]

    async with session(sandbox, events.append) as pico:
        await pico.send_bulk(rows, journal=tmp_path / "blast.db")
        events.clear()
        await pico.send_bulk(rows, journal=tmp_path / "blast.db")

    assert [type(event) for event in events] == [BlastStarted, BlastEnded]
    (ended,) = only(events, BlastEnded)
    assert (ended.total, ended.skipped, ended.not_sent, ended.accepted) == (3, 2, 1, 0)


@pytest.mark.virtual_time
@pytest.mark.parametrize("stopped", ["left", "stop_after", "cancelled"])
async def test_a_blast_that_ends_before_its_input_says_so(stopped: str) -> None:
    """
    A bulk send that ends before its input emits one `BlastEnded` with `ended_early`, after the events of its calls.
    """
    sandbox, events = Sandbox(), list[Event]()
    messages = (SmsMessage(Fault.BAD_REQUEST.magic_number, f"hello {n}") for n in range(1000))

    async with session(sandbox, events.append) as pico:
        if stopped == "left":
            async with pico.stream_bulk(messages, concurrency=4) as results:
                async for _ in results:
                    break
        elif stopped == "stop_after":
            await pico.send_bulk(messages, concurrency=4, stop_after=2)
        else:
            with anyio.move_on_after(0.2):
                await pico.send_bulk(messages, concurrency=4, on_result=lambda _: asyncio.sleep(0.05))

    (ended,) = only(events, BlastEnded)
    assert ended.ended_early
    assert events[-1] == ended
    assert len(only(events, CallStarted)) == len(only(events, CallEnded))


@pytest.mark.virtual_time
async def test_a_turn_that_was_lost_is_waited_for_again() -> None:
    """
    When an attempt waits for a second slot, that wait counts as waiting time and not as the attempt's duration.

    The HTTP library waits for it, with the headers in its frames, so the event is emitted when the attempt ends.
    """
    events, coordinator = list[Event](), LocalCoordinator(Rates(sms=10))
    request, progress, limiter = Request(SEND_SMS, "/sms"), CallProgress(), coordinator.limiter(SEND_SMS.rate_group)
    observed = CallEvents(Observer([events.append], "http://127.0.0.1:80"), request, progress, lambda _: limiter.per_s)
    observed.begin("127.0.0.1", 80)
    departure = Departure(request, await limiter.acquire(Priority.INTERACTIVE), progress)
    await limiter.acquire(Priority.INTERACTIVE)
    progress.attempts += 1
    observed.attempt_started(1)

    await departure.leave(held_up=True)
    emitted_meanwhile = only(events, SlotGranted)
    observed.fail(NotSentError("no connection"))

    assert emitted_meanwhile == []
    (turn,), (ended,), (tried,) = only(events, SlotGranted), only(events, CallEnded), only(events, AttemptEnded)
    assert turn.waited_s == ended.waited_s >= 0.05
    assert tried.duration_s < turn.waited_s


@pytest.mark.virtual_time
async def test_sessions_that_share_a_listener_can_be_distinguished() -> None:
    """Each call in this process has its own number, so one listener can distinguish the calls of two sessions."""
    sandbox, events = Sandbox(), list[Event]()

    async with session(sandbox, events.append) as one, session(sandbox, events.append) as other:
        await asyncio.gather(*(pico.sms.send(TO, f"{n}") for pico in (one, other) for n in range(3)))

    calls = [event.call for event in events if isinstance(event, CallStarted)]
    assert len(set(calls)) == len(calls) == 6 + len(only(events, TokenRefreshed))


async def test_an_id_of_pico_s_that_repeats_the_number_is_not_in_an_event() -> None:
    """
    An event omits a request ID that contains the number, the API key or the token; v0.4 does not define its content.
    """
    events, named = list[Event](), iter(["r-1", f"sms-{TO}", "key-THAT-NOBODY-MAY-SEE", "bearer-THAT-NOBODY-MAY-SEE"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(200, json={"token": "bearer-THAT-NOBODY-MAY-SEE"})
        return httpx.Response(200, json={"request_id": next(named)})

    async with PicoSession(
        username="user333",
        api_key="key-THAT-NOBODY-MAY-SEE",
        sender="PICO",
        transport=httpx.MockTransport(answer),
        rates=UNLIMITED,
        on_event=events.append,
    ) as pico:
        for _ in range(4):
            await pico.sms.send(TO, "hello")

    reported = [event.request_id for event in only(events, CallEnded)]
    assert reported == ["r-1", None, None, None]


async def test_a_listener_that_raises_harms_no_send_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises an exception disturbs neither the sends nor the other listeners, and is logged once."""
    sandbox, events = Sandbox(), list[Event]()

    def broken(_: Event) -> None:
        raise RuntimeError("the metrics are away")

    async with session(sandbox, [broken, events.append]) as pico:
        report = await pico.send_bulk(SmsMessage(TO, f"{n}") for n in range(20))

    assert report.accepted == 20
    assert len(only(events, CallEnded)) == 20
    (record,) = [record for record in caplog.records if record.name == "pico_async"]
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None
    assert "the metrics are away" in str(record.exc_info[1])


@pytest.mark.parametrize("kind", [CallStarted, SlotGranted, AttemptStarted, AttemptEnded, CallEnded])
async def test_an_interrupt_in_a_listener_goes_its_way(kind: type) -> None:
    """
    A `SystemExit` from a listener reaches the caller. The call emits `CallEnded`, and the session can be closed.
    """
    sandbox, events = Sandbox(), list[Event]()

    class Interrupt(SystemExit):
        pass

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, kind) and event.operation == "sms.send":
            raise Interrupt

    async with session(sandbox, listen) as pico:
        await pico.token.ensure()
        with pytest.raises(Interrupt):
            await pico.sms.send(TO, "hello")
    gc.collect()  # a coroutine that was never awaited would warn

    (ended,) = only(events, CallEnded)
    honest = {AttemptEnded: Outcome.IN_DOUBT, CallEnded: Outcome.ACCEPTED}
    assert ended.outcome is honest.get(kind, Outcome.NOT_SENT)
    assert len(sandbox.ledger.accepted) == (kind in honest)


async def test_an_interrupt_where_a_blast_begins_ends_it(tmp_path: Path) -> None:
    """
    A `SystemExit` from a listener at the start of a bulk send ends it with `BlastEnded` and releases the journal.
    """
    sandbox, events = Sandbox(), list[Event]()

    class Interrupt(SystemExit):
        pass

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, BlastStarted) and event.blast == only(events, BlastStarted)[0].blast:
            raise Interrupt

    async with session(sandbox, listen) as pico:
        with pytest.raises(Interrupt) as kept:
            await pico.send_bulk([SmsMessage(TO, "hello")], journal=tmp_path / "blast.db")
        report = await pico.send_bulk([SmsMessage(TO, "hello")], journal=tmp_path / "blast.db")

    assert kept.value is not None
    assert [event.total for event in only(events, BlastEnded)] == [0, 1]
    assert report.accepted == len(sandbox.ledger.accepted) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, type("Mine", (BaseException,), {})])
async def test_no_error_of_a_listener_changes_a_call(error: type[BaseException]) -> None:
    """
    Whatever a listener raises for each event, only KeyboardInterrupt and SystemExit excepted, no call changes: a single
    send and a bulk send are accepted.
    """
    sandbox = Sandbox()

    def listen(event: Event) -> None:
        raise error

    async with session(sandbox, listen) as pico:
        accepted = await pico.sms.send(TO, "hello")
        report = await pico.send_bulk([SmsMessage(TO, "hello")])

    assert accepted.request_id
    assert (report.accepted, report.stopped) == (1, None)
    assert len(sandbox.ledger.accepted) == 2


def test_a_listener_must_be_a_plain_function() -> None:
    """A coroutine function is refused as a listener, because it would be called and never awaited."""

    class Asynchronous:
        async def __call__(self, event: Event) -> None: ...

    async def listen(event: Event) -> None: ...

    for wrong in (listen, Asynchronous(), [print, listen], partial(listen), "print", [None], 5):
        with pytest.raises(ConfigurationError, match="on_event"):
            PicoSession(username="user333", api_key="k", on_event=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.section)
def test_an_operation_is_named_as_the_method_that_makes_it(endpoint: Any) -> None:
    """
    Each operation has the name of the session method that performs it, so the reader of a metric finds it in the code.
    """
    pico = PicoSession(username="user333", api_key="k")

    assert callable(operator.attrgetter(endpoint.operation)(pico))


def test_no_event_has_a_field_for_a_secret() -> None:
    """Events have exactly these fields; a new field is added here only when its value may be reported."""
    fields = {name for kind in typing.get_args(Event) for name in kind.__slots__} - {"__weakref__"}

    assert fields == {
        *(
            "call",
            "blast",
            "operation",
            "rate_group",
            "method",
            "host",
            "port",
            "waited_s",
            "pace",
            "attempt",
            "outcome",
        ),
        *("status_code", "error", "duration_s", "retry_after_s", "reason", "delay_s", "request_id", "attempts"),
        *(
            "concurrency",
            "total",
            "accepted",
            "rejected",
            "not_sent",
            "in_doubt",
            "skipped",
            "suppressed",
            "rate",
            "ended_early",
        ),
    }


async def test_without_a_listener_no_event_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener, a send and a bulk send make no event."""
    for name in ("CallStarted", "SlotGranted", "AttemptStarted", "AttemptEnded", "CallEnded"):
        monkeypatch.delattr(f"pico_async._engine.progress.{name}")
    monkeypatch.delattr("pico_async.bulk.bulk_events.BlastStarted")
    monkeypatch.setattr(logging.getLogger("pico_async"), "level", logging.WARNING)
    sandbox = Sandbox()

    async with session(sandbox, None) as pico:
        await pico.sms.send(TO, "hello")
        await pico.send_bulk([SmsMessage(TO, "hello again")])

    assert len(sandbox.ledger.accepted) == 2
