"""What tests change: no test reaches Pico itself, unless it is marked for it, and apps have a session."""

from __future__ import annotations

from collections.abc import Callable


def _never() -> str | None:
    return None


refusal: Callable[[], str | None] = _never
"""Returns why no session may reach Pico itself now, or None. The pytest plugin replaces it."""


def none() -> object:
    """Return None."""
    return None


session: Callable[[], object] = none
"""Returns the session for an app that opened none, or None. An installed sandbox replaces it."""
