"""The blocking client has the operations of the session, and runs the user's functions in the calling thread."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_overloads

import httpx
import pytest

from pico_async import (
    Accepted,
    BulkStream as AsyncBulkStream,
    ConfigurationError,
    Event,
    InvalidMessageError,
    NotSentError,
    Outcome,
    PicoSession,
    Rates,
    SendResult,
    SmsMessage,
    SuppressedError,
)
from pico_async.blocking import BulkStream, Pico
from pico_async.blocking.call import Call, Caller
from pico_async.sandbox import Sandbox
from tests.support.waiting import wait_until

NUMBER = "8612345678901"
NO_LIMIT = Rates(sms=None, token=None, balance=None)
RESOURCES = ("sms", "mms", "voice", "campaigns", "templates", "balance", "token")


def pico_of(sandbox: Sandbox, **settings: Any) -> Pico:
    defaults = {"username": sandbox.username, "api_key": sandbox.api_key, "sender": "Pico", "rates": NO_LIMIT}
    return Pico(**{**defaults, "transport": sandbox.transport(), **settings})


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(rate_rule=None)


@pytest.fixture
def pico(sandbox: Sandbox) -> Iterator[Pico]:
    with pico_of(sandbox) as pico:
        yield pico


def messages(count: int) -> Iterator[SmsMessage]:
    return (SmsMessage(NUMBER, f"hi {number}", key=f"key-{number}") for number in range(count))


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_the_operations_of_the_session() -> None:
    """The client has each resource and each method of `PicoSession`, and calls `aclose` `close`."""
    assert public(Pico) == public(PicoSession) - {"aclose"} | {"close"}
    for name in RESOURCES:
        assert public(getattr(Pico, name)) - {"name"} == public(getattr(PicoSession, name)), name
    assert public(BulkStream) - {"end"} == public(AsyncBulkStream) - {"drain"}


def test_each_operation_has_the_arguments_and_the_documentation_of_the_async_one() -> None:
    """Each method has the signature, the overloads and the docstring of its async form, and needs no `await`."""
    assert inspect.signature(Pico) == inspect.signature(PicoSession)
    methods = ("send", "send_bulk", "stream_bulk", "preflight")
    pairs = [(getattr(Pico, name), getattr(PicoSession, name)) for name in methods]
    for resource in RESOURCES:
        ours, theirs = getattr(Pico, resource), getattr(PicoSession, resource)
        pairs += [(getattr(ours, name), getattr(theirs, name)) for name in public(theirs)]
    assert len(pairs) == len(methods) + 14
    for ours, theirs in pairs:
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert list(map(inspect.signature, get_overloads(ours))) == list(map(inspect.signature, get_overloads(theirs)))
        assert ours.__doc__ == theirs.__doc__
        assert not inspect.iscoroutinefunction(ours)


def test_each_resource_makes_its_calls(pico: Pico, sandbox: Sandbox) -> None:
    """Each resource makes its calls and returns the values of the async client."""
    campaign = pico.campaigns.create("Spring")
    pico.campaigns.update(campaign.campaign_id, remark="soon")
    pico.templates.create_sms(campaign.campaign_id, "code", "Your code is {{code}}")
    (template,) = pico.templates.list()
    pico.token.ensure()

    sent = [
        pico.sms.send(NUMBER, "hi"),
        pico.sms.send(NUMBER, template_id=template.id),
        pico.mms.send(NUMBER, "https://example.com/a.jpg"),
        pico.voice.send(NUMBER, "hi"),
        pico.send(SmsMessage(NUMBER, "hello")),
    ]

    assert [accepted.request_id for accepted in sent] == [message.request_id for message in sandbox.ledger.accepted]
    assert pico.balance.get().username == sandbox.username
    assert sandbox.ledger.token_requests == 1


def test_a_call_raises_the_errors_of_the_async_client_without_its_frames(pico: Pico) -> None:
    """A call raises the errors of the async client, with no frame in which the message's text would be a variable."""
    with pytest.raises(InvalidMessageError, match="`to`") as raised:
        pico.sms.send("86", "SECRET-TEXT")
    with pytest.raises(TypeError, match="text"):
        pico.voice.send(NUMBER)  # type: ignore[call-arg]

    entry = raised.value.__traceback__
    shown = []
    while entry is not None:
        shown.append(str(entry.tb_frame.f_locals) if "pico_async" in entry.tb_frame.f_code.co_filename else "")
        entry = entry.tb_next
    assert "SECRET-TEXT" not in "".join(shown)


def test_a_global_one_is_closed_by_close(sandbox: Sandbox) -> None:
    """A client works without `with` until `close`, which may be called twice; then its calls say that it is closed."""
    pico = pico_of(sandbox)

    pico.sms.send(NUMBER, "hi")
    assert "open" in repr(pico)
    pico.close()
    pico.close()

    assert "closed" in repr(pico)
    with pytest.raises(ConfigurationError, match="closed"):
        pico.sms.send(NUMBER, "hi")
    assert len(sandbox.ledger.accepted) == 1


def test_one_that_was_never_used_can_be_closed(sandbox: Sandbox) -> None:
    """A client that made no call can be closed."""
    pico_of(sandbox).close()


def test_one_that_is_dropped_is_closed(sandbox: Sandbox) -> None:
    """A client that nobody refers to any more closes its session, and so gives back what the session holds."""
    pico = pico_of(sandbox)
    pico.sms.send(NUMBER, "hi")
    running = pico._running
    assert running is not None

    del pico
    gc.collect()

    wait_until(lambda: "closed" in repr(running.session), "the session is closed")


def test_two_of_one_key_share_the_event_loop_and_so_the_token(sandbox: Sandbox) -> None:
    """Clients of one account in one process share a token."""
    with pico_of(sandbox) as one, pico_of(sandbox) as other:
        one.sms.send(NUMBER, "hi")
        other.sms.send(NUMBER, "hi")

    assert sandbox.ledger.token_requests == 1


def test_a_call_from_its_own_event_loop_is_refused(sandbox: Sandbox) -> None:
    """A call in an `on_event` function is refused, because it would wait for itself; the call in progress goes on."""
    refusals: list[BaseException] = []

    def listen(event: Event) -> None:
        try:
            pico.balance.get()
        except ConfigurationError as error:
            refusals.append(error)

    with pico_of(sandbox, on_event=listen) as pico:
        pico.sms.send(NUMBER, "hi")

    assert "own event loop" in str(refusals[0])
    assert sandbox.ledger.sent_to(NUMBER)


async def test_it_works_where_an_event_loop_runs(sandbox: Sandbox) -> None:
    """A call works in a thread that runs an event loop, as a cell of a notebook does."""
    with pico_of(sandbox) as pico:
        pico.sms.send(NUMBER, "hi")

    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.parametrize("input_kind", ["generator", "list", "async"])
def test_a_bulk_send_reads_and_calls_back_in_the_calling_thread(pico: Pico, sandbox: Sandbox, input_kind: str) -> None:
    """The input of a bulk send, its suppression and its `on_result` run in the calling thread, outside of any loop."""
    threads: set[str] = set()

    def note() -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.add(threading.current_thread().name)

    def read() -> Iterator[SmsMessage]:
        for message in messages(5):
            note()
            yield message

    async def read_async() -> AsyncIterator[SmsMessage]:
        for message in messages(5):
            yield message

    def has_opted_out(number: str) -> bool:
        note()
        return False

    results: list[SendResult] = []

    def on_result(result: SendResult) -> None:
        note()
        results.append(result)

    input_ = {"generator": read(), "list": list(messages(5)), "async": read_async()}[input_kind]
    report = pico.send_bulk(input_, suppression=has_opted_out, on_result=on_result)

    assert report.accepted == len(results) == 5
    assert threads == {threading.current_thread().name}
    assert len(sandbox.ledger.accepted) == 5


async def _append(results: list[int], result: SendResult) -> None:
    await asyncio.sleep(0)
    results.append(result.index)


def test_async_functions_are_awaited_in_the_event_loop(sandbox: Sandbox) -> None:
    """An async `suppression` or `on_result` is awaited, and so is the result of a plain function that returns one."""
    results: list[int] = []

    async def has_opted_out(number: str) -> bool:
        await asyncio.sleep(0)
        return number == "8612345678902"

    with pico_of(sandbox, suppression=has_opted_out) as pico:
        with pytest.raises(SuppressedError):
            pico.sms.send("8612345678902", "hi")
        pico.send_bulk(messages(3), on_result=lambda result: _append(results, result))

    assert sorted(results) == [0, 1, 2]


def test_the_session_s_suppression_is_asked_in_the_calling_thread(sandbox: Sandbox) -> None:
    """The `suppression` function of the client runs in the thread that sends; what it raises means not sent."""
    asked: list[str] = []

    def has_opted_out(number: str) -> bool:
        asked.append(threading.current_thread().name)
        if number == "8612345678903":
            raise LookupError
        return number == "8612345678902"

    with pico_of(sandbox, suppression=has_opted_out) as pico:
        pico.sms.send(NUMBER, "hi")
        with pytest.raises(SuppressedError):
            pico.sms.send("8612345678902", "hi")
        with pytest.raises(NotSentError, match="LookupError"):
            pico.sms.send("8612345678903", "hi")

    assert set(asked) == {threading.current_thread().name}
    assert len(sandbox.ledger.accepted) == 1


class _Database:
    """It knows numbers, and cannot be iterated."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def __contains__(self, number: object) -> bool:
        self.threads.add(threading.current_thread().name)
        return True


def test_a_container_that_cannot_be_iterated_is_asked_in_the_calling_thread(sandbox: Sandbox) -> None:
    """A `suppression` with a `__contains__` of its own is asked in the thread that sends, as a function is."""
    database = _Database()

    with pico_of(sandbox, suppression=database) as pico, pytest.raises(SuppressedError):
        pico.sms.send(NUMBER, "hi")

    assert database.threads == {threading.current_thread().name}


def test_a_preflight_reads_in_the_calling_thread_and_sends_nothing(pico: Pico, sandbox: Sandbox) -> None:
    """`preflight` reads its input and asks its suppression as `send_bulk` does, and sends nothing."""
    checked = pico.preflight(messages(3), price="0.04", suppression=lambda number: False)

    assert checked.valid == 3
    assert sandbox.ledger.accepted == []


@pytest.mark.parametrize("fault", ["at once", "later"])
def test_what_an_input_raises_comes_out(pico: Pico, sandbox: Sandbox, fault: str) -> None:
    """What the input or `on_result` raises is raised, after the messages before were sent."""

    def read() -> Iterator[SmsMessage]:
        if fault == "later":
            yield from messages(2)
        raise LookupError("a row")

    def fail(result: SendResult) -> None:
        raise StopIteration

    with pytest.raises(LookupError, match="a row"):
        pico.send_bulk(read())
    with pytest.raises(RuntimeError, match="StopIteration"):
        pico.send_bulk(messages(1), on_result=fail)

    assert len(sandbox.ledger.accepted) == (3 if fault == "later" else 1)


def test_a_bad_row_is_a_result_and_ends_a_generator(pico: Pico) -> None:
    """An InvalidMessageError of a row is its result; one that leaves a generator ends it, and the report says so."""
    rows = [NUMBER, "86", NUMBER]

    mapped = pico.send_bulk(map(lambda to: SmsMessage(to, "hi"), rows))
    generated = pico.send_bulk(SmsMessage(to, "hi") for to in rows)

    assert (mapped.accepted, mapped.not_sent, mapped.stopped) == (2, 1, None)
    assert (generated.accepted, generated.not_sent) == (1, 1)
    assert "generator" in str(generated.stopped)


def test_wrong_arguments_of_a_bulk_send_are_refused_as_in_the_async_client(pico: Pico) -> None:
    """Arguments of the wrong type are refused with the messages of the async client."""
    with pytest.raises(ConfigurationError, match="iterable"):
        pico.send_bulk(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`on_result`"):
        pico.send_bulk([], on_result=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`concurrency`"):
        pico.stream_bulk([], concurrency=0)
    with pytest.raises(ConfigurationError, match="`with pico"):
        next(pico.stream_bulk([]))


def test_a_journal_is_matched_with_as_many_messages_as_in_the_async_client(pico: Pico, tmp_path: Path) -> None:
    """A generator is compared with the journal by its first messages, not by one alone: a new first one is no fault."""
    pico.send_bulk(messages(4), journal=tmp_path / "blast.db")

    def with_another_first() -> Iterator[SmsMessage]:
        yield SmsMessage(NUMBER, "new", key="new")
        yield from messages(4)

    report = pico.send_bulk(with_another_first(), journal=tmp_path / "blast.db")

    assert (report.accepted, report.skipped) == (1, 4)


def test_a_stream_yields_results_and_has_a_report(pico: Pico, sandbox: Sandbox) -> None:
    """A stream yields each result once, and has its report during the loop and after it, also of a closed client."""
    with pico.stream_bulk(messages(70), concurrency=8) as results:
        first = next(results)
        assert results.report.total >= 1
        indices = [first.index, *(result.index for result in results)]
    pico.close()

    assert sorted(indices) == list(range(70))
    assert results.report.accepted == len(sandbox.ledger.accepted) == 70
    assert results.leftover == []
    assert "70 of 70 accepted" in repr(results)


def test_a_stream_can_be_stopped_and_left_early(sandbox: Sandbox) -> None:
    """A stream that is stopped still yields what was begun; one that is left early has the rest in `leftover`."""
    with pico_of(sandbox) as pico:
        with pico.stream_bulk(messages(1000), concurrency=4) as results:
            next(results)
            results.stop("enough")
            rest = list(results)
        with pico.stream_bulk(messages(1000), concurrency=4) as left:
            next(left)

    assert results.report.stopped == "enough"
    assert len(rest) + 1 == results.report.total < 20
    assert left.report.total == 1 + len(left.leftover) < 20
    assert all(result.outcome in (Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.IN_DOUBT) for result in left.leftover)


def test_an_interrupt_that_comes_with_a_result_loses_no_result(pico: Pico, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an interrupt is raised after a result has come and before the loop has it, the next step yields the result."""
    waits = Caller.wait

    def wait(caller: Caller, call: Call[Any]) -> None:
        waits(caller, call)
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pico.stream_bulk(messages(3)) as results:
        monkeypatch.setattr(Caller, "wait", wait)
        with pytest.raises(KeyboardInterrupt) as raised:
            next(results)
        indices = [result.index for result in results]

    assert "complete before it could be cancelled" in raised.value.__notes__[0]
    assert sorted(indices) == [0, 1, 2]


def test_closing_the_client_ends_a_stream(sandbox: Sandbox) -> None:
    """Closing the client stops its streams; the loop still gets the results of the messages that were begun."""
    with pico_of(sandbox) as pico, pico.stream_bulk(messages(1000), concurrency=4) as results:
        taken = [next(results)]
        pico.close()
        taken += results

    assert results.report.total == len(taken) < 20
    assert results.report.stopped is not None


def test_a_call_belongs_to_the_context_of_its_caller(sandbox: Sandbox) -> None:
    """A listener sees the context variables of the thread that made the call, as a tracer needs it."""
    from contextvars import ContextVar

    current: ContextVar[str] = ContextVar("current", default="none")
    seen: set[str] = set()

    with pico_of(sandbox, on_event=lambda event: seen.add(current.get())) as pico:
        current.set("mine")
        pico.sms.send(NUMBER, "hi")

    assert seen == {"mine"}


def test_closing_ends_the_calls_of_other_threads(sandbox: Sandbox) -> None:
    """Closing ends a call that waits in another thread as not sent."""
    asked = threading.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    pico = pico_of(sandbox, transport=httpx.MockTransport(never), timeout=60)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            pico.sms.send(NUMBER, "hi")
        except NotSentError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert asked.wait(60)
    pico.close()
    thread.join(60)

    assert len(errors) == 1


def test_no_repr_and_no_variable_of_a_waiting_call_shows_the_message(sandbox: Sandbox) -> None:
    """A `suppression` function that reports its stack, with the variables of each frame, shows neither text nor key."""
    shown: list[str] = []

    def has_opted_out(number: str) -> bool:
        frame = inspect.currentframe()
        frame = frame and frame.f_back
        while frame is not None and "pico_async" in frame.f_code.co_filename:
            shown.append(repr(frame.f_locals))
            frame = frame.f_back
        return False

    with pico_of(sandbox, suppression=has_opted_out) as pico:
        pico.sms.send(NUMBER, "SECRET-TEXT")

    assert len(shown) >= 3
    assert not re.search(f"SECRET-TEXT|{NUMBER}|{sandbox.api_key}", "".join(shown))


def test_a_value_is_logged_as_by_the_async_client(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A call is logged in one line of the logger `pico_async`, as a call of the async client is."""
    with caplog.at_level(logging.INFO, "pico_async"), pico_of(sandbox) as pico:
        assert isinstance(pico.sms.send(NUMBER, "hi"), Accepted)

    assert "sms.send: accepted" in caplog.text
