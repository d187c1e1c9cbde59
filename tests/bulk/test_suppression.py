"""These tests check that no message goes to a number that opted out, and that a failing hook lets no message pass."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_async import (
    BulkError,
    ConfigurationError,
    InvalidMessageError,
    JournalState,
    NotSentError,
    Outcome,
    PicoSession,
    SendResult,
    SmsMessage,
    SqliteJournal,
    SuppressedError,
)
from pico_async.bulk.suppression import OptOuts
from pico_async.sandbox import Fault, FaultRule, Sandbox

OUT = "8612345678902"
PEOPLE = ["8612345678901", OUT, "8612345678903"]


def messages() -> Iterator[SmsMessage]:
    return (SmsMessage(to, "hello") for to in PEOPLE)


def session_on(sandbox: Sandbox) -> PicoSession:
    return PicoSession(
        username=sandbox.username, api_key=sandbox.api_key, sender="8612345678888", transport=sandbox.transport()
    )


async def results_of(sandbox: Sandbox, suppression: Any, **options: Any) -> list[SendResult]:
    async with session_on(sandbox) as pico, pico.stream_bulk(messages(), suppression=suppression, **options) as results:
        return sorted([result async for result in results], key=lambda result: result.index)


async def asks(number: str) -> bool:
    await asyncio.sleep(0)
    return number == OUT


class Registry:
    """A container that can only be asked for one number, like a Bloom filter or a database table."""

    def __contains__(self, number: object) -> bool:
        return number == OUT


@pytest.mark.parametrize(
    "suppression",
    [
        {OUT},
        ["+86 123-4567 8902"],
        {"+86 123 4567 8902": "by mail"},
        Registry(),
        lambda number: number == OUT,
        lambda number: int(number == OUT),
        asks,
    ],
    ids=["set", "list, spelled otherwise", "mapping", "container", "function", "0 and 1", "async function"],
)
async def test_a_number_that_opted_out_gets_nothing(suppression: Any) -> None:
    """A number that opted out gets no message, in whatever form `suppression` is passed; the others get theirs."""
    sandbox = Sandbox()

    results = await results_of(sandbox, suppression)

    assert [result.outcome for result in results] == [Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.ACCEPTED]
    assert isinstance(results[1].error, SuppressedError)
    assert results[1].attempts == 0
    assert not results[1].ok
    assert not sandbox.ledger.sent_to(OUT)
    assert len(sandbox.ledger.accepted) == 2


async def test_it_is_counted_and_is_no_failure() -> None:
    """A suppressed message counts as suppressed and as not sent, and the report treats it as no failure."""
    async with session_on(Sandbox()) as pico:
        report = await pico.send_bulk(messages(), suppression={OUT})

    report.raise_for_failures()
    assert (report.total, report.accepted, report.not_sent, report.suppressed) == (3, 2, 1, 1)
    assert report.failures == ()


async def test_beside_a_failure_the_error_tells_both() -> None:
    """The error of a bulk send with failures counts suppressed messages apart from the failed and the unsent ones."""
    items = [*messages(), InvalidMessageError("row 4")]
    async with session_on(Sandbox()) as pico:
        report = await pico.send_bulk(items, suppression={OUT})

    with pytest.raises(
        BulkError, match=r"Of 4 messages 2 were accepted, 1 not sent, 1 suppressed\. .*message 3: row 4"
    ):
        report.raise_for_failures()


async def test_any_number_of_them_in_a_row_end_nothing() -> None:
    """A suppressed message neither counts for `stop_after` nor resets its count."""
    people = [SmsMessage(OUT, "hello") for _ in range(5)]
    bad = InvalidMessageError("no message")
    async with session_on(Sandbox()) as pico:
        report = await pico.send_bulk([*people, SmsMessage(PEOPLE[0], "hello")], suppression={OUT}, stop_after=3)
        between = await pico.send_bulk([bad, *people, bad, *people], suppression={OUT}, stop_after=2, concurrency=1)

    assert (report.accepted, report.suppressed, report.stopped) == (1, 5, None)
    assert between.stopped == "2 failures in a row"


def _raises(number: str) -> bool:
    raise ConnectionError(f"no route to the table for {number}")


async def _raises_later(number: str) -> bool:
    await asyncio.sleep(0)
    raise LookupError(number)


async def _cancelled(number: str) -> bool:
    raise asyncio.CancelledError


class _Broken:
    def __contains__(self, number: object) -> bool:
        raise OSError(str(number))


@pytest.mark.parametrize(
    ("suppression", "said"),
    [
        (_raises, "`suppression` raised ConnectionError"),
        (_raises_later, "`suppression` raised LookupError"),
        (_Broken(), "`suppression` raised OSError"),
        (lambda number: None, "must answer True or False, not NoneType"),
        (lambda number: number, "must answer True or False, not str"),
        (_cancelled, "`suppression` raised CancelledError"),
    ],
    ids=["raises", "raises later", "container raises", "forgets to answer", "answers otherwise", "is cancelled"],
)
async def test_where_the_hook_fails_nothing_is_sent(suppression: Any, said: str) -> None:
    """If the suppression hook fails, each message gets NotSentError, which names the fault and not the number."""
    sandbox = Sandbox()

    results = await results_of(sandbox, suppression, outage_s=0, concurrency=1)

    # The bulk send stops there, and reads no other message.
    assert [type(result.error) for result in results] == [NotSentError]
    for result in results:
        assert said in str(result.error)
        assert "86123" not in str(result.error)
        assert result.error.__cause__ is result.error.__context__ is None
    assert not sandbox.ledger.accepted


async def test_while_a_hook_fails_nothing_is_sent_and_the_list_is_kept() -> None:
    """While the suppression hook fails, nothing is sent. After `outage_s` the bulk send stops and the report raises."""
    people = [SmsMessage(PEOPLE[0], str(number)) for number in range(50)]
    async with session_on(sandbox := Sandbox()) as pico:
        report = await pico.send_bulk(people, suppression=_raises, outage_s=0, concurrency=1)

    assert not sandbox.ledger.accepted
    assert (report.total, report.not_sent, report.suppressed) == (1, 1, 0)
    assert "`suppression` raised" in (report.stopped or "")
    with pytest.raises(BulkError):
        report.raise_for_failures()


async def test_a_hook_that_takes_its_time_holds_up_its_own_message_alone() -> None:
    """
    A slow suppression hook delays only its own message.

    Leaving the bulk send ends the wait, and that message is not sent.
    """
    sandbox = Sandbox()
    begun = asyncio.Event()

    async def slow(number: str) -> bool:
        if number == OUT:
            begun.set()
            await asyncio.Event().wait()
        return False

    async with session_on(sandbox) as pico:
        async with pico.stream_bulk(messages(), suppression=slow) as results:
            sent = [await anext(results), await anext(results)]
            await begun.wait()

    assert {result.index for result in sent} == {0, 2}
    assert [(result.index, result.outcome) for result in results.leftover] == [(1, Outcome.NOT_SENT)]
    assert not sandbox.ledger.sent_to(OUT)


async def test_a_bulk_send_cancelled_during_the_suppression_call_sends_nothing() -> None:
    """A bulk send that is cancelled while it waits for the suppression hook sends nothing and leaves no task."""
    sandbox = Sandbox()
    begun = asyncio.Event()

    async def slow(number: str) -> bool:
        begun.set()
        await asyncio.Event().wait()
        return False

    before = asyncio.all_tasks()
    async with session_on(sandbox) as pico:
        bulk_send = asyncio.create_task(pico.send_bulk(messages(), suppression=slow))
        await begun.wait()
        bulk_send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk_send
        assert asyncio.all_tasks() == before

    assert not sandbox.ledger.accepted


async def test_with_a_journal_it_is_left_for_a_run_in_which_the_number_is_wanted_again(tmp_path: Path) -> None:
    """
    With a journal, a suppressed message is not in doubt: a later run suppresses it again or sends it.

    Accepted messages are skipped.
    """
    sandbox = Sandbox()
    journal = SqliteJournal(tmp_path / "bulk_send.db")

    first = await results_of(sandbox, {OUT}, journal=journal)
    between = await journal.counts()
    second = await results_of(sandbox, {OUT}, journal=journal)
    third = await results_of(sandbox, None, journal=journal)

    assert [result.outcome for result in first] == [Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.ACCEPTED]
    assert between[JournalState.IN_DOUBT] == between[JournalState.SENDING] == 0
    assert [result.outcome for result in second] == [Outcome.SKIPPED, Outcome.NOT_SENT, Outcome.SKIPPED]
    assert isinstance(second[1].error, SuppressedError)
    assert [result.outcome for result in third] == [Outcome.SKIPPED, Outcome.ACCEPTED, Outcome.SKIPPED]
    assert len(sandbox.ledger.accepted) == 3


async def test_what_was_in_doubt_before_stays_so(tmp_path: Path) -> None:
    """A message in doubt stays in doubt when its number opts out later, because it may already have been sent."""
    sandbox = Sandbox(faults=[FaultRule(Fault.ACCEPT_THEN_DROP, to=OUT, times=1)])
    journal = SqliteJournal(tmp_path / "bulk_send.db")

    await results_of(sandbox, None, journal=journal)
    again = await results_of(sandbox, {OUT, PEOPLE[0]}, journal=journal)

    assert [result.outcome for result in again] == [Outcome.SKIPPED, Outcome.IN_DOUBT, Outcome.SKIPPED]


@pytest.mark.parametrize(
    "suppression",
    [OUT, OUT.encode(), 5, iter([OUT]), [OUT, "0912345678"], [8612345678901], {""}],
    ids=["one number", "bytes", "a whole number", "an iterator", "a bad number", "no str", "nothing"],
)
async def test_an_unusable_suppression_is_refused_before_anything_is_sent(suppression: Any) -> None:
    """
    An unusable `suppression` is refused before anything is sent, and the error does not show a bad number.

    A string could match a part of a number, and an iterator could be read only once.
    """
    sandbox = Sandbox()

    with pytest.raises(ConfigurationError, match="`suppression`") as caught:
        await results_of(sandbox, suppression)

    assert "0912345678" not in str(caught.value)
    assert not sandbox.ledger.accepted


async def test_a_set_is_read_once_and_a_function_asked_for_each_message() -> None:
    """A set is copied once; a function is called for each message and sees later changes."""
    known = {OUT}
    calls: list[str] = []

    def is_out(number: str) -> bool:
        calls.append(number)
        return number in known

    read, asked = OptOuts(known), OptOuts(is_out)

    before = (await read.has(OUT), await asked.has(OUT))
    known.clear()
    after = (await read.has(OUT), await asked.has(OUT))

    assert before == (True, True)
    assert after == (True, False)
    assert calls == [OUT, OUT]


def test_the_error_is_none_of_those_that_are_sent_again() -> None:
    """SuppressedError is not a NotSentError, which callers send again, and it survives pickling."""
    error = pickle.loads(pickle.dumps(SuppressedError("The number has opted out.")))

    assert error.outcome is Outcome.NOT_SENT
    assert not isinstance(error, NotSentError | ValueError)
