"""`pico doctor` reports settings that are wrong and settings that look wrong."""

from __future__ import annotations

import pytest

from pico_async._settings import WHITELIST_BASE_URL
from pico_async.cli.account_options import AccountOptions
from pico_async.cli.doctor.configuration import check_configuration, origin_of
from tests.cli.doctor.diagnosis import CHECKS, SENDER, Doctor
from tests.cli.scripted_pico import ScriptedPico
from tests.support.sandbox_process import KEY


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PICO_USERNAME": ""}, "There is no username"),
        ({"PICO_API_KEY": ""}, "There is no API key"),
        ({"PICO_API_KEY": f"{KEY} {KEY}"}, "a header cannot contain"),
        ({"PICO_SENDER": f"{SENDER}\x1b"}, "control characters"),
        ({"PICO_CALLBACK": "callback-secret"}, "not a web address"),
        ({"PICO_CALLBACK": "https://10.0.0.1/callback-secret"}, "only this machine or its network reaches"),
        ({"PICO_CALLBACK_SECRETS": "short"}, "PICO_CALLBACK_SECRETS is wrong"),
        (
            {"PICO_CALLBACK": "https://example.com/?callback-secret", "PICO_CALLBACK_SECRETS": 5 * "callback-secret"},
            "callback that is to be signed",
        ),
        ({"PICO_LOG": "callback-secret"}, "PICO_LOG must be"),
    ],
)
def test_a_wrong_setting_is_named_and_the_connection_still_checked(
    doctor: Doctor, cloud: ScriptedPico, env: dict[str, str], said: str
) -> None:
    """
    A wrong setting is named and the connection is still checked. The account is asked for nothing, because no session
    could be made.
    """
    found = doctor(cloud.base_url, env=env)

    assert found.states["configuration"] == "failed"
    assert said in found.said("configuration")
    assert found.states["connection"] == "ok"
    assert found.states["token"] == "not_checked"
    assert cloud.asked == []


def test_callback_secrets_are_reported_as_set_and_not_shown(doctor: Doctor, cloud: ScriptedPico) -> None:
    """
    Callback secrets are reported as set and are not shown. With a server on loopback, a callback on loopback is
    accepted, as by a session.
    """
    secrets = {"PICO_CALLBACK_SECRETS": 5 * "callback-secret"}

    found = doctor(cloud.base_url, env={"PICO_CALLBACK": "http://127.0.0.1:8000/receipts", **secrets})

    assert found.states["configuration"] == "ok"
    assert found.states["balance"] == "ok"
    facts = found.checks["configuration"]["facts"]
    assert facts["callback_secrets"] == {"value": "set, not shown", "from": "PICO_CALLBACK_SECRETS"}


@pytest.mark.parametrize(
    "base_url",
    ["http://rest.picotw.com", "nowhere", "https://user:callback-secret@rest.picotw.com", "https://rest.picotw.com:0x"],
)
def test_an_invalid_base_url_ends_the_checks(doctor: Doctor, base_url: str) -> None:
    """When the base URL is one that no session accepts, no check contacts a server."""
    found = doctor(base_url)

    assert found.states["configuration"] == "failed"
    assert {found.states[check] for check in CHECKS[3:]} == {"not_checked"}


@pytest.mark.parametrize("name", ["PICO_APIKEY", "PICO_USER_NAME", "PICO_BASEURL"])
def test_a_misspelled_variable_is_reported(doctor: Doctor, cloud: ScriptedPico, name: str) -> None:
    """A misspelled variable is reported by its name, and never by its value."""
    found = doctor(cloud.base_url, env={name: "callback-secret"})

    assert found.states["configuration"] == "warning"
    assert f"{name} is set, but has no meaning: did you mean PICO_" in found.said("configuration")


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://somebody:proxy-password@10.0.0.1:3128", "http://10.0.0.1:3128"),
        ("https://[2001:db8::1]:8443/path", "https://[2001:db8::1]:8443"),
        ("https://rest.picotw.com", "https://rest.picotw.com"),
    ],
)
def test_a_url_is_shown_without_credentials_and_path(address: str, place: str) -> None:
    """An address is shown without its credentials and without its path."""
    assert origin_of(address) == place


@pytest.mark.parametrize(("base_url", "whitelist"), [(None, False), (WHITELIST_BASE_URL, True)])
def test_picos_own_hosts_cause_no_warning(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, whitelist: bool
) -> None:
    """Pico's own hosts cause no warning, and the report names the IP whitelist only for the whitelist host."""
    monkeypatch.setenv("PICO_API_KEY", KEY)

    found = check_configuration(AccountOptions(username="user333", base_url=base_url), {}, sender="PICO", callback=None)

    assert found.finding.state == "ok"
    assert found.finding.facts["whitelist_host"] == whitelist
    assert ("IP whitelist" in found.finding.message) == whitelist
    assert KEY not in repr(found)


def test_the_log_level_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log level is reported with the name of the variable that sets it."""
    monkeypatch.setenv("PICO_API_KEY", KEY)
    monkeypatch.setenv("PICO_LOG", "info")

    found = check_configuration(AccountOptions(username="user333"), {}, sender="PICO", callback=None)

    assert found.finding.facts["log"] == {"value": "info", "from": "PICO_LOG"}


def test_an_invalid_setting_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A setting that is set but invalid is not reported as missing, and is not shown, because it may contain a secret.
    """
    monkeypatch.setenv("PICO_API_KEY", KEY)
    monkeypatch.setenv("PICO_CALLBACK_SECRETS", "short-secret")
    monkeypatch.setenv("PICO_LOG", "loud-secret")
    sources = {"callback": "PICO_CALLBACK"}

    found = check_configuration(
        AccountOptions(username="user333"), sources, sender="PICO", callback="ftp://secret.example"
    ).finding

    unfit = "set, but not valid"
    assert found.state == "failed"
    assert found.facts["callback"] == {"value": unfit, "from": "PICO_CALLBACK"}
    assert found.facts["callback_secrets"] == {"value": unfit, "from": "PICO_CALLBACK_SECRETS"}
    assert found.facts["log"] == {"value": unfit, "from": "PICO_LOG"}
    assert "secret" not in " ".join(found.details).replace("callback secrets", "").replace("CALLBACK_SECRETS", "")


def test_a_missing_sender_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing sender is a warning, because otherwise the first message would reveal it."""
    monkeypatch.setenv("PICO_API_KEY", KEY)

    found = check_configuration(AccountOptions(username="user333"), {}, sender=None, callback=None)

    assert found.finding.state == "warning"
    assert "PICO_SENDER" in found.finding.message
