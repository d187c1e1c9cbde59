"""These tests check which proxy of the environment is used, what its failures prove, and who sees its password."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import socket
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from pico_async import ConfigurationError, NoResponseError, NotSentError, PicoSession, Rates, RejectedError, ServerError
from pico_async._engine.hosts import proxy_for
from pico_async._engine.http.aiohttp_transport import AiohttpTransport
from pico_async._engine.http.exchange import HttpClient, HttpRequest, HttpTransport
from pico_async._engine.http.httpx_transport import HttpxTransport
from pico_async._engine.wire import Failure, Reply
from tests.support.clock_jump import LONG_S, jump
from tests.support.exchanges import Asked, exchange_with
from tests.support.raw_pico import reset, wait_for_ever
from tests.support.talking_server import Talk, listening
from tests.support.waiting import until

TO = "8612345678901"
USER, PASSWORD = "us/er@home", "pa/ss@w#rd?密"
# The same credentials as written in a proxy address, and as sent to the proxy.
CREDENTIALS = "us%2Fer%40home:pa%2Fss%40w%23rd%3F%E5%AF%86"
BASIC = b"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode())
ANSWER = b'{"request_id": "r-1", "token": "token-1"}'
HTML = b"<html><h1>The proxy has something to say</h1></html>"

Make = Callable[[], HttpTransport]


@pytest.fixture(params=[HttpxTransport, AiohttpTransport], ids=["httpx", "aiohttp"])
def make_transport(request: pytest.FixtureRequest) -> Make:
    """Return the class of one HTTP transport; each test runs with both."""
    return request.param


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxy settings of the machine that runs the tests."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name == "REQUEST_METHOD"]:
        monkeypatch.delenv(name)


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """Return a certificate authority that both HTTP transports trust."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


@pytest.fixture
def trusted(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of a local server whose certificate is trusted."""
    return context_of(authority)


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head, await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


class Pico:
    """
    A Pico server that accepts each request until `misbehave` is set, and records the heads of the requests.

    Attributes:
        together: Where set, each reply waits until as many requests are there as the barrier has parties.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.misbehave: Talk | None = None
        self.together: asyncio.Barrier | None = None
        self.begun = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            self.heads.append(head)
            self.begun.set()
            if self.misbehave is not None:
                await self.misbehave(reader, writer)
                break
            if self.together is not None:
                await self.together.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
            await writer.drain()


class Proxy:
    """
    A proxy that tunnels TLS by CONNECT and forwards plain HTTP until `misbehave` is set.

    Attributes:
        heads: The heads of the requests that the proxy itself received.
        misbehave: Called with the connection of a request that was read whole, instead of a reply.
        behind: Called in place of the target behind a tunnel.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = self.open = 0
        self.misbehave: Talk | None = None
        self.behind: Talk | None = None
        self.begun = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            await self._serve(reader, writer)
        finally:
            self.open -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            self.heads.append(head)
            if self.misbehave is not None:
                self.begun.set()
                await self.misbehave(reader, writer)
                break
            method, target, rest = head.split(b" ", 2)
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._tunnel(reader, writer, int(target.rsplit(b":")[-1]))
                break
            url = urlsplit(target.decode())
            await self._forward(writer, url.port, b" ".join([method, url.path.encode(), rest]) + body)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        if self.behind is not None:
            self.begun.set()
            return await self.behind(reader, writer)
        answers, onward = await asyncio.open_connection("127.0.0.1", port)
        passing = asyncio.create_task(pass_on(reader, onward))
        try:
            await pass_on(answers, writer)
        except ConnectionResetError:
            reset(writer)
        finally:
            passing.cancel()
            await asyncio.wait([passing])
        return None

    async def _forward(self, writer: asyncio.StreamWriter, port: int | None, request: bytes) -> None:
        answers, onward = await asyncio.open_connection("127.0.0.1", port)
        try:
            onward.write(request)
            head, body = await read_request(answers)
            writer.write(head + body)
            await writer.drain()
        finally:
            onward.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(65536):
            writer.write(received)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def pico_behind_proxy(
    monkeypatch: pytest.MonkeyPatch,
    context: ssl.SSLContext | None,
    *,
    credentials: str = "",
    proxy_context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[Pico, Proxy, str]]:
    """Start Pico and a proxy, and name the proxy in the environment. With a TLS context, Pico is an https host."""
    pico, proxy = Pico(), Proxy()
    async with listening(pico.talk, context) as port, listening(proxy.talk, proxy_context) as proxy_port:
        scheme, proxy_scheme = ("https" if context else "http"), ("https" if proxy_context else "http")
        at = f"{credentials}@" if credentials else ""
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"{proxy_scheme}://{at}localhost:{proxy_port}")
        yield pico, proxy, f"{scheme}://localhost:{port}"


@asynccontextmanager
async def transport(base_url: str, make_transport: Make) -> AsyncIterator[HttpClient]:
    made = HttpClient(base_url, LONG_S, make_transport())
    try:
        yield made
    finally:
        await made.aclose()


OUTGOING = HttpRequest("POST", "/sms", {}, {"x-api-key": "k"}, b"{}")


async def exchange(base_url: str, make_transport: Make) -> tuple[Reply | Failure, bool]:
    """Run one exchange, and return its reply or failure and whether a write was noted."""
    attempt = Asked()
    async with transport(base_url, make_transport) as way:
        return await exchange_with(way, OUTGOING, attempt), attempt.wrote


def session(base_url: str, make_transport: Make, **settings: object) -> PicoSession:
    chosen = None if make_transport is HttpxTransport else make_transport()
    return PicoSession(  # type: ignore[arg-type]
        username="user333",
        api_key="k",
        sender="8612345678888",
        base_url=base_url,
        **{"transport": chosen, "rates": Rates(sms=None, token=None), "retries": 0, "timeout": LONG_S} | settings,
    )


# Choice of the proxy

PICO = "https://rest.picotw.com"


@pytest.mark.parametrize(
    ("base_url", "environment", "proxy"),
    [
        (PICO, {}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        (PICO, {"https_proxy": "http://p:1"}, "http://p:1"),
        (PICO, {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "http://lower:1"),
        (PICO, {"HTTPS_PROXY": "http://upper:1", "https_proxy": ""}, None),
        (PICO, {"HTTP_PROXY": "http://p:1"}, None),
        (PICO, {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        (PICO, {"all_proxy": "http://p:1"}, "http://p:1"),
        (PICO, {"HTTPS_PROXY": "http://p:1", "ALL_PROXY": "http://all:1"}, "http://p:1"),
        (PICO, {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        (PICO, {"HTTPS_PROXY": "user:word@p:1"}, "http://user:word@p:1"),
        (PICO, {"HTTPS_PROXY": "http://p:1/"}, "http://p:1/"),
        (PICO, {"HTTPS_PROXY": " http://p:1\n"}, "http://p:1"),
        (PICO, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "rest.picotw.com"}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1", "no_proxy": "other, .picotw.com"}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "picotw.com"}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "cotw.com"}, "http://p:1"),
        (PICO + ":8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "rest.picotw.com:8443"}, None),
        (PICO + ":8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "rest.picotw.com:443"}, "http://p:1"),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other, 10.0.0.0/8"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.1.2.6/29"}, None),
        ("https://10.1.2.3:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/99,10.1.0.0/16"}, None),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,fd00::/8"}, "http://p:1"),
        ("https://[fd00::1]", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,fd00::/8"}, None),
        (PICO, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "0.0.0.0/0"}, "http://p:1"),
        # A request to loopback uses no proxy on another host.
        ("http://127.0.0.1:80", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1:80", {"ALL_PROXY": "socks5://p:1"}, None),
        ("https://localhost:80", {"HTTPS_PROXY": "http://192.0.2.1:1"}, None),
        ("https://localhost:80", {"HTTPS_PROXY": "http://localhost.example:1"}, None),
        ("http://127.0.0.1:80", {"HTTP_PROXY": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ("http://127.0.0.1:80", {"HTTP_PROXY": "localhost:1"}, "http://localhost:1"),
        ("http://127.0.0.1:80", {"HTTP_PROXY": "http://[::1]:1"}, "http://[::1]:1"),
        ("http://127.0.0.1:80", {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "[::1]"}, None),
        ("http://[::1]:80", {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "localhost,::1"}, None),
        (PICO, {"HTTPS_PROXY": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, base_url: str, environment: dict[str, str], proxy: str | None
) -> None:
    """The proxy is chosen as in curl and httpx, but a request to loopback uses only a proxy on loopback."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(base_url) == proxy


UNUSABLE = [
    "socks5://user:S3CRET@127.0.0.1:1080",
    "ftp://user:S3CRET@127.0.0.1:21",
    "http://user:S3CRET@127.0.0.1:port",
    "http://user:S3CRET@127.0.0.1:99999",
    "http://user:S3CRET@",
    "http://",
    "http://user:S3CRET@[127.0.0.1:1",
    # Credentials that should be percent-encoded: "user" would be read as the host, the password as the port.
    "http://user:S3CRET/x@127.0.0.1:1",
    "http://user:1234/S3CRET@127.0.0.1:1",
    "http://user:1234?S3CRET@127.0.0.1:1",
    "http://user:1234#S3CRET@127.0.0.1:1",
    "http://user:S3CRET@127.0.0.1 :1",
    "http://user:S3CRET@\u3002:1",
]


@pytest.mark.lower_bounds
@pytest.mark.parametrize("proxy", UNUSABLE)
def test_an_invalid_proxy_is_refused_when_the_session_is_made(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """An unusable proxy address raises ConfigurationError when the session is made, without showing the password."""
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ConfigurationError, match="proxy that the environment names") as raised:
        session(PICO, make_transport)

    assert "S3CRET" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


def test_a_scheme_may_be_written_in_capitals(make_transport: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy address is accepted with its scheme in capital letters."""
    monkeypatch.setenv("HTTPS_PROXY", "HTTP://127.0.0.1:3128")

    assert "not opened" in repr(session(PICO, make_transport))


# Requests through the proxy

SCHEMES = pytest.mark.parametrize("scheme", ["https", "http"])


@SCHEMES
async def test_a_session_sends_through_the_proxy(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, scheme: str
) -> None:
    """
    A token request and ten messages share one tunnel or one connection to the proxy.

    With https, the proxy sees neither the API key nor the token.
    """
    tls = trusted if scheme == "https" else None
    async with pico_behind_proxy(monkeypatch, tls) as (pico, proxy, address):
        async with session(address, make_transport) as sending:
            accepted = [await sending.sms.send(TO, f"hello {number}") for number in range(10)]

    assert [each.request_id for each in accepted] == ["r-1"] * 10
    assert [head.split()[1] for head in pico.heads] == [b"/token/user333"] + [b"/sms"] * 10
    for head in pico.heads:
        assert b"x-api-key: k\r\n" in head.lower()
        assert (b"authorization: bearer token-1\r\n" in head.lower()) == (b"/sms" in head)
    assert proxy.connections == 1
    methods = [head.split()[0] for head in proxy.heads]
    assert methods == ([b"CONNECT"] if scheme == "https" else [b"GET"] + [b"POST"] * 10)
    if scheme == "https":
        for secret in (b"api-key", b"bearer", b"token-1"):
            assert secret not in b"".join(proxy.heads).lower()


async def test_many_at_once_have_a_tunnel_each(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """
    Eight concurrent requests use eight tunnels, and eight later requests use the same tunnels again.

    Pico answers only when it has read all eight requests, so no two of them can share a tunnel.
    """
    for module in ("http.httpx_transport", "http.aiohttp_transport"):
        monkeypatch.setattr(f"pico_async._engine.{module}.KEEPALIVE_EXPIRY_S", 60.0)

    async with pico_behind_proxy(monkeypatch, trusted) as (pico, proxy, address):
        async with session(address, make_transport) as sending:
            await sending.token.get()
            pico.together = asyncio.Barrier(8)
            await asyncio.gather(*(sending.sms.send(TO, f"hello {number}") for number in range(8)))
            tunnels = proxy.connections
            await asyncio.gather(*(sending.sms.send(TO, f"again {number}") for number in range(8)))

    assert len(pico.heads) == 17
    assert proxy.connections == tunnels == 8


async def test_a_proxy_may_itself_be_reached_by_tls(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """
    A proxy may be reached by TLS, with the CA certificates that are trusted for Pico.

    They are loaded only once, because loading takes longer than a request.
    """
    async with pico_behind_proxy(monkeypatch, trusted, proxy_context=trusted) as (pico, proxy, address):
        async with transport(address, make_transport) as way:
            replies = [await exchange_with(way, OUTGOING, Asked())]
            # httpx before 0.28 does not pass the context to httpcore, which then loads the certificates each time.
            if make_transport is AiohttpTransport or not httpx.__version__.startswith("0.27."):
                monkeypatch.setattr(ssl, "create_default_context", None)
            replies += await asyncio.gather(*(exchange_with(way, OUTGOING, Asked()) for _ in range(3)))

    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [200] * 4
    assert len(pico.heads) == 4
    assert proxy.connections > 1


@pytest.mark.lower_bounds
async def test_a_proxy_that_is_not_trusted_is_not_talked_to(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """A TLS proxy with an untrusted certificate gets no request, which would contain the proxy credentials."""
    async with pico_behind_proxy(monkeypatch, trusted, proxy_context=context_of(trustme.CA())) as (
        pico,
        proxy,
        address,
    ):
        failure, wrote = await exchange(address, make_transport)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert proxy.heads == pico.heads == []


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect every line that any logger emits."""
    lines: list[str] = []

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root, before = Everything(), logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.lower_bounds
@SCHEMES
async def test_the_proxy_s_credentials_reach_it_and_nobody_else(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, logged: list[str], scheme: str
) -> None:
    """
    The proxy gets its percent-decoded credentials with each request.

    No request inside a tunnel, error, repr or log line shows them.
    """
    tls = trusted if scheme == "https" else None
    async with pico_behind_proxy(monkeypatch, tls, credentials=CREDENTIALS) as (pico, proxy, address):
        async with session(address, make_transport) as sending:
            await sending.sms.send(TO, "hello")
            await sending.sms.send(TO, "hello again")
        asked = list(proxy.heads)
        proxy.misbehave = refuse(407)
        refused = session(address, make_transport)
        async with refused:
            with pytest.raises((NotSentError, RejectedError)) as raised:
                await refused.sms.send(TO, "hello")

    assert asked
    for head in asked:
        assert b"proxy-authorization: " + BASIC.lower() in head.lower()
    if scheme == "https":
        assert b"proxy-authorization" not in b"".join(pico.heads).lower()
    error = raised.value
    told = [*logged, repr(refused), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    for secret in (USER, PASSWORD, CREDENTIALS, CREDENTIALS.split(":")[1], BASIC.decode()):
        assert secret not in "\n".join(told)


# Failures of the proxy, and what they prove


def refuse(status: int) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d No\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % (status, len(HTML)))
        writer.write(HTML)
        await writer.drain()
        await reader.read()

    return talk


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never send a reply, and move the clock beyond the client's timeout."""
    jump()
    await wait_for_ever(reader, writer)


async def close_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def reset_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def close_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 20")
    await writer.drain()


async def speak_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 none of your business\r\n\r\n")
    await writer.drain()
    await reader.read()


async def begin_a_record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send what looks like the beginning of a long TLS record, and move the clock beyond the client's timeout."""
    writer.write(b"\x16\x03\x01 none of your business\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.02)
    await hang(reader, writer)


IN_CONNECT = {
    "407": refuse(407),
    "502": refuse(502),
    "503": refuse(503),
    "302": refuse(302),
    "hangs": hang,
    "closes": close_it,
    "resets": reset_it,
    "closes in the middle": close_in_the_middle,
    "garbage": speak_garbage,
}


@pytest.mark.parametrize("fault", IN_CONNECT.values(), ids=IN_CONNECT)
async def test_what_fails_before_the_tunnel_stands_sent_nothing(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, fault: Talk
) -> None:
    """
    A failure of the CONNECT request proves that nothing was sent, and no write is noted.

    When the proxy works again, the next request is sent.
    """
    async with pico_behind_proxy(monkeypatch, trusted) as (pico, proxy, address):
        async with transport(address, make_transport) as way:
            proxy.misbehave, attempt = fault, Asked()
            failure = await exchange_with(way, OUTGOING, attempt)
            proxy.misbehave = None
            reply = await exchange_with(way, OUTGOING, Asked())

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not attempt.wrote
    assert "prox" in failure.reason or "connection" in failure.reason
    assert isinstance(reply, Reply)
    assert len(pico.heads) == 1


@SCHEMES
async def test_a_proxy_that_is_not_there_sent_nothing(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """A refused TCP connection to the proxy proves that nothing was sent, for tunnelled and for forwarded requests."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
        failure, wrote = await exchange(f"{scheme}://127.0.0.1:1", make_transport)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote


BEHIND = {"hangs": hang, "closes": close_it, "resets": reset_it, "garbage": begin_a_record}


@pytest.mark.parametrize("fault", BEHIND.values(), ids=BEHIND)
async def test_tls_that_fails_behind_the_proxy_sent_nothing(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, fault: Talk
) -> None:
    """A TLS failure inside the tunnel proves that nothing was sent. The next request opens a new tunnel."""
    async with pico_behind_proxy(monkeypatch, trusted) as (pico, proxy, address):
        async with transport(address, make_transport) as way:
            proxy.behind, attempt = fault, Asked()
            failure = await exchange_with(way, OUTGOING, attempt)
            proxy.behind = None
            reply = await exchange_with(way, OUTGOING, Asked())

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not attempt.wrote
    assert isinstance(reply, Reply)
    assert len(pico.heads) == 1


async def test_a_stranger_behind_the_proxy_is_not_talked_to(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """A proxy with an untrusted certificate in Pico's name gets no request, and the failure names the certificate."""
    async with pico_behind_proxy(monkeypatch, context_of(trustme.CA())) as (pico, _, address):
        failure, wrote = await exchange(address, make_transport)

    assert isinstance(failure, Failure)
    assert failure.sent_nothing
    assert not wrote
    assert "certificate" in failure.reason.lower()
    assert pico.heads == []


@pytest.mark.lower_bounds
async def test_failed_tunnels_are_closed(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """
    Five failed tunnels leave no open connection and at most one connection object.

    A tunnel that works has such an object, so the count finds what it looks for.
    """
    kind = "AsyncTunnelHTTPConnection" if make_transport is HttpxTransport else "ResponseHandler"

    def count() -> int:
        gc.collect()
        return sum(type(thing).__name__ == kind for thing in gc.get_objects())

    async def answer_without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await until_it_ends(reader, writer)

    async with pico_behind_proxy(monkeypatch, trusted) as (_, proxy, address):
        async with transport(address, make_transport) as way:
            before = count()
            proxy.behind = answer_without_tls
            for _ in range(5):
                assert isinstance(await exchange_with(way, OUTGOING, Asked()), Failure)
            await until(lambda: not proxy.open and count() <= before + 1)

            proxy.behind = None
            assert isinstance(await exchange_with(way, OUTGOING, Asked()), Reply)
            assert count() > 0


AFTER = {"closes": close_it, "resets": reset_it, "hangs": hang, "garbage": speak_garbage}


@SCHEMES
@pytest.mark.parametrize("fault", AFTER.values(), ids=AFTER)
async def test_what_fails_after_the_request_is_in_doubt(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, fault: Talk, scheme: str
) -> None:
    """A request that reached Pico through the proxy is in doubt after any failure of the reply."""
    tls = trusted if scheme == "https" else None
    async with pico_behind_proxy(monkeypatch, tls) as (pico, _, address):
        pico.misbehave = fault
        failure, wrote = await exchange(address, make_transport)

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote
    assert len(pico.heads) == 1


@pytest.mark.lower_bounds
@pytest.mark.parametrize("fault", AFTER.values(), ids=AFTER)
async def test_what_a_forwarding_proxy_has_is_in_doubt(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, fault: Talk
) -> None:
    """A request that a forwarding proxy has read is in doubt, because the proxy may have forwarded it."""
    async with pico_behind_proxy(monkeypatch, None) as (pico, proxy, address):
        proxy.misbehave = fault
        failure, wrote = await exchange(address, make_transport)

    assert isinstance(failure, Failure)
    assert not failure.sent_nothing
    assert wrote
    assert len(proxy.heads) == 1
    assert pico.heads == []


@pytest.mark.parametrize(("status", "kind"), [(407, RejectedError), (502, ServerError), (503, ServerError)])
async def test_a_forwarding_proxy_s_own_reply_is_a_gateway_s(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    """
    An HTML error page of a forwarding proxy is judged as the reply of a gateway.

    A 4xx rejects the send, a 5xx leaves it in doubt, and the send is not retried.
    """
    async with pico_behind_proxy(monkeypatch, None) as (_, proxy, address):
        async with session(address, make_transport, retries=2) as sending:
            await sending.token.get()
            proxy.misbehave = refuse(status)
            with pytest.raises(kind, match="a gateway") as raised:
                await sending.sms.send(TO, "hello")

    assert type(raised.value) is kind
    assert [head.split()[0] for head in proxy.heads].count(b"POST") == 1


async def test_a_session_repeats_what_the_proxy_refused_and_not_what_got_lost_behind_it(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext
) -> None:
    """A send is retried if the proxy refused the tunnel, and is not retried if the reply was lost behind the proxy."""
    async with pico_behind_proxy(monkeypatch, trusted) as (pico, proxy, address):
        async with session(address, make_transport, retries=1) as sending:
            await sending.token.get()
            pico.misbehave = close_it
            with pytest.raises(NoResponseError) as lost:
                await sending.sms.send(TO, "hello")
            proxy.misbehave = refuse(503)
            with pytest.raises(NotSentError, match="the proxy gave no connection") as refused:
                await sending.sms.send(TO, "hello")

    assert lost.value.attempts == 1
    assert [head.split()[1] for head in pico.heads] == [b"/token/user333", b"/sms"]
    assert refused.value.attempts == 2


@pytest.mark.parametrize("where", ["in CONNECT", "in TLS", "in TLS behind a TLS proxy", "after the request"])
async def test_a_cancellation_says_how_far_it_had_come_and_leaves_no_socket(
    make_transport: Make, monkeypatch: pytest.MonkeyPatch, trusted: ssl.SSLContext, where: str
) -> None:
    """A cancelled request counts as written only if the request itself had left. The proxy sees its connection end."""
    if make_transport is AiohttpTransport and where == "in TLS behind a TLS proxy":
        pytest.skip("asyncio's own TLS in TLS fails in a callback where it is cut off (Python 3.11)")
    proxy_context = trusted if where == "in TLS behind a TLS proxy" else None
    async with pico_behind_proxy(monkeypatch, trusted, proxy_context=proxy_context) as (pico, proxy, address):
        async with transport(address, make_transport) as way:
            if where == "after the request":
                pico.misbehave, begun = until_it_ends, pico.begun
            else:
                begun = proxy.begun
                if where == "in CONNECT":
                    proxy.misbehave = until_it_ends
                else:
                    proxy.behind = until_it_ends
            attempt = Asked()
            sending = asyncio.create_task(exchange_with(way, OUTGOING, attempt))
            await begun.wait()
            await asyncio.sleep(0.02)

            sending.cancel()
            await asyncio.wait([sending])
            await until(lambda: not proxy.open)

    assert sending.cancelled()
    assert attempt.wrote == (where == "after the request")


async def until_it_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass
