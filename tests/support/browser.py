"""This module starts a real headless Chromium: Debian's package, driven by playwright, which downloads nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.servers import unavailable
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str:
    """Return the path of Chromium, or skip the test: only Linux distributions have Chromium as a package."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        unavailable("no Chromium: apt-get install chromium")
    return path


@asynccontextmanager
async def browser(**options: Any) -> AsyncIterator[BrowserContext]:
    """Start a browser with an empty profile; *options* are those of playwright's `launch_persistent_context`."""
    path = chromium_path()
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        unavailable("no playwright: pip install playwright")
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                profile, executable_path=path, headless=True, args=ARGUMENTS, timeout=PATIENCE_S * 1000, **options
            )
            try:
                yield context
            finally:
                await context.close()
