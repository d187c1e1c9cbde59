"""`pico doctor` against real servers: what it finds, what it says to do, and that it shows no secret."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import frozen

from tests.cli.processes import KEY, PICO, TEXT, Ran, SandboxProcess, environment, running, wait_until
from tests.cli.scripted_pico import (
    CREDIT,
    TOKEN,
    ScriptedPico,
    connecting_proxy,
    scripted_pico,
    silent_host,
)
from tests.valkey_server import valkey_server, valkey_server_with_clock

SENDER = "8612345678888"
CHECKS = ["python", "packages", "configuration", "dns", "connection", "tls", "clock", "token", "balance"]
# None of them may stand in any output.
SECRETS = [KEY, TOKEN, SENDER, "callback-secret", "redis-password", "proxy-password"]


@frozen
class Diagnosis:
    """What a doctor said, for people and for programs."""

    ran: Ran
    checks: dict[str, dict[str, Any]]

    @property
    def states(self) -> dict[str, str]:
        """How each check ended."""
        return {name: check["state"] for name, check in self.checks.items()}

    def said(self, check: str) -> str:
        """What was said of a check, with what to do."""
        return f"{self.checks[check]['message']} {self.checks[check]['advice'] or ''}"


Doctor = Callable[..., Diagnosis]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine itself is set to is no matter here."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("SSL_CERT")]:
        monkeypatch.delenv(name)


@pytest.fixture
def doctor(pico_here: Callable[..., Ran]) -> Doctor:
    """A function that has it look at a base URL, and makes sure that it tells no secret."""

    def examine(base_url: str | None, *options: object, env: dict[str, str] | None = None) -> Diagnosis:
        settings = {"PICO_USERNAME": "user333", "PICO_API_KEY": KEY, "PICO_SENDER": SENDER}
        settings |= {"PICO_BASE_URL": base_url} if base_url else {}
        ran = pico_here("doctor", "--json", "--timeout", "5", *options, env={**settings, **(env or {})})
        assert not [secret for secret in SECRETS if secret in ran.out + ran.err]
        checks = {check["check"]: check for check in ran.json["checks"]}
        assert ran.json["ok"] == (ran.code == 0)
        assert ran.code == ("failed" in [check["state"] for check in checks.values()])
        return Diagnosis(ran, checks)

    return examine


@pytest.fixture
def cloud() -> Iterator[ScriptedPico]:
    """A server that a test writes the answers of."""
    with scripted_pico() as script:
        yield script


# --- all is well ----------------------------------------------------------------------------------


def test_all_is_well(doctor: Doctor, quick: SandboxProcess) -> None:
    """In its order, at the cost of one token request and one balance request, and no message."""
    found = doctor(quick.base_url)

    assert list(found.checks) == CHECKS
    assert set(found.states.values()) == {"ok", "not_checked"}
    assert found.states["clock"] == "not_checked"  # the sandbox's replies have no date
    assert found.checks["tls"]["message"] == "It is not used on loopback."
    assert found.checks["balance"]["facts"] == {"balance": "1000.00"}
    assert sorted(arrival["operation"] for arrival in quick.arrivals()) == ["balance.get", "token.get"]


def test_a_person_is_told_the_same(pico_here: Callable[..., Ran], cloud: ScriptedPico) -> None:
    """A line for each check, and what to do below it."""
    cloud.reply = (200, CREDIT % "0")

    ran = pico_here("doctor", env={"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "user333", "PICO_API_KEY": KEY})

    lines = ran.out.splitlines()
    assert ran.code == 0
    assert [line.split()[1] for line in lines if line[0] != " "] == [f"{check}:" for check in CHECKS]
    assert lines[-2] == "warning      balance: 0: nothing is left."
    assert lines[-1].startswith("             What to do: Top it up")


def test_each_setting_is_told_with_where_it_comes_from(doctor: Doctor, cloud: ScriptedPico, tmp_path: Path) -> None:
    """But what may be secret in it is not shown."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")

    found = doctor(
        cloud.base_url,
        "--api-key-file",
        key_file,
        "--username",
        "somebody",
        env={"PICO_CALLBACK": "https://example.com/dlr?sig=callback-secret"},
    )

    assert found.checks["configuration"]["facts"] == {
        "username": {"value": "somebody", "from": "--username"},
        "api_key": {"value": "set, not shown", "from": str(key_file)},
        "base_url": {"value": cloud.base_url, "from": "PICO_BASE_URL"},
        "sender": {"value": "86…88", "from": "PICO_SENDER"},
        "callback": {"value": "an address at example.com", "from": "PICO_CALLBACK"},
        "redis": {"value": None, "from": None},
        "whitelist_host": False,
    }
    assert cloud.asked == ["GET /token/somebody", "GET /balance/somebody"]


# --- the packages ---------------------------------------------------------------------------------


def installed(folder: Path, name: str, version: str, *needs: str) -> None:
    """Have a package look installed, ahead of the one that is."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {need}" for need in needs]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]))


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("0.27", "ok"),
        ("0.27.0", "ok"),
        ("0.100.1", "ok"),
        ("0.26.9", "warning"),
        ("1.0rc1", "warning"),
        ("1", "warning"),
    ],
)
def test_a_package_that_is_too_old_or_too_new(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, state: str
) -> None:
    """It may work, and it was not tested."""
    installed(tmp_path, "httpx", version)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = doctor(cloud.base_url)

    assert found.states["packages"] == state
    assert found.checks["packages"]["facts"]["installed"]["httpx"] == version
    assert ("pip install 'httpx>=0.27.0,<1'" in found.said("packages")) == (state == "warning")


def test_a_package_that_is_missing(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an extra names, or only some systems need, is not missed."""
    needs = ["nothing-like-it>=2", "not-this-one; extra == 'fast'", 'nor-this; sys_platform == "win32"', "httpx[http2]"]
    installed(tmp_path, "pico-async", "0.1.0", *needs)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = doctor(cloud.base_url)

    assert found.states["packages"] == "failed"
    assert "nothing-like-it is missing." in found.said("packages")
    assert found.checks["packages"]["facts"]["wanted"] == ["nothing-like-it>=2"]


# --- the settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PICO_USERNAME": ""}, "There is no username"),
        ({"PICO_API_KEY": ""}, "There is no API key"),
        ({"PICO_API_KEY": f"{KEY} {KEY}"}, "cannot stand in a header"),
        ({"PICO_SENDER": f"{SENDER}\x1b"}, "control characters"),
        ({"PICO_CALLBACK": "callback-secret"}, "no web address"),
    ],
)
def test_a_wrong_setting_is_named_and_the_way_is_checked_all_the_same(
    doctor: Doctor, cloud: ScriptedPico, env: dict[str, str], said: str
) -> None:
    """The account is asked for nothing, as a session would not be made."""
    found = doctor(cloud.base_url, env=env)

    assert found.states["configuration"] == "failed"
    assert said in found.said("configuration")
    assert found.states["connection"] == "ok"
    assert found.states["token"] == "not_checked"
    assert cloud.asked == []


@pytest.mark.parametrize(
    "base_url",
    ["http://rest.picotw.com", "nowhere", "https://user:callback-secret@rest.picotw.com", "https://rest.picotw.com:0x"],
)
def test_an_address_that_no_session_takes_ends_the_way(doctor: Doctor, base_url: str) -> None:
    """Nothing is asked of anybody."""
    found = doctor(base_url)

    assert found.states["configuration"] == "failed"
    assert {found.states[check] for check in CHECKS[3:]} == {"not_checked"}


@pytest.mark.parametrize("name", ["PICO_APIKEY", "PICO_USER_NAME", "PICO_BASEURL"])
def test_a_variable_that_is_misspelled_is_told(doctor: Doctor, cloud: ScriptedPico, name: str) -> None:
    """Its name, and never its value."""
    found = doctor(cloud.base_url, env={name: "callback-secret"})

    assert found.states["configuration"] == "warning"
    assert f"{name} is set, and means nothing: did you mean PICO_" in found.said("configuration")


# --- the way to the host --------------------------------------------------------------------------


def test_a_name_that_does_not_resolve(doctor: Doctor) -> None:
    """All that depends on it is not checked."""
    found = doctor("https://nothing.invalid")

    assert found.states["dns"] == "failed"
    assert "nothing.invalid does not resolve" in found.said("dns")
    assert {found.states[check] for check in CHECKS[4:]} == {"not_checked"}
    assert "none of Pico's own hosts" in found.said("configuration")


def test_a_port_where_nothing_listens(doctor: Doctor) -> None:
    """It is told apart from a host that is silent."""
    with silent_host() as port:
        pass

    found = doctor(f"http://localhost:{port}")

    assert found.states["dns"] == "ok"
    assert found.states["connection"] == "failed"
    assert "nothing listens there" in found.said("connection")
    assert {found.states[check] for check in CHECKS[5:]} == {"not_checked"}
    assert found.checks["token"]["message"] == "there is no connection"


def test_a_host_that_makes_no_handshake(doctor: Doctor) -> None:
    """The connection is there; TLS is what hangs."""
    with silent_host() as port:
        found = doctor(f"https://127.0.0.1:{port}", "--timeout", "0.2")

    assert found.states["connection"] == "ok"
    assert found.states["tls"] == "failed"
    assert "no TLS handshake was made within 0.2 s" in found.said("tls")
    assert found.states["token"] == "not_checked"


def test_a_host_that_never_answers(doctor: Doctor, cloud: ScriptedPico) -> None:
    """It was there a moment ago: so the token is what fails."""
    cloud.hangs = True

    found = doctor(cloud.base_url, "--timeout", "0.3")

    assert found.states["connection"] == "ok"
    assert found.states["token"] == "failed"
    assert "no reply within 0.3 s" in found.said("token")
    assert found.states["clock"] == "not_checked"
    assert cloud.asked == ["GET /token/user333"]


def served(authority: trustme.CA, *names: str, ends_at: datetime | None = None) -> ssl.SSLContext:
    """Make what a server with such a certificate serves with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=ends_at).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """The environment of who trusts it."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}


@pytest.mark.parametrize(("days", "state"), [(400, "ok"), (5, "warning")])
def test_a_certificate_that_is_trusted(
    doctor: Doctor, authority: trustme.CA, trusting: dict[str, str], days: int, state: str
) -> None:
    """Whose it is, who signed it, and how long it lasts; one that is about to end is told."""
    ends_at = datetime.now(UTC) + timedelta(days=days, hours=1)
    with scripted_pico(served(authority, "127.0.0.1", ends_at=ends_at)) as cloud:
        found = doctor(cloud.base_url, env=trusting)

    facts = found.checks["tls"]["facts"]
    assert found.states["tls"] == state
    assert facts["days_left"] == days
    assert facts["names"] == ["127.0.0.1"]
    assert "trustme" in facts["issuer"]
    assert facts["version"].startswith("TLSv1.")
    assert found.states["token"] == found.states["balance"] == "ok"


@pytest.mark.parametrize(
    ("names", "days", "trusted", "said"),
    [
        ("127.0.0.1", -1, True, "has expired"),
        ("127.0.0.2", 400, True, "not for this address"),
        ("127.0.0.1", 400, False, "no authority that is trusted here signed it"),
    ],
)
def test_a_certificate_that_is_not_trusted(
    doctor: Doctor,
    authority: trustme.CA,
    trusting: dict[str, str],
    names: str,
    days: int,
    trusted: bool,
    said: str,
) -> None:
    """Why, and what to do; the key is not handed out."""
    ends_at = datetime.now(UTC) + timedelta(days=days)
    with scripted_pico(served(authority, names, ends_at=ends_at)) as cloud:
        found = doctor(cloud.base_url, env=trusting if trusted else {})

    assert found.states["connection"] == "ok"
    assert found.states["tls"] == "failed"
    assert said in found.said("tls")
    assert ("SSL_CERT_FILE" in found.said("tls")) != trusted
    assert found.states["token"] == "not_checked"
    assert cloud.asked == []


def test_another_hosts_certificate(doctor: Doctor, authority: trustme.CA, trusting: dict[str, str]) -> None:
    """By its name, as a wrong address would have it."""
    with scripted_pico(served(authority, "example.com")) as cloud:
        found = doctor(cloud.base_url.replace("127.0.0.1", "localhost"), env=trusting)

    assert found.states["tls"] == "failed"
    assert "the certificate is another host's" in found.said("tls")


def test_a_host_that_speaks_no_tls(doctor: Doctor, cloud: ScriptedPico) -> None:
    """It is a port of plain HTTP."""
    found = doctor(cloud.base_url.replace("http:", "https:"))

    assert found.states["tls"] == "failed"
    assert "speaks no TLS" in found.said("tls")


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("nothing", "no certificate in PEM")])
def test_authorities_that_cannot_be_read(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, content: str | None, said: str
) -> None:
    """The variable that names them is told."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    found = doctor(cloud.base_url, env={"SSL_CERT_FILE": str(path)})

    assert found.states["tls"] == "failed"
    assert said in found.said("tls")
    assert "SSL_CERT_FILE" in found.said("tls")


def test_the_way_over_a_proxy(doctor: Doctor, authority: trustme.CA, trusting: dict[str, str]) -> None:
    """It is told without its password, and the certificate is still the host's."""
    with scripted_pico(served(authority, "127.0.0.1")) as cloud, connecting_proxy() as (port, asked):
        proxy = f"http://somebody:proxy-password@127.0.0.1:{port}"
        found = doctor(cloud.base_url, env={**trusting, "HTTPS_PROXY": proxy})

    assert found.checks["connection"]["facts"]["proxy"] == f"http://127.0.0.1:{port}"
    assert found.states["dns"] == "not_checked"
    assert found.checks["tls"]["facts"]["names"] == ["127.0.0.1"]
    assert found.states["token"] == found.states["balance"] == "ok"
    assert len(asked) >= 2
    assert all(head.startswith(b"CONNECT ") for head in asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 proxy-password\r\nContent-Length: 0\r\n\r\n", "(it answers 407)"),
        (b"", "gives no connection"),
        (b"hello\r\n\r\n", "gives no connection"),
    ],
)
def test_a_proxy_that_refuses(doctor: Doctor, answer: bytes, said: str) -> None:
    """It is the connection that fails, and no word of the proxy's is repeated."""
    with connecting_proxy(answer) as (port, _):
        proxy = f"http://somebody:proxy-password@127.0.0.1:{port}"
        found = doctor("https://127.0.0.1:9", env={"HTTPS_PROXY": proxy})

    assert found.states["connection"] == "failed"
    assert said in found.said("connection")
    assert found.states["tls"] == "not_checked"


@pytest.mark.parametrize(
    "proxy",
    ["http://a:proxy-password/b@host", "ftp://proxy-password@127.0.0.1:9", "http://[::1", "socks5://127.0.0.1:9"],
)
def test_a_proxy_that_is_none(doctor: Doctor, proxy: str) -> None:
    """It is a finding, and no traceback."""
    found = doctor("https://nothing.invalid", env={"HTTPS_PROXY": proxy})

    assert "failed" in (found.states["configuration"], found.states["connection"])
    assert "proxy that the environment names" in found.said("configuration") + found.said("connection")
    assert found.states["token"] == "not_checked"


# --- the account ----------------------------------------------------------------------------------


def test_a_wrong_key(doctor: Doctor, quick: SandboxProcess) -> None:
    """Told by the 400 that v0.4 documents."""
    found = doctor(quick.base_url, env={"PICO_API_KEY": "another"})

    assert found.states["token"] == "failed"
    assert found.checks["token"]["facts"]["status_code"] == 400
    assert "The username or the API key is wrong" in found.said("token")
    assert found.states["balance"] == "not_checked"
    assert [arrival["operation"] for arrival in quick.arrivals()] == ["token.get"]


REFUSED = '{"msg": "請求訪問:/token/user333,驗證失敗,無法訪問系统資源", "code": "401"}'
HTML = "<html><h1>Please log in</h1></html>"


@pytest.mark.parametrize(
    ("token", "content_type", "said"),
    [
        ((401, REFUSED), "application/json", "this may be about this machine's address"),
        ((200, REFUSED), "application/json", "this may be about this machine's address"),
        ((403, HTML), "text/html", "this may be about this machine's address"),
        ((200, HTML), "text/html", "may be no Pico"),
        ((302, ""), "text/html", "may be no Pico"),
        ((404, HTML), "text/html", "may be no Pico"),
        ((502, HTML), "text/html", "has trouble"),
        ((429, "{}"), "application/json", "in the same second"),
        ((200, '{"request_id": "r-1"}'), "application/json", "may be no Pico"),
    ],
)
def test_no_token(doctor: Doctor, cloud: ScriptedPico, token: tuple[int, str], content_type: str, said: str) -> None:
    """What the answer may mean is told as far as v0.4 goes, and it is asked for once."""
    cloud.token, cloud.content_type = token, content_type

    found = doctor(cloud.base_url)

    assert found.states["token"] == "failed"
    assert said in found.said("token")
    assert found.states["balance"] == "not_checked"
    assert cloud.asked == ["GET /token/user333"]


@pytest.mark.parametrize("status", [200, 401])
def test_a_token_that_is_not_taken(doctor: Doctor, cloud: ScriptedPico, status: int) -> None:
    """Nothing is asked twice, although a session would."""
    cloud.reply = (status, REFUSED)

    found = doctor(cloud.base_url)

    assert found.states["token"] == "ok"
    assert found.states["balance"] == "failed"
    assert "did not take it a moment later" in found.said("balance")
    assert cloud.asked == ["GET /token/user333", "GET /balance/user333"]


@pytest.mark.parametrize(
    ("balance", "state"),
    [("1000.00", "ok"), ("0.001", "ok"), ("0", "warning"), ("0.00", "warning"), ("-12.5", "warning")],
)
def test_the_balance(doctor: Doctor, cloud: ScriptedPico, balance: str, state: str) -> None:
    """It is shown as Pico gave it; one that is used up is told."""
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
    """By the date of the reply; also where that refused the token."""
    cloud.ahead_s = ahead_s
    cloud.token = (400, '{"errors": ["apiKey: unknown"]}')

    found = doctor(cloud.base_url)

    assert found.states["clock"] == state
    assert said in found.said("clock")
    assert abs(found.checks["clock"]["facts"]["ahead_s"] + ahead_s) < 10


@pytest.mark.parametrize("date", [None, "yesterday", "Thu, 99 Foo 2026 25:61:00 GMT", ""])
def test_a_date_that_is_none(doctor: Doctor, cloud: ScriptedPico, date: str | None) -> None:
    """There is nothing to compare with."""
    cloud.dated = False
    cloud.headers = {} if date is None else {"Date": date}

    found = doctor(cloud.base_url)

    assert found.states["clock"] == "not_checked"
    assert found.states["token"] == "ok"


# --- what else sends rest on ----------------------------------------------------------------------


@pytest.mark.parametrize("rights", ["+@all", "+@read +time", "+get"])
def test_the_fleets_redis(doctor: Doctor, cloud: ScriptedPico, rights: str) -> None:
    """Its version, how long it takes to answer, and its clock; the rights to look at a fleet are enough."""
    with valkey_server() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "looker", "on", ">redis-password", "~pico:*", "-@all", *rights.split())
        found = doctor(cloud.base_url, "--redis", server.url.replace("unix://", "unix://looker:redis-password@"))

    facts = found.checks["redis"]["facts"]
    assert found.checks["configuration"]["facts"]["redis"] == {"value": "set, not shown", "from": "--redis"}
    assert found.states["redis"] == ("failed" if rights == "+get" else "ok")
    if rights == "+get":
        assert "The user needs the rights +@read +time" in found.said("redis")
    else:
        assert abs(facts["ahead_s"]) < 10
        assert (facts["version"] is not None) == (rights == "+@all")


@pytest.mark.parametrize(("by", "said"), [(7200, "behind"), (-7200, "ahead of")])
def test_a_redis_whose_clock_is_off(doctor: Doctor, cloud: ScriptedPico, by: int, said: str) -> None:
    """The pace goes by it, and is not harmed; but somebody should know."""
    with valkey_server_with_clock() as (server, clock):
        clock.step(by)
        found = doctor(cloud.base_url, "--redis", server.url)

    assert found.states["redis"] == "warning"
    assert f"s {said} it" in found.said("redis")


def test_a_redis_that_is_not_there(doctor: Doctor, cloud: ScriptedPico) -> None:
    """The account is checked all the same, and the address is not repeated."""
    found = doctor(cloud.base_url, env={"PICO_REDIS_URL": "redis://:redis-password@127.0.0.1:9/0"})

    assert found.states["redis"] == "failed"
    assert found.states["balance"] == "ok"


def test_a_redis_that_is_silent(doctor: Doctor, cloud: ScriptedPico) -> None:
    """It is waited for no longer than for anything else."""
    with silent_host() as port:
        found = doctor(cloud.base_url, "--timeout", "0.3", "--redis", f"redis://127.0.0.1:{port}")

    assert found.states["redis"] == "failed"
    assert "Redis did not answer within 0.3 s." in found.said("redis")


def test_a_journal_that_is_not_there(doctor: Doctor, cloud: ScriptedPico, tmp_path: Path) -> None:
    """It is not made, for one would send everything again."""
    path = tmp_path / "blast.db"

    found = doctor(cloud.base_url, "--journal", path)

    assert found.states["journal"] == "failed"
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "state", "said"),
    [("8612345678901", "ok", "1 message, none in doubt"), ("99900000001", "warning", "1 message may have gone out.")],
)
def test_a_journal(
    doctor: Doctor,
    pico_here: Callable[..., Ran],
    quick: SandboxProcess,
    write_csv: Callable[..., Path],
    tmp_path: Path,
    number: str,
    state: str,
    said: str,
) -> None:
    """What may have gone out is told, with the way to decide."""
    path = tmp_path / "blast.db"
    pico_here("blast", write_csv([(number, "1234")]), "--text", TEXT, "--journal", path, "--no-progress", env=quick.env)

    found = doctor(quick.base_url, "--journal", path)

    assert found.states["journal"] == state
    assert said in found.said("journal")
    assert ("mark-sent" in found.said("journal")) == (state == "warning")


# --- the command itself ---------------------------------------------------------------------------


def test_ctrl_c_ends_it_in_one_line(cloud: ScriptedPico) -> None:
    """While it waits for an answer."""
    cloud.hangs = True
    env = {"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "user333", "PICO_API_KEY": KEY}
    with running("doctor", env=env) as process:
        wait_until(lambda: bool(cloud.asked))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert err == "error: interrupted.\n"
    assert "connection" in out  # what was found is told as it is found


# `pico` where the system waits for a name server that does not answer.
_SLOW_NAMES = """
import socket, time
def wait(*_, **__): time.sleep(60)
socket.getaddrinfo = wait
from pico_async.cli import main
main()
"""


def test_a_name_server_that_is_silent_holds_up_nothing() -> None:
    """Neither the check, nor the end of the process: no thread can be made to stop waiting."""
    ran = subprocess.run(
        [sys.executable, "-c", _SLOW_NAMES, "doctor", "--json", "--timeout", "0.2"],
        env=environment({"PICO_USERNAME": "user333", "PICO_API_KEY": KEY}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    states = {check["check"]: check for check in json.loads(ran.stdout)["checks"]}
    assert ran.returncode == 1
    assert ran.stderr == ""
    assert states["dns"]["message"] == "rest.picotw.com was not resolved within 0.2 s."


def test_it_needs_no_home_and_no_unicode(cloud: ScriptedPico) -> None:
    """As in a container: no HOME, an ASCII locale, nothing else set."""
    env = {"PICO_BASE_URL": cloud.base_url, "PICO_USERNAME": "kö\x1b[31m", "PICO_API_KEY": KEY, "PICO_SENDER": SENDER}
    env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run([PICO, "doctor"], env=env, capture_output=True, timeout=30, check=False)

    assert ran.returncode in (0, 1)
    assert b"\x1b" not in ran.stdout + ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"configuration" in ran.stdout
