"""The token: one for all callers, fetched once however many ask."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

from attrs import frozen

from pico_async.coordination import TokenStore
from pico_async.errors import PicoError


@frozen(eq=False, repr=False)
class Secret:
    """A string that has no repr, so no error report that prints locals shows it."""

    value: str


class TokenCache:
    """
    Hand out the shared token, and fetch one where there is none to trust.

    Single-flight: whoever asks while a fetch is under way gets what that fetch brings, a token or its error. Where
    the fetching task is cancelled, the next one in line fetches.
    """

    def __init__(self, store: TokenStore, fetch: Callable[[], Awaitable[str]]) -> None:
        self._store = store
        self._fetch = fetch
        self._fetches_failed = 0
        self._error: PicoError | None = None

    async def get(self) -> Secret:
        """
        Give a token that Pico is expected to take.

        Raises:
            PicoError: It could not be fetched.
        """
        failed_before = self._fetches_failed
        if token := await self._store.current():
            return Secret(token)
        async with self._store.refreshing():
            # Another may have fetched it while this one waited for the lock, or failed to.
            if token := await self._store.current():
                return Secret(token)
            if self._fetches_failed > failed_before and self._error is not None:
                raise copy.copy(self._error)
            try:
                token = await self._fetch()
            except PicoError as error:
                self._fetches_failed += 1
                self._error = copy.copy(error)
                raise
            await self._store.keep(token)
            return Secret(token)

    async def keep(self, token: str) -> None:
        """Take a token that was fetched elsewhere."""
        await self._store.keep(token)

    async def reject(self, token: Secret) -> None:
        """Forget a token that Pico did not take, unless a newer one is there already."""
        await self._store.discard(token.value)
