"""Whether a session may reach Pico itself: in a test run it may not, unless the test says so."""

from __future__ import annotations

from collections.abc import Callable


def _never() -> str | None:
    return None


refusal: Callable[[], str | None] = _never
"""Return why no session may reach Pico itself now; None where it may. The pytest plugin sets it."""
