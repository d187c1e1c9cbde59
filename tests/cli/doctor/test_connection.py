"""`pico doctor` reports each fault on the way to the host: in names, connections, certificates and proxies."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme

from tests.cli.doctor.diagnosis import CHECKS, Doctor
from tests.cli.scripted_pico import ScriptedPico, connecting_proxy, scripted_pico, silent_host
from tests.support.pico_command import Ran


def test_a_name_that_does_not_resolve(doctor: Doctor) -> None:
    """When the host's name does not resolve, the checks that depend on it are not made."""
    found = doctor("https://nothing.invalid")

    assert found.states["dns"] == "failed"
    assert "nothing.invalid does not resolve" in found.said("dns")
    assert {found.states[check] for check in CHECKS[4:]} == {"not_checked"}
    assert "not one of Pico's hosts" in found.said("configuration")


def test_a_port_where_nothing_listens(doctor: Doctor) -> None:
    """A port where nothing listens is distinguished from a host that does not answer."""
    with silent_host() as port:
        pass

    found = doctor(f"http://localhost:{port}")

    assert found.states["dns"] == "ok"
    assert found.states["connection"] == "failed"
    assert "nothing listens there" in found.said("connection")
    assert {found.states[check] for check in CHECKS[5:]} == {"not_checked"}
    assert found.checks["token"]["message"] == "there is no connection"


def test_a_host_that_makes_no_handshake(doctor: Doctor) -> None:
    """
    When a host accepts the connection and makes no TLS handshake, the TLS check fails and not the connection check.
    """
    with silent_host() as port:
        found = doctor(f"https://127.0.0.1:{port}", "--timeout", "2")

    assert found.states["connection"] == "ok"
    assert found.states["tls"] == "failed"
    assert "completed no TLS handshake within 2 s" in found.said("tls")
    assert found.states["token"] == "not_checked"


def test_a_host_that_never_answers(doctor: Doctor, cloud: ScriptedPico) -> None:
    """When a host accepts the connection and never replies, the token check fails and not the connection check."""
    cloud.hangs = True

    found = doctor(cloud.base_url, "--timeout", "2")

    assert found.states["connection"] == "ok"
    assert found.states["token"] == "failed"
    assert "no reply within 2 s" in found.said("token")
    assert found.states["clock"] == "not_checked"
    assert cloud.asked == ["GET /token/user333"]


def served(authority: trustme.CA, *names: str, ends_at: datetime | None = None) -> ssl.SSLContext:
    """Make the TLS context of a server that has a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=ends_at).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make a certificate authority for these tests."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a client that trusts the authority."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}


@pytest.mark.parametrize(("days", "state"), [(400, "ok"), (5, "warning")])
def test_a_certificate_that_is_trusted(
    doctor: Doctor, authority: trustme.CA, trusting: dict[str, str], days: int, state: str
) -> None:
    """
    A trusted certificate is reported with its names, its issuer and its days left; a certificate that ends soon is a
    warning.
    """
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
        ("127.0.0.1", 400, False, "no CA that is trusted here has signed it"),
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
    """An untrusted certificate is reported with the reason, and the API key is not sent."""
    ends_at = datetime.now(UTC) + timedelta(days=days)
    with scripted_pico(served(authority, names, ends_at=ends_at)) as cloud:
        found = doctor(cloud.base_url, env=trusting if trusted else {})

    assert found.states["connection"] == "ok"
    assert found.states["tls"] == "failed"
    assert said in found.said("tls")
    assert ("SSL_CERT_FILE" in found.said("tls")) != trusted
    assert found.states["token"] == "not_checked"
    assert cloud.asked == []


@pytest.mark.parametrize("terminal", [False, True])
def test_a_certificate_writes_no_control_characters(
    pico_here: Callable[..., Ran],
    pico_on_terminal: Callable[..., Ran],
    authority: trustme.CA,
    trusting: dict[str, str],
    terminal: bool,
) -> None:
    """Control characters in a certificate's names, which its owner chose, are not written to the terminal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", common_name="\x1b]0;title\x07\u202egnp.exe\u2066").configure_cert(context)
    with scripted_pico(context) as cloud:
        ran = (pico_on_terminal if terminal else pico_here)("doctor", env={**cloud.env, **trusting})

    assert ran.code == 0
    assert "gnp.exe" in ran.out
    assert not [character for character in ran.out if not character.isprintable() and character != "\n"]


def test_another_hosts_certificate(doctor: Doctor, authority: trustme.CA, trusting: dict[str, str]) -> None:
    """A certificate with another host's name, as after a wrong address, is reported as another host's."""
    with scripted_pico(served(authority, "example.com")) as cloud:
        found = doctor(cloud.base_url.replace("127.0.0.1", "localhost"), env=trusting)

    assert found.states["tls"] == "failed"
    assert "the certificate is another host's" in found.said("tls")


def test_a_host_that_speaks_no_tls(doctor: Doctor, cloud: ScriptedPico) -> None:
    """A port of plain HTTP is reported as a port that does not speak TLS."""
    found = doctor(cloud.base_url.replace("http:", "https:"))

    assert found.states["tls"] == "failed"
    assert "does not speak TLS" in found.said("tls")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(
            None,
            "No such file",
            marks=pytest.mark.skipif(httpx.__version__.startswith("0.27."), reason="httpx 0.27 passes it over"),
        ),
        ("nothing", "no PEM certificate"),
    ],
)
def test_ca_certificates_that_cannot_be_loaded(
    doctor: Doctor, cloud: ScriptedPico, tmp_path: Path, content: str | None, said: str
) -> None:
    """When the CA certificates cannot be loaded, the TLS check fails and names SSL_CERT_FILE."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    found = doctor(cloud.base_url, env={"SSL_CERT_FILE": str(path)})

    assert found.states["tls"] == "failed"
    assert said in found.said("tls")
    assert "SSL_CERT_FILE" in found.said("tls")


def test_a_connection_over_a_proxy(doctor: Doctor, authority: trustme.CA, trusting: dict[str, str]) -> None:
    """A proxy is shown without its password, and the certificate that is checked is still the host's."""
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
        (b"HTTP/1.1 407 proxy-password\r\nContent-Length: 0\r\n\r\n", "(it replied 407)"),
        (b"", "opened no connection"),
        (b"hello\r\n\r\n", "opened no connection"),
    ],
)
def test_a_proxy_that_refuses(doctor: Doctor, answer: bytes, said: str) -> None:
    """When a proxy refuses, the connection check fails, and no word of the proxy's reply is repeated."""
    with connecting_proxy(answer) as (port, _):
        proxy = f"http://somebody:proxy-password@127.0.0.1:{port}"
        found = doctor("https://127.0.0.1:9", env={"HTTPS_PROXY": proxy})

    assert found.states["connection"] == "failed"
    assert said in found.said("connection")
    assert found.states["tls"] == "not_checked"


def test_a_proxy_that_is_not_trusted(doctor: Doctor, authority: trustme.CA) -> None:
    """A proxy whose certificate is not trusted is distinguished from a host whose certificate is not trusted."""
    with connecting_proxy(tls=served(authority, "127.0.0.1")) as (port, asked):
        found = doctor("https://127.0.0.1:9", env={"HTTPS_PROXY": f"https://somebody:proxy-password@127.0.0.1:{port}"})

    assert found.states["connection"] == "failed"
    assert f"the proxy https://127.0.0.1:{port} was reached, but TLS with it failed" in found.said("connection")
    assert asked == []


@pytest.mark.parametrize(
    "proxy",
    ["http://a:proxy-password/b@host", "ftp://proxy-password@127.0.0.1:9", "http://[::1", "socks5://127.0.0.1:9"],
)
def test_an_invalid_proxy(doctor: Doctor, proxy: str) -> None:
    """An invalid proxy setting is reported as a failed check."""
    found = doctor("https://nothing.invalid", env={"HTTPS_PROXY": proxy})

    assert "failed" in (found.states["configuration"], found.states["connection"])
    assert "proxy that the environment names" in found.said("configuration") + found.said("connection")
    assert found.states["token"] == "not_checked"
