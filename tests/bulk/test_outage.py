"""A bulk send gives up no messages while nothing can be sent, and stops when that lasts too long."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from pico_async import (
    Accepted,
    AuthenticationError,
    ConfigurationError,
    InDoubtError,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoSession,
    RateLimitError,
    Rates,
    RedisCoordinator,
    RejectedError,
    SendResult,
    ServerError,
    SmsMessage,
    UnexpectedResponseError,
)
from pico_async._engine.progress import CallProgress
from pico_async.bulk.sender import BulkStream, send_all
from pico_async.messages import Message
from pico_async.sandbox import Sandbox
from tests.support.ports import free_port

TO = "8612345678901"


def messages(count: int, *, expires_in: float | None = None) -> Iterator[SmsMessage]:
    return (SmsMessage(TO, f"hello {n}", key=str(n), expires_in=expires_in) for n in range(count))


class FlakySend:
    """A mock send that takes 10 virtual milliseconds and fails with `error` between two times."""

    def __init__(self, error: Exception, *, until_s: float, from_s: float = 0.0, only: str | None = None) -> None:
        self._error = error
        self._only = only
        self._broken_from = time.monotonic() + from_s
        self._broken_until = time.monotonic() + until_s
        self.tried: list[str | None] = []

    async def send(self, message: Message, progress: CallProgress) -> Accepted:
        self.tried.append(message.key)
        await asyncio.sleep(0.01)
        broken = self._broken_from <= time.monotonic() < self._broken_until
        if broken and self._only in (None, message.key):
            raise copy.copy(self._error)  # one error raised again and again would keep all its tracebacks
        progress.attempts += 1
        return Accepted(f"r-{message.key}")


CAUSES = [
    NotSentError("there is no token to send it with"),
    RateLimitError("another program uses up the rate", status_code=429),
    RuntimeError("a coordinator of the user's failed"),
]


@pytest.mark.virtual_time
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("concurrency", [1, 3, 64])
async def test_a_permanent_outage_stops_the_bulk_send(cause: Exception, concurrency: int) -> None:
    """While nothing can be sent, the list is not read on, and after 60 seconds the bulk send stops with the cause."""
    flaky = FlakySend(cause, until_s=float("inf"))

    report = await send_all(BulkStream(messages(20_000), flaky.send, concurrency=concurrency, stop_after=None), None)

    assert (report.not_sent + report.rejected, report.total) == (concurrency, concurrency)
    assert 60 <= report.elapsed < 66
    assert report.stopped is not None
    assert report.stopped.startswith("nothing could be sent for 60 s: ")
    assert len(flaky.tried) <= 30 * concurrency


@pytest.mark.virtual_time
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("concurrency", [1, 3, 64])
@pytest.mark.parametrize("from_s", [0.0, 0.105])
async def test_an_outage_that_passes_costs_no_message(cause: Exception, concurrency: int, from_s: float) -> None:
    """After an outage of 20 seconds, at the beginning or in the middle, the bulk send goes on and loses no message."""
    flaky = FlakySend(cause, from_s=from_s, until_s=20)

    report = await send_all(BulkStream(messages(2_000), flaky.send, concurrency=concurrency, stop_after=5), None)

    assert (report.accepted, report.total, report.stopped) == (2_000, 2_000, None)


@pytest.mark.virtual_time
async def test_a_reply_that_comes_while_others_fail_gives_up_none_of_them() -> None:
    """A message that was on the wire when the outage began, and is accepted later, ends no wait of the others."""
    begins_at = time.monotonic()

    async def send(message: Message, progress: CallProgress) -> Accepted:
        if message.key == "0":
            await asyncio.sleep(8)
        elif time.monotonic() < begins_at + 20:
            raise NotSentError("no connection")
        return Accepted("r")

    report = await send_all(BulkStream(messages(50), send, concurrency=4, stop_after=None), None)

    assert report.accepted == 50


@pytest.mark.virtual_time
async def test_a_message_that_fails_alone_is_given_up_and_delays_no_other() -> None:
    """A message that cannot be sent while others can is given up after its second failure, and the others are sent."""
    flaky = FlakySend(NotSentError("no connection"), until_s=float("inf"), only="7")

    report = await send_all(BulkStream(messages(500), flaky.send, concurrency=4, stop_after=None), None)

    assert (report.accepted, report.not_sent, report.stopped) == (499, 1, None)
    assert flaky.tried.count("7") == 2
    assert report.elapsed < 10


@pytest.mark.virtual_time
async def test_messages_that_expire_in_an_outage_do_not_empty_the_list() -> None:
    """During an outage, messages that expire make room for others only at the pace of the tries."""
    flaky = FlakySend(NotSentError("no connection"), until_s=float("inf"))
    read = (message for message in (SmsMessage(TO, "code", expires_in=0.05) for _ in range(20_000)))

    report = await send_all(BulkStream(read, flaky.send, concurrency=64, stop_after=None), None)

    assert {type(failure.error) for failure in report.failures} == {MessageExpiredError}
    assert report.total == report.not_sent < 64 + 60
    assert report.stopped is not None


@pytest.mark.virtual_time
async def test_leaving_during_an_outage_tells_the_cause_of_each_message() -> None:
    """When a bulk send is left during an outage, the messages that wait are not sent, and their error is the outage."""
    flaky = FlakySend(NotSentError("no connection"), until_s=float("inf"))

    async with BulkStream(messages(100), flaky.send, concurrency=4, stop_after=None) as results:
        await asyncio.sleep(10)

    assert [(result.outcome, str(result.error)) for result in results.leftover] == [
        (Outcome.NOT_SENT, "no connection")
    ] * 4


@pytest.mark.virtual_time
@pytest.mark.parametrize("fault", [AuthenticationError("wrong key"), ConfigurationError("the host redirects")])
async def test_a_refused_account_stops_the_bulk_send_at_once(fault: Exception) -> None:
    """A refused account, or a session that cannot send, stops the bulk send at once, and the list is not read on."""
    flaky = FlakySend(fault, until_s=float("inf"))

    report = await send_all(BulkStream(messages(20_000), flaky.send, concurrency=8, stop_after=None), None)

    assert report.total <= 8
    assert report.elapsed < 1
    assert report.stopped == f"nothing else can be sent either: {fault}"


@pytest.mark.virtual_time
async def test_an_account_refused_in_the_middle_stops_the_bulk_send() -> None:
    """When the account is refused in the middle of a bulk send, few messages are rejected, and the rest is not read."""
    flaky = FlakySend(AuthenticationError("the key was withdrawn"), from_s=1.0, until_s=float("inf"))

    report = await send_all(BulkStream(messages(20_000), flaky.send, concurrency=8, stop_after=None), None)

    assert report.accepted > 100
    assert report.total - report.accepted <= 16
    assert report.stopped is not None


@pytest.mark.virtual_time
async def test_a_refusal_by_pico_is_the_message_s_own() -> None:
    """Messages that Pico itself refuses are given up one by one, without a pause."""
    flaky = FlakySend(RejectedError("bad number"), until_s=float("inf"))

    report = await send_all(BulkStream(messages(1_000), flaky.send, concurrency=8, stop_after=None), None)

    assert (report.rejected, report.stopped) == (1_000, None)
    assert report.elapsed < 5


@pytest.mark.virtual_time
@pytest.mark.parametrize("status", [402, 403, 404, 405, 407])
async def test_an_account_refused_by_a_status_stops_the_bulk_send(status: int) -> None:
    """If Pico refuses each message with a status such as HTTP 403, the bulk send stops, and the rest is not read."""
    flaky = FlakySend(RejectedError(f"HTTP {status}", status_code=status), from_s=1.0, until_s=float("inf"))

    report = await send_all(BulkStream(messages(20_000), flaky.send, concurrency=8, stop_after=None), None)

    assert report.accepted > 100
    assert 30 <= report.rejected <= 30 + 8
    assert report.stopped == f"Pico refused 30 messages in a row, so it may refuse all: HTTP {status}"


@pytest.mark.virtual_time
async def test_messages_that_are_refused_among_others_stop_nothing() -> None:
    """When most messages, and not all, are refused with HTTP 403, each of the others is still sent."""

    async def send(message: Message, progress: CallProgress) -> Accepted:
        await asyncio.sleep(0.01)
        if int(message.key or 0) % 10:
            raise RejectedError("HTTP 403", status_code=403)
        return Accepted("r")

    report = await send_all(BulkStream(messages(1_000), send, concurrency=8, stop_after=None), None)

    assert (report.accepted, report.rejected, report.stopped) == (100, 900, None)


async def test_a_forbidden_account_stops_the_bulk_send_of_a_session() -> None:
    """When Pico gives a token and answers each send with HTTP 403, few of 20,000 messages are rejected."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(200, json={"token": "T" * 20})
        return httpx.Response(403, html="<h1>Forbidden</h1>")

    session = PicoSession(
        username="u", api_key="K" * 24, sender="86", transport=httpx.MockTransport(answer), rates=Rates(sms=None)
    )
    async with session as pico:
        report = await pico.send_bulk(messages(20_000), concurrency=8)

    assert 30 <= report.rejected <= 30 + 8
    assert "HTTP 403" in (report.stopped or "")


@pytest.mark.virtual_time
@pytest.mark.parametrize("fault", [NoResponseError("no reply"), ServerError("HTTP 503"), UnexpectedResponseError("?")])
async def test_what_leaves_each_message_in_doubt_does_not_empty_the_list(fault: Exception) -> None:
    """While each message is left in doubt, the list is hardly read on, and after 60 seconds the bulk send stops."""
    flaky = FlakySend(fault, from_s=1.0, until_s=float("inf"))

    report = await send_all(BulkStream(messages(20_000), flaky.send, concurrency=8, stop_after=None), None)

    assert 8 <= report.in_doubt == report.total - report.accepted < 8 + 60
    assert max(Counter(flaky.tried).values()) == 1
    assert report.stopped == f"nothing could be sent for 60 s: {fault}"


@pytest.mark.virtual_time
async def test_a_reply_that_does_not_come_gives_up_no_other_message() -> None:
    """When some messages are left in doubt in an outage, those that could not be sent are tried until it is over."""
    begins_at = time.monotonic()

    async def send(message: Message, progress: CallProgress) -> Accepted:
        await asyncio.sleep(0.01)
        if time.monotonic() < begins_at + 20:
            raise NoResponseError("no reply") if int(message.key or 0) % 2 else NotSentError("no connection")
        return Accepted("r")

    report = await send_all(BulkStream(messages(200), send, concurrency=8, stop_after=None), None)

    assert (report.not_sent, report.stopped) == (0, None)
    assert report.in_doubt < 60


@pytest.mark.virtual_time
async def test_messages_in_doubt_do_not_delay_others_that_are_sent() -> None:
    """When each third message is left in doubt and the others are accepted, the bulk send keeps its speed."""

    async def send(message: Message, progress: CallProgress) -> Accepted:
        await asyncio.sleep(0.01)
        if int(message.key or 0) % 3 == 0:
            raise NoResponseError("no reply")
        return Accepted("r")

    report = await send_all(BulkStream(messages(3_000), send, concurrency=8, stop_after=None), None)

    assert (report.accepted, report.in_doubt, report.stopped) == (2_000, 1_000, None)
    assert report.elapsed < 10


@pytest.mark.virtual_time
async def test_messages_that_another_delivery_has_are_no_outage() -> None:
    """Messages that are in doubt before a request is made, as another delivery has them, hold up nothing."""

    async def taken(message: Message, progress: CallProgress) -> Accepted:
        raise InDoubtError("Another delivery has it.", attempts=0)

    began_at = time.monotonic()
    report = await send_all(BulkStream(messages(200), taken, concurrency=4, stop_after=None), None)

    assert (report.total, report.in_doubt, report.stopped) == (200, 200, None)
    assert time.monotonic() - began_at < 1


@pytest.mark.parametrize("outage_s", [-1, float("inf"), float("nan"), "60", True, None])
def test_a_bad_bound_is_refused(outage_s: Any) -> None:
    """A bad `outage_s` is refused by name when the stream is made."""
    with pytest.raises(ConfigurationError, match="`outage_s`"):
        BulkStream([], FlakySend(NotSentError(""), until_s=0).send, concurrency=1, stop_after=None, outage_s=outage_s)


def _nobody_listens() -> PicoSession:
    return PicoSession(
        username="u", api_key="K" * 24, sender="86", base_url=f"http://127.0.0.1:{free_port()}", retries=0
    )


def _redis_is_away() -> PicoSession:
    sandbox = Sandbox()
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="86",
        transport=sandbox.transport(),
        coordinator=RedisCoordinator.from_url(f"redis://127.0.0.1:{free_port()}"),
    )


def _no_token() -> PicoSession:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return httpx.Response(503)
        return httpx.Response(200, json={"request_id": "r"})

    return PicoSession(
        username="u",
        api_key="K" * 24,
        sender="86",
        transport=httpx.MockTransport(answer),
        retries=0,
        rates=Rates(token=None),
    )


@pytest.mark.parametrize("session", [_nobody_listens, _redis_is_away, _no_token])
async def test_the_causes_that_a_session_detects_stop_a_bulk_send(session: Callable[[], PicoSession]) -> None:
    """Without a connection, without Redis or without a token, 20,000 messages are kept, and the bulk send stops."""
    async with session() as pico:
        report = await pico.send_bulk(messages(20_000), concurrency=8, outage_s=0.5)

    assert report.not_sent == report.total <= 10
    assert report.stopped is not None
    assert report.stopped.startswith("nothing could be sent for 0.5 s: ")


async def test_a_wrong_key_stops_a_bulk_send() -> None:
    """With a wrong API key, the bulk send stops at once, and `raise_for_failures` names the cause."""
    sandbox, results = Sandbox(), list[SendResult]()

    async with PicoSession(
        username=sandbox.username, api_key="K" * 24, sender="86", transport=sandbox.transport()
    ) as pico:
        report = await pico.send_bulk(messages(20_000), on_result=results.append)

    assert report.total == len(results) <= 64
    assert "check the username and the API key" in (report.stopped or "")
    assert sandbox.ledger.token_requests <= 2
