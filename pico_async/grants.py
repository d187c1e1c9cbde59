"""What Pico grants whoever sends: a token, and its word that it took a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from pico_async._boundary import boundary


def undocumented() -> Any:
    """Make the field that keeps what v0.4 does not document."""
    # What Pico adds is not known, so it may be a number or a text: it is kept, and not shown.
    return field(factory=dict, hash=False, repr=lambda extra: f"<{len(extra)} fields>", kw_only=True)


@boundary
@frozen
class Accepted:
    """
    Pico took the message.

    Whether `request_id` also names the message in a delivery receipt is not documented in v0.4.
    """

    request_id: str
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class UserToken:
    """A token for the `Authorization` header. `repr` does not show it."""

    token: str = field(repr=lambda token: f"<{len(token)} characters>")
    request_id: str | None = None
    extra: Mapping[str, Any] = undocumented()
