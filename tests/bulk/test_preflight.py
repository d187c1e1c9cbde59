"""These tests check that a preflight counts any form of input in constant memory and sends nothing."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

import pico_async
from pico_async import (
    AuthenticationError,
    ConfigurationError,
    InvalidMessageError,
    MmsMessage,
    NotSentError,
    PicoSession,
    Preflight,
    Rates,
    SmsMessage,
    SuppressedError,
    VoiceMessage,
    preflight,
    segments,
)
from pico_async.sandbox import Sandbox

ONE, OTHER, OUT = "8612345678901", "8612345678902", "8612345678903"


def mixed() -> list[Any]:
    """Return one item of each kind that a preflight distinguishes."""
    return [
        SmsMessage(ONE, "It’s here"),
        SmsMessage(ONE, "It’s here", key="another name"),
        SmsMessage(OTHER, "a" * 161),
        InvalidMessageError("`to` is empty."),
        SmsMessage(OUT, "hello"),
        SmsMessage(ONE, template_id="t-1"),
        MmsMessage(ONE, "https://example.com/cat.jpg", text="It’s a cat"),
        VoiceMessage(ONE, "hello"),
        "hello",
        SmsMessage(OTHER, "王小明您好，您的包裹已經送達"),
    ]


async def drawn_from(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def session_on(sandbox: Sandbox, **options: Any) -> PicoSession:
    return PicoSession(
        **{
            "username": sandbox.username,
            "api_key": sandbox.api_key,
            "sender": "8612345678888",
            "transport": sandbox.transport(),
            **options,
        }
    )


@pytest.mark.parametrize("source", [list, iter, drawn_from], ids=["list", "iterator", "async iterator"])
async def test_everything_is_counted_in_any_form_of_input(source: Any) -> None:
    """
    A preflight counts every item of a list, an iterator or an async iterator.

    It lists a bad item with its index and the reason.
    """
    found = await preflight(source(mixed()), price="0.04", balance=Decimal(1), per_s=2.0, suppression={OUT})

    assert (found.total, found.valid, found.invalid, found.suppressed, found.duplicates) == (10, 7, 2, 1, 1)
    assert (found.parts, found.gsm7_parts, found.ucs2_parts, found.unmeasured, found.texts) == (5, 2, 3, 3, 5)
    assert [(forced.character, forced.messages) for forced in found.forced] == [("’", 2)]
    assert (found.price, found.cost, found.remaining) == (Decimal("0.04"), Decimal("0.20"), Decimal("0.80"))
    assert found.duration_s == 2.5
    assert [(fault.index, fault.reason) for fault in found.faults] == [
        (3, "`to` is empty."),
        (8, "The input gave a str where an SmsMessage, MmsMessage or VoiceMessage belongs."),
    ]
    assert [(repeat.index, repeat.first) for repeat in found.repeats] == [(1, 0)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([ONE, OTHER]), st.text(st.sampled_from("a€’😀"), min_size=1, max_size=200))))
def test_the_parts_are_those_of_the_texts(rows: list[tuple[str, str]]) -> None:
    """The parts are those that `segments` counts, and the duplicates are those that a set finds."""
    found = asyncio.run(preflight(SmsMessage(to, text) for to, text in rows))

    assert found.parts == sum(segments(text).parts for _, text in rows)
    assert found.duplicates == len(rows) - len(set(rows))
    assert found.total == found.valid == found.texts == len(rows)


async def test_countries_kinds_and_repeated_numbers_are_counted() -> None:
    """
    A preflight counts messages by country code and those to numbers that take no SMS, and finds numbers that come
    again, whatever the texts.
    """
    numbers = ["886912345678", "886912345679", "886223456789", "9512345678", "99900000001", "886912345678", "951234567"]
    messages = [SmsMessage(to, str(place)) for place, to in enumerate(numbers)]
    spoken = [VoiceMessage("886223456789", "hello"), SmsMessage("886912345678", "0")]

    found = await preflight([*messages, *spoken])
    said = str(found)

    assert [(country.code, country.messages, country.short) for country in found.countries] == [
        ("886", 6, 0),
        ("95", 2, 1),
        ("999", 1, 0),
    ]
    assert {kind.name: kind.messages for kind in found.no_sms} == {"fixed line": 3, "unknown": 1}
    assert (found.duplicates, found.same_number) == (1, 3)
    assert [(repeat.index, repeat.first) for repeat in found.same_numbers] == [(5, 0), (7, 2), (8, 0)]
    assert "country codes: 886: 6, 95: 2 (1 of nine digits or fewer: did a spreadsheet drop a 0?), 999: 1" in said
    assert "to numbers that take no SMS: 3 fixed line, 1 unknown" in said
    assert "message 5 has the number of 0" in said
    assert not any(number in said + repr(found) for number in numbers)


async def test_without_the_extra_no_kinds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, countries are counted and kinds are not."""
    monkeypatch.setattr("pico_async._number_kinds.is_checkable", lambda: False)

    found = await preflight([SmsMessage("886223456789", "hello")])

    assert found.no_sms == ()
    assert [str(country) for country in found.countries] == ["886: 1"]


async def test_an_input_may_say_that_a_message_is_suppressed() -> None:
    """A SuppressedError in the place of a message counts as suppressed, in a preflight and in a bulk send."""
    items = [SmsMessage(ONE, "hello"), SuppressedError("This number has its message already.")]

    found = await preflight(items)
    async with session_on(Sandbox()) as pico:
        report = await pico.send_bulk(items, stop_after=1)

    assert (found.valid, found.invalid, found.suppressed) == (1, 0, 1)
    assert (report.accepted, report.suppressed, report.stopped) == (1, 1, None)


async def test_an_empty_input_costs_nothing() -> None:
    """An empty input costs nothing and takes no time."""
    found = await preflight([], price=1, balance=Decimal(5), per_s=30)

    assert found == Preflight(price=Decimal(1), balance=Decimal(5), per_s=30)
    assert (found.cost, found.remaining, found.duration_s) == (0, 5, 0)


async def test_neither_its_str_nor_its_repr_tells_a_number_or_a_text() -> None:
    """
    The str and the repr of a preflight show no number and no text.

    The str contains every result, and a preflight survives pickling.
    """
    found = await preflight(mixed(), price="0.04", balance=Decimal("0.1"), per_s=2.0, suppression={OUT})

    said, shown = str(found), repr(found)

    assert not any(
        secret in said + shown for secret in (ONE, OTHER, OUT, "’", "hello", "aaa", "王", "t-1", "a cat", "cat.jpg")
    )
    for expected in (
        "10 in the input: 7 to send (1 of them duplicates), 2 invalid, 1 suppressed",
        "parts: 5 (2 in GSM-7, 3 in UCS-2)",
        "forced into UCS-2 by U+2019 RIGHT SINGLE QUOTATION MARK in 2",
        "without parts to count: 3",
        "estimated cost: 0.20 at 0.04 a part",
        "balance: 0.1, which leaves -0.10",
        "takes 0.0 minutes at 2.0 a second",
        "message 3: `to` is empty.",
        "message 1 repeats 0",
    ):
        assert expected in said
    assert pickle.loads(pickle.dumps(found)) == found


async def test_the_session_adds_its_pace_and_one_look_at_the_balance() -> None:
    """A session's preflight adds the session's rate and one balance request, and sends no message."""
    sandbox = Sandbox(balance=Decimal("12.50"))
    async with session_on(sandbox, rates=Rates(jitter_allowance_s=0.01)) as pico:
        found = await pico.preflight(mixed(), price=Decimal("0.04"), suppression={OUT})

    assert (found.balance, found.remaining) == (Decimal("12.50"), Decimal("12.30"))
    assert found.per_s == pytest.approx(29.6, abs=0.1)
    assert [arrival.operation for arrival in sandbox.ledger.arrivals] == ["token.get", "balance.get"]
    assert not sandbox.ledger.accepted


async def test_without_a_price_pico_is_not_asked() -> None:
    """Without a price, a preflight makes no request, because there is no cost to compare with the balance."""
    sandbox = Sandbox()
    async with session_on(sandbox) as pico:
        found = await pico.preflight(mixed())

    assert found.balance is found.cost is found.remaining is None
    assert not sandbox.ledger.arrivals


async def test_a_session_without_a_sender_knows_that_nothing_would_go() -> None:
    """In a session without a sender, a message that needs a sender and has none counts as invalid."""
    messages = [SmsMessage(ONE, "hello"), SmsMessage(ONE, "hello", sender="8612345678888"), VoiceMessage(ONE, "hello")]
    async with session_on(Sandbox(), sender=None) as pico:
        found = await pico.preflight(messages)

    assert (found.valid, found.invalid) == (2, 1)
    assert "has no sender" in found.faults[0].reason


async def test_a_balance_request_that_fails_raises_before_the_input_is_read() -> None:
    """If the balance cannot be fetched, the error is raised before the input is read."""
    source = iter(mixed())
    async with session_on(Sandbox(), api_key="wrong") as pico:
        with pytest.raises(AuthenticationError):
            await pico.preflight(source, price=1)

    assert len(list(source)) == 10


@pytest.mark.parametrize("price", ["nan", "inf", -1, "-0.01", float("nan"), "", "a", True, b"1", [], "1e99"], ids=repr)
async def test_what_is_no_price_is_refused_before_anything_is_read(price: Any) -> None:
    """An invalid price is refused before the input is read, and a session makes no request."""
    sandbox = Sandbox()
    source = iter(mixed())
    with pytest.raises(ConfigurationError, match="price of a part"):
        await preflight(source, price=price)
    async with session_on(sandbox) as pico:
        with pytest.raises(ConfigurationError, match="price of a part"):
            await pico.preflight(source, price=price)

    assert len(list(source)) == 10
    assert not sandbox.ledger.arrivals


@pytest.mark.parametrize("price", [Decimal("0.1"), 0.1, "0.1", " 0.1 "])
async def test_a_price_is_meant_as_it_is_written(price: Any) -> None:
    """A price is exact as written, also as a float: three parts at 0.1 cost 0.3."""
    found = await preflight([SmsMessage(ONE, str(number)) for number in range(3)], price=price)

    assert str(found.cost) == "0.3"


@pytest.mark.parametrize("per_s", [0, -1, float("nan"), "30"])
async def test_a_pace_is_positive(per_s: Any) -> None:
    """A `per_s` that is not a positive number is refused."""
    with pytest.raises(ConfigurationError, match="`per_s`"):
        await preflight([], per_s=per_s)


@pytest.mark.parametrize("balance", [0.1, "1"])
async def test_a_balance_is_exact(balance: Any) -> None:
    """A `balance` that is a float or a string is refused; Pico's balance is a Decimal, and a float is not exact."""
    with pytest.raises(ConfigurationError, match="`balance`"):
        await preflight([], balance=balance)


@pytest.mark.parametrize("messages", ["hello", None, 5, b"hello"])
async def test_what_is_no_input_is_refused(messages: Any) -> None:
    """An input that is no iterable of messages is refused, as by `send_bulk`."""
    with pytest.raises(ConfigurationError, match="iterable"):
        await preflight(messages)


class Closing:
    """An input whose async generator records that it was closed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.closed = False
        self._error = error
        self.waits = asyncio.Event()

    async def messages(self) -> AsyncIterator[SmsMessage]:
        try:
            yield SmsMessage(ONE, "hello")
            if self._error is not None:
                raise self._error
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("raised", "caught"), [(ZeroDivisionError(), ZeroDivisionError), (asyncio.CancelledError(), NotSentError)]
)
async def test_what_the_input_raises_in_the_middle_is_raised(
    raised: BaseException, caught: type[BaseException]
) -> None:
    """
    An exception of the input is raised, and the input is closed.

    A cancellation inside the input becomes NotSentError, because the caller itself was not cancelled.
    """
    source = Closing(raised)

    with pytest.raises(caught):
        await preflight(source.messages())

    assert source.closed


async def test_a_generator_that_raises_an_invalid_message_ended_early() -> None:
    """A generator cannot continue after InvalidMessageError, so the result states that the input ended early."""

    def generator() -> Iterator[SmsMessage]:
        yield SmsMessage(ONE, "hello")
        yield SmsMessage("", "hello")

    found = await preflight(generator())

    assert (found.valid, found.invalid) == (1, 1)
    assert "yield the error" in (found.stopped or "")
    assert "not read to its end" in str(found)


async def test_it_is_cancelled_where_it_waits_for_the_input() -> None:
    """A preflight that waits for its input can be cancelled by its task or by a scope, and the input is closed."""
    source = Closing()
    looking = asyncio.create_task(preflight(source.messages()))
    await source.waits.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    scoped = Closing()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(preflight, scoped.messages())
            await scoped.waits.wait()
            scope.cancel()

    assert source.closed
    assert scoped.closed
    assert scope.cancelled_caught


async def test_the_loop_goes_on_while_a_long_list_is_counted() -> None:
    """While a long input is counted, the event loop runs and the preflight can be cancelled."""
    endless = (SmsMessage(ONE, "hello") for _ in iter(int, 1))
    turns = 0

    looking = asyncio.create_task(preflight(endless))
    for _ in range(20):
        await asyncio.sleep(0)
        turns += 1
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking

    assert turns == 20


async def test_the_loop_goes_on_while_long_texts_are_counted() -> None:
    """The event loop runs after a few long texts, because their length is what takes time."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    await preflight([SmsMessage(ONE, "x" * 50_000) for _ in range(40)])
    counting.cancel()

    assert turns >= 10


async def test_a_hook_that_fails_ends_the_look_with_its_own_error() -> None:
    """
    An exception of the suppression hook ends the preflight unchanged, and a hook that returns None raises TypeError.

    A preflight sends nothing, so this does no harm.
    """

    def fails(number: str) -> bool:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await preflight(mixed(), suppression=fails)
    with pytest.raises(TypeError, match="must answer True or False"):
        await preflight(mixed(), suppression=lambda number: None)


async def test_the_input_is_closed_also_where_something_else_ends_the_look() -> None:
    """The input is closed when another exception ends the preflight, because the input may hold a file or a cursor."""
    source = Closing()

    with pytest.raises(ZeroDivisionError):
        await preflight(source.messages(), suppression=lambda number: bool(1 // 0))

    assert source.closed


@pytest.mark.parametrize("count", [4_000, pytest.param(1_000_000, marks=pytest.mark.full)])
async def test_memory_does_not_grow_with_the_input(count: int) -> None:
    """
    Memory does not grow with the input, because a preflight keeps only one digest per message, in SQLite.

    The memory of SQLite itself is measured with `pico blast`.
    """

    async def peak(messages: int) -> int:
        tracemalloc.start()
        try:
            found = await preflight(SmsMessage(ONE, f"It’s {number}") for number in range(messages))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert found.total == found.valid == messages

    await peak(1_000)
    few = await peak(1_000)

    many = await peak(count)

    assert many < few + 20_000


def test_the_public_name_is_the_function_and_not_its_module() -> None:
    """`pico_async.preflight` is the function, also after its module of the same name was imported."""
    module = importlib.import_module("pico_async.bulk.preflight")

    assert pico_async.preflight is module.preflight
