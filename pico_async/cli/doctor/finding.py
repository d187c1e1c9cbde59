"""The result of one check."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, frozen


class State(StrEnum):
    """The state of a check."""

    OK = "ok"
    WARNING = "warning"
    """It works, but needs attention."""
    FAILED = "failed"
    NOT_CHECKED = "not_checked"
    """A check that it depends on failed, or there is nothing to check."""


@frozen(kw_only=True)
class Finding:
    """The result of one check, with lines for a person and facts for programs. It contains no secret."""

    check: str
    state: State
    message: str
    details: tuple[str, ...] = ()
    advice: str | None = None
    facts: Mapping[str, Any] = Factory(dict)

    @property
    def passed(self) -> bool:
        """Whether checks that depend on this one can be made."""
        return self.state in (State.OK, State.WARNING)


def not_checked(check: str, reason: str) -> Finding:
    return Finding(check=check, state=State.NOT_CHECKED, message=reason)


def ok(check: str, message: str, **facts: Any) -> Finding:
    return Finding(check=check, state=State.OK, message=message, facts=facts)


def warning(check: str, message: str, advice: str, **facts: Any) -> Finding:
    return Finding(check=check, state=State.WARNING, message=message, advice=advice, facts=facts)


def failed(check: str, message: str, advice: str, **facts: Any) -> Finding:
    return Finding(check=check, state=State.FAILED, message=message, advice=advice, facts=facts)
