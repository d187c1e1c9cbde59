"""The tests of `pico doctor` share a function that runs it and checks that its output shows no secret."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.cli.doctor.diagnosis import SECRETS, SENDER, Diagnosis, Doctor
from tests.support.pico_command import Ran
from tests.support.sandbox_process import KEY


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's own proxies and certificates from the environment."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("SSL_CERT")]:
        monkeypatch.delenv(name)


@pytest.fixture
def doctor(pico_here: Callable[..., Ran]) -> Doctor:
    """Return a function that runs `pico doctor` on a base URL and asserts that its output shows no secret."""

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
