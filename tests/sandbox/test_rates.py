"""Each of the four window rules is exact at its boundaries, and the sandbox enforces the documented rates."""

import pytest

from pico_async.sandbox import RateRule, Sandbox, replay
from pico_async.sandbox.rates import make_limiter


def admitted(rule: RateRule, times: list[float], rate: float = 30) -> int:
    return len(times) - replay(rule, times, rate)


@pytest.mark.parametrize("rule", RateRule)
def test_thirty_at_once_pass_and_the_next_does_not(rule: RateRule) -> None:
    """Every rule admits a full burst of the rate, and nothing beyond it at the same moment."""
    assert admitted(rule, [5.0] * 30) == 30
    assert admitted(rule, [5.0] * 45) == 30


@pytest.mark.parametrize("rule", RateRule)
def test_an_even_stream_at_the_rate_is_never_refused(rule: RateRule) -> None:
    """An even stream of 30 requests a second satisfies all four rules."""
    assert replay(rule, [index / 30 for index in range(300)], 30) == 0


def test_aligned_window_admits_twice_the_rate_around_a_border() -> None:
    """An aligned window restarts its count with each second of the clock, so twice the rate fits around a border."""
    assert admitted(RateRule.ALIGNED_WINDOW, [0.99] * 30 + [1.0] * 30) == 60
    assert admitted(RateRule.ALIGNED_WINDOW, [1.0] * 30 + [1.99] * 30) == 30


def test_first_request_window_starts_with_its_first_request() -> None:
    """The window begins with a request; its count restarts one second later, and not before."""
    assert admitted(RateRule.FIRST_REQUEST_WINDOW, [0.5] * 30 + [1.25] * 30) == 30
    assert admitted(RateRule.FIRST_REQUEST_WINDOW, [0.5] + [1.25] * 29 + [1.5] * 30) == 60


def test_sliding_log_counts_the_second_before_each_request() -> None:
    """A request is refused if 30 were admitted in (now - 1 s, now]; one exactly a second old no longer counts."""
    assert admitted(RateRule.SLIDING_LOG, [0.5] + [1.25] * 29 + [1.5] * 30) == 31
    assert admitted(RateRule.SLIDING_LOG, [1.0] * 30 + [1.9999]) == 30
    assert admitted(RateRule.SLIDING_LOG, [1.0] * 30 + [2.0]) == 31


def test_token_bucket_refills_evenly() -> None:
    """After a full burst one request passes every thirtieth of a second."""
    assert admitted(RateRule.TOKEN_BUCKET, [1.0] * 30 + [1.03]) == 30
    assert admitted(RateRule.TOKEN_BUCKET, [1.0] * 30 + [1.0 + 1 / 30]) == 31
    assert admitted(RateRule.TOKEN_BUCKET, [1.0] * 30 + [2.0] * 31) == 60


def test_a_refused_request_does_not_count() -> None:
    """Refused requests do not count, so a client that keeps trying is admitted as soon as one that waits."""
    knocking = [1.0] * 30 + [1.1, 1.3, 1.5, 1.7, 1.9] + [2.0] * 30

    assert admitted(RateRule.SLIDING_LOG, knocking) == 60


@pytest.mark.parametrize("rule", RateRule)
def test_retry_after_is_enough_and_not_too_much(rule: RateRule) -> None:
    """A request that waits for `retry_after` is admitted; one that waits 10 ms less is not."""
    for shortfall_s, expected in ((0.0, True), (0.01, False)):
        limiter = make_limiter(rule, 4)
        for _ in range(4):
            limiter.admit(10.25)
        assert not limiter.admit(10.25)

        wait_s = limiter.retry_after(10.25)

        assert wait_s > 0
        assert limiter.admit(10.25 + wait_s - shortfall_s) is expected


@pytest.mark.parametrize("rule", RateRule)
def test_retry_after_is_zero_below_the_rate(rule: RateRule) -> None:
    """`retry_after` is 0 as long as the rule would admit a request."""
    limiter = make_limiter(rule, 2)

    assert limiter.retry_after(7.0) == 0
    assert limiter.admit(7.0)
    assert limiter.retry_after(7.0) == 0


def test_a_rate_below_one_a_second_stretches_the_window() -> None:
    """A rate of half a request a second admits one request in two seconds."""
    assert admitted(RateRule.SLIDING_LOG, [0.0, 1.0, 1.999, 2.0], 0.5) == 2


def test_replay_puts_the_times_in_order() -> None:
    """A recorded list of times may be in any order."""
    assert replay("sliding-log", [2.0, 1.0, 0.0], 1) == 0


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_admits_nothing_is_an_error(rate: float) -> None:
    """A rate that is not above 0 raises an error."""
    with pytest.raises(ValueError, match="rate"):
        make_limiter(RateRule.SLIDING_LOG, rate)


def test_an_unknown_rate_name_is_an_error() -> None:
    """A rate with an unknown name is refused, because it would never be enforced."""
    with pytest.raises(ValueError, match="smss"):
        Sandbox(rates={"smss": 30})


async def test_the_thirty_first_sms_within_a_second_gets_429(connect, clock, sms) -> None:
    """By default the 31st SMS within a second is refused with 429 and Retry-After, and is not sent."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)

    replies = [await pico.post("/sms", json=sms()) for _ in range(31)]

    assert [reply.status_code for reply in replies] == [200] * 30 + [429]
    assert replies[-1].headers["Retry-After"] == "1"
    assert replies[-1].json()["errors"]
    assert len(sandbox.ledger.accepted) == 30
    assert sandbox.ledger.refusals == 1
    clock.advance(1.0)
    assert (await pico.post("/sms", json=sms())).status_code == 200


async def test_ruoyi_refuses_a_rate_under_http_200(connect, clock, sms) -> None:
    """In RuoYi's dialect a refusal of rate comes under HTTP 200, with code 500 in the body and no Retry-After."""
    sandbox = Sandbox(clock=clock, dialect="ruoyi", rates={"sms": 1})
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms())

    reply = await pico.post("/sms", json=sms())

    assert reply.status_code == 200
    assert reply.json()["code"] == 500
    assert "频繁" in reply.json()["msg"]
    assert "Retry-After" not in reply.headers


async def test_token_and_balance_have_a_rate_of_one(connect, clock) -> None:
    """Token and balance requests are each limited to one a second, apart from each other."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)

    statuses = [
        (await pico.get(path)).status_code for path in ("/token/user333", "/balance/user333", "/balance/user333")
    ]

    assert statuses == [429, 200, 429]


async def test_mms_voice_and_management_are_not_limited(connect, clock, sms) -> None:
    """MMS, voice and management requests are not limited, because the reference documents no rate for them."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)
    mms = sms(mediaUrl="https://example.com/a.jpg")
    voice = {"username": "user333", "to": "8612345678901", "text": "1234"}

    replies = [await pico.post("/mms", json=mms) for _ in range(60)]
    replies += [await pico.post("/voice", json=voice) for _ in range(60)]
    replies += [await pico.get("/campaigns") for _ in range(60)]

    assert {reply.status_code for reply in replies} == {200}


async def test_no_rule_enforces_nothing(connect, clock) -> None:
    """With `rate_rule=None` no rate is enforced."""
    sandbox = Sandbox(clock=clock, rate_rule=None)
    pico = await connect(sandbox)

    assert {(await pico.get("/balance/user333")).status_code for _ in range(5)} == {200}


async def test_an_unauthorised_request_does_not_count_against_the_rate(connect, clock, sms) -> None:
    """An unauthorised request does not count against the rate, because key and token are checked first."""
    sandbox = Sandbox(clock=clock, rates={"sms": 1})
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms(), headers={"Authorization": "Bearer stale"})

    assert (await pico.post("/sms", json=sms())).status_code == 200
