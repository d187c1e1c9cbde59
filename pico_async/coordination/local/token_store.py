"""A token in the memory of one process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

# The reference says 30 minutes. The framework behind it extends a session only in its last 20 minutes, so an idle token
# is certain for 20. Two minutes are left for requests that wait with it.
TOKEN_IDLE_S = 18 * 60


class LocalTokenStore:
    """The token cache of one event loop, behind an asyncio lock."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._used_at = 0.0
        self._lock = asyncio.Lock()

    async def current(self) -> str | None:
        """Return the token and record its use; None if it was unused for too long."""
        now = asyncio.get_running_loop().time()
        if self._token is not None and now - self._used_at < TOKEN_IDLE_S:
            self._used_at = now
            return self._token
        return None

    async def keep(self, token: str) -> None:
        """Store a fresh token in place of the present one."""
        self._token = token
        self._used_at = asyncio.get_running_loop().time()

    async def discard(self, token: str) -> None:
        """Delete the token, unless it was replaced already."""
        # Many calls may fail with one old token. Only the first one may delete it.
        if self._token == token:
            self._token = None

    def refreshing(self) -> AbstractAsyncContextManager[object]:
        """Return a lock; its holder may fetch a token."""
        return self._lock
