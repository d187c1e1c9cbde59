"""Tokens have the documented form and idle rule, and a request without a valid token gets the documented 401."""

import base64
import json

import pytest

from pico_async.sandbox import Sandbox
from pico_async.sandbox.tokens import Tokens

MINUTE = 60.0
DOCUMENTED_401 = {"msg": "請求訪問:/sms,驗證失敗,無法訪問系统資源", "code": "401"}


def test_a_token_is_a_jwt_of_hs512() -> None:
    """A token has three base64url parts, begins like the reference's example, and has a signature of 512 bits."""
    token = Tokens().issue(0.0)

    header, payload, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    assert token.startswith("eyJhbGciOiJIUzUxMiJ9.")
    assert json.loads(header) == {"alg": "HS512"}
    assert json.loads(payload)["login_user_key"]
    assert len(signature) == 64
    assert "=" not in token


@pytest.mark.parametrize("idle_s", [0.0, 9 * MINUTE, 20 * MINUTE])
def test_twenty_idle_minutes_are_always_survived(idle_s: float) -> None:
    """However often a token is used, 20 minutes without use never end it."""
    tokens = Tokens()
    token, now = tokens.issue(0.0), 0.0

    for pause_s in (idle_s, 20 * MINUTE, 1.0, 20 * MINUTE, 9.99 * MINUTE, 20 * MINUTE):
        now += pause_s
        assert tokens.use(token, now)


def test_thirty_idle_minutes_are_the_end() -> None:
    """A token that was never used is good for exactly 30 minutes."""
    tokens = Tokens()
    kept, lost = tokens.issue(0.0), tokens.issue(0.0)

    assert tokens.use(kept, 30 * MINUTE)
    assert not tokens.use(lost, 30 * MINUTE + 0.001)


def test_a_use_with_more_than_twenty_minutes_left_extends_nothing() -> None:
    """A use at 9 minutes, with more than 20 left, does not extend a token, which ends at 30 minutes."""
    tokens = Tokens()
    early, late = tokens.issue(0.0), tokens.issue(0.0)
    assert tokens.use(early, 9 * MINUTE)
    assert tokens.use(late, 9 * MINUTE)

    assert tokens.use(early, 29 * MINUTE + 59)
    assert not tokens.use(late, 30 * MINUTE + 1)


def test_a_use_with_twenty_minutes_left_extends_to_thirty() -> None:
    """A use at exactly 10 minutes, with 20 left, extends a token to 40 minutes; a use one second earlier does not."""
    tokens = Tokens()
    extended, unextended = tokens.issue(0.0), tokens.issue(0.0)
    assert tokens.use(extended, 10 * MINUTE)
    assert tokens.use(unextended, 10 * MINUTE - 1)

    assert tokens.use(extended, 40 * MINUTE)
    assert not tokens.use(unextended, 30 * MINUTE + 1)


def test_a_stale_token_stays_stale() -> None:
    """A token that went stale stays stale, even if the clock goes back."""
    tokens = Tokens()
    token = tokens.issue(0.0)

    assert not tokens.use(token, 31 * MINUTE)
    assert not tokens.use(token, 1.0)


async def test_the_idle_rule_holds_on_the_wire(connect, clock, sms) -> None:
    """The documented 401 comes when, and only when, the session is over by the sandbox's clock."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)

    clock.advance(30 * MINUTE)
    assert (await pico.post("/sms", json=sms())).status_code == 200
    clock.advance(30 * MINUTE + 1)
    reply = await pico.post("/sms", json=sms())

    assert reply.status_code == 401
    assert reply.json() == DOCUMENTED_401


async def test_a_new_token_leaves_the_older_ones_alive(connect, clock, sms) -> None:
    """A new token leaves older ones valid, so that two processes can use a token each."""
    sandbox = Sandbox(clock=clock)
    first = await connect(sandbox)
    clock.advance(1.0)
    second = await connect(sandbox)

    assert first.headers["Authorization"] != second.headers["Authorization"]
    assert (await first.post("/sms", json=sms())).status_code == 200
    assert (await second.post("/sms", json=sms())).status_code == 200


async def test_expire_tokens_ends_all_in_circulation(connect, clock, sms) -> None:
    """After `expire_tokens` every token is stale, and the next one is valid."""
    sandbox = Sandbox(clock=clock)
    pico = await connect(sandbox)

    sandbox.expire_tokens()

    assert (await pico.post("/sms", json=sms())).status_code == 401
    clock.advance(1.0)
    renewed = await connect(sandbox)
    assert (await renewed.post("/sms", json=sms())).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer eyJhbGciOiJIUzUxMiJ9.e30.AAAA"},
        {"Authorization": "Basic dXNlcjMzMzo="},
        {"X-API-Key": "another"},
        {"X-API-Key": ""},
    ],
)
async def test_wrong_credentials_get_the_documented_401(connect, sms, headers) -> None:
    """A missing or wrong token, scheme or key is answered with the documented body, and nothing is sent."""
    sandbox = Sandbox()
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms(), headers=headers)

    assert reply.status_code == 401
    assert reply.json() == DOCUMENTED_401
    assert sandbox.ledger.arrivals[-1].verdict == "unauthorised"
    assert sandbox.ledger.accepted == []


async def test_a_token_in_another_scheme_is_no_token(connect, sms) -> None:
    """A token without the scheme `Bearer`, which the reference writes, is refused."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    bare = pico.headers["Authorization"].removeprefix("Bearer ")

    for authorization in (bare, f"Token {bare}"):
        assert (await pico.post("/sms", json=sms(), headers={"Authorization": authorization})).status_code == 401


async def test_ruoyi_says_401_under_http_200(connect, sms) -> None:
    """In RuoYi's dialect a 401 comes under HTTP 200, with the same sentence and a number as `code`."""
    sandbox = Sandbox(dialect="ruoyi")
    pico = await connect(sandbox, token=False)

    reply = await pico.post("/sms", json=sms())

    assert reply.status_code == 200
    assert reply.json() == {**DOCUMENTED_401, "code": 401}


async def test_every_operation_but_the_token_needs_a_token(connect) -> None:
    """Every operation needs a token, except the one that returns it."""
    pico = await connect(Sandbox(), token=False)
    calls = [
        ("POST", "/campaign"),
        ("GET", "/campaigns"),
        ("PUT", "/campaign/campaign-123"),
        ("DELETE", "/campaign/campaign-123"),
        ("POST", "/template/sms"),
        ("POST", "/template/mms"),
        ("GET", "/templates"),
        ("DELETE", "/template/template-123"),
        ("POST", "/sms"),
        ("POST", "/mms"),
        ("POST", "/voice"),
        ("GET", "/balance/user333"),
    ]

    statuses = {path: (await pico.request(method, path)).status_code for method, path in calls}

    assert set(statuses.values()) == {401}
    assert (await pico.get("/token/user333")).status_code == 200


@pytest.mark.parametrize(("path", "key"), [("/token/user333", "another"), ("/token/user334", "sandbox-api-key")])
async def test_no_token_for_a_wrong_key_or_name(connect, path, key) -> None:
    """A token request with a wrong key or username is answered with 400, the only documented error."""
    sandbox = Sandbox()
    pico = await connect(sandbox, token=False)

    reply = await pico.get(path, headers={"X-API-Key": key})

    assert reply.status_code == 400
    assert set(reply.json()) == {"request_id", "errors"}
