"""A `Diagnosis` holds the result of `pico doctor` for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from tests.cli.scripted_pico import TOKEN
from tests.support.pico_command import Ran
from tests.support.sandbox_process import KEY

SENDER = "8612345678888"
CHECKS = ["python", "packages", "configuration", "dns", "connection", "tls", "clock", "token", "balance"]
# None of these secrets may appear in any output.
SECRETS = [KEY, TOKEN, SENDER, "callback-secret", "redis-password", "proxy-password"]


@frozen
class Diagnosis:
    """The result of one run of `pico doctor`, and its checks by name."""

    ran: Ran
    checks: dict[str, dict[str, Any]]

    @property
    def states(self) -> dict[str, str]:
        """Return the state of each check."""
        return {name: check["state"] for name, check in self.checks.items()}

    def said(self, check: str) -> str:
        """Return the message of a check, followed by its advice."""
        return f"{self.checks[check]['message']} {self.checks[check]['advice'] or ''}"


Doctor = Callable[..., Diagnosis]
