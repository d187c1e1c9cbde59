"""The token: one for all callers, fetched once however many ask."""

from __future__ import annotations

import asyncio
import copy
import re
import time
from collections.abc import Awaitable, Callable

from attrs import define

from pico_async.coordination.protocols import TokenStore
from pico_async.errors import NotSentError

# Servers take headers of 8 KiB in all.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,4096}")


@define(eq=False, repr=False)
class Secret:
    """A string without a repr, so that an error report with local variables does not show it."""

    value: str


def fits_in_header(token: str) -> bool:
    """Return whether a header can hold this token. What cannot be is refused by an HTTP library, which quotes it."""
    return _HEADER_VALUE.fullmatch(token) is not None


class TokenCache:
    """
    Hand out the shared token, and fetch one where there is none to trust.

    Single-flight: whoever asks while a fetch is under way gets what that fetch brings, a token or its error. The fetch
    belongs to no caller: whoever is cancelled, or whose message expires, leaves it to the others, or else callers with
    deadlines shorter than a fetch would never get a token.

    Args:
        longest_s: How long to wait for the fetches of other sessions and processes before their failure counts as this
            one's. Otherwise, where Pico gives no token, the last of many would wait for all of them, one by one.
    """

    def __init__(self, store: TokenStore, fetch: Callable[[], Awaitable[str]], *, longest_s: float) -> None:
        self._store = store
        self._fetch = fetch
        self._longest_s = longest_s
        self._refreshing: asyncio.Task[Secret] | None = None
        self._known: Secret | None = None

    async def current(self) -> Secret | None:
        """Give the token as it stands now, if there is one to trust."""
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
        Give a token that Pico is expected to take.

        Raises:
            PicoError: It could not be fetched.
        """
        if token := await self.current():
            return token
        if self._refreshing is None or self._refreshing.done():
            # Owned by this cache: `aclose` waits for it.
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_take_note)
        refreshing = self._refreshing
        await asyncio.wait([refreshing])
        if refreshing.cancelled():
            raise NotSentError("The session was closed while it fetched a token.")
        if (error := refreshing.exception()) is not None:
            # A copy for each: raised many times, one error would collect the tracebacks of all.
            raise copy.copy(error)
        return refreshing.result()

    async def keep(self, token: str) -> None:
        """Take a token that was fetched elsewhere."""
        await self._store.keep(token)

    async def reject(self, token: Secret) -> None:
        """Forget a token that Pico did not take, unless a newer one is there already."""
        await self._store.discard(token.value)

    async def aclose(self) -> None:
        """End a fetch under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> Secret:
        asked_at = time.monotonic()
        async with self._store.refreshing():
            # Another session of the account may have fetched it while this one waited for the lock.
            if known := await self.current():
                return known
            if (waited_s := time.monotonic() - asked_at) >= self._longest_s:
                raise NotSentError(f"Others that share the token asked for one, and got none in {waited_s:.0f} s.")
            token = await self._fetch()
            await self._store.keep(token)
            return Secret(token)


def _take_note(refreshing: asyncio.Task[Secret]) -> None:
    # Where all who waited have gone, asyncio would complain that nobody asked for the error.
    if not refreshing.cancelled():
        refreshing.exception()
