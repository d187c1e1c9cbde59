"""A number that opted out gets nothing from a session, whichever way a message takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pico_async import (
    CallEnded,
    ConfigurationError,
    Event,
    InDoubtError,
    InvalidMessageError,
    JournalState,
    MessageExpiredError,
    MmsMessage,
    NotSentError,
    Outcome,
    PicoSession,
    Rates,
    SmsMessage,
    SqliteJournal,
    SuppressedError,
    VoiceMessage,
    preflight,
)
from pico_async._engine.wire import Account, send_request
from pico_async.bulk.journal.digests import content_digest
from pico_async.coordination.rates import RateGroup
from pico_async.integrations.send_once import may_retry, send_once
from pico_async.numbers import e164
from pico_async.sandbox import Fault, FaultRule, Sandbox

OUT = "8612345678902"
OTHER = "8612345678901"

Send = Callable[[PicoSession, str, bool], Awaitable[Any]]


def session_on(sandbox: Sandbox, suppression: Any = frozenset({OUT}), **options: Any) -> PicoSession:
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        suppression=suppression,
        **options,
    )


async def _result_of_blast(pico: PicoSession, to: str, promotional: bool) -> None:
    async with pico.stream_bulk([SmsMessage(to, "hello", promotional=promotional)], outage_s=0) as results:
        async for result in results:
            if result.error is not None:
                raise result.error


async def _once(pico: PicoSession, to: str, promotional: bool, ledger: SqliteJournal) -> None:
    result = await send_once(pico, SmsMessage(to, "hello", key=to, promotional=promotional), ledger=ledger)
    if result.error is not None:
        raise result.error


@pytest.fixture(params=["sms", "mms", "voice", "send", "blast", "blast with a journal", "once"])
def send(request: pytest.FixtureRequest, tmp_path: Path) -> Send:
    """Return each way that a message can take, without a queue."""
    journal = SqliteJournal(tmp_path / "journal.db", many_blasts=True)

    async def with_a_journal(pico: PicoSession, to: str, promotional: bool) -> None:
        message = SmsMessage(to, "hello", promotional=promotional)
        async with pico.stream_bulk([message], journal=journal, outage_s=0) as results:
            async for result in results:
                if result.error is not None:
                    raise result.error

    ways: dict[str, Send] = {
        "sms": lambda pico, to, promotional: pico.sms.send(to, "hello", promotional=promotional),
        "mms": lambda pico, to, promotional: pico.mms.send(to, "https://example.com/cat.png", promotional=promotional),
        "voice": lambda pico, to, promotional: pico.voice.send(to, "hello", promotional=promotional),
        "send": lambda pico, to, promotional: pico.send(VoiceMessage(to, "hello", promotional=promotional)),
        "blast": _result_of_blast,
        "blast with a journal": with_a_journal,
        "once": lambda pico, to, promotional: _once(pico, to, promotional, journal),
    }
    return ways[request.param]


async def test_a_number_that_opted_out_gets_nothing_by_any_way(send: Send) -> None:
    """An opt-out of the session is refused with a `SuppressedError` that has no number; other numbers are sent to."""
    sandbox = Sandbox()

    async with session_on(sandbox) as pico:
        with pytest.raises(SuppressedError, match="has opted out") as caught:
            await send(pico, f"+{OUT}", True)
        assert sandbox.ledger.sent_to(OUT) == []

    async with session_on(sandbox) as pico:
        await send(pico, OTHER, True)

    assert OUT not in str(caught.value)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert len(sandbox.ledger.accepted) == 1


async def test_what_somebody_asked_for_is_sent_all_the_same(send: Send) -> None:
    """With `promotional=False` the opt-outs are not asked, for a code that this person asked for."""
    sandbox = Sandbox()

    async with session_on(sandbox, lambda number: 1 / 0) as pico:
        await send(pico, OUT, False)

    assert len(sandbox.ledger.sent_to(OUT)) == 1


class _Broken:
    def __contains__(self, number: object) -> bool:
        raise OSError(f"no route to the table for {number}")


async def _raises(number: str) -> bool:
    await asyncio.sleep(0)
    raise LookupError(number)


async def _cancelled(number: str) -> bool:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("suppression", "said"),
    [
        (_raises, "`suppression` raised LookupError"),
        (_Broken(), "`suppression` raised OSError"),
        (_cancelled, "`suppression` raised CancelledError"),
        (lambda number: None, "must answer True or False, not NoneType"),
        (lambda number: "no", "must answer True or False, not str"),
    ],
    ids=["raises", "container raises", "cancelled elsewhere", "forgets to answer", "answers otherwise"],
)
async def test_where_nobody_can_say_nothing_is_sent(send: Send, suppression: Any, said: str) -> None:
    """A failing question is a `NotSentError` that names the fault and no number, and that a queue may retry."""
    sandbox = Sandbox()

    async with session_on(sandbox, suppression) as pico:
        with pytest.raises(NotSentError, match=said) as caught:
            await send(pico, OUT, True)

    error: BaseException | None = caught.value
    while error is not None:
        assert OUT not in str(error)
        error = error.__context__
    assert may_retry(caught.value)
    assert not may_retry(SuppressedError("The number has opted out."))
    assert sandbox.ledger.accepted == []


@pytest.mark.virtual_time
async def test_the_question_is_asked_before_each_try() -> None:
    """An opt-out that comes between two tries of a message holds: the second try does not leave."""
    sandbox = Sandbox(faults=[FaultRule(Fault.RATE_LIMITED, times=1)])
    answers = [False, True]
    events: list[Event] = []

    async with session_on(sandbox, lambda number: answers.pop(0), on_event=events.append) as pico:
        with pytest.raises(SuppressedError) as caught:
            await pico.sms.send(OUT, "hello")

    ended = [event for event in events if isinstance(event, CallEnded) and event.operation == "sms.send"]
    assert answers == []
    assert caught.value.attempts == 1
    assert [(event.outcome, event.error) for event in ended] == [(Outcome.NOT_SENT, "SuppressedError")]
    assert sandbox.ledger.accepted == []


@pytest.mark.virtual_time
async def test_an_opt_out_after_a_try_in_doubt_leaves_it_in_doubt() -> None:
    """A message whose first try may have gone out stays in doubt when its number opts out before the second try."""
    sandbox = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_DROP, times=1)])
    answers = [False, True]

    async with session_on(sandbox, lambda number: answers.pop(0), retry_in_doubt=True) as pico:
        with pytest.raises(InDoubtError):
            await pico.sms.send(OUT, "hello")

    assert answers == []
    assert len(sandbox.ledger.sent_to(OUT)) == 1


async def test_the_question_is_the_last_thing_before_the_turn() -> None:
    """The question comes after the token and takes no turn, so a slow answer holds up no other message."""
    sandbox = Sandbox()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(number: str) -> bool:
        if number == OUT:
            assert sandbox.ledger.token_requests == 1
            asked.set()
            await answer.wait()
        return False

    async with session_on(sandbox, slow) as pico:
        waits = asyncio.create_task(pico.sms.send(OUT, "hello"))
        await asked.wait()
        await pico.sms.send(OTHER, "hello")
        assert [message.to for message in sandbox.ledger.accepted] == [OTHER]
        answer.set()
        await waits

    assert [message.to for message in sandbox.ledger.accepted] == [OTHER, OUT]


def _as_set(opted_out: set[str]) -> Any:
    return opted_out


def _as_function(opted_out: set[str]) -> Any:
    return lambda number: number in opted_out


def _as_slow_function(opted_out: set[str]) -> Any:
    async def asks_a_database(number: str) -> bool:
        await asyncio.sleep(0.05)
        return number in opted_out

    return asks_a_database


@pytest.mark.virtual_time
@pytest.mark.parametrize("form", [_as_set, _as_function, _as_slow_function])
async def test_an_opt_out_that_comes_while_a_message_waits_for_its_slot_holds(form: Callable[[set[str]], Any]) -> None:
    """A message that waits for minutes behind others is asked about again before it leaves, and Pico gets no bunch."""
    sandbox = Sandbox(clock=lambda: time.monotonic())
    opted_out: set[str] = set()

    async with session_on(sandbox, form(opted_out)) as pico:
        waiting = [asyncio.create_task(pico.sms.send(OTHER, f"{number}")) for number in range(600)]
        await asyncio.sleep(1)
        last = asyncio.create_task(pico.sms.send(OUT, "hello"))
        await asyncio.sleep(5)
        opted_out.add(OUT)
        with pytest.raises(SuppressedError):
            await last
        await asyncio.gather(*waiting)

    assert sandbox.ledger.sent_to(OUT) == []
    assert len(sandbox.ledger.accepted) == 600
    assert sandbox.ledger.refusals == 0
    assert sandbox.ledger.densest() <= 30


@pytest.mark.virtual_time
async def test_a_blast_at_the_full_rate_asks_a_slow_function_once_a_message() -> None:
    """A slow answer is not asked for again after a blast's own short wait, for the message would need another slot."""
    sandbox = Sandbox(clock=lambda: time.monotonic())
    asked: list[str] = []

    async def slow(number: str) -> bool:
        asked.append(number)
        await asyncio.sleep(0.05)
        return False

    async with session_on(sandbox, slow) as pico:
        report = await pico.send_bulk(SmsMessage(OTHER, f"{number}") for number in range(300))

    assert report.accepted == 300
    assert len(asked) == 300


@pytest.mark.virtual_time
async def test_a_second_question_that_fails_sends_nothing() -> None:
    """Where nobody can say after the wait for a slot whether the number opted out, the message is not sent."""
    sandbox = Sandbox(clock=lambda: time.monotonic())
    answers: list[bool] = []

    def fails_from_the_second_time(number: str) -> bool:
        if number != OUT:
            return False
        answers.append(False)
        if len(answers) > 1:
            raise ConnectionError(number)
        return False

    async with session_on(sandbox, fails_from_the_second_time, retries=0) as pico:
        before = [asyncio.create_task(pico.sms.send(OTHER, f"{number}")) for number in range(60)]
        last = asyncio.create_task(pico.sms.send(OUT, "hello"))
        with pytest.raises(NotSentError, match="`suppression` raised ConnectionError"):
            await last
        await asyncio.gather(*before)

    assert len(answers) == 2
    assert sandbox.ledger.sent_to(OUT) == []


@pytest.mark.virtual_time
async def test_a_second_question_without_an_answer_ends_with_the_message() -> None:
    """`expires_in` and the end of the session bound the question that is asked after the wait for a slot, too."""
    sandbox = Sandbox(clock=lambda: time.monotonic())
    asked: list[str] = []

    async def answers_once(number: str) -> bool:
        if number != OTHER:
            await asyncio.sleep(0.05)
            asked.append(number)
            if asked.count(number) > 1:
                await asyncio.Event().wait()
        return False

    async with session_on(sandbox, answers_once) as pico:
        for number in range(600):
            asyncio.get_running_loop().create_task(_harmlessly(pico.sms.send(OTHER, f"{number}")))
        expires = asyncio.create_task(pico.sms.send(OUT, "hello", expires_in=60))
        waits = asyncio.create_task(pico.sms.send("8612345678903", "hello"))
        with pytest.raises(MessageExpiredError):
            await expires
    with pytest.raises(NotSentError, match="session closed"):
        await waits

    assert sorted(asked) == [OUT, OUT, "8612345678903", "8612345678903"]
    assert len(sandbox.ledger.accepted) == 600


@pytest.mark.virtual_time
async def test_second_questions_without_answers_hold_up_no_other_message() -> None:
    """Messages whose second question hangs hold none of the session's connections, so a code is still sent."""
    sandbox = Sandbox(clock=lambda: time.monotonic())
    asked: set[str] = set()

    async def answers_once(number: str) -> bool:
        if number in asked:
            await asyncio.Event().wait()
        asked.add(number)
        return False

    async with session_on(sandbox, answers_once, rates=Rates(sms=None)) as pico:
        await pico.sms.send(OTHER, "the token is there", promotional=False)
        pico._engine._limiters[RateGroup.SMS].pause(1)
        waiting = [
            asyncio.create_task(_harmlessly(pico.sms.send(f"861234568{number:04}", "hello"))) for number in range(150)
        ]
        await asyncio.sleep(20)
        await pico.sms.send(OTHER, "Your code is 1234", promotional=False, expires_in=20)

    await asyncio.gather(*waiting)
    assert [message.to for message in sandbox.ledger.accepted] == [OTHER, OTHER]


async def _harmlessly(call: Awaitable[Any]) -> None:
    with suppress(NotSentError):
        await call


async def test_what_opted_out_while_it_waited_is_not_sending_in_the_journal(tmp_path: Path) -> None:
    """What is suppressed after its intent was committed is `not_sent` in the journal, and no run sends it."""
    sandbox = Sandbox()
    journal = SqliteJournal(tmp_path / "journal.db")
    opted_out: set[str] = set()
    messages = [SmsMessage(OTHER, str(number)) for number in range(8)] + [SmsMessage(OUT, "hello")]

    async with session_on(sandbox, opted_out, rates=Rates(sms=10)) as pico:
        async with pico.stream_bulk(messages, journal=journal) as results:
            first = await anext(results)
            opted_out.add(OUT)
            rest = [result async for result in results]
        counts = await journal.counts()
        again = await pico.send_bulk(messages, journal=journal)

    assert first.outcome is Outcome.ACCEPTED
    assert [type(result.error) for result in rest if not result.ok] == [SuppressedError]
    assert {state: count for state, count in counts.items() if count} == {
        JournalState.ACCEPTED: 8,
        JournalState.NOT_SENT: 1,
    }
    assert (again.skipped, again.suppressed) == (8, 1)
    assert sandbox.ledger.sent_to(OUT) == []


async def _never(number: str) -> bool:
    await asyncio.Event().wait()
    return False


@pytest.mark.virtual_time
async def test_an_answer_that_never_comes_ends_with_the_message() -> None:
    """`expires_in`, a cancellation and the end of the session each end the wait for an answer; nothing is sent."""
    sandbox = Sandbox()

    async with session_on(sandbox, _never) as pico:
        with pytest.raises(MessageExpiredError):
            await pico.sms.send(OUT, "hello", expires_in=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await pico.sms.send(OUT, "hello")
        waits = asyncio.create_task(pico.sms.send(OUT, "hello"))
        await asyncio.sleep(1)
    with pytest.raises(NotSentError, match="session closed"):
        await waits

    assert sandbox.ledger.accepted == []


async def test_a_cancellation_that_the_question_drops_ends_the_message() -> None:
    """A function that swallows its cancellation, as `asyncio.wait_for` may, sends nothing after it."""
    sandbox = Sandbox()
    asked = asyncio.Event()

    async def drops(number: str) -> bool:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return False

    async with session_on(sandbox, drops) as pico:
        call = asyncio.create_task(pico.sms.send(OUT, "hello"))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert sandbox.ledger.accepted == []


@pytest.mark.parametrize("added", [OUT, f"+{OUT}", "+86 123-4567-8902"])
@pytest.mark.parametrize("kind", [set, list, dict, "keys"])
async def test_a_number_that_is_added_later_counts(added: str, kind: Any) -> None:
    """A number that is added in any spelling to a set, a list or a dict counts while the session is open."""
    sandbox = Sandbox()
    known: Any = {"+86 123 4567 8903": 1}
    opted_out: Any = known if kind is dict else known.keys() if kind == "keys" else kind(known)

    async with session_on(sandbox, opted_out) as pico:
        await pico.sms.send(OUT, "hello")
        if kind in (dict, "keys"):
            known[added] = 2
        elif kind is set:
            opted_out.add(added)
        else:
            opted_out.append(added)
        with pytest.raises(SuppressedError):
            await pico.sms.send(OUT, "hello")
        with pytest.raises(SuppressedError):
            await pico.sms.send("8612345678903", "hello")

    assert len(sandbox.ledger.accepted) == 1


@pytest.mark.virtual_time
async def test_a_number_that_took_the_place_of_another_one_counts() -> None:
    """A set that is cleared and filled again is read again within a second, also where its size is as before."""
    sandbox = Sandbox()
    opted_out: set[str] = {"+86 123 4567 8903"}

    async with session_on(sandbox, opted_out) as pico:
        await pico.sms.send(OUT, "hello")
        opted_out.clear()
        opted_out.add("+86 123-4567-8902")
        await asyncio.sleep(1.1)
        with pytest.raises(SuppressedError):
            await pico.sms.send(OUT, "hello")

    assert len(sandbox.ledger.accepted) == 1


async def test_what_is_added_later_and_is_no_number_lets_nothing_pass() -> None:
    """While the set holds what is no number, nothing is sent: it may be somebody who opted out."""
    sandbox = Sandbox()
    opted_out: set[str] = set()

    async with session_on(sandbox, opted_out) as pico:
        opted_out.add("0912345678")
        with pytest.raises(NotSentError, match="`suppression` contains an item that is no number") as caught:
            await pico.sms.send(OTHER, "hello")
        assert sandbox.ledger.accepted == []
        opted_out.clear()
        await pico.sms.send(OTHER, "hello")

    assert "0912345678" not in str(caught.value)


TWO_WAYS = [
    ("5215512345678", "+52 55 1234 5678"),
    ("5491123456789", "+54 11 2345 6789"),
    ("5511987654321", "+55 11 8765 4321"),
    ("2290190123456", "+229 90 12 34 56"),
]


@pytest.mark.parametrize(("one", "other"), [*TWO_WAYS, *((e164(other), one) for one, other in TWO_WAYS)])
@pytest.mark.parametrize("form", ["set", "added later", "function", "container"])
async def test_an_opt_out_holds_in_either_way_to_write_a_number(one: str, other: str, form: str) -> None:
    """Where a country's numbers are written in two ways, an opt-out by one of them holds for the other one."""
    sandbox = Sandbox()

    class Table:
        def __contains__(self, number: object) -> bool:
            return number == e164(other)

    growing: set[str] = set()
    forms: dict[str, Any] = {
        "set": {other},
        "added later": growing,
        "function": lambda number: number == e164(other),
        "container": Table(),
    }
    async with session_on(sandbox, forms[form]) as pico:
        growing.add(other)
        with pytest.raises(SuppressedError):
            await pico.sms.send(one, "hello")
        await pico.sms.send(OTHER, "hello")

    assert [message.to for message in sandbox.ledger.accepted] == [OTHER]


async def test_a_blast_asks_both_its_own_and_the_sessions() -> None:
    """`send_bulk(suppression=…)` adds to the session's opt-outs, and each of both holds by itself."""
    sandbox = Sandbox()
    people = [OUT, OTHER, "8612345678903"]
    messages = [SmsMessage(to, "hello") for to in people]

    async with session_on(sandbox) as pico:
        before = await pico.preflight(messages, suppression={OTHER})
        report = await pico.send_bulk(messages, suppression={OTHER})

    assert (before.valid, before.suppressed) == (1, 2)
    assert (report.accepted, report.suppressed, report.failures) == (1, 2, ())
    assert [message.to for message in sandbox.ledger.accepted] == ["8612345678903"]


async def test_a_preflight_counts_what_is_sent_all_the_same() -> None:
    """A preflight counts no message with `promotional=False` as suppressed, as the sending does not."""
    messages = [SmsMessage(OUT, "1"), SmsMessage(OUT, "2", promotional=False)]

    found = await preflight(messages, suppression={OUT})

    assert (found.valid, found.suppressed) == (1, 1)


@pytest.mark.parametrize("suppression", [OUT, 5, [OUT, "0912345678"], ["8612345678901.0"]])
def test_what_cannot_say_who_opted_out_makes_no_session(suppression: Any) -> None:
    """An opt-out that cannot be read is refused when the session is made, and never dropped."""
    with pytest.raises(ConfigurationError, match="`suppression`") as caught:
        session_on(Sandbox(), suppression)

    assert "0912345678" not in str(caught.value)


@pytest.mark.parametrize("promotional", [None, 0, "no"])
def test_only_true_and_false_say_whether_it_is_promotional(promotional: Any) -> None:
    """`promotional` takes True or False alone, for what is merely false would reach people who opted out."""
    with pytest.raises(InvalidMessageError, match="`promotional` must be True or False"):
        MmsMessage(OUT, "https://example.com/cat.png", promotional=promotional)


def test_whether_it_is_promotional_is_no_content() -> None:
    """A journal knows a message again when `promotional` changed, and Pico is not told of it."""
    salt = b"s" * 16

    one, other = (SmsMessage(OUT, "hello", promotional=promotional) for promotional in (True, False))

    assert content_digest(salt, one) == content_digest(salt, other)
    body = send_request(other, Account(username="user333", sender="8612345678888")).body
    assert set(body) == {"username", "from", "to", "text"}  # type: ignore[arg-type]
