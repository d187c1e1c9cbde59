"""These tests check that a token refused for the rate is waited for, because all processes of a key share that rate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest

from pico_async import (
    Accepted,
    LocalCoordinator,
    MessageExpiredError,
    NotSentError,
    Outcome,
    PicoSession,
    RateLimitError,
    SmsMessage,
)
from pico_async.sandbox.rates import RateRule, make_limiter

pytestmark = pytest.mark.virtual_time

TO = "8612345678901"
OK = httpx.Response(200, json={"request_id": "r-1"})
STALE = httpx.Response(401, json={"msg": "請求訪問:/sms,驗證失敗,無法訪問系统資源", "code": "401"})
TOO_FAST = httpx.Response(200, json={"code": 500, "msg": "访问过于频繁，请稍候再试"})
TOO_MANY = httpx.Response(429)
UNREACHABLE = httpx.ConnectError("refused")

Answer = httpx.Response | Exception
REFUSALS = pytest.mark.parametrize(
    "refusal",
    [TOO_FAST, TOO_MANY, httpx.Response(429, headers={"retry-after": "1"}, html="<h1>Too many</h1>")],
    ids=["code 500", "429", "Retry-After"],
)


class Pico:
    """A mock Pico that answers token requests as `token` says, and accepts messages."""

    def __init__(self, token: Callable[[], Awaitable[Answer]]) -> None:
        self._token = token
        self.token_moments: list[float] = []
        self.stale: set[str] = set()
        self.accepted = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        answer: Answer = OK
        if request.url.path.startswith("/token/"):
            self.token_moments.append(now())
            answer = await self._token()
        elif request.headers["authorization"] in self.stale:
            answer = STALE
        else:
            self.accepted += 1
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def now() -> float:
    return asyncio.get_running_loop().time()


def token(name: str = "t") -> httpx.Response:
    return httpx.Response(200, json={"token": name})


def giving(*answers: Answer, took_s: float = 0.0) -> Callable[[], Awaitable[Answer]]:
    """Return a function that gives the answers in order, and the last one again and again."""
    left: Iterator[Answer] = iter(answers)

    async def give() -> Answer:
        await asyncio.sleep(took_s)
        return next(left, answers[-1])

    return give


@asynccontextmanager
async def session(pico: Pico, **settings: Any) -> AsyncIterator[PicoSession]:
    """Open a session as a process of its own would: it shares neither a rate nor a token."""
    async with PicoSession(
        username="user333",
        api_key="k",
        sender="s",
        transport=httpx.MockTransport(pico),
        coordinator=LocalCoordinator(),
        **{"retries": 0} | settings,
    ) as made:
        yield made


@pytest.mark.parametrize("processes", [8, pytest.param(30, marks=pytest.mark.full)])
@pytest.mark.parametrize("rule", list(RateRule))
@REFUSALS
async def test_processes_that_start_together_all_get_a_token(
    refusal: httpx.Response, rule: RateRule, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of 8 or 30 processes that start at once without Redis, each sends its first message within 60 s.

    So under each rule by which Pico may give one token a second, with `retries=0`.
    """
    one_a_second, chance = make_limiter(rule, 1), random.Random(1)
    monkeypatch.setattr(random, "uniform", chance.uniform)

    async def judge() -> Answer:
        await asyncio.sleep(chance.uniform(0.001, 0.02))
        return token() if one_a_second.admit(now()) else refusal

    pico, began_at = Pico(judge), now()

    async def process() -> Accepted:
        async with session(pico) as it:
            return await it.sms.send(TO, "a code")

    assert await asyncio.gather(*(process() for _ in range(processes))) == [Accepted("r-1")] * processes
    assert now() - began_at <= 60
    assert pico.accepted == processes


@REFUSALS
async def test_the_wait_is_random_and_grows(refusal: httpx.Response, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that are refused together do not ask again together, and each asks less often as time goes by."""
    monkeypatch.setattr(random, "uniform", random.Random(1).uniform)
    picos = [Pico(giving(refusal)), Pico(giving(refusal))]

    async def process(pico: Pico) -> None:
        async with session(pico) as it:
            with pytest.raises(NotSentError):
                await it.sms.send(TO, "a code")

    await asyncio.gather(*map(process, picos))

    one, other = (pico.token_moments for pico in picos)
    assert not set(one[1:]) & set(other[1:])
    for moments in (one, other):
        assert all(later - earlier >= 1 for earlier, later in pairwise(moments))
        assert 15 <= len(moments) <= 30


@REFUSALS
async def test_a_token_that_is_never_given_is_given_up_after_a_minute(refusal: httpx.Response) -> None:
    """After 60 s of refusals the send ends as not sent, and the error says how several processes share a token."""
    pico, began_at = Pico(giving(refusal)), now()

    async with session(pico) as it:
        with pytest.raises(NotSentError, match="RedisCoordinator") as raised:
            await it.sms.send(TO, "a code")
        took_s = now() - began_at
        with pytest.raises(RateLimitError, match="open one session and keep it"):
            await it.token.get()

    assert 50 <= took_s <= 60.1
    assert raised.value.outcome is Outcome.NOT_SENT
    assert "open one session and keep it" in str(raised.value)
    assert pico.accepted == 0


@pytest.mark.parametrize("retries", [0, 2])
async def test_slow_refusals_count_as_waiting(retries: int) -> None:
    """Where each refusal takes almost the timeout, the wait for the token is still bounded: 60 s and two timeouts."""
    pico, began_at = Pico(giving(TOO_MANY, took_s=9.9)), now()

    async with session(pico, retries=retries, timeout=10.0) as it:
        with pytest.raises(NotSentError):
            await it.sms.send(TO, "a code")

    assert now() - began_at <= 60 + 2 * 10


async def test_a_refusal_costs_no_retry() -> None:
    """Refusals leave the retries to failures: with `retries=1`, one failed connection among refusals is survived."""
    survived = Pico(giving(TOO_MANY, TOO_MANY, TOO_MANY, UNREACHABLE, TOO_MANY, token()))
    failed = Pico(giving(TOO_MANY, UNREACHABLE, TOO_MANY, UNREACHABLE, token()))

    async with session(survived, retries=1) as it:
        assert await it.sms.send(TO, "a code") == Accepted("r-1")
    async with session(failed, retries=1) as it:
        with pytest.raises(NotSentError, match="no connection"):
            await it.sms.send(TO, "a code")

    assert len(survived.token_moments) == 6
    assert len(failed.token_moments) == 4


async def test_a_refusal_is_waited_for_with_an_empty_retry_quota() -> None:
    """A session whose retry quota is empty still waits for its token, and the wait changes nothing in the quota."""
    pico = Pico(giving(TOO_MANY, TOO_MANY, TOO_MANY, token()))

    async with session(pico) as it:
        quota = it._engine._retry_budget
        while quota.take():
            pass
        assert await it.sms.send(TO, "a code") == Accepted("r-1")

    # Two requests that succeed, the token's and the message's, earn less than half a retry.
    assert not quota.take()


@pytest.mark.parametrize(("asked_s", "requests"), [(60, 2), (61, 1)])
async def test_what_pico_asks_to_wait_is_waited_for_up_to_a_minute(asked_s: int, requests: int) -> None:
    """A `Retry-After` of 60 s is waited for; after a longer one the send ends at once, with `retry_after`."""
    pico, began_at = (
        Pico(giving(httpx.Response(429, headers={"retry-after": str(asked_s)}), token(), took_s=0.2)),
        now(),
    )

    async with session(pico) as it:
        if requests == 2:
            await it.sms.send(TO, "a code")
            assert now() - began_at >= asked_s
        else:
            with pytest.raises(NotSentError) as raised:
                await it.sms.send(TO, "a code")
            assert raised.value.retry_after == asked_s
            assert now() - began_at < 1

    assert len(pico.token_moments) == requests


async def test_a_message_with_a_deadline_waits_no_longer_than_that() -> None:
    """While the token is refused, `expires_in` is kept: one message expires, and the others get the token later."""
    pico, began_at = Pico(giving(*[TOO_MANY] * 5, token())), now()

    async with session(pico) as it:
        short, long, patient = await asyncio.gather(
            it.sms.send(TO, "a code", expires_in=3),
            it.sms.send(TO, "a code", expires_in=59),
            it.sms.send(TO, "news"),
            return_exceptions=True,
        )

    assert isinstance(short, MessageExpiredError)
    assert (long, patient) == (Accepted("r-1"), Accepted("r-1"))
    assert now() - began_at >= 5
    assert (len(pico.token_moments), pico.accepted) == (6, 2)


async def test_a_refusal_after_a_stale_token_is_waited_for_too() -> None:
    """Where a 401 evicts the token and the next one is refused for the rate, the message is sent once with the next."""
    pico = Pico(giving(token("t1"), *[TOO_FAST] * 5, token("t2")))

    async with session(pico) as it:
        await it.sms.send(TO, "a code")
        pico.stale.add("Bearer t1")
        assert await it.sms.send(TO, "another code") == Accepted("r-1")

    assert (len(pico.token_moments), pico.accepted) == (7, 2)


async def test_a_blast_loses_no_message_to_a_refused_token() -> None:
    """A bulk send of 80 messages waits for the token as one message does, and all are accepted."""
    pico = Pico(giving(*[TOO_MANY] * 7, token()))

    async with session(pico) as it:
        report = await it.send_bulk(SmsMessage(TO, f"news {number}") for number in range(80))

    assert report.accepted == pico.accepted == 80


async def test_closing_ends_the_wait_for_a_token() -> None:
    """Closing the session does not wait for a refused token: the message was not sent."""
    pico = Pico(giving(TOO_MANY))

    async with session(pico) as it:
        sending = asyncio.create_task(it.sms.send(TO, "a code"))
        await asyncio.sleep(5)
        closed_at = now()

    assert now() - closed_at < 0.1
    with pytest.raises(NotSentError):
        await sending


async def test_the_balance_keeps_to_the_retries() -> None:
    """A refused request for the balance is repeated as `retries` allows, because no message waits for its answer."""
    asked: list[float] = []

    async def pico(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/token/"):
            return token()
        asked.append(now())
        return TOO_MANY

    async with session(pico, retries=1) as it:  # type: ignore[arg-type]
        with pytest.raises(RateLimitError, match="another process using this API key"):
            await it.balance.get()

    assert len(asked) == 2
