"""What a doctor said, for tests to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from tests.cli.scripted_pico import TOKEN
from tests.support.pico_command import KEY, Ran

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
