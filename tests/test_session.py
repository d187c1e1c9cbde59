"""A session checks its settings, belongs to one event loop, and can be closed at any time."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from pico_async import (
    DEFAULT_BASE_URL,
    WHITELIST_BASE_URL,
    Accepted,
    AiohttpTransport,
    ConfigurationError,
    InvalidMessageError,
    LocalCoordinator,
    MmsMessage,
    NotSentError,
    PicoSession,
    Priority,
    Rates,
    SmsMessage,
    VoiceMessage,
)
from pico_async.coordination import registry
from pico_async.coordination.rates import RateGroup
from tests.support.watched_slots import watch_slots

VARIABLES = ("PICO_USERNAME", "PICO_API_KEY", "PICO_SENDER", "PICO_CALLBACK", "PICO_CALLBACK_SECRETS", "PICO_BASE_URL")
KEY = "S3CRET-k3y-0123456789"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def answer(request: httpx.Request) -> httpx.Response:
    if "/token/" in request.url.path:
        return httpx.Response(200, json={"token": "t-1"})
    return httpx.Response(200, json={"request_id": "r-1"})


def open_sessions() -> int:
    keys = registry._entries.get(asyncio.get_running_loop(), {})
    return sum(shared.sessions for shared in keys.values())


def session(**settings: Any) -> PicoSession:
    return PicoSession(
        **{"username": "user333", "api_key": KEY, "sender": "s", "transport": httpx.MockTransport(answer)} | settings
    )


def test_the_hosts_are_the_reference_s() -> None:
    """The two base URLs are those of the reference: the documented host, and the host for the IP whitelist."""
    assert DEFAULT_BASE_URL == "https://rest.picotw.com"
    assert WHITELIST_BASE_URL == "https://api.picotw.com"


async def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the five settings is read from the environment when its argument is omitted."""
    requests = []

    def remember(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answer(request)

    monkeypatch.setenv("PICO_USERNAME", "env-user")
    monkeypatch.setenv("PICO_API_KEY", "env-key")
    monkeypatch.setenv("PICO_SENDER", "env-sender")
    monkeypatch.setenv("PICO_CALLBACK", "https://env.example/dlr")
    monkeypatch.setenv("PICO_BASE_URL", "https://env.example/api/")

    async with PicoSession(transport=httpx.MockTransport(remember)) as pico:
        await pico.sms.send("8612345678901", "hi")

    token, sms = requests
    assert str(token.url) == "https://env.example/api/token/env-user"
    assert sms.headers["x-api-key"] == "env-key"
    assert b'"from":"env-sender"' in sms.content
    assert b'"callback":"https://env.example/dlr"' in sms.content


async def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument overrides the environment variable."""
    monkeypatch.setenv("PICO_USERNAME", "env-user")

    async with session(username="argument") as pico:
        assert "argument" in repr(pico)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"username": None}, "PICO_USERNAME"),
        ({"username": ""}, "PICO_USERNAME"),
        ({"username": ".."}, "`username`"),
        ({"username": "a/b"}, "`username`"),
        ({"username": "a?b"}, "`username`"),
        ({"api_key": None}, "PICO_API_KEY"),
        ({"sender": "a\nb"}, "`sender`"),
        ({"callback": "example.com"}, "`callback`"),
        ({"base_url": "http://rest.picotw.com"}, "https"),
        ({"base_url": "http://127.0.0.1.example.com"}, "https"),
        ({"base_url": "rest.picotw.com"}, "`base_url`"),
        ({"base_url": "ftp://rest.picotw.com"}, "`base_url`"),
        ({"base_url": "https://user:pass@rest.picotw.com"}, "`base_url`"),
        ({"base_url": "https://rest.picotw.com/?a=b"}, "`base_url`"),
        ({"base_url": "https://rest.picotw.com:99999"}, "`base_url`"),
        ({"timeout": 0}, "`timeout`"),
        ({"timeout": float("inf")}, "`timeout`"),
        ({"retries": -1}, "`retries`"),
        ({"retries": 11}, "`retries` must be a whole number from 0 to 10"),
        ({"retries": 2.0}, "`retries`"),
        ({"retries": True}, "`retries`"),
        ({"timeout": 10**400}, "`timeout`"),
        ({"retry_in_doubt": "false"}, "`retry_in_doubt`"),
        ({"rates": 30}, "`rates`"),
        ({"coordinator": "x"}, "`coordinator`"),
        ({"transport": httpx.AsyncClient()}, "`transport`"),
        ({"transport": None, "ssl": True}, "`ssl` must be an ssl.SSLContext"),
        ({"transport": None, "ssl": ssl._create_unverified_context()}, "`ssl` verifies no certificate"),
        ({"ssl": ssl.create_default_context()}, "`ssl` has no effect"),
        ({"transport": httpx.AsyncHTTPTransport(http2=True)}, "HTTP/2"),
        ({"transport": httpx.AsyncHTTPTransport(http1=False, http2=True)}, "HTTP/2"),
        ({"base_url": " https://a"}, "`base_url`"),
        ({"base_url": "https://a b.example"}, "`base_url`"),
        ({"base_url": "https://a.example/%zz"}, "`base_url`"),
        ({"base_url": "https://a.example/b/../c"}, "`base_url`"),
        ({"rates": Rates(), "coordinator": LocalCoordinator()}, "coordinator"),
    ],
    # Without memory addresses: two processes that share the tests must agree on the tests' names.
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", str(value)) if isinstance(value, dict) else None,
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    """An invalid setting is refused by name before anything is opened."""
    with pytest.raises(ConfigurationError, match=named):
        session(**settings)


@pytest.mark.parametrize("bad", ["\n", "\r\nX-Evil: 1", " inner blank", "\x00", "ü", "\x7f"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_unseen(bad: str) -> None:
    """An API key that cannot be sent in a header is refused, and the error does not repeat the key."""
    with pytest.raises(ConfigurationError, match="`api_key`") as raised:
        session(api_key=KEY + bad)

    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:80", "127.9.9.9"])
def test_plain_http_is_for_loopback(host: str) -> None:
    """Plain HTTP is accepted for loopback hosts, because the sandbox uses it and nothing leaves the machine."""
    assert host in repr(session(base_url=f"http://{host}"))


async def test_any_message_value_can_be_sent() -> None:
    """`pico.send` accepts the three kinds of messages, and nothing else."""
    async with session() as pico:
        for message in (
            SmsMessage("8612345678901", "hi"),
            MmsMessage("8612345678901", "https://example.com/a.jpg"),
            VoiceMessage("8612345678901", "hi"),
        ):
            assert await pico.send(message) == Accepted("r-1")
        with pytest.raises(InvalidMessageError, match="dict"):
            await pico.send({"to": "8612345678901"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sms", "mms", "voice", "campaigns", "templates", "balance", "token"])
def test_a_resource_is_the_same_each_time(name: str) -> None:
    """A resource is the same object at each access, also a resource that its first use creates."""
    pico = session()

    assert getattr(pico, name) is getattr(pico, name)


async def test_a_message_without_a_sender_says_where_to_give_one() -> None:
    """A text message without a sender is refused, and the error names PICO_SENDER; a voice message needs no sender."""
    async with session(sender=None) as pico:
        with pytest.raises(InvalidMessageError, match="PICO_SENDER"):
            await pico.sms.send("8612345678901", "hi")
        await pico.voice.send("8612345678901", "hi")


async def test_two_sessions_of_one_key_share_a_coordinator_until_both_are_closed() -> None:
    """Two sessions of one account share a coordinator until both are closed; a session of another account does not."""
    async with session() as one, session() as other, session(username="another") as third:
        token_stores = {id(it._engine._tokens._store) for it in (one, other, third)}
        assert len(token_stores) == 2
        assert open_sessions() == 3

    assert open_sessions() == 0


PICO, STAND_IN = "https://rest.picotw.com", "https://pico.example:8443"


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("one", "other", "tokens"),
    [
        ({"username": "a"}, {"username": "b"}, 2),
        ({"base_url": PICO}, {"base_url": WHITELIST_BASE_URL}, 2),
        ({"base_url": PICO}, {"base_url": f"{PICO}/api"}, 2),
        ({"base_url": PICO}, {"base_url": f"{PICO}:443/"}, 1),
        ({"base_url": PICO}, {"base_url": "https://REST.PicoTW.com"}, 1),
        ({"base_url": PICO}, {"base_url": "https://rest.picotw.com."}, 1),
        ({"base_url": STAND_IN}, {"base_url": "https://PICO.example.:8443/api"}, 2),
        ({"base_url": "http://127.0.0.1:80"}, {"base_url": "http://localhost"}, 2),
        ({"base_url": "http://[::1]:8080"}, {"base_url": "http://[0:0::0:1]:8080"}, 1),
    ],
    ids=str,
)
async def test_one_key_has_one_rate_whatever_the_account_and_however_the_host_is_written(
    one: dict[str, Any], other: dict[str, Any], tokens: int
) -> None:
    """Sessions of one API key share a rate, whatever account they name and however they spell Pico or a stand-in."""
    moments: dict[str, list[float]] = {"token": [], "sms": []}

    def note(request: httpx.Request) -> httpx.Response:
        kind = "token" if "/token/" in request.url.path else "sms"
        moments[kind].append(asyncio.get_running_loop().time())
        return answer(request)

    messages = [SmsMessage("8612345678901", f"hi {number}") for number in range(60)]
    async with (
        session(transport=httpx.MockTransport(note), **one) as first,
        session(transport=httpx.MockTransport(note), **other) as second,
    ):
        await asyncio.gather(first.send_bulk(messages), second.send_bulk(messages))

    sent = moments["sms"]
    assert len(sent) == 120
    assert max(sum(start <= moment < start + 1 for moment in sent) for start in sent) <= 30
    assert len(moments["token"]) == tokens
    assert all(later - earlier >= 1 for earlier, later in pairwise(moments["token"]))


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "other", [{"api_key": "another"}, {"base_url": "https://pico.example:8444"}, {"base_url": PICO}], ids=str
)
async def test_another_key_and_another_stand_in_have_a_rate_of_their_own(other: dict[str, Any]) -> None:
    """A session of another API key, or of another stand-in for Pico, does not wait for the first one's sends."""
    began_at = asyncio.get_running_loop().time()

    async with session(base_url=STAND_IN) as first, session(**{"base_url": STAND_IN} | other) as second:
        await asyncio.gather(*(it.sms.send("8612345678901", "hi") for it in (first, second) for _ in range(30)))

    assert asyncio.get_running_loop().time() - began_at < 1.5


async def test_sessions_of_one_key_must_agree_on_the_rates_whatever_their_accounts() -> None:
    """A session of another account with other rates is refused while one of the same API key is open."""
    async with session(username="a"):
        with pytest.raises(ConfigurationError, match="same `rates`"):
            await session(username="b", rates=Rates(sms=100)).sms.send("8612345678901", "hi")


async def test_one_local_coordinator_lends_no_token_to_another_account() -> None:
    """Two accounts cannot use one `LocalCoordinator`, because one would send with the token of the other."""
    own = LocalCoordinator()

    async with session(username="a", coordinator=own):
        with pytest.raises(ConfigurationError, match="another API key, account or host"):
            await session(username="b", coordinator=own).sms.send("8612345678901", "hi")


async def test_a_session_works_without_async_with() -> None:
    """A session without `async with` is opened by its first call and ended by `aclose`, which may be called twice."""
    pico = session()

    await pico.sms.send("8612345678901", "hi")
    await pico.aclose()
    await pico.aclose()

    with pytest.raises(ConfigurationError, match="closed"):
        await pico.sms.send("8612345678901", "hi")
    assert open_sessions() == 0


async def test_a_session_that_was_never_opened_closes() -> None:
    """A session that was never opened can be closed without an error."""
    pico = session()

    await pico.aclose()

    assert "closed" in repr(pico)


def test_use_in_another_loop_is_a_clear_error() -> None:
    """
    A session belongs to the loop that opened it. Its use after that loop has ended, or without a loop, raises a
    `ConfigurationError` that says where to open it, and names the client for synchronous code.
    """
    pico = session()

    async def send() -> None:
        await pico.sms.send("8612345678901", "hi")

    asyncio.run(send())
    with pytest.raises(ConfigurationError, match=r"another event loop, which has ended.*async with.*blocking\.Pico"):
        asyncio.run(send())
    with pytest.raises(ConfigurationError, match=r"running event loop.*blocking\.Pico"):
        pico.stream_bulk([])
    registry._entries.clear()


async def test_use_in_the_loop_of_another_thread_is_a_clear_error() -> None:
    """A session that is used in a second loop, while its own one runs, says how to reach its own one."""

    async def send(pico: PicoSession) -> None:
        await pico.sms.send("8612345678901", "hi")

    async with session() as pico:
        with pytest.raises(ConfigurationError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(asyncio.run, send(pico))


def test_with_says_to_use_async_with() -> None:
    """`with PicoSession()` says to use `async with`, or the client for synchronous code."""
    with pytest.raises(ConfigurationError, match=r"async with PicoSession\(\).*pico_async\.blocking\.Pico"):
        with session():  # type: ignore[attr-defined]
            pass


async def test_a_blast_waits_with_the_priority_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk send waits for its slots with bulk priority, or with the priority that the caller passes."""
    priorities: set[Priority] = set()

    async def note(rate_group: RateGroup, priority: Priority) -> None:
        if rate_group is RateGroup.SMS:
            priorities.add(priority)

    async with session() as pico:
        watch_slots(monkeypatch, pico, note)
        await pico.send_bulk([SmsMessage("8612345678901", "hi")])
        assert priorities == {Priority.BULK}
        await pico.send_bulk([SmsMessage("8612345678901", "hi")], priority=Priority.INTERACTIVE)
        assert priorities == {Priority.BULK, Priority.INTERACTIVE}
        with pytest.raises(ConfigurationError, match="`priority`"):
            await pico.send_bulk([], priority=0)  # type: ignore[arg-type]


@pytest.mark.virtual_time
async def test_closing_stops_a_blast() -> None:
    """
    Closing the session stops a bulk send. The rest of the input is not read, waiting messages are not sent, and the
    loop over the results ends.
    """
    pico = session()
    seen = []

    async with pico.stream_bulk(SmsMessage("8612345678901", f"hi {n}") for n in range(1000)) as results:
        closing = asyncio.get_running_loop().create_task(close_soon(pico))
        seen = [result async for result in results]
        await closing

    assert results.report.stopped == "the session was closed"
    assert len(seen) < 200
    assert all(result.ok or isinstance(result.error, NotSentError) for result in seen)


async def test_closing_does_not_wait_for_a_token_that_nobody_will_use() -> None:
    """
    Closing the session does not wait for a slow token request; the send that waits for the token raises `NotSentError`.
    """
    asked = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    pico = session(transport=httpx.MockTransport(never), timeout=86_400)
    sending = asyncio.get_running_loop().create_task(pico.sms.send("8612345678901", "hi"))
    await asked.wait()

    await pico.aclose()

    with pytest.raises(NotSentError):
        await sending


async def close_soon(pico: PicoSession) -> None:
    await asyncio.sleep(0.1)
    await pico.aclose()


async def test_neither_repr_nor_vars_show_the_key() -> None:
    """Neither the repr nor the attributes of a session show the API key, because an error report may print them."""
    async with session() as pico:
        await pico.sms.send("8612345678901", "hi")

        assert KEY not in repr(pico)
        assert KEY not in repr(vars(pico))
        assert KEY not in repr(pico._engine)


async def test_it_tells_its_pace() -> None:
    """The repr of an open session and the report of a bulk send show the rate."""
    pico = session(rates=Rates(jitter_allowance_s=0.02))
    before = repr(pico)

    async with pico:
        report = await pico.send_bulk([SmsMessage("8612345678901", "hello")])
        during = repr(pico)

    assert report.accepted == 1
    assert report.pace == pytest.approx(29.35, abs=0.01)
    assert "29.35 text messages a second" in during
    assert "a second" not in before + repr(pico)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "malformed"])
@pytest.mark.parametrize("transport", [lambda: None, AiohttpTransport], ids=["httpx", "aiohttp"])
async def test_authorities_that_cannot_be_read_are_told(
    transport: Callable[[], Any], content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    When the file of CA certificates is missing or malformed, the error gives the reason and the setting to correct.

    That setting is SSL_CERT_FILE.
    """
    path = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    if content is not None:
        path.write_text(content)
    elif httpx.__version__.startswith("0.27."):
        pytest.skip("this httpx ignores a file that is not there")

    with pytest.raises(ConfigurationError, match=r"\(.+\).*SSL_CERT_FILE"):
        async with session(transport=transport()) as pico:
            await pico.sms.send("8612345678901", "Hello")
