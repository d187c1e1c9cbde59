"""`pico doctor` checks the token, the balance and the clock by the replies of the server."""

from __future__ import annotations

import pytest

from tests.cli.doctor.diagnosis import Doctor
from tests.cli.scripted_pico import CREDIT, ScriptedPico
from tests.support.sandbox_process import SandboxProcess


def test_a_wrong_key(doctor: Doctor, quick: SandboxProcess) -> None:
    """A wrong API key is recognised by the 400 that v0.4 documents, and the balance is not requested."""
    found = doctor(quick.base_url, env={"PICO_API_KEY": "another"})

    assert found.states["token"] == "failed"
    assert found.checks["token"]["facts"]["status_code"] == 400
    assert "The username or the API key is wrong" in found.said("token")
    assert found.states["balance"] == "not_checked"
    assert [arrival.operation for arrival in quick.arrivals()] == ["token.get"]


REFUSED = '{"msg": "請求訪問:/token/user333,驗證失敗,無法訪問系统資源", "code": "401"}'
HTML = "<html><h1>Please log in</h1></html>"


@pytest.mark.parametrize(
    ("token", "content_type", "said"),
    [
        ((401, REFUSED), "application/json", "the reason may be this machine's address"),
        ((200, REFUSED), "application/json", "the reason may be this machine's address"),
        ((403, HTML), "text/html", "the reason may be this machine's address"),
        ((200, HTML), "text/html", "may not be Pico"),
        ((302, ""), "text/html", "may not be Pico"),
        ((404, HTML), "text/html", "may not be Pico"),
        ((502, HTML), "text/html", "has a problem"),
        ((429, "{}"), "application/json", "in the same second"),
        ((200, '{"request_id": "r-1"}'), "application/json", "may not be Pico"),
    ],
)
def test_no_token(doctor: Doctor, cloud: ScriptedPico, token: tuple[int, str], content_type: str, said: str) -> None:
    """
    When a reply has no token, the doctor explains what the reply may mean, as far as v0.4 documents it. The token is
    requested once.
    """
    cloud.token, cloud.content_type = token, content_type

    found = doctor(cloud.base_url)

    assert found.states["token"] == "failed"
    assert said in found.said("token")
    assert found.states["balance"] == "not_checked"
    assert cloud.asked == ["GET /token/user333"]


@pytest.mark.parametrize("status", [200, 401])
def test_a_fresh_token_that_pico_refuses(doctor: Doctor, cloud: ScriptedPico, status: int) -> None:
    """When Pico refuses the fresh token, no request is repeated, although a session would repeat both."""
    cloud.reply = (status, REFUSED)

    found = doctor(cloud.base_url)

    assert found.states["token"] == "ok"
    assert found.states["balance"] == "failed"
    assert "refused it a moment later" in found.said("balance")
    assert cloud.asked == ["GET /token/user333", "GET /balance/user333"]


@pytest.mark.parametrize(
    ("balance", "state"),
    [("1000.00", "ok"), ("0.001", "ok"), ("0", "warning"), ("0.00", "warning"), ("-12.5", "warning")],
)
def test_the_balance(doctor: Doctor, cloud: ScriptedPico, balance: str, state: str) -> None:
    """The balance is shown as Pico returned it; a balance that is used up is a warning."""
    cloud.reply = (200, CREDIT % balance)

    found = doctor(cloud.base_url)

    assert found.states["balance"] == state
    assert found.checks["balance"]["message"].startswith(balance)


@pytest.mark.parametrize(
    ("ahead_s", "state", "said"),
    [
        (0, "ok", "agrees"),
        (-20, "ok", "agrees"),
        (3600, "warning", "s behind the server's"),
        (-3600, "warning", "s ahead of the server's"),
    ],
)
def test_the_clock(doctor: Doctor, cloud: ScriptedPico, ahead_s: float, state: str, said: str) -> None:
    """
    The clock is compared with the date of the reply, also if the reply refuses the token; an hour's difference is a
    warning.
    """
    cloud.ahead_s = ahead_s
    cloud.token = (400, '{"errors": ["apiKey: unknown"]}')

    found = doctor(cloud.base_url)

    assert found.states["clock"] == state
    assert said in found.said("clock")
    assert abs(found.checks["clock"]["facts"]["ahead_s"] + ahead_s) < 10


@pytest.mark.parametrize("date", ["Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_date_at_the_ends_of_time(doctor: Doctor, cloud: ScriptedPico, date: str) -> None:
    """A date at either end of the calendar is a warning about the clock, and no other fault."""
    cloud.dated, cloud.headers = False, {"Date": date}

    found = doctor(cloud.base_url)

    assert found.states["clock"] == "warning"
    assert found.states["token"] == "ok"


@pytest.mark.parametrize("date", [None, "yesterday", "Thu, 99 Foo 2026 25:61:00 GMT", ""])
def test_an_invalid_date(doctor: Doctor, cloud: ScriptedPico, date: str | None) -> None:
    """Without a valid date in the reply, the clock is not checked."""
    cloud.dated = False
    cloud.headers = {} if date is None else {"Date": date}

    found = doctor(cloud.base_url)

    assert found.states["clock"] == "not_checked"
    assert found.states["token"] == "ok"
