"""Tokens: their look, the idle rule to the second, and what a stranger is told."""

import base64
import json

import pytest

from pico_async.sandbox import Sandbox
from pico_async.sandbox.tokens import Tokens

MINUTE = 60.0
DOCUMENTED_401 = {"msg": "請求訪問:/sms,驗證失敗,無法訪問系统資源", "code": "401"}


def test_a_token_is_a_jwt_of_hs512() -> None:
    """Three base64url parts, beginning as the reference's example does, with a signature of 512 bits."""
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
    """A request at 9 min leaves the end at 30: 21 idle minutes and a bit are then too many."""
    tokens = Tokens()
    early, late = tokens.issue(0.0), tokens.issue(0.0)
    assert tokens.use(early, 9 * MINUTE)
    assert tokens.use(late, 9 * MINUTE)

    assert tokens.use(early, 29 * MINUTE + 59)
    assert not tokens.use(late, 30 * MINUTE + 1)


def test_a_use_with_twenty_minutes_left_extends_to_thirty() -> None:
    """At 10 min exactly 20 are left: the session then ends at 40."""
    tokens = Tokens()
    extended, unextended = tokens.issue(0.0), tokens.issue(0.0)
    assert tokens.use(extended, 10 * MINUTE)
    assert tokens.use(unextended, 10 * MINUTE - 1)

    assert tokens.use(extended, 40 * MINUTE)
    assert not tokens.use(unextended, 30 * MINUTE + 1)


def test_a_stale_token_stays_stale() -> None:
    """Time does not bring a token back."""
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
    """Two processes with a token each do not throw each other out."""
    sandbox = Sandbox(clock=clock)
    first = await connect(sandbox)
    clock.advance(1.0)
    second = await connect(sandbox)

    assert first.headers["Authorization"] != second.headers["Authorization"]
    assert (await first.post("/sms", json=sms())).status_code == 200
    assert (await second.post("/sms", json=sms())).status_code == 200


async def test_expire_tokens_ends_all_in_circulation(connect, clock, sms) -> None:
    """Every token is stale afterwards; the next one is good."""
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
async def test_a_stranger_gets_the_documented_401(connect, sms, headers) -> None:
    """A missing or wrong token, scheme or key is answered with the documented body, and nothing is sent."""
    sandbox = Sandbox()
    pico = await connect(sandbox)

    reply = await pico.post("/sms", json=sms(), headers=headers)

    assert reply.status_code == 401
    assert reply.json() == DOCUMENTED_401
    assert sandbox.ledger.arrivals[-1].verdict == "unauthorised"
    assert sandbox.ledger.accepted == []


async def test_a_token_in_another_scheme_is_no_token(connect, sms) -> None:
    """The reference writes `Bearer <token>`; the bare token is not that."""
    sandbox = Sandbox()
    pico = await connect(sandbox)
    bare = pico.headers["Authorization"].removeprefix("Bearer ")

    for authorization in (bare, f"Token {bare}"):
        assert (await pico.post("/sms", json=sms(), headers={"Authorization": authorization})).status_code == 401


async def test_ruoyi_says_401_under_http_200(connect, sms) -> None:
    """The second dialect: the same sentence, `code` a number, HTTP 200."""
    sandbox = Sandbox(dialect="ruoyi")
    pico = await connect(sandbox, token=False)

    reply = await pico.post("/sms", json=sms())

    assert reply.status_code == 200
    assert reply.json() == {**DOCUMENTED_401, "code": 401}


async def test_every_operation_but_the_token_needs_a_token(connect) -> None:
    """Only "Retrieve JWT Token" does without Authorization."""
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
    """The section "Retrieve JWT Token" documents 200 and 400 alone."""
    sandbox = Sandbox()
    pico = await connect(sandbox, token=False)

    reply = await pico.get(path, headers={"X-API-Key": key})

    assert reply.status_code == 400
    assert set(reply.json()) == {"request_id", "errors"}
