"""What one check found."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, frozen


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look at it."""
    FAILED = "failed"
    NOT_CHECKED = "not_checked"
    """What it depends on failed, or is not there to look at."""


@frozen(kw_only=True)
class Finding:
    """
    What one check found. Nothing of it is a secret.

    Attributes:
        check: What was checked, as "tls".
        message: What was found, in a sentence.
        details: More of it, a line each.
        advice: What to do; None where there is nothing to do.
        facts: The same for programs.
    """

    check: str
    state: State
    message: str
    details: tuple[str, ...] = ()
    advice: str | None = None
    facts: Mapping[str, Any] = Factory(dict)

    @property
    def passed(self) -> bool:
        """Whether what depends on it can be checked."""
        return self.state in (State.OK, State.WARNING)

    def as_json(self) -> dict[str, Any]:
        """Give it for programs."""
        return {
            "check": self.check,
            "state": self.state.value,
            "message": self.message,
            "details": list(self.details),
            "advice": self.advice,
            "facts": dict(self.facts),
        }


def not_checked(check: str, why: str) -> Finding:
    """Say that something was not looked at."""
    return Finding(check=check, state=State.NOT_CHECKED, message=why)


def failed(check: str, message: str, advice: str, **facts: Any) -> Finding:
    """Say that something does not work, and what to do."""
    return Finding(check=check, state=State.FAILED, message=message, advice=advice, facts=facts)
