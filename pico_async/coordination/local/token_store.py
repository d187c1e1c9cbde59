"""A token in the memory of one process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

# The reference says 30 minutes; the framework behind it extends a session only in its last 20, so that is what an
# idle token is sure of. Two minutes are left for the requests that wait with it.
TOKEN_IDLE_S = 18 * 60


class LocalTokenStore:
    """A token in this process's memory, behind an asyncio lock."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._used_at = 0.0
        self._lock = asyncio.Lock()

    async def current(self) -> str | None:
        """Give the token and note its use, or None where it idled too long."""
        now = asyncio.get_running_loop().time()
        if self._token is not None and now - self._used_at < TOKEN_IDLE_S:
            self._used_at = now
            return self._token
        return None

    async def keep(self, token: str) -> None:
        """Put a fresh token in the place of whatever is there."""
        self._token = token
        self._used_at = asyncio.get_running_loop().time()

    async def discard(self, token: str) -> None:
        """Drop the token, unless another has taken its place."""
        # Fifty calls may fail with one old token; only the first may evict it.
        if self._token == token:
            self._token = None

    def refreshing(self) -> AbstractAsyncContextManager[object]:
        """Hold the right to fetch."""
        return self._lock
