"""These tests run one exchange over real sockets and check what each failure proves."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import sys
import traceback
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import certifi
import httpx
import pytest
import trustme

from pico_async import MessageExpiredError, Priority
from pico_async._engine.http import tls as trust
from pico_async._engine.http.aiohttp_transport import AiohttpTransport
from pico_async._engine.http.exchange import HttpClient, HttpRequest, HttpTransport
from pico_async._engine.http.httpx_transport import HttpxTransport
from pico_async._engine.wire import Failure, Reply
from tests.support.clock_jump import LONG_S, MonotonicClock, jump
from tests.support.exchanges import Asked, exchange_with
from tests.support.talking_server import Talk, listening
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.lower_bounds

Make = Callable[[], HttpTransport]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture(params=[HttpxTransport, AiohttpTransport], ids=["httpx", "aiohttp"])
def make_transport(request: pytest.FixtureRequest) -> Callable[[], HttpTransport]:
    """Return the class of one HTTP transport; each test runs with both."""
    return request.param


async def exchange_on(transport: HttpClient, outgoing: HttpRequest) -> Reply | Failure:
    return await exchange_with(transport, outgoing, Asked())


async def exchange(
    make_transport: Make, base_url: str, *, timeout_s: float = LONG_S, content: bytes = b"{}"
) -> tuple[Reply | Failure, bool]:
    """Run one exchange, and return its reply or failure and whether a write was noted."""
    attempt = Asked()
    transport = HttpClient(base_url, timeout_s, make_transport())
    try:
        return await exchange_with(
            transport, HttpRequest("POST", "/sms", {}, {"x-api-key": "k"}, content), attempt
        ), attempt.wrote
    finally:
        await transport.aclose()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_reply_is_a_reply(make_transport: Make) -> None:
    """An exchange returns the status, the body and the `Retry-After` of the reply."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    async with listening(talk) as port:
        reply, wrote = await exchange(make_transport, f"http://127.0.0.1:{port}")

    assert isinstance(reply, Reply)
    assert (reply.status, reply.content, reply.retry_after) == (429, b"{}", 3.0)
    assert wrote


@cache
def packed_blanks(coding: str) -> bytes:
    """Return 64 MB of blanks, packed."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | (0 if coding == "deflate" else 16))
    content = b"".join(packer.compress(b" " * 10**6) for _ in range(64)) + packer.flush()
    return gzip.compress(content) if coding == "gzip, gzip" else content


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_a_packed_reply_is_not_unpacked_beyond_the_cap(make_transport: Make, coding: str) -> None:
    """
    A reply of 64 MB, packed in a coding that was not asked for, takes little memory and gives no JSON.

    What is not gzip or deflate is not unpacked at all.
    """
    content = packed_blanks(coding)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % (coding.encode(), len(content)) + content)
        await writer.drain()

    async with listening(talk) as port:
        tracemalloc.start()
        reply, _ = await exchange(make_transport, f"http://127.0.0.1:{port}")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert isinstance(reply, Reply)
    assert reply.truncated or not reply.content.strip().startswith(b"{")
    assert peak < 12 * 2**20


async def test_a_charset_reaches_whoever_reads_the_reply(make_transport: Make) -> None:
    """A reply contains its `Content-Type` header, which may name a charset."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCONTENT-TYPE: application/json;charset=Big5\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    async with listening(talk) as port:
        reply, _ = await exchange(make_transport, f"http://127.0.0.1:{port}")

    assert isinstance(reply, Reply)
    assert reply.content_type == "application/json;charset=Big5"


async def test_a_header_of_the_user_s_transport_that_cannot_be_written_sent_nothing() -> None:
    """A header that the user's own transport adds and h11 cannot encode proves that nothing was sent."""

    class Signing(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            request.headers["x-signature"] = "a\r\nb"
            return await super().handle_async_request(request)

    heard = []

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async with listening(talk) as port:
        failure, _ = await exchange(lambda: HttpxTransport(Signing()), f"http://127.0.0.1:{port}")
        await until(lambda: heard)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert failure.reason == "the request cannot be written"
    assert heard == [b""]


async def test_a_refused_connection_sent_nothing(make_transport: Make) -> None:
    """A refused connection proves that nothing was sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    failure, wrote = await exchange(make_transport, f"http://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote


async def test_an_unknown_host_sent_nothing(make_transport: Make) -> None:
    """A host name that does not resolve proves that nothing was sent."""
    failure, wrote = await exchange(make_transport, "http://nowhere.invalid", timeout_s=5)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["untrusted", "untrusted, by address"])
async def test_an_untrusted_certificate_is_not_talked_to(make_transport: Make, host: str) -> None:
    """No byte of a request is sent to a server with an untrusted certificate, and the failure names the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(context)
    heard = b""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.read()

    async with listening(talk, context) as port:
        failure, wrote = await exchange(make_transport, f"https://{host}:{port}")

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert heard == b""
    assert "certificate" in failure.reason.lower()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Return the TLS context of a local server whose certificate is trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


def test_by_default_the_public_authorities_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, the CA certificates of the package `certifi` are trusted, as by httpx itself."""
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    public = ssl.create_default_context(cafile=certifi.where())

    assert trust.trusted().cert_store_stats() == public.cert_store_stats()
    assert public.cert_store_stats()["x509_ca"] > 50


def test_all_sessions_share_one_tls_context_until_the_files_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: ssl.SSLContext
) -> None:
    """All transports share one TLS context of a trust store; a changed file, and another file, are loaded again."""
    loads: list[str] = []
    load = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: loads.append(os.environ["SSL_CERT_FILE"]) or load())
    first, second = tmp_path / "ca.pem", tmp_path / "other.pem"

    def contexts() -> set[ssl.SSLContext]:
        slow, fast = HttpxTransport(), AiohttpTransport()
        slow.bind("https://a", 1.0, 1.0)
        fast.bind("https://b", 1.0, 1.0)
        assert slow._connections is not None
        return {slow._connections._tls, fast._tls}

    assert len(contexts()) == 1
    assert len(contexts()) == 1
    assert loads == [str(first)]

    trustme.CA().cert_pem.write_to_path(str(first), append=True)
    assert len(contexts()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(second))
    trustme.CA().cert_pem.write_to_path(str(second))
    contexts()

    assert loads == [str(first), str(first), str(second)]


def test_a_session_without_tls_loads_no_certificates(make_transport: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session for an http URL loads no CA certificates, so their files may be missing."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: pytest.fail("The certificates were loaded."))

    make_transport().bind("http://127.0.0.1:1", 1.0, 1.0)


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(OK)
        await writer.drain()


async def test_a_trusted_certificate_is_talked_to(make_transport: Make, trusted: ssl.SSLContext) -> None:
    """A server whose certificate authority is trusted gets the request."""
    async with listening(answer_all, trusted) as port:
        reply, _ = await exchange(make_transport, f"https://localhost:{port}")

    assert isinstance(reply, Reply)
    assert (reply.status, reply.content) == (200, b"{}")


class NotInstalled:
    """A finder of modules that hides sniffio, and counts how often it is looked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lookups = 0
        monkeypatch.delitem(sys.modules, "sniffio", raising=False)
        monkeypatch.setattr(sys, "meta_path", [self, *sys.meta_path])

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sniffio":
            self.lookups += 1
            raise ModuleNotFoundError(name)


async def test_no_request_searches_for_sniffio(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request makes httpcore search for sniffio, which may not be installed; for other clients, it still does."""
    sniffio = NotInstalled(monkeypatch)

    async with listening(answer_all) as port:
        way = HttpClient(f"http://127.0.0.1:{port}", LONG_S, HttpxTransport())
        for _ in range(3):
            await exchange_on(way, HttpRequest("POST", "/sms", {}, {"x-api-key": "k"}, b"{}"))
        await way.aclose()
        found_for_requests = sniffio.lookups
        async with httpx.AsyncClient() as other:
            await other.get(f"http://127.0.0.1:{port}")

    assert found_for_requests == 0
    assert sniffio.lookups > 0


async def test_an_authority_and_a_certificate_of_the_user_are_used(make_transport: Make) -> None:
    """With a TLS context of the user's, a server of its authority is talked to, which sees the client certificate."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context()
    authority.configure_trust(client)
    authority.issue_cert("me@example.com").configure_cert(client)
    seen = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert")["subjectAltName"])
        await answer_all(reader, writer)

    async with listening(talk, server) as port:
        way = HttpClient(f"https://localhost:{port}", LONG_S, make_transport(), client)
        reply = await exchange_with(way, HttpRequest("POST", "/sms", {}, {"x-api-key": "k"}, b"{}"), Asked())
        await way.aclose()

    assert isinstance(reply, Reply)
    assert seen == [(("email", "me@example.com"),)]


async def test_a_handshake_that_hangs_sent_nothing(make_transport: Make) -> None:
    """A TLS handshake that never completes proves that nothing was sent."""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        jump()
        await reader.read()

    async with listening(talk) as port:
        failure, wrote = await exchange(make_transport, f"https://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert "connection" in failure.reason


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.transport.abort()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    jump()
    await asyncio.Event().wait()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"\x00\x01 what?\r\n\r\n")
    await writer.drain()


async def truncated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.005)
        jump(LONG_S / 20)


@pytest.mark.parametrize("talk", [close_at_once, reset, never_answer, garbage, truncated, dripping])
async def test_a_failure_after_the_first_byte_proves_nothing(make_transport: Make, talk: Talk) -> None:
    """A failure after the request was written leaves the request in doubt, and the write was noted."""
    async with listening(talk) as port:
        failure, wrote = await exchange(make_transport, f"http://127.0.0.1:{port}")

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote


async def test_a_peer_that_stops_reading_proves_nothing(make_transport: Make) -> None:
    """A server that stops reading in the middle of a large body leaves the request in doubt."""
    async with listening(never_answer) as port:
        failure, wrote = await exchange(make_transport, f"http://127.0.0.1:{port}", content=b" " * 32 * 1024 * 1024)

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote


async def test_a_cancellation_in_mid_write_leaves_no_frame_that_holds_the_body(
    make_transport: Make,
) -> None:
    """
    The traceback of a cancelled write has no frame that holds the body or the API key.

    httpcore's own frames hold them, and some error reports print the local variables of each frame.
    """
    body = b"a text that nobody may see " * 1024 * 1024
    begun = asyncio.Event()

    async def stop_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        begun.set()
        await asyncio.Event().wait()

    async with listening(stop_reading) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        sending = asyncio.create_task(
            exchange_on(transport, HttpRequest("POST", "/sms", {}, {"x-api-key": "S3CRET"}, body))
        )
        await begun.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await sending
        await transport.aclose()

    frames = [
        frame for frame, _ in traceback.walk_tb(raised.value.__traceback__) if "test_" not in frame.f_code.co_name
    ]
    assert frames
    for frame in frames:
        assert "nobody may see" not in repr(frame.f_locals)
        assert "S3CRET" not in repr(frame.f_locals)


async def test_a_keep_alive_connection_that_closes_as_it_is_used_proves_nothing(
    make_transport: Make,
) -> None:
    """A request is in doubt if the server closes the open connection as the request arrives."""
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await request_of(reader)
        served += 1
        writer.write(OK)
        await writer.drain()
        await request_of(reader)
        writer.transport.abort()

    async with listening(talk) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        outgoing = HttpRequest("POST", "/sms", {}, {}, b"")
        first = await exchange_on(transport, outgoing)
        second = await exchange_on(transport, outgoing)
        await transport.aclose()

    assert isinstance(first, Reply)
    assert isinstance(second, Failure)
    assert not second.sent_nothing
    assert served == 1


async def test_a_cancellation_before_the_write_is_not_taken_for_one_after_it(
    make_transport: Make,
) -> None:
    """
    A request that is cancelled by its scope before a write was noted is never written later.

    This holds at each iteration of the event loop.
    """
    heard = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        while True:
            if (await request_of(reader)).startswith(b"POST"):
                heard += 1
                await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async def cancelled_after(turns: int, transport: HttpClient) -> tuple[bool, bool]:
        before, attempt, wrote_before = heard, Asked(), []
        with anyio.CancelScope() as scope:

            def cancel(turns: int) -> None:
                if turns:
                    asyncio.get_running_loop().call_soon(cancel, turns - 1)
                else:
                    wrote_before.append(attempt.wrote)
                    scope.cancel()

            cancel(turns)
            await exchange_with(transport, HttpRequest("POST", "/sms", {}, {}, b""), attempt)
        await asyncio.sleep(0.005)
        assert attempt.wrote or heard == before
        return wrote_before == [True], attempt.wrote

    seen = []
    async with listening(talk) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        for turns in range(40):
            await exchange_on(transport, HttpRequest("GET", "/campaigns", {}, {}, b""))
            seen.append(await cancelled_after(turns, transport))
        await transport.aclose()

    assert set(seen) == {(False, False), (True, True)}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cancellation_in_the_moment_in_which_the_connection_opens_is_not_lost(
    make_transport: Make, scheme: str
) -> None:
    """
    A request that is cancelled while its connection opens ends as cancelled.

    The server gets the request only if its write was noted. With https the handshake never ends, so no write is noted.
    """
    there, heard = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.set()
        heard.set_result(await reader.read())

    async with listening(talk) as port:
        transport, attempt = HttpClient(f"{scheme}://127.0.0.1:{port}", LONG_S, make_transport()), Asked()
        sending = asyncio.create_task(exchange_with(transport, HttpRequest("POST", "/sms", {}, {}, b"{}"), attempt))
        await there.wait()
        sending.cancel()
        await asyncio.wait([sending])

        assert attempt.wrote or b"/sms" not in await heard
        await transport.aclose()

    assert sending.cancelled()
    if scheme == "https":
        assert not attempt.wrote


async def test_connections_are_kept_and_used_again(make_transport: Make) -> None:
    """Three requests in sequence use one connection."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(OK)
            await writer.drain()

    async with listening(talk) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        for _ in range(3):
            await exchange_on(transport, HttpRequest("GET", "/campaigns", {}, {}, b""))
        await transport.aclose()

    assert connections == 1


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_a_transport_that_does_not_tell_its_writes_is_taken_to_write_at_once(
    error: type[httpx.TransportError],
) -> None:
    """
    A transport that does not report its writes is assumed to write at once, so a timeout leaves the request in doubt.

    An error from before the connection was open still proves that nothing was sent.
    """

    async def refuse(_: httpx.Request) -> httpx.Response:
        raise error("no connection")

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    attempts = [Asked(), Asked()]
    outgoing = HttpRequest("POST", "/sms", {}, {}, b"")
    refused, hung = [
        await HttpClient("https://a", 0.1, HttpxTransport(httpx.MockTransport(answer))).exchange(outgoing, attempt)
        for answer, attempt in zip((refuse, hang), attempts, strict=True)
    ]

    assert isinstance(refused, Failure)
    assert refused.sent_nothing
    assert isinstance(hung, Failure)
    assert not hung.sent_nothing
    assert all(attempt.wrote for attempt in attempts)


async def test_what_comes_after_a_reply_is_not_taken_for_the_next_one(make_transport: Make) -> None:
    """Extra bytes after a reply are not taken for the next reply; the next request uses a new connection."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for number in range(2):
            await request_of(reader)
            await reader.readexactly(2)
            body = b'{"n": %d}' % (10 * connections + number)
            reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            writer.write(reply + (reply if connections == 1 else b""))
            await writer.drain()

    async with listening(talk) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        outgoing = HttpRequest("POST", "/sms", {}, {"x-api-key": "k"}, b"{}")
        replies = [await exchange_on(transport, outgoing) for _ in range(3)]
        await transport.aclose()

    assert [reply.content for reply in replies if isinstance(reply, Reply)] == [
        b'{"n": 10}',
        b'{"n": 20}',
        b'{"n": 21}',
    ]


async def test_connections_that_idle_too_long_are_closed(make_transport: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    All six idle connections of a burst are closed after the keep-alive time, without a further request.

    The next request opens a new one.
    """
    for module in ("http.httpx_transport", "http.aiohttp_transport"):
        monkeypatch.setattr(f"pico_async._engine.{module}.KEEPALIVE_EXPIRY_S", 0.2)
    opened = closed = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, closed
        opened += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                await request_of(reader)
                await asyncio.sleep(0.02)
                writer.write(OK)
                await writer.drain()
        closed += 1

    async with listening(talk) as port:
        transport = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        outgoing = HttpRequest("GET", "/balance", {}, {"x-api-key": "k"}, b"")
        await asyncio.gather(*(exchange_on(transport, outgoing) for _ in range(6)))
        await until(lambda: closed == 6)

        reply = await exchange_on(transport, outgoing)
        await transport.aclose()

    assert isinstance(reply, Reply)
    assert opened == 7


async def test_no_more_connections_are_opened_than_there_are_places(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The transport opens at most `MAX_CONNECTIONS` connections.

    Further requests wait for one, and an interactive request goes before bulk requests.
    """
    monkeypatch.setattr("pico_async._engine.http.exchange.MAX_CONNECTIONS", 3)
    opened, served = 0, []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            served.append(path.decode())
            await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async with listening(talk) as port:
        way = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        bulk = [
            asyncio.create_task(exchange_with(way, HttpRequest("GET", f"/{number}", {}, {}, b""), Asked(Priority.BULK)))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        single = Asked()
        await exchange_with(way, HttpRequest("GET", "/single", {}, {}, b""), single)
        replies = await asyncio.gather(*bulk)
        await way.aclose()

    assert all(isinstance(reply, Reply) for reply in replies)
    assert opened == 3
    assert served.index("/single") < 6
    # The request waited after its slot was granted, so it acquired a new one.
    assert single.slots_again == 1


async def test_whoever_waits_in_a_pool_of_the_user_s_takes_another_turn() -> None:
    """
    A request that waits in the connection pool of the user's transport acquires a new slot.

    Otherwise it would leave together with requests whose slots were granted meanwhile.
    """
    attempts = [Asked() for _ in range(4)]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            await asyncio.sleep(0.02)
            writer.write(OK)
            await writer.drain()

    async with listening(talk) as port:
        one = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        way = HttpClient(f"http://127.0.0.1:{port}", LONG_S, HttpxTransport(one))
        await exchange_on(way, HttpRequest("GET", "/balance", {}, {}, b""))
        await asyncio.gather(
            *(exchange_with(way, HttpRequest("GET", "/balance", {}, {}, b""), attempt) for attempt in attempts)
        )
        await way.aclose()

    # The first request may find the connection free, so it is not checked.
    assert [attempt.slots_again for attempt in attempts[1:]] == [1, 1, 1]


async def test_a_message_that_expires_while_it_waits_for_a_connection_raises_at_once(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A message that expires while it waits for a connection raises MessageExpiredError before one is free.

    The next request can still use the connection.
    """
    monkeypatch.setattr("pico_async._engine.http.exchange.MAX_CONNECTIONS", 1)
    answer = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            await answer.wait()
            writer.write(OK)
            await writer.drain()

    async with listening(talk) as port:
        way = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        outgoing = HttpRequest("GET", "/", {}, {}, b"")
        first = asyncio.create_task(exchange_on(way, outgoing))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            with anyio.move_on_after(0.05) as late:
                await exchange_on(way, outgoing)
        assert late.cancelled_caught
        answer.set()
        replies = [await first, await exchange_on(way, outgoing)]
        await way.aclose()

    assert all(isinstance(reply, Reply) for reply in replies)


async def test_a_connection_that_is_new_takes_another_turn_and_one_that_is_open_does_not(
    make_transport: Make, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A request that opens a connection acquires a new slot; a request on an open connection does not.

    Opening takes time, so the late request could reach Pico together with later ones.
    """
    # A busy machine may hold up any request for more than the true limit, so both are long.
    monkeypatch.setattr("pico_async._engine.http.aiohttp_transport.AT_ONCE_S", 60.0)
    clock, loop = MonotonicClock(monkeypatch), asyncio.get_running_loop()
    open_connection = loop.create_connection

    async def open_slowly(*args: Any, **kwargs: Any) -> Any:
        clock.jump(70.0)
        return await open_connection(*args, **kwargs)

    monkeypatch.setattr(loop, "create_connection", open_slowly)
    attempts = [Asked() for _ in range(3)]

    async with listening(answer_all, trusted) as port:
        way = HttpClient(f"https://localhost:{port}", 10 * LONG_S, make_transport())
        for attempt in attempts:
            await exchange_with(way, HttpRequest("GET", "/balance", {}, {}, b""), attempt)
        await way.aclose()

    assert [attempt.slots_again for attempt in attempts] == [1, 0, 0]


async def test_the_wait_for_another_turn_is_not_the_exchange_s(make_transport: Make, trusted: ssl.SSLContext) -> None:
    """The wait for a new slot is not part of the exchange and may be longer than its timeout."""

    class Patient(Asked):
        async def slot_again(self) -> None:
            jump(1.5 * LONG_S)
            await asyncio.sleep(0.02)

    async with listening(answer_all, trusted) as port:
        way = HttpClient(f"https://localhost:{port}", LONG_S, make_transport())
        reply = await exchange_with(way, HttpRequest("GET", "/balance", {}, {}, b""), Patient())
        await way.aclose()

    assert isinstance(reply, Reply)


async def test_what_is_not_to_leave_any_more_is_not_written(make_transport: Make, trusted: ssl.SSLContext) -> None:
    """A request whose new slot is refused with an error is not written, and the next request is sent."""

    class Late(Asked):
        async def slot_again(self) -> None:
            raise MessageExpiredError("too late")

    heard = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            await writer.drain()

    late, next_one = Late(), Asked()
    async with listening(talk, trusted) as port:
        way = HttpClient(f"https://localhost:{port}", LONG_S, make_transport())
        with pytest.raises(MessageExpiredError, match="too late"):
            await exchange_with(way, HttpRequest("GET", "/late", {}, {}, b""), late)
        reply = await exchange_with(way, HttpRequest("GET", "/next", {}, {}, b""), next_one)
        await way.aclose()

    assert not late.wrote
    assert isinstance(reply, Reply)
    assert [head.split()[1] for head in heard] == [b"/next"]


@pytest.mark.parametrize("reply_s", [0.0, 40.0])
async def test_a_connection_idles_since_its_request_left(
    make_transport: Make, reply_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The keep-alive time of a connection counts from when its last request left, not from when the reply arrived.

    The server is already idle while its reply travels.
    """
    for module in ("http.httpx_transport", "http.aiohttp_transport"):
        monkeypatch.setattr(f"pico_async._engine.{module}.KEEPALIVE_EXPIRY_S", 60.0)
    clock, connections = MonotonicClock(monkeypatch), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            clock.jump(reply_s)
            writer.write(OK)
            await writer.drain()

    async with listening(talk) as port:
        way = HttpClient(f"http://127.0.0.1:{port}", LONG_S, make_transport())
        outgoing = HttpRequest("GET", "/balance", {}, {"x-api-key": "k"}, b"")
        await exchange_on(way, outgoing)
        clock.jump(40.0)
        await exchange_on(way, outgoing)
        await way.aclose()

    assert connections == (2 if reply_s else 1)


async def test_a_connection_that_waits_long_for_a_turn_is_not_written_on(
    make_transport: Make, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection that waits longer than the keep-alive time for a slot is not used: the server may have closed it.

    The request is sent once, on a new connection.
    """
    monkeypatch.setattr("pico_async._engine.http.exchange.KEEPALIVE_EXPIRY_S", 60.0)
    clock, expired = MonotonicClock(monkeypatch), asyncio.Event()
    heard = connections = 0

    class Paused(Asked):
        async def slot_again(self) -> None:
            await super().slot_again()
            if self.slots_again == 1:
                clock.jump(70.0)
                expired.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard, connections
        connections += 1
        if connections == 1:
            await expired.wait()
            return
        await request_of(reader)
        heard += 1
        writer.write(OK)
        await writer.drain()

    attempt = Paused()
    async with listening(talk, trusted) as port:
        way = HttpClient(f"https://localhost:{port}", LONG_S, make_transport())
        reply = await exchange_with(way, HttpRequest("POST", "/sms", {}, {}, b""), attempt)
        await way.aclose()

    assert isinstance(reply, Reply)
    assert (heard, connections) == (1, 2)
    assert attempt.slots_again == 2
