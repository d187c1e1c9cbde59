"""These tests check which failures of one call are retried, which are not, and what the error reports."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from pico_async import (
    Accepted,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    LocalCoordinator,
    MessageExpiredError,
    NoResponseError,
    NotSentError,
    Outcome,
    PicoSession,
    RateLimitError,
    Rates,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from pico_async.coordination.local.limiter import LocalLimiter
from pico_async.coordination.rates import RateGroup

pytestmark = pytest.mark.virtual_time

TO = "8612345678901"
UNLIMITED = Rates(sms=None, token=None, balance=None)
OK = httpx.Response(200, json={"request_id": "r-1"})
STALE = httpx.Response(401, json={"msg": "請求訪問:/sms,驗證失敗,無法訪問系统資源", "code": "401"})
STALE_AS_200 = httpx.Response(200, json={"msg": "請求訪問:/sms,驗證失敗,無法訪問系统資源", "code": 401})
TOO_FAST = httpx.Response(200, json={"code": 500, "msg": "访问过于频繁，请稍候再试"})
BAD_GATEWAY = httpx.Response(502, html="<h1>Bad Gateway</h1>")

Answer = httpx.Response | Exception | Callable[[httpx.Request], Any]


class Pico:
    """A mock Pico that returns its answers in order and records the requests; its tokens are t1, t2, …"""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.moments: list[float] = []
        self.tokens = 0
        self.token_answer: Answer | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            self.tokens += 1
            return await self._give(
                self.token_answer or httpx.Response(200, json={"token": f"t{self.tokens}"}), request
            )
        self.requests.append(request)
        self.moments.append(asyncio.get_running_loop().time())
        return await self._give(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], request)

    async def _give(self, answer: Answer, request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return await answer(request)  # type: ignore[no-any-return]


async def hang(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(3600)
    raise AssertionError


@asynccontextmanager
async def session(pico: Pico, **settings: Any) -> AsyncIterator[PicoSession]:
    settings = {"rates": UNLIMITED} | settings if "coordinator" not in settings else settings
    async with PicoSession(
        username="user333", api_key="k", sender="s", transport=httpx.MockTransport(pico), **settings
    ) as made:
        yield made


async def test_a_send_that_pico_took_is_accepted() -> None:
    """`sms.send` makes one send request with the documented headers and returns the reply's `request_id`."""
    pico = Pico(OK)

    async with session(pico) as it:
        accepted = await it.sms.send(TO, "hello")

    assert accepted == Accepted("r-1")
    (request,) = pico.requests
    assert request.headers["x-api-key"] == "k"
    assert request.headers["authorization"] == "Bearer t1"
    assert request.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    "refusal",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("full"),
        TOO_FAST,
        httpx.Response(429),
    ],
    ids=["refused", "connect timeout", "pool timeout", "too frequent", "429"],
)
async def test_what_provably_did_not_happen_is_repeated(refusal: Answer) -> None:
    """A send is retried after a failure that proves that the message was not sent."""
    pico = Pico(refusal, refusal, OK)

    async with session(pico, retries=2) as it:
        assert await it.sms.send(TO, "hello") == Accepted("r-1")

    assert len(pico.requests) == 3


@pytest.mark.lower_bounds
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ReadTimeout("slow"), NoResponseError),
        (httpx.WriteTimeout("slow"), NoResponseError),
        (httpx.ReadError("reset"), NoResponseError),
        (httpx.RemoteProtocolError("closed"), NoResponseError),
        (hang, NoResponseError),
        (OSError("odd"), NoResponseError),
        (BAD_GATEWAY, ServerError),
        (httpx.Response(200, json={"code": 500, "msg": "boom"}), ServerError),
        (httpx.Response(200, json={}), UnexpectedResponseError),
        (httpx.Response(200, text="hello"), UnexpectedResponseError),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
async def test_what_may_have_happened_is_never_repeated(failure: Answer, kind: type[InDoubtError]) -> None:
    """A send that may have reached Pico is not retried, and the error reports that the message may have been sent."""
    pico = Pico(failure, OK)

    async with session(pico, retries=5) as it:
        with pytest.raises(kind) as raised:
            await it.sms.send(TO, "hello")

    assert len(pico.requests) == 1
    assert raised.value.outcome is Outcome.IN_DOUBT
    assert raised.value.attempts == 1
    assert "may have been sent" in str(raised.value)


async def test_a_doubtful_send_is_repeated_only_where_the_owner_says_so() -> None:
    """With `retry_in_doubt=True` the session retries a send that is in doubt."""
    pico = Pico(httpx.ReadTimeout("slow"), OK)

    async with session(pico, retry_in_doubt=True) as it:
        assert await it.sms.send(TO, "hello") == Accepted("r-1")

    assert len(pico.requests) == 2


@pytest.mark.parametrize(
    "later", [httpx.ConnectError("refused"), httpx.Response(400, json={"errors": ["no"]}), TOO_FAST]
)
async def test_a_later_refusal_does_not_undo_an_earlier_doubt(later: Answer) -> None:
    """A send in doubt stays in doubt when a later try is refused, because the first try may have sent the message."""
    pico = Pico(httpx.ReadTimeout("slow"), later)

    async with session(pico, retry_in_doubt=True) as it:
        with pytest.raises(InDoubtError) as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.attempts == len(pico.requests) > 1


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), BAD_GATEWAY], ids=["no reply", "502"])
async def test_reads_updates_and_deletions_are_repeated(failure: Answer) -> None:
    """A GET, PUT or DELETE in doubt is retried, because carrying it out twice does no harm."""
    async with session(Pico(failure, httpx.Response(200, json={"balance": "1.5"}))) as it:
        assert str((await it.balance.get()).balance) == "1.5"
    async with session(Pico(failure, OK)) as it:
        assert (await it.campaigns.update("c", name="n")).request_id == "r-1"
    async with session(Pico(failure, OK)) as it:
        assert (await it.campaigns.delete("c")).request_id == "r-1"


async def test_a_creation_is_not_repeated_in_doubt() -> None:
    """
    A POST that creates a campaign is not retried in doubt, because the retry could create a duplicate.

    The error advises the caller to look first.
    """
    pico = Pico(httpx.ReadTimeout("slow"), OK)

    async with session(pico) as it:
        with pytest.raises(NoResponseError, match="look before you repeat it"):
            await it.campaigns.create("n")

    assert len(pico.requests) == 1


@pytest.mark.parametrize(
    "nothing", [httpx.Response(404, json={"errors": ["gone"]}), httpx.Response(400, json={"errors": ["not found"]})]
)
async def test_a_repeated_deletion_that_finds_nothing_is_done(nothing: Answer) -> None:
    """
    A retried DELETE that finds nothing succeeds, because the first try has deleted the template.

    A first DELETE that finds nothing is rejected.
    """
    async with session(Pico(httpx.ReadTimeout("slow"), nothing)) as it:
        await it.templates.delete("t")
    async with session(Pico(nothing)) as it:
        with pytest.raises(RejectedError):
            await it.templates.delete("t")


async def test_retries_are_bounded_and_counted_in_the_error() -> None:
    """`retries=2` allows three requests, and `attempts` of the error counts them."""
    pico = Pico(httpx.ConnectError("refused"))

    async with session(pico, retries=2) as it:
        with pytest.raises(NotSentError) as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.attempts == len(pico.requests) == 3


async def test_retry_after_is_honoured() -> None:
    """No retry is sent before the `Retry-After` of the reply has passed."""
    pico = Pico(httpx.Response(429, headers={"retry-after": "7"}), OK)

    async with session(pico) as it:
        await it.sms.send(TO, "hello")

    assert 7 <= pico.moments[1] - pico.moments[0] < 9


async def test_a_retry_after_past_its_bound_is_reported_and_not_waited_for() -> None:
    """A `Retry-After` of one hour is not waited for; the RateLimitError holds it as `retry_after`."""
    pico = Pico(httpx.Response(429, headers={"retry-after": "3600"}), OK)

    async with session(pico) as it:
        with pytest.raises(RateLimitError) as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.retry_after == 3600
    assert len(pico.requests) == 1


async def test_a_rate_refusal_pauses_all_sessions_of_the_key() -> None:
    """A rate refusal pauses all sessions that share a coordinator, not only the refused call."""
    coordinator = LocalCoordinator()
    first, second = Pico(httpx.Response(429, headers={"retry-after": "5"}), OK), Pico(OK)

    async with session(first, coordinator=coordinator) as one, session(second, coordinator=coordinator) as other:
        sending = asyncio.create_task(one.sms.send(TO, "hello"))
        await asyncio.sleep(0.1)
        await other.sms.send(TO, "hello")
        await sending

    assert second.moments[0] - first.moments[0] >= 5


@pytest.mark.parametrize("stale", [STALE, STALE_AS_200], ids=["documented", "as HTTP 200"])
async def test_a_stale_token_is_renewed_once(stale: Answer) -> None:
    """A call whose token is stale is sent again with a new token, even with `retries=0`."""
    pico = Pico(stale, OK)

    async with session(pico, retries=0) as it:
        assert await it.sms.send(TO, "hello") == Accepted("r-1")

    assert [request.headers["authorization"] for request in pico.requests] == ["Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("stale", [STALE, STALE_AS_200], ids=["documented", "as HTTP 200"])
async def test_a_fresh_token_that_is_refused_is_an_authentication_error(stale: Answer) -> None:
    """A call fetches a new token only once. If Pico refuses that token too, the call raises AuthenticationError."""
    pico = Pico(stale)

    async with session(pico) as it:
        with pytest.raises(AuthenticationError) as raised:
            await it.sms.send(TO, "hello")

    assert pico.tokens == len(pico.requests) == 2
    assert raised.value.outcome is Outcome.REJECTED


@pytest.mark.parametrize("stale", [STALE, STALE_AS_200], ids=["documented", "as HTTP 200"])
async def test_fifty_calls_with_one_stale_token_cost_one_token_request(stale: Answer) -> None:
    """Fifty calls with one stale token cause one new token request and succeed, with both forms of the 401 reply."""

    async def judge(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.05)
        answer = stale if request.headers["authorization"] == "Bearer t1" else OK
        assert isinstance(answer, httpx.Response)
        return httpx.Response(answer.status_code, content=answer.content)

    pico = Pico(judge)

    async with session(pico) as it:
        await it.token.get()
        accepted = await asyncio.gather(*(it.sms.send(TO, f"hello {n}") for n in range(50)))

    assert accepted == [Accepted("r-1")] * 50
    assert len(pico.requests) == 100
    assert pico.tokens == 2


async def test_a_crowd_does_not_offer_a_refused_token_again() -> None:
    """Calls that wait for a slot learn of the first 401: at most 3 of 200 calls send the refused token."""
    pico = Pico(lambda request: judge(request))

    async def judge(request: httpx.Request) -> httpx.Response:
        answer = STALE if request.headers["authorization"] == "Bearer t1" else OK
        return httpx.Response(answer.status_code, content=answer.content)

    async with session(pico, rates=Rates(sms=30)) as it:
        await it.token.get()
        accepted = await asyncio.gather(*(it.sms.send(TO, f"hello {n}") for n in range(200)))

    assert accepted == [Accepted("r-1")] * 200
    assert len(pico.requests) <= 203
    assert pico.tokens == 2


async def test_a_refused_key_is_an_authentication_error() -> None:
    """
    If Pico refuses the token request with a 400, a send raises AuthenticationError and sends nothing.

    `token.get()` raises BadRequestError.
    """
    pico = Pico(OK)
    pico.token_answer = httpx.Response(400, json={"errors": ["unknown user"], "request_id": "r"})

    async with session(pico) as it:
        with pytest.raises(AuthenticationError, match="unknown user") as raised:
            await it.sms.send(TO, "hello")
        with pytest.raises(BadRequestError):
            await it.token.get()

    assert not pico.requests
    assert raised.value.status_code == 400


@pytest.mark.parametrize("failure", [httpx.ConnectError("no"), httpx.ReadTimeout("slow"), BAD_GATEWAY])
async def test_a_message_without_a_token_was_not_sent(failure: Answer) -> None:
    """If the token request fails, even in doubt, the message was not sent and the send raises NotSentError."""
    pico = Pico(OK)
    pico.token_answer = failure

    async with session(pico) as it:
        with pytest.raises(NotSentError) as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.outcome is Outcome.NOT_SENT
    assert not pico.requests


@pytest.mark.parametrize("token", ["", "a\r\nb", "töken", "a b"])
async def test_a_token_that_does_not_fit_into_a_header_is_not_used(token: str) -> None:
    """A token that is not valid in a header raises UnexpectedResponseError, whose text does not contain the token."""
    pico = Pico(OK)
    pico.token_answer = httpx.Response(200, json={"token": token})

    async with session(pico) as it:
        with pytest.raises(UnexpectedResponseError) as raised:
            await it.token.get()

    assert not token or token not in str(raised.value)


async def test_a_message_that_expires_while_it_waits_is_dropped() -> None:
    """
    A message that expires while it waits for a slot raises MessageExpiredError and is never sent.

    It gives its place in the queue back: the next message gets the next slot.
    """
    pico = Pico(OK)

    async with session(pico, rates=Rates(sms=1)) as it:
        results = await asyncio.gather(
            *(it.sms.send(TO, "hello", expires_in=3.5) for _ in range(10)), return_exceptions=True
        )
        async with asyncio.timeout(60):
            later = await it.sms.send(TO, "hello")

    assert results[:4] == [Accepted("r-1")] * 4
    assert all(isinstance(result, MessageExpiredError) for result in results[4:])
    assert later == Accepted("r-1")
    assert len(pico.requests) == 5
    # The six that expired before it would have waited for six seconds. An old aiolimiter wakes it up to a second late.
    assert pico.moments[4] - pico.moments[3] < 2 * (pico.moments[3] - pico.moments[2])


async def test_a_message_that_would_expire_in_a_back_off_is_given_up() -> None:
    """If the `Retry-After` of a refusal ends after `expires_in`, the send raises it at once and is not retried."""
    pico = Pico(httpx.Response(429, headers={"retry-after": "30"}))

    async with session(pico) as it:
        took_s, end = await lasts_s(it.sms.send(TO, "hello", expires_in=5))

    assert isinstance(end, RateLimitError)
    assert took_s == pytest.approx(0, abs=0.01)
    assert len(pico.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_of_a_send_is_not_followed_and_not_repeated(status: int) -> None:
    """
    A redirect is not followed, because it would send the API key to another host.

    A server may redirect after it took the message, so the send is in doubt and is not repeated.
    """
    pico = Pico(httpx.Response(status, headers={"location": "https://elsewhere.example/sms"}), OK)

    async with session(pico) as it:
        with pytest.raises(InDoubtError, match="redirects"):
            await it.sms.send(TO, "hello")

    assert len(pico.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
async def test_a_host_that_asks_to_send_elsewhere_is_a_mistake_of_the_configuration(status: int) -> None:
    """A redirect that keeps the method says that nothing was carried out: the host is the wrong one."""
    pico = Pico(httpx.Response(status, headers={"location": "https://elsewhere.example/sms"}), OK)

    async with session(pico) as it:
        with pytest.raises(ConfigurationError, match="redirects"):
            await it.sms.send(TO, "hello")

    assert len(pico.requests) == 1


async def test_the_timeout_bounds_the_whole_exchange() -> None:
    """The exchange ends after `timeout`, even if bytes of the reply keep arriving."""

    async def drip(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(1)
                yield b" "

        return httpx.Response(200, content=body())

    pico = Pico(drip)

    async with session(pico, timeout=5) as it:
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(NoResponseError, match="no reply within 5 s"):
            await it.sms.send(TO, "hello")

    assert asyncio.get_running_loop().time() - began_at == pytest.approx(5, abs=0.1)


@pytest.mark.lower_bounds
async def test_a_reply_over_the_cap_is_not_read_to_its_end() -> None:
    """A reply larger than 1 MiB is not read to its end and raises UnexpectedResponseError."""
    read = 0

    async def flood(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 65536
                yield b" " * 65536

        return httpx.Response(200, content=body())

    async with session(Pico(flood)) as it:
        with pytest.raises(UnexpectedResponseError, match="larger than 1 MiB"):
            await it.sms.send(TO, "hello")

    assert read <= 2 * 1024 * 1024


async def test_a_cancelled_send_notes_what_became_of_it() -> None:
    """When a caller's timeout cancels a send, a note on the exception states that the message may have been sent."""
    async with session(Pico(hang)) as it:
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(1):
                await it.sms.send(TO, "hello")

    assert "may have been sent" in "".join(raised.value.__cause__.__notes__)


@pytest.mark.lower_bounds
async def test_closing_ends_what_waits_and_settles_what_is_on_the_wire() -> None:
    """
    Closing the session ends a waiting send as not sent and waits for the reply of a sent request.

    A later call is refused.
    """

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(2)
        return httpx.Response(200, json={"request_id": "r-1"})

    pico = Pico(slow)
    async with session(pico, rates=Rates(sms=1)) as it:
        exchanging = asyncio.create_task(it.sms.send(TO, "one"))
        waiting = asyncio.create_task(it.sms.send(TO, "two"))
        await asyncio.sleep(0.5)

    assert await exchanging == Accepted("r-1")
    with pytest.raises(NotSentError, match="closed"):
        await waiting
    with pytest.raises(ConfigurationError, match="closed"):
        await it.sms.send(TO, "three")
    assert len(pico.requests) == 1


@pytest.mark.parametrize("turns", range(12))
async def test_a_closing_that_is_cancelled_at_any_moment_closes_the_connections(turns: int) -> None:
    """
    Cancelling `aclose()` with `task.cancel()` at any step still closes the connections.

    No cancel scope shields from `task.cancel()`, and a second `aclose()` would do nothing.
    """

    class Closable(httpx.MockTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    transport = Closable(hang)
    it = PicoSession(username="user333", api_key="k", sender="s", transport=transport, rates=UNLIMITED)
    sends = [asyncio.create_task(it.sms.send(TO, "hello")) for _ in range(3)]
    await asyncio.sleep(0.1)

    closing = asyncio.create_task(it.aclose())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing, *sends])

    assert transport.closed
    assert all(isinstance(send.exception(), NotSentError | NoResponseError) for send in sends)


async def test_a_cancelled_closing_leaves_what_is_on_the_wire_in_doubt() -> None:
    """A cancelled `aclose()` no longer waits for replies: the send on the wire ends in doubt, and no task remains."""
    pico, tasks = Pico(hang), asyncio.all_tasks()
    it = PicoSession(username="u", api_key="k", sender="s", transport=httpx.MockTransport(pico), timeout=1000)
    sending = asyncio.create_task(it.sms.send(TO, "one"))
    await asyncio.sleep(0.5)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await it.aclose()

    with pytest.raises(NoResponseError):
        await sending
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize(
    "token_answer", [httpx.Response(400, json={"errors": ["no"]}), httpx.ConnectError("no"), TOO_FAST]
)
async def test_a_missing_token_does_not_undo_an_earlier_doubt(token_answer: Answer) -> None:
    """A send in doubt stays in doubt when its retry gets a stale-token reply and no new token can be fetched."""
    pico = Pico(httpx.ReadTimeout("slow"), STALE, OK)

    async with session(pico, retry_in_doubt=True) as it:
        await it.token.get()
        pico.token_answer = token_answer
        with pytest.raises(NoResponseError) as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.attempts == len(pico.requests) == 2


@pytest.mark.parametrize("failure", [httpx.Response(503, headers={"retry-after": "50"}), httpx.ReadTimeout("slow")])
async def test_closing_does_not_wait_for_a_back_off(failure: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the session ends a call that waits for its retry at once. The call is in doubt and is not retried."""
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    pico = Pico(failure)
    it = PicoSession(username="u", api_key="k", sender="s", transport=httpx.MockTransport(pico), rates=UNLIMITED)
    updating = asyncio.create_task(it.campaigns.update("c", name="n"))
    await asyncio.sleep(0.01)

    began_at = asyncio.get_running_loop().time()
    await it.aclose()

    assert asyncio.get_running_loop().time() - began_at < 0.01
    with pytest.raises(NoResponseError):
        await updating
    assert len(pico.requests) == 1


@pytest.mark.parametrize("priority", [None, 0, "high", 3.5])
async def test_what_is_no_priority_is_refused_and_spoils_no_queue(priority: Any) -> None:
    """An invalid `priority` is refused, and the calls that already wait for a slot are not affected."""
    pico = Pico(OK)

    async with session(pico, rates=Rates(sms=10)) as it:
        others = [asyncio.create_task(it.sms.send(TO, "hello")) for _ in range(3)]
        with pytest.raises(InvalidMessageError, match="`priority`"):
            await it.sms.send(TO, "hello", priority=priority)
        assert await asyncio.gather(*others) == [Accepted("r-1")] * 3


async def test_no_call_begins_again_after_the_closing() -> None:
    """A call that is refused while the session closes is not retried."""

    async def slow_refusal(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(2)
        return httpx.Response(429)

    pico = Pico(slow_refusal, OK)
    async with session(pico) as it:
        sending = asyncio.create_task(it.sms.send(TO, "one"))
        await asyncio.sleep(0.5)

    with pytest.raises(RateLimitError):
        await sending
    assert len(pico.requests) == 1


async def test_a_storm_of_retries_is_held_back() -> None:
    """
    When Pico accepts no connection, 500 calls make 100 retries in all, not 1,000.

    Each call raises NotSentError. The error states the reason if the call made fewer than its two retries.
    """
    pico = Pico(httpx.ConnectError("refused"))

    async with session(pico, retries=2) as it:
        errors = await asyncio.gather(*(it.sms.send(TO, "hello") for _ in range(500)), return_exceptions=True)

    assert {type(error) for error in errors} == {NotSentError}
    assert sum(error.attempts for error in errors) == len(pico.requests) == 500 + 100
    for error in errors:
        assert ("too many retries of this session failed recently" in str(error)) == (error.attempts < 3)


async def test_what_is_refused_once_does_not_run_the_quota_dry() -> None:
    """
    Messages that are refused once for their rate do not empty the retry quota.

    In ten bursts of 64 such messages, all are accepted in the end.
    """
    refused: set[str] = set()

    async def refuse_once(request: httpx.Request) -> httpx.Response:
        body = request.content.decode()
        if body in refused:
            return httpx.Response(200, json={"request_id": "r"})
        refused.add(body)
        return httpx.Response(429)

    pico = Pico(refuse_once)

    async with session(pico) as it:
        for blast in range(10):
            sends = [it.sms.send(TO, f"hello {blast} {number}") for number in range(64)]
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert {type(result) for result in results} == {Accepted}


async def test_a_read_with_slow_replies_and_a_retry_after_ends_within_its_bound() -> None:
    """
    A GET whose slow replies ask for a wait ends within one timeout per try plus 60 s of waits.

    The call needs more than three quarters of that time, so the bound is not far too high.
    """

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(9.9)
        return httpx.Response(503, headers={"retry-after": "5"})

    pico = Pico(slow)

    async with session(pico, retries=10, timeout=10.0) as it:
        await it.token.get()
        began = asyncio.get_running_loop().time()
        with pytest.raises(ServerError):
            await it.campaigns.list()
        took_s = asyncio.get_running_loop().time() - began

    assert took_s <= len(pico.requests) * 10.0 + 60.0
    assert took_s > 0.75 * (len(pico.requests) * 10.0 + 60.0)
    assert 6 <= len(pico.requests) <= 11


def run_dry(it: PicoSession, *, but_for: int = 0) -> None:
    """Use up the session's retry quota, except for `but_for` retries."""
    quota = it._engine._retry_budget
    while quota.take():
        pass
    for _ in range(but_for):
        quota.give_back(retried=True)


async def test_an_error_without_a_retry_says_so_in_another_process_too() -> None:
    """The RateLimitError of a call that got no retry states this in its message, and pickling keeps the whole error."""
    pico = Pico(httpx.Response(429, headers={"retry-after": "7"}), OK)

    async with session(pico) as it:
        run_dry(it)
        with pytest.raises(RateLimitError, match=r"too fast .* not retried, because too many retries") as raised:
            await it.sms.send(TO, "hello")

    error = pickle.loads(pickle.dumps(raised.value))
    assert (str(error), vars(error)) == (str(raised.value), vars(raised.value))
    assert error.attempts == len(pico.requests) == 1
    assert error.retry_after == 7


async def test_each_session_has_a_retry_quota_of_its_own() -> None:
    """A session with an empty retry quota makes no retry; another session of the same key still retries."""
    refusing, recovering = Pico(httpx.ConnectError("no")), Pico(httpx.ConnectError("no"), OK)

    async with session(refusing) as dry, session(recovering) as other:
        run_dry(dry)
        with pytest.raises(NotSentError, match="too many retries of this session"):
            await dry.sms.send(TO, "hello")
        assert await other.sms.send(TO, "hello") == Accepted("r-1")

    assert (len(refusing.requests), len(recovering.requests)) == (1, 2)


async def test_what_nobody_would_have_repeated_is_not_said_to_lack_a_retry() -> None:
    """A refusal that is never retried, and a failed last try, do not mention the empty retry quota."""
    async with session(Pico(httpx.Response(400, json={"errors": ["no"]}))) as it:
        run_dry(it)
        with pytest.raises(BadRequestError) as refused:
            await it.sms.send(TO, "hello")
    async with session(Pico(httpx.ConnectError("no")), retries=0) as it:
        run_dry(it)
        with pytest.raises(NotSentError) as unreached:
            await it.sms.send(TO, "hello")

    assert "not retried" not in str(refused.value) + str(unreached.value)


async def test_a_call_without_a_retry_keeps_its_doubt() -> None:
    """A send in doubt stays in doubt when its next try is refused and no retry is left. The error states the reason."""
    pico = Pico(httpx.ReadTimeout("slow"), TOO_FAST, OK)

    async with session(pico, retry_in_doubt=True) as it:
        run_dry(it, but_for=1)
        with pytest.raises(NoResponseError, match="too many retries of this session") as raised:
            await it.sms.send(TO, "hello")

    assert raised.value.attempts == len(pico.requests) == 2


async def test_a_fresh_token_costs_no_retry() -> None:
    """A stale token is renewed even if the retry quota is empty."""
    pico = Pico(STALE, OK)

    async with session(pico) as it:
        run_dry(it)
        assert await it.sms.send(TO, "hello") == Accepted("r-1")

    assert pico.tokens == 2


async def test_the_token_request_is_held_back_too() -> None:
    """With an empty retry quota the token request is sent only once, and the error of the send states why."""
    pico = Pico(OK)
    pico.token_answer = httpx.ConnectError("refused")

    async with session(pico) as it:
        run_dry(it)
        with pytest.raises(NotSentError, match=r"no token .* too many retries of this session"):
            await it.sms.send(TO, "hello")

    assert pico.tokens == 1


async def test_calls_are_tried_again_once_pico_recovers() -> None:
    """Five requests that succeed at the first try, the token request included, earn one retry."""
    pico = Pico(OK, OK, OK, httpx.ConnectError("no"), OK, httpx.ConnectError("no"), OK)

    async with session(pico) as it:
        run_dry(it)
        for _ in range(3):
            await it.sms.send(TO, "hello")
        with pytest.raises(NotSentError):
            await it.sms.send(TO, "hello")
        await it.sms.send(TO, "hello")
        assert await it.sms.send(TO, "hello") == Accepted("r-1")

    assert len(pico.requests) == 7


async def test_a_repeated_deletion_that_finds_nothing_gives_its_retry_back() -> None:
    """A retried DELETE that finds nothing is a success, so its retry returns to the quota."""
    pico = Pico(*[httpx.ReadTimeout("slow"), httpx.Response(404, json={"errors": ["gone"]})] * 2)

    async with session(pico) as it:
        await it.token.get()
        run_dry(it, but_for=1)
        await it.templates.delete("t")
        await it.templates.delete("t")

    assert len(pico.requests) == 4


TIMEOUT_S = 10.0
WAITS_S = 60.0
RETRIES = 10
BOUND_S = (1 + RETRIES) * TIMEOUT_S + WAITS_S


class Unpaced(LocalCoordinator):
    """A coordinator that grants every slot at once, because waiting for a slot is not part of the bound."""

    def limiter(self, rate_group: RateGroup) -> LocalLimiter:
        return LocalLimiter(None)


class NeverWriting(httpx.AsyncHTTPTransport):
    """An httpx transport whose writes the session can observe, and which never writes."""

    in_process = True

    def __init__(self, pico: Pico) -> None:
        super().__init__()
        self._pico = pico

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._pico(request)


def late(answer: httpx.Response | Exception) -> Answer:
    """Return an answer that arrives just before the timeout."""

    async def give(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(TIMEOUT_S - 0.01)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return give


def asking(status_code: int, retry_after: int) -> Answer:
    return late(httpx.Response(status_code, headers={"retry-after": str(retry_after)}))


def patient(transport: httpx.AsyncBaseTransport) -> PicoSession:
    return PicoSession(
        username="u",
        api_key="k",
        sender="s",
        transport=transport,
        coordinator=Unpaced(),
        timeout=TIMEOUT_S,
        retries=RETRIES,
    )


async def lasts_s(call: Any) -> tuple[float, Any]:
    """Return how long the call lasts in seconds, and its result or exception."""
    began_at = asyncio.get_running_loop().time()
    (end,) = await asyncio.gather(call, return_exceptions=True)
    return asyncio.get_running_loop().time() - began_at, end


@pytest.mark.parametrize("draw", ["most", "least", "any"])
@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([hang], 11),
        ([late(httpx.ConnectError("refused"))], 11),
        ([asking(429, 0)], 11),
        ([*[asking(429, 1)] * 4, hang], 11),
        ([asking(429, 5)], 7),
        ([asking(429, 29)], 3),
        ([asking(429, 59)], 2),
        ([asking(429, 60)], 2),
        ([*[hang] * 4, asking(429, 45), hang], 6),
    ],
    ids=["no connection", "refused", "0", "1", "5", "29", "59", "60", "45 late"],
)
async def test_no_send_lasts_longer_than_documented(
    answers: list[Answer], tries: int, draw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A send ends within eleven timeouts plus 60 s of waits, however slowly each try fails.

    With the longest random waits it needs at least 90 % of the time that its tries allow.
    """
    chance = random.Random(draw)
    draws = {"most": lambda low, high: high, "least": lambda low, high: low}
    monkeypatch.setattr(random, "uniform", draws.get(draw, chance.uniform))
    pico = Pico(*answers)

    async with patient(NeverWriting(pico)) as it:
        await it.token.get()
        took_s, end = await lasts_s(it.sms.send(TO, "hello"))

    assert isinstance(end, NotSentError | RateLimitError)
    assert end.attempts == len(pico.requests)
    assert took_s <= len(pico.requests) * TIMEOUT_S + WAITS_S + 0.01 <= BOUND_S + 0.01
    if draw == "most":
        assert len(pico.requests) == tries
        assert took_s >= 0.9 * (tries * TIMEOUT_S + WAITS_S)


@pytest.mark.parametrize("failure", [hang, late(BAD_GATEWAY), *[asking(503, asked) for asked in (1, 5, 29, 59, 60)]])
async def test_no_read_lasts_longer_than_documented(failure: Answer) -> None:
    """A read, which is retried even in doubt, ends within the same bound as a send."""
    pico = Pico(failure)

    async with patient(httpx.MockTransport(pico)) as it:
        await it.token.get()
        took_s, end = await lasts_s(it.balance.get())

    assert isinstance(end, InDoubtError)
    assert 1 < len(pico.requests) <= 1 + RETRIES
    assert took_s <= len(pico.requests) * TIMEOUT_S + WAITS_S + 0.01


async def test_no_call_lasts_longer_than_documented_where_it_needs_two_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The slowest possible call ends within its bound.

    It needs two token fetches with all their retries and a late 401 between them, and gets no reply after the second.
    """
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    pico = Pico(late(STALE), hang)

    async def at_the_last_try(request: httpx.Request) -> httpx.Response:
        if pico.tokens % (1 + RETRIES):
            return await hang(request)
        return await late(httpx.Response(200, json={"token": f"t{pico.tokens}"}))(request)  # type: ignore[operator]

    pico.token_answer = at_the_last_try
    async with patient(httpx.MockTransport(pico)) as it:
        took_s, end = await lasts_s(it.balance.get())

    assert isinstance(end, NoResponseError)
    assert pico.tokens == 2 * (1 + RETRIES)
    assert len(pico.requests) == 2 + RETRIES
    bound_s = 3 * BOUND_S + TIMEOUT_S
    assert 0.95 * bound_s <= took_s <= bound_s + 0.01


async def test_expires_in_bounds_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    `expires_in` bounds the whole call, except for an exchange that has begun, which may last one more `timeout`.

    Here the last exchange begins at 83.5 s.
    """
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    async with patient(NeverWriting(Pico(hang))) as it:
        await it.token.get()
        took_s, end = await lasts_s(it.sms.send(TO, "hello", expires_in=84))

    assert isinstance(end, NotSentError)
    assert 84 < took_s <= 84 + TIMEOUT_S


@pytest.mark.parametrize(("token_answer", "sent"), [(hang, 0), (None, 1)], ids=["the token", "the turn"])
async def test_expires_in_ends_the_wait_for_the_token_and_for_the_turn(token_answer: Answer | None, sent: int) -> None:
    """
    A send that waits for the token or for a slot raises MessageExpiredError as soon as `expires_in` is over.

    Without a token all three sends wait. With one, the first send gets its slot at once and the others wait.
    """
    pico = Pico(OK)
    pico.token_answer = token_answer

    async with session(pico, rates=Rates(sms=0.1, token=None), timeout=TIMEOUT_S) as it:
        ends = await asyncio.gather(*(lasts_s(it.sms.send(TO, "hello", expires_in=5)) for _ in range(3)))

    assert [end for _, end in ends[:sent]] == [Accepted("r-1")] * sent
    for took_s, end in ends[sent:]:
        assert isinstance(end, MessageExpiredError)
        assert took_s == pytest.approx(5, abs=0.01)
    assert len(pico.requests) == sent
