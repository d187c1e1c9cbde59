"""A server takes each message and answers oddly, over real sockets: no answer may cost a message or double it."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pico_async import InDoubtError, PicoSession, RateLimitError, SmsMessage
from pico_async.coordination.rates import PAUSE_S
from pico_async.events import Event, Retrying
from tests.support import raw_pico
from tests.support.clock_jump import jump
from tests.support.raw_pico import RawPico, session

TO = "8612345678901"
ANSWER = '{"request_id": "r-1", "msg": "功能"}'
SLOWER = '{"msg": "訪問過於頻繁，請稍候再試", "code": 500}'


@pytest.fixture(autouse=True, params=raw_pico.TRANSPORTS.values(), ids=raw_pico.TRANSPORTS)
def make_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with each HTTP transport."""
    monkeypatch.setattr(raw_pico, "make_transport", request.param)


def jump_over_the_pause(event: Event) -> None:
    """Move the loop's clock over the pause and the back-off after a rate refusal, once the call waits for them."""
    if isinstance(event, Retrying):
        asyncio.get_running_loop().call_soon(jump, 2 * PAUSE_S)


@asynccontextmanager
async def answering(status: int, body: bytes, **headers: str) -> AsyncIterator[tuple[RawPico, PicoSession]]:
    """Run a server that takes each message and answers all of them in the same way, with a session to it."""
    named = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)
        await writer.drain()

    async with raw_pico.raw_pico() as server, session(server.address, on_event=jump_over_the_pause) as pico:
        server.misbehave = answer
        yield server, pico


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *[(status, b"") for status in (300, 301, 302, 303, 304, 399, 406, 408, 499)],
        *[(status, ANSWER.encode()) for status in (302, 303, 307, 308, 408, 499)],
        *[(status, b"") for status in (101, 204, 205, 206, 226)],
        (302, b'{"request_id": "r-1", "errors": ["moved"]}'),
        (408, b'{"request_id": "r-1", "errors": ["no reply of the gateway in time"]}'),
        (200, b'{"request_id": '),
    ],
)
async def test_what_is_no_refusal_leaves_the_message_in_doubt(status: int, body: bytes) -> None:
    """A written send that is answered with anything but a refusal is in doubt, and is not repeated."""
    async with answering(status, body) as (server, pico):
        with pytest.raises(InDoubtError) as raised:
            await pico.sms.send(TO, "hello")

    assert server.received == 1
    assert "may have been sent" in str(raised.value)


@pytest.mark.parametrize("status", [301, 303, 408])
async def test_a_bulk_send_counts_such_messages_as_in_doubt(status: int) -> None:
    """A bulk send counts each message that is answered so as in doubt, and sends each one once."""
    async with answering(status, b"") as (server, pico):
        report = await pico.send_bulk(SmsMessage(f"86123456789{number:02}", "hello") for number in range(5))

    assert (report.in_doubt, report.total) == (5, 5)
    assert server.received == 5


@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize("charset", ["GBK", "Big5", "UTF-16", "UTF-8", "GB18030"])
async def test_a_reply_in_a_charset_of_the_region_is_an_acceptance(charset: str, named: bool) -> None:
    """A message is accepted under its `request_id`, whatever charset the words beside it are in."""
    headers = {"Content_Type": f"application/json;charset={charset}"} if named else {}
    async with answering(200, ANSWER.encode(charset), **headers) as (server, pico):
        accepted = await pico.sms.send(TO, "hello")

    assert accepted.request_id == "r-1"
    assert server.received == 1


@pytest.mark.parametrize("charset", ["Big5", "GBK", "UTF-8"])
async def test_a_rate_refusal_is_understood_in_a_charset_of_the_region(charset: str) -> None:
    """A rate refusal in Big5 or GBK is a refusal, and not a doubt."""
    async with answering(200, SLOWER.encode(charset)) as (server, pico):
        with pytest.raises(RateLimitError):
            await pico.sms.send(TO, "hello")

    assert server.received == 2  # `retries=1` of the session


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_packed_acceptance_is_an_acceptance(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """A message is accepted, although the reply is packed in a coding that was not asked for."""
    async with answering(200, pack(ANSWER.encode()), Content_Encoding=coding) as (_, pico):
        assert (await pico.sms.send(TO, "hello")).request_id == "r-1"


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_a_reply_that_cannot_be_unpacked_is_a_doubt(coding: str) -> None:
    """A message is in doubt if its reply is packed in a way that is not undone."""
    async with answering(200, gzip.compress(gzip.compress(ANSWER.encode())), Content_Encoding=coding) as (server, pico):
        with pytest.raises(InDoubtError):
            await pico.sms.send(TO, "hello")

    assert server.received == 1
