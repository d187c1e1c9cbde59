"""The token cache: one token for all callers, fetched once however many wait for it."""

from __future__ import annotations

import asyncio
import copy
import functools
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from attrs import define

from pico_async.coordination.protocols import TokenStore
from pico_async.errors import NotSentError
from pico_async.models import UserToken

# Servers accept 8 KiB of headers in total.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,4096}")
# The reference says 30 minutes. The framework behind it extends a session only in its last 20 minutes, so an idle token
# is certain for 20. Two minutes are left for requests that wait with it.
TOKEN_IDLE_S = 18 * 60


@define(eq=False, repr=False)
class Secret:
    """A string without a repr, so that an error report with local variables does not show it."""

    value: str


def fits_in_header(token: str) -> bool:
    """Return whether a header can contain this token. Otherwise an HTTP library would raise an error that quotes it."""
    return _HEADER_VALUE.fullmatch(token) is not None


class LocalTokenStore:
    """Stores the token in one event loop, behind an asyncio lock."""

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


class TokenCache:
    """
    Returns the shared token, and fetches one if there is no valid one.

    Single-flight: all callers that come during a fetch get its result, a token or an error. The fetch belongs to no
    caller. It goes on if one of them is cancelled or its message expires; otherwise callers with deadlines shorter than
    a fetch would never get a token.

    Args:
        longest_s: How long to wait for the fetches of other sessions and processes. After that, their failure counts as
            this one's. Otherwise, if Pico gives no token, the last of many would wait for all others, one by one.
    """

    def __init__(self, store: TokenStore, fetch: Callable[[], Awaitable[UserToken]], *, longest_s: float) -> None:
        self._store = store
        self._fetch = fetch
        self._longest_s = longest_s
        self._refreshing: asyncio.Task[Secret] | None = None
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._known: Secret | None = None

    async def current(self) -> Secret | None:
        """Return the shared token, or None if there is no valid one."""
        token = await self._store.current()
        if token is None:
            return None
        if self._known is None or self._known.value != token:
            if not fits_in_header(token):
                # The store is shared, so it may contain anything. A fresh token replaces it.
                await self._store.discard(token)
                return None
            self._known = Secret(token)
        return self._known

    async def get(self) -> Secret:
        """
        Return the shared token, or fetch one.

        Raises:
            PicoError: No token could be fetched.
        """
        if token := await self.current():
            return token
        if self._refreshing is None or self._refreshing.done():
            # Owned by this cache: `aclose` waits for it.
            self._refreshing, self._waiting = asyncio.create_task(self._refresh()), {}
            self._refreshing.add_done_callback(functools.partial(_wake, self._waiting))
        refreshing, waiting = self._refreshing, self._waiting
        # A future for each caller. Waiting for the task itself would add a callback to it, and asyncio searches all
        # callbacks of a task when one caller is cancelled.
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[ended] = None
        try:
            await ended
        finally:
            del waiting[ended]
        if refreshing.cancelled():
            raise NotSentError("The session was closed while it fetched a token.")
        if (error := refreshing.exception()) is not None:
            # A copy for each caller: one error, raised many times, would collect all their tracebacks.
            raise copy.copy(error)
        return refreshing.result()

    async def fetch(self) -> UserToken:
        """Fetch a fresh token, whether there is one to trust or not, and store it."""
        fetched = await self._fetch()
        await self._store.keep(fetched.token)
        return fetched

    async def reject(self, token: Secret) -> None:
        """Delete a token that Pico refused, unless it was replaced already."""
        await self._store.discard(token.value)

    async def aclose(self) -> None:
        """Cancel a fetch that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> Secret:
        asked_at = time.monotonic()
        async with self._store.refreshing():
            # Another session of the account may have fetched a token during the wait for the lock.
            if known := await self.current():
                return known
            if (waited_s := time.monotonic() - asked_at) >= self._longest_s:
                raise NotSentError(f"Other sessions that share the token fetched none in {waited_s:.0f} s.")
            return Secret((await self.fetch()).token)


def _wake(waiting: dict[asyncio.Future[None], None], refreshing: asyncio.Task[Secret]) -> None:
    """Wake the callers that wait for a fetch, because it ended: in the order in which they came."""
    if not refreshing.cancelled():
        refreshing.exception()  # If all callers were cancelled, asyncio would log that it was never retrieved.
    for ended in waiting:
        if not ended.done():
            ended.set_result(None)
