"""The check that no test run reaches Pico itself, unless a test is marked for it."""

from __future__ import annotations

from collections.abc import Callable


def _never() -> str | None:
    return None


refusal: Callable[[], str | None] = _never
"""Returns why no session may reach Pico itself now, or None. The pytest plugin replaces it."""
