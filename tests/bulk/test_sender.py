"""These tests check that a bulk send reads its input lazily, limits its concurrency and reports each message."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import anyio
import pytest

from pico_async import (
    Accepted,
    BulkError,
    BulkReport,
    BulkStream,
    ConfigurationError,
    InvalidMessageError,
    NoResponseError,
    NotSentError,
    Outcome,
    RejectedError,
    SendResult,
    SmsMessage,
    preflight,
)
from pico_async._engine.progress import CallProgress
from pico_async.bulk.sender import send_all
from pico_async.messages import Message

pytestmark = pytest.mark.virtual_time


def messages(count: int) -> Iterator[SmsMessage]:
    return (SmsMessage("8612345678901", f"hello {n}", key=str(n)) for n in range(count))


class Line:
    """A mock send that takes one virtual second and does what `fates` holds for the message's key."""

    def __init__(self, **fates: Any) -> None:
        self.fates = {key.removeprefix("n"): fate for key, fate in fates.items()}
        self.in_flight = 0
        self.most_in_flight = 0
        self.begun: list[str | None] = []

    async def send(self, message: Message, progress: CallProgress) -> Accepted:
        self.begun.append(message.key)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        fate = self.fates.get(message.key, self.fates.get("all"))
        try:
            if fate == "waits":
                await asyncio.sleep(1000)
            progress.attempts += 1
            progress.exchanging = progress.in_doubt = True
            await asyncio.sleep(1)
            if isinstance(fate, BaseException):
                raise fate
            return Accepted(f"r-{message.key}")
        finally:
            self.in_flight -= 1


def stream_of(source: Any, line: Line, *, concurrency: int = 4, stop_after: int | None = None) -> BulkStream:
    return BulkStream(source, line.send, concurrency=concurrency, stop_after=stop_after)


async def results_of(stream: BulkStream) -> list[SendResult]:
    async with stream as results:
        return [result async for result in results]


async def drawn_from(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("source", [list, iter, drawn_from], ids=["list", "iterator", "async iterator"])
async def test_each_message_of_any_iterable_gets_its_result(source: Any) -> None:
    """Each message of any kind of iterable gets one result with its own index, key and `request_id`."""
    results = await results_of(stream_of(source(messages(10)), Line()))

    assert sorted(result.index for result in results) == list(range(10))
    assert all(result.key == str(result.index) and result.request_id == f"r-{result.index}" for result in results)
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}


async def test_no_more_are_in_flight_than_the_concurrency() -> None:
    """A bulk send of 20 messages has at most `concurrency` messages in flight, and reaches that number."""
    line = Line()

    await results_of(stream_of(messages(20), line, concurrency=5))

    assert line.most_in_flight == 5


async def test_capacity_is_acquired_before_the_next_message_is_read() -> None:
    """A message is read from the input only when it can be in flight: with five in flight, no sixth is read."""
    read = []

    def source() -> Iterator[SmsMessage]:
        for message in messages(100):
            read.append(message)
            yield message

    async with stream_of(source(), Line(all="waits"), concurrency=5):
        await asyncio.sleep(10)
        assert len(read) == 5


async def test_results_come_as_they_finish() -> None:
    """A result is returned as soon as its message finishes, even if an earlier message still waits."""
    async with stream_of(messages(2), Line(n0="waits")) as results:
        first = await anext(results)

        assert first.index == 1


async def test_a_slow_reader_slows_the_bulk_send() -> None:
    """Unread results count against `concurrency`, so a caller that does not read them stops the bulk send."""
    line = Line()

    async with stream_of(messages(100), line, concurrency=4) as results:
        await anext(results)
        await asyncio.sleep(100)

        assert len(line.begun) == 5


async def test_a_bad_item_is_a_result_and_ends_nothing() -> None:
    """An item that is no message gets a failed result at its own index, and the other messages are sent."""
    first, second = messages(2)
    error = InvalidMessageError("row 3 has no code")

    results = await results_of(stream_of([first, None, {"to": "1"}, error, second], Line()))

    by_index = {result.index: result for result in results}
    assert [by_index[n].ok for n in range(5)] == [True, False, False, False, True]
    assert "NoneType" in str(by_index[1].error)
    assert by_index[3].error is error
    assert by_index[3].outcome is Outcome.NOT_SENT


async def test_an_iterator_that_survives_its_error_is_read_on() -> None:
    """An iterator that can continue after InvalidMessageError, such as `map()`, is read to its end."""
    numbers = ["8612345678901", "no number", "8612345678902"]

    results = await results_of(stream_of(map(lambda to: SmsMessage(to, "hi"), numbers), Line()))

    assert sorted((result.index, result.ok) for result in results) == [(0, True), (1, False), (2, True)]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["generator", "async generator"])
async def test_a_generator_that_ends_with_a_bad_row_does_not_end_in_silence(asynchronous: bool) -> None:
    """A generator cannot continue after InvalidMessageError, so the report states that the input ended early."""
    numbers = ["8612345678901", "no number", "8612345678902"]
    source: Any = (SmsMessage(to, "hi") for to in numbers)
    if asynchronous:
        source = (SmsMessage(to, "hi") async for to in drawn_from(numbers))

    report = await send_all(stream_of(source, Line()), None)

    assert (report.total, report.accepted, report.not_sent) == (2, 1, 1)
    assert "generator" in str(report.stopped)
    with pytest.raises(BulkError, match="ended early"):
        report.raise_for_failures()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["generator", "async generator"])
async def test_an_input_that_breaks_is_raised_once_all_is_settled(asynchronous: bool) -> None:
    """An exception of the input is raised only after the results of all messages in flight were returned."""

    def source() -> Iterator[SmsMessage]:
        yield from messages(3)
        raise KeyError("phone")

    stream, seen = stream_of(drawn_from(source()) if asynchronous else source(), Line()), []

    with pytest.raises(KeyError, match="phone"):
        async with stream as results:
            async for result in results:
                seen.append(result.outcome)

    assert seen == [Outcome.ACCEPTED] * 3
    assert stream.report.accepted == 3
    assert stream.report.stopped == "the input raised KeyError"


class Ending:
    """An iterator that gives two messages, and then raises what ends loops of the other kind."""

    def __init__(self) -> None:
        self._messages = messages(2)

    def __next__(self) -> SmsMessage:
        for message in self._messages:
            return message
        raise StopAsyncIteration


class EndingSync(Ending):
    def __iter__(self) -> EndingSync:
        return self


class EndingAsync(Ending):
    def __aiter__(self) -> EndingAsync:
        return self

    def __anext__(self) -> Any:
        for message in self._messages:

            async def give(message: SmsMessage = message) -> SmsMessage:
                return message

            return give()
        raise StopIteration


def _sync_generator() -> Iterator[SmsMessage]:
    yield from messages(2)
    raise StopAsyncIteration


async def _async_generator() -> AsyncIterator[SmsMessage]:
    for message in messages(2):
        yield message
    raise StopIteration


@pytest.mark.parametrize("source", [EndingSync, EndingAsync, _sync_generator, _async_generator])
async def test_an_error_that_would_end_a_loop_does_not_end_it_in_silence(source: Callable[[], Any]) -> None:
    """An input that raises StopAsyncIteration in a sync loop, or StopIteration in an async one, ends with an error."""
    results = []
    stream = stream_of(source(), Line())

    with pytest.raises(RuntimeError, match="raised Stop"):
        async with stream:
            async for result in stream:
                results.append(result)

    assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 2
    assert stream.report.accepted == 2
    assert stream.report.stopped is not None
    with pytest.raises(RuntimeError, match="raised Stop"):
        await send_all(stream_of(source(), Line()), None)
    with pytest.raises(RuntimeError, match="raised Stop"):
        await preflight(source())


async def test_an_input_whose_own_waiting_was_cancelled_has_not_ended() -> None:
    """A cancelled helper task of the input raises NotSentError and is not taken for the end of the input."""

    async def source() -> AsyncIterator[SmsMessage]:
        for message in messages(3):
            yield message
        helper = asyncio.create_task(asyncio.sleep(1))
        helper.cancel()
        await helper

    stream = stream_of(source(), Line())

    with pytest.raises(NotSentError, match="something that it waited for was cancelled"):
        await send_all(stream, None)

    assert stream.report.stopped is not None
    assert stream.report.accepted == 3


async def test_a_stream_that_was_not_entered_or_is_used_up_says_so() -> None:
    """Reading a stream that is not entered, used up or stopped raises ConfigurationError instead of waiting forever."""
    stream = stream_of(messages(1), Line())

    with pytest.raises(ConfigurationError, match="async with"):
        await anext(stream)
    await results_of(stream)
    with pytest.raises(ConfigurationError, match="make another"):
        await results_of(stream)
    stopped = stream_of(messages(1), Line())
    stopped.stop("the session was closed")
    with pytest.raises(ConfigurationError, match="the session was closed"):
        await results_of(stopped)


async def test_one_message_s_error_does_not_end_the_others() -> None:
    """A failed message does not end the others; after a write, an unexpected error leaves its message in doubt."""
    line = Line(n1=RejectedError("refused"), n2=NotSentError("unreached"), n3=RuntimeError("a bug"))
    line.fates["5"] = asyncio.CancelledError()

    results = await results_of(stream_of(messages(7), line))

    outcomes = {result.index: result.outcome for result in results}
    assert outcomes == {
        0: Outcome.ACCEPTED,
        1: Outcome.REJECTED,
        2: Outcome.NOT_SENT,
        3: Outcome.IN_DOUBT,
        4: Outcome.ACCEPTED,
        5: Outcome.IN_DOUBT,
        6: Outcome.ACCEPTED,
    }


async def test_a_message_that_is_refused_before_its_call_is_awaited_ends_no_other() -> None:
    """A send that raises as it is called, and not as it is awaited, fails its own message alone."""
    line = Line()

    def send(message: Message, progress: CallProgress) -> Any:
        if message.key == "1":
            raise InvalidMessageError("a private host")
        return line.send(message, progress)

    results = await results_of(BulkStream(messages(4), send, concurrency=2, stop_after=None))

    assert {result.index: result.outcome for result in results if not result.ok} == {1: Outcome.NOT_SENT}
    assert len(results) == 4


async def test_leaving_early_stops_at_once() -> None:
    """
    Leaving the `async with` stops the bulk send at once.

    `leftover` holds written messages as in doubt and waiting ones as not sent, and no task remains.
    """
    tasks, line = asyncio.all_tasks(), Line(n2="waits", n3="waits")

    async with stream_of(messages(100), line, concurrency=4) as results:
        await asyncio.sleep(0.5)
    begun = len(line.begun)
    await asyncio.sleep(5)

    assert len(line.begun) == begun == 4
    assert asyncio.all_tasks() == tasks
    leftover = {result.index: (result.outcome, type(result.error)) for result in results.leftover}
    assert leftover == {
        0: (Outcome.IN_DOUBT, NoResponseError),
        1: (Outcome.IN_DOUBT, NoResponseError),
        2: (Outcome.NOT_SENT, NotSentError),
        3: (Outcome.NOT_SENT, NotSentError),
    }
    assert (results.report.total, results.report.in_doubt, results.report.not_sent) == (4, 2, 2)


async def test_results_that_were_not_taken_are_left_over() -> None:
    """Results that were not read when the `async with` is left are in `leftover`, with their own outcomes."""
    async with stream_of(messages(100), Line(), concurrency=4) as results:
        await asyncio.sleep(1.5)

    assert sorted((result.index, result.outcome) for result in results.leftover) == [
        (index, Outcome.ACCEPTED) for index in range(4)
    ]
    assert results.report.accepted == 4


async def test_what_is_read_in_the_moment_of_the_stop_is_not_sent() -> None:
    """A message that is read while the bulk send stops is not sent, and it gets a result."""
    line = Line()

    async def source() -> AsyncIterator[SmsMessage]:
        first, second = messages(2)
        yield first
        results.stop("enough")
        yield second

    async with stream_of(source(), line) as results:
        outcomes = {result.index: result.outcome async for result in results}

    assert outcomes[1] is Outcome.NOT_SENT
    assert "1" not in line.begun


async def test_leaving_with_an_error_raises_that_error() -> None:
    """An exception in the body of the `async with` is raised unchanged, not in an exception group."""
    with pytest.raises(ZeroDivisionError):
        async with stream_of(messages(10), Line()) as results:
            async for _ in results:
                _ = 1 / 0


async def test_leaving_early_closes_an_async_generator() -> None:
    """Leaving the `async with` early closes an async generator before the block ends."""
    closed = False

    async def source() -> AsyncIterator[SmsMessage]:
        nonlocal closed
        try:
            for message in messages(100):
                yield message
        finally:
            closed = True

    async with stream_of(source(), Line(all="waits")):
        await asyncio.sleep(1)

    assert closed


async def test_a_cancelled_bulk_send_reports_messages_in_flight() -> None:
    """A cancelled bulk send calls `on_result` for each message in flight before the cancellation continues."""
    line, reported = Line(n1="waits"), {}

    def on_result(result: SendResult) -> None:
        reported[result.index] = result.outcome

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await send_all(stream_of(messages(100), line, concurrency=2), on_result)

    assert reported == {0: Outcome.ACCEPTED, 2: Outcome.ACCEPTED, 3: Outcome.IN_DOUBT, 1: Outcome.NOT_SENT}


async def test_on_result_may_be_async_and_its_error_is_the_caller_s() -> None:
    """
    An async `on_result` is awaited.

    Its exception is raised unchanged after `on_result` was called for each message in flight.
    """
    reported = []
    stream = stream_of(messages(100), Line())

    async def on_result(result: SendResult) -> None:
        await asyncio.sleep(0.1)
        reported.append(result.index)
        if len(reported) in (3, 5):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        await send_all(stream, on_result)

    assert len(reported) == stream.report.total, "results of messages in flight are reported, too"
    assert "on_result raised ZeroDivisionError" in raised.value.__notes__[0]


async def test_stop_after_failures_in_a_row_ends_the_bulk_send() -> None:
    """
    `stop_after` failures in a row stop the bulk send, and the report states why.

    Waiting messages are not sent, and the rest of the input is not read.
    """
    line = Line(all=RejectedError("refused"))

    report = await send_all(stream_of(messages(1000), line, concurrency=4, stop_after=5), None)

    assert report.stopped == "5 failures in a row"
    assert len(line.begun) <= 12
    assert report.total == report.rejected + report.not_sent <= 12


async def test_a_success_between_failures_begins_the_count_anew() -> None:
    """A success between failures resets the count for `stop_after`."""
    line = Line(**{f"n{n}": RejectedError("refused") for n in range(9) if n != 4})

    report = await send_all(stream_of(messages(20), line, concurrency=1, stop_after=5), None)

    assert report.stopped is None
    assert (report.accepted, report.rejected) == (12, 8)


async def test_stop_settles_what_is_on_the_wire_and_drops_what_waits() -> None:
    """`stop()` waits for messages on the wire and does not send waiting ones. A result is returned for each of them."""
    line = Line(n2="waits", n3="waits")
    stream, seen = stream_of(messages(100), line, concurrency=4), {}

    async with stream as results:
        await asyncio.sleep(0.5)
        results.stop("enough")
        async for result in results:
            seen[result.index] = result.outcome

    assert seen == {0: Outcome.ACCEPTED, 1: Outcome.ACCEPTED, 2: Outcome.NOT_SENT, 3: Outcome.NOT_SENT}
    assert stream.report.stopped == "enough"


async def test_no_message_that_was_read_goes_without_a_result() -> None:
    """Each message that was read gets exactly one result, whenever the bulk send is stopped."""
    for tenths in range(0, 40, 3):
        read = []

        async def source(read: list[int] = read) -> AsyncIterator[SmsMessage]:
            for number, message in enumerate(messages(50)):
                await asyncio.sleep(0.05)
                read.append(number)
                yield message

        seen = []
        async with stream_of(source(), Line(n3="waits"), concurrency=7) as results:
            asyncio.get_running_loop().call_later(tenths / 10, results.stop, "enough")
            seen = [result.index async for result in results]

        assert sorted(seen) == read


async def test_the_report_counts_and_raises() -> None:
    """The report counts the outcomes, and the error of `raise_for_failures` has the gravest one."""
    line = Line(n1=RejectedError("refused"), n2=NoResponseError("lost"))

    report = await send_all(stream_of(messages(4), line), None)

    assert (report.total, report.accepted, report.rejected, report.in_doubt) == (4, 2, 1, 1)
    assert {failure.index for failure in report.failures} == {1, 2}
    assert report.elapsed == pytest.approx(1, abs=0.01)
    assert report.rate == pytest.approx(2, rel=0.01)
    with pytest.raises(BulkError, match="1 in doubt, 1 rejected") as raised:
        report.raise_for_failures()
    assert raised.value.outcome is Outcome.IN_DOUBT


async def test_raise_for_failures_raises_nothing_without_failures() -> None:
    """`raise_for_failures` raises nothing after a bulk send without failures or without messages."""
    (await send_all(stream_of(messages(3), Line()), None)).raise_for_failures()
    report = await send_all(stream_of([], Line()), None)

    report.raise_for_failures()
    assert report.total == 0
    assert BulkReport().rate == 0


async def test_only_the_first_failures_are_kept() -> None:
    """The report keeps only the first 20 failures, so a million failures do not fill the memory."""
    report = await send_all(stream_of(messages(100), Line(all=RejectedError("refused"))), None)

    assert report.rejected == 100
    assert len(report.failures) == 20


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"concurrency": 1.5}, {"stop_after": 0}, {"stop_after": True}]
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any]) -> None:
    """A bad `concurrency` or `stop_after` is refused by name when the stream is made."""
    with pytest.raises(ConfigurationError, match=f"`{next(iter(settings))}`"):
        stream_of([], Line(), **settings)


@pytest.mark.parametrize("source", [None, 5, "8612345678901", SmsMessage("8612345678901", "hi")])
def test_what_is_no_iterable_of_messages_is_refused(source: Any) -> None:
    """An input that is no iterable of messages is refused; a string is refused, too."""
    with pytest.raises(ConfigurationError, match="iterable"):
        stream_of(source, Line())


async def test_a_task_cancelled_by_other_code_does_not_end_the_bulk_send() -> None:
    """If other code cancels the task of one message, that message is in doubt, and the other messages are accepted."""
    line, seen = Line(), []

    async def send(message: Message, progress: CallProgress) -> Accepted:
        if message.key == "3":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        return await line.send(message, progress)

    async with BulkStream(messages(6), send, concurrency=2, stop_after=None) as results:
        seen = [(result.index, result.outcome) async for result in results]

    assert sorted(index for index, _ in seen) == list(range(6))
    assert dict(seen)[3] is Outcome.IN_DOUBT
    assert [outcome for _, outcome in seen].count(Outcome.ACCEPTED) == 5


@pytest.mark.no_cover
async def test_a_bulk_send_keeps_no_message_that_it_sent() -> None:
    """While 5,000 messages are sent eight at a time, at most 20 message objects are alive."""
    living = []

    def watch(result: SendResult) -> None:
        if result.index % 1000 == 999:
            gc.collect()
            living.append(sum(isinstance(thing, SmsMessage) for thing in gc.get_objects()))

    await send_all(stream_of(messages(5000), Line(), concurrency=8), watch)

    assert max(living) <= 20


class Ended(BaseException):
    """An interrupt that is no Exception."""


async def _results(stream: BulkStream) -> AsyncIterator[SendResult]:
    async with stream as results:
        async for result in results:
            yield result


async def _left_by_break(stream: BulkStream) -> None:
    async for _ in _results(stream):
        break


async def _left_in_aclosing(stream: BulkStream) -> None:
    async with aclosing(_results(stream)) as results:
        async for _ in results:
            break


async def _left_in_another_task(stream: BulkStream) -> None:
    """Enter the stream in one task, read it in a second, and leave it in a third, as a fixture or a web server does."""
    stack = AsyncExitStack()
    await asyncio.create_task(stack.enter_async_context(stream))
    await asyncio.create_task(anext(stream))
    await asyncio.create_task(stack.aclose())


async def _left_by_a_cancelled_task(stream: BulkStream) -> None:
    """Cancel the task that reads the stream, as a web server does when its client goes."""

    async def read() -> None:
        async for _ in _results(stream):
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(2.5)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def _left_in_a_cancelled_scope(stream: BulkStream) -> None:
    with anyio.move_on_after(2.5):
        async for _ in _results(stream):
            pass


async def _never_left(stream: BulkStream) -> None:
    """Enter the stream, read one result, and drop the stream."""
    await stream.__aenter__()
    await anext(stream)


LEFT: list[Callable[[BulkStream], Any]] = [
    _left_by_break,
    _left_in_aclosing,
    _left_in_another_task,
    _left_by_a_cancelled_task,
    _left_in_a_cancelled_scope,
    _never_left,
]


@pytest.mark.parametrize("eager", [False, True], ids=["tasks", "eager tasks"])
@pytest.mark.parametrize("leave", LEFT)
async def test_however_a_stream_is_left_it_stops_and_the_caller_goes_on(
    leave: Callable[[BulkStream], Any], eager: bool
) -> None:
    """
    However a stream is left, it sends no further message and leaves no task.

    The caller's task is not cancelled, and the loop's exception handler is not called.
    """
    loop, line, complaints = asyncio.get_running_loop(), Line(), list[Any]()
    if eager:
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks are new in Python 3.12")
        loop.set_task_factory(asyncio.eager_task_factory)
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    tasks = asyncio.all_tasks()

    await leave(stream_of(messages(200), line))
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(2)
    begun = len(line.begun)
    await asyncio.sleep(10)

    assert begun == len(line.begun) < 20
    assert asyncio.all_tasks() == tasks
    assert not complaints
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


def test_a_loop_ends_although_a_stream_in_it_was_not_left() -> None:
    """`asyncio.run` returns while a stream is still entered, and no message is begun after its tasks are cancelled."""
    line = Line(all="waits")
    kept = []

    async def main() -> None:
        stream = stream_of(messages(200), line)
        kept.append(stream)
        await stream.__aenter__()
        while len(line.begun) < 4:
            await asyncio.sleep(0)

    asyncio.run(main())

    assert len(line.begun) == 4
    assert kept[0].report.not_sent == 4


@pytest.mark.parametrize("scope", ["timeout", "task group", "task"])
@pytest.mark.parametrize("stopped", [False, True], ids=["to its end", "left early"])
async def test_an_async_input_is_read_and_closed_in_one_task(scope: str, stopped: bool) -> None:
    """An async generator may hold a timeout or a task group open across its yields: one task reads and closes it."""
    tasks = set[Any]()

    async def source() -> AsyncIterator[SmsMessage]:
        async with AsyncExitStack() as stack:
            if scope == "timeout":
                await stack.enter_async_context(asyncio.timeout(1000))
            elif scope == "task group":
                group = await stack.enter_async_context(anyio.create_task_group())
                group.start_soon(anyio.sleep, 0.1)
            try:
                for message in messages(12):
                    tasks.add(asyncio.current_task())
                    await asyncio.sleep(0.01)
                    yield message
            finally:
                await asyncio.sleep(0)
                tasks.add(asyncio.current_task())

    seen = []
    async with stream_of(source(), Line(), concurrency=3) as results:
        async for result in results:
            seen.append(result.index)
            if stopped:
                break

    assert len(tasks) == 1
    assert len(seen) == (1 if stopped else 12)


async def _raises_when_closed() -> AsyncIterator[SmsMessage]:
    try:
        for message in messages(200):
            yield message
    finally:
        raise ZeroDivisionError("the file failed to close")


async def _yields_when_closed() -> AsyncIterator[SmsMessage]:
    try:
        for message in messages(200):
            yield message
    finally:
        yield SmsMessage("8612345678901", "one more")


async def _yields_when_cancelled() -> AsyncIterator[SmsMessage]:
    for message in messages(200):
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            yield message
            raise
        yield message


async def _ends_the_process() -> AsyncIterator[SmsMessage]:
    for message in messages(6):
        yield message
    raise Ended


INPUTS = [_raises_when_closed, _yields_when_closed, _yields_when_cancelled, _ends_the_process]


@pytest.mark.parametrize("ending", ["cancelled", "on_result raises", "on_result ends the process", "stopped"])
@pytest.mark.parametrize("source", [*INPUTS, lambda: drawn_from(messages(200))])
async def test_each_message_that_was_begun_is_reported_once_whatever_ends_it(
    source: Callable[[], AsyncIterator[SmsMessage]], ending: str
) -> None:
    """Whatever ends a bulk send, and whatever its input does then, each message that was begun is reported once."""
    line, reported = Line(), list[int]()
    stream = stream_of(source(), line)

    def report(result: SendResult) -> None:
        reported.append(result.index)
        if len(reported) >= 5 and ending == "on_result raises":
            raise KeyError
        if len(reported) >= 5 and ending == "on_result ends the process":
            raise Ended
        if len(reported) == 5 and ending == "stopped":
            stream.stop("enough")

    sending = asyncio.create_task(send_all(stream, report))
    await asyncio.sleep(2.5)
    if ending == "cancelled":
        sending.cancel()
    with suppress(BaseException):
        await sending

    assert sorted(reported) == list(range(len(reported)))
    assert {str(index) for index in reported} >= set(map(str, line.begun))
    assert stream.report.total == len(reported)


async def test_the_error_of_an_input_that_fails_to_close_is_not_lost() -> None:
    """The error of an input that fails to close is raised when the stream is left, or noted on the body's own error."""
    with pytest.raises(ZeroDivisionError):
        async with stream_of(_raises_when_closed(), Line()) as results:
            await anext(results)
    with pytest.raises(KeyError) as raised:
        async with stream_of(_raises_when_closed(), Line()) as results:
            await anext(results)
            raise KeyError

    assert "raised ZeroDivisionError" in raised.value.__notes__[0]


async def test_an_interrupt_within_the_bulk_send_is_raised_to_the_caller() -> None:
    """
    An interrupt that the input or the sending raises reaches the caller.

    Before that, what is on the wire is settled, and all of it is reported.
    """
    reported = list[Any]()
    with pytest.raises(Ended):
        await send_all(stream_of(_ends_the_process(), Line()), reported.append)
    assert [result.outcome for result in reported] == [Outcome.ACCEPTED] * 6

    reported.clear()
    stream = stream_of(messages(200), Line(n2=Ended()))
    with pytest.raises(Ended):
        await send_all(stream, reported.append)
    assert {result.index: result.outcome for result in reported if not result.ok} == {2: Outcome.IN_DOUBT}
    assert stream.report.total == len(reported) < 10


async def test_a_closed_stream_ends_each_later_iteration() -> None:
    """Reading a stream after it was left ends at once, also for a task that reads while another one leaves it."""
    async with stream_of(messages(200), Line(all="waits")) as results:
        reading = asyncio.create_task(anext(results, None))
        await asyncio.sleep(1)

    assert await reading is not None or results.leftover
    assert await anext(results, None) is None


async def test_stopping_a_finished_bulk_send_changes_nothing() -> None:
    """`stop()` after the last message was sent does not change the report, as when the session is closed then."""
    async with stream_of(messages(3), Line()) as results:
        await asyncio.sleep(5)
        results.stop("the session was closed")
        seen = [result.outcome async for result in results]
    results.stop("the session was closed")

    assert seen == [Outcome.ACCEPTED] * 3
    assert results.report.stopped is None
    results.report.raise_for_failures()


async def test_the_repr_shows_the_live_state() -> None:
    """The repr of a stream shows its state, its messages accepted, being exchanged and waiting, and why it stopped."""
    stream = stream_of(messages(100), Line(n1="waits", n2=RejectedError("refused")), concurrency=3)
    assert repr(stream) == "<BulkStream, not begun: 0 of 0 accepted, 0 being exchanged, 0 waiting>"

    async with stream as results:
        await asyncio.sleep(0.5)
        assert repr(stream) == "<BulkStream, running: 0 of 0 accepted, 2 being exchanged, 1 waiting>"
        await asyncio.sleep(1)
        assert repr(stream) == "<BulkStream, running: 1 of 2 accepted, 0 being exchanged, 1 waiting>"
        results.stop("a disk is full")
        assert (
            repr(stream)
            == "<BulkStream, stopping because a disk is full: 1 of 2 accepted, 0 being exchanged, 1 waiting>"
        )

    assert repr(stream) == "<BulkStream, ended because a disk is full: 1 of 3 accepted, 0 being exchanged, 0 waiting>"
