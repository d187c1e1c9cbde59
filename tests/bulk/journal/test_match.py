"""These tests check that a bulk send stops before its first message if its journal is that of other messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest

from pico_async import InvalidMessageError, JournalError, Outcome, SendResult, SmsMessage, SqliteJournal
from pico_async.bulk.journal.match import JournalMatch, JournalMatcher
from pico_async.integrations.send_once import send_once
from tests.bulk.journal.test_sqlite import DROPS, REFUSES, Pico, bulk_send, outcomes, session, sms


def keyed(count: int = 40) -> list[SmsMessage]:
    return [sms(number, key=f"k{number}") for number in range(count)]


def unkeyed(count: int = 40) -> list[SmsMessage]:
    return [sms(number) for number in range(count)]


def other_text() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), [sms(number, "hello!") for number in range(40)]


def other_keys() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return keyed(), [sms(number, key=f"order-{number}") for number in range(40)]


def keys_left_out() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return keyed(), unkeyed()


def keys_added() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), keyed()


def a_template() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), [SmsMessage(message.to, template_id="t-1") for message in unkeyed()]


def another_sender() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), [sms(number, sender="other") for number in range(40)]


def other_people() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), [sms(number) for number in range(100, 140)]


def all_but_a_few() -> tuple[list[SmsMessage], list[SmsMessage]]:
    return unkeyed(), [*unkeyed(5), *(sms(number, "hello!") for number in range(5, 40))]


OTHERS = (
    other_text,
    other_keys,
    keys_left_out,
    keys_added,
    a_template,
    another_sender,
    other_people,
    all_but_a_few,
)


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_bulk_send_of_other_messages_is_stopped_before_it_sends(
    tmp_path: Path, others: Callable[[], tuple[list[SmsMessage], list[SmsMessage]]], streamed: bool
) -> None:
    """
    A bulk send whose first messages are hardly in the journal raises JournalError, and sends nothing.

    With `many_blasts`, the journal takes them as new.
    """
    pico, path = Pico(), tmp_path / "blast.db"
    first, second = others()
    await bulk_send(pico, first, path, concurrency=64)

    with pytest.raises(JournalError, match=r"in the journal .*: \d+ of the first 40\. .* Nothing was sent"):
        async with session(pico) as it:
            if streamed:
                async with it.stream_bulk(second, journal=path) as results:
                    _ = [result async for result in results]
            else:
                await it.send_bulk(second, journal=path)

    assert pico.received.total() == 40
    assert sum((await SqliteJournal(path).counts()).values()) == 40
    taken = await bulk_send(pico, second, SqliteJournal(path, many_blasts=True), concurrency=64)
    assert outcomes(taken).count("accepted") >= 35


def the_same(messages: list[SmsMessage]) -> list[SmsMessage]:
    return messages


def grown(messages: list[SmsMessage]) -> list[SmsMessage]:
    return [*messages, *(sms(number) for number in range(1000, 1400))]


def shuffled(messages: list[SmsMessage]) -> list[SmsMessage]:
    return random.Random(7).sample(messages, len(messages))


def a_part(messages: list[SmsMessage]) -> list[SmsMessage]:
    return messages[17:20]


def with_other_receipts(messages: list[SmsMessage]) -> list[SmsMessage]:
    return [sms(number, callback="https://example.com/r", expires_in=60) for number in range(len(messages))]


def bad_rows_first(messages: list[SmsMessage]) -> list[SmsMessage]:
    return [InvalidMessageError("no number")] * 3 + messages  # type: ignore[list-item,return-value]


@pytest.mark.parametrize("change", [the_same, grown, shuffled, a_part, with_other_receipts, bad_rows_first])
async def test_the_same_bulk_send_continues(
    tmp_path: Path, change: Callable[[list[SmsMessage]], list[SmsMessage]]
) -> None:
    """A bulk send of the same messages goes on, also in another order, in part, or with more messages after them."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, unkeyed(), path, concurrency=64)

    results = await bulk_send(pico, change(unkeyed()), path, concurrency=64)

    assert "skipped" in outcomes(results)
    assert set(pico.received.values()) == {1}


async def test_a_bulk_send_that_hardly_began_continues(tmp_path: Path) -> None:
    """A journal that a crash left with a few messages of many is the journal of all of them."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, unkeyed(3), path)

    results = await bulk_send(pico, unkeyed(400), path, concurrency=64)

    assert outcomes(results).count("skipped") == 3
    assert set(pico.received.values()) == {1}


@pytest.mark.parametrize("reader", [iter, "generator", "async"])
async def test_any_kind_of_input_is_looked_at(tmp_path: Path, reader: object) -> None:
    """Iterators, generators and async generators are checked by their beginning, and read no further than that."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, unkeyed(), path)
    read: list[int] = []

    def generator(text: str) -> Iterator[SmsMessage]:
        for number in range(40):
            read.append(number)
            yield sms(number, text)

    async def async_generator(text: str) -> AsyncIterator[SmsMessage]:
        for message in generator(text):
            await asyncio.sleep(0)
            yield message

    def of(text: str) -> Iterable[SmsMessage] | AsyncIterator[SmsMessage]:
        return async_generator(text) if reader == "async" else generator(text)

    async with session(pico) as it:
        with pytest.raises(JournalError, match="in the journal"):
            await it.send_bulk(of("changed"), journal=path, concurrency=8)
        looked_at = len(read)
        report = await it.send_bulk(of("hello"), journal=path, concurrency=8)

    assert looked_at == (1 if reader == "async" else 8)
    assert (report.skipped, report.total, pico.received.total()) == (40, 40, 40)


async def test_a_changed_text_is_refused_for_each_key(tmp_path: Path) -> None:
    """With keys, a changed text doubles nothing, so the bulk send goes on: each message is refused by its key."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, keyed(), path)

    results = await bulk_send(pico, [sms(number, "hello!", key=f"k{number}") for number in range(40)], path)

    assert set(outcomes(results)) == {"not_sent"}
    assert "belongs to a message of other content" in str(results[0].error)
    assert pico.received.total() == 40


async def test_a_live_input_is_not_waited_for(tmp_path: Path) -> None:
    """Of an async input the first message alone is looked at: what comes later may depend on what became of it."""
    pico, path = Pico(), tmp_path / "blast.db"
    await bulk_send(pico, unkeyed(2), path)
    told: asyncio.Queue[SendResult] = asyncio.Queue()

    async def feed() -> AsyncIterator[SmsMessage]:
        yield sms(0)
        assert (await told.get()).outcome is Outcome.SKIPPED
        yield sms(7)

    async with session(pico) as it, asyncio.timeout(30):
        report = await it.send_bulk(feed(), journal=path, on_result=told.put)

    assert (report.skipped, report.accepted) == (1, 1)


async def test_deliveries_one_by_one_share_a_journal(tmp_path: Path) -> None:
    """`send_once` takes a journal for many deliveries, each of a message that it does not have yet."""
    pico, journal = Pico(), SqliteJournal(tmp_path / "ledger.db")

    async with session(pico) as it:
        results = [await send_once(it, sms(number % 3, key=f"k{number % 3}"), ledger=journal) for number in range(6)]

    assert outcomes(results) == ["accepted"] * 3 + ["skipped"] * 3


async def test_a_matcher_counts_what_a_run_would_find(tmp_path: Path) -> None:
    """The numbers of a match are those of the next run, for messages with and without keys and for repeated ones."""
    pico, path = Pico(), tmp_path / "blast.db"
    messages = [*unkeyed(3), *unkeyed(3), *(sms(number, key=f"k{number}") for number in range(10, 14))]
    pico.does = {messages[0].to: DROPS, messages[1].to: REFUSES}
    await bulk_send(pico, messages, path, concurrency=64)
    again = [*messages, *unkeyed(3), sms(10, "other", key="k10"), sms(11, key="k11"), sms(99)]

    with JournalMatcher(path) as matcher:
        for message in again:
            matcher.add(message)
        match = matcher.match()
    results = await bulk_send(pico, again, path, concurrency=64)

    assert match == JournalMatch(messages=16, skipped=6, in_doubt=2, unsent=2, new=4, refused=2, total=10)
    assert match.known == 12
    assert outcomes(results).count("skipped") == match.skipped
    assert sum("`key`" in str(result.error) for result in results) == match.refused
