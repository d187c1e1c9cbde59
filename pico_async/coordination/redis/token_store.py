"""The token that a fleet shares over Redis. One process fetches it, and each keeps a copy for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from pico_async.coordination.redis.client import RedisUnavailableError, ScriptClient, microseconds, unavailable
from pico_async.coordination.token_cache import TOKEN_IDLE_S, LocalTokenStore
from pico_async.errors import NotSentError

# CHECKED_FOR_S: an older copy is checked in Redis in the background. TRUSTED_FOR_S: an older copy is not used before
# that check ends. Between the two, requests that have their slots do not wait; otherwise they would all leave at once.
CHECKED_FOR_S = 1.0
TRUSTED_FOR_S = 60.0
# The lock expires after this long if its holder dies. A holder that lives renews it more often.
LOCK_S = 5.0
RENEW_S = 1.5
POLL_S = 0.1
# No fetch takes longer than this, with all its tries and pauses.
LONGEST_FETCH_S = 300.0


class RedisTokenStore:
    """
    The token of one account, shared over Redis.

    Args:
        key: Returns the token's key in Redis; called when it is used.
        member: This process's name in the fleet.
        alone: Whether this process uses and renews its own copy while Redis is away.
    """

    def __init__(self, scripts: ScriptClient, key: Callable[[], str], *, member: str, alone: bool) -> None:
        self._scripts = scripts
        self._key = key
        self._member = member
        self._alone = alone
        self._copy = LocalTokenStore()
        # Redis numbers the tokens: the number of the copy, and that of the token that a fetched one may replace.
        self._generation = self._replaces = ""
        self._fault: str | None = None
        self._checked_at = float("-inf")
        # Calls are made one after the other, because an earlier reply must not undo a later one.
        self._order = asyncio.Lock()
        # Owned by this store: `aclose` ends them.
        self._checking: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Task[None]] = set()

    async def current(self) -> str | None:
        """
        Return the token and record its use, or return None if no token is trusted.

        Raises:
            NotSentError: Redis is away, and this process does not go on alone.
        """
        age_s = asyncio.get_running_loop().time() - self._checked_at
        if age_s >= CHECKED_FOR_S and (self._checking is None or self._checking.done()):
            # One check serves every request that comes meanwhile.
            self._checking = asyncio.create_task(self._check())
        checking = self._checking
        # A process that goes on alone uses its copy, because each check of a silent Redis takes as long as a call may.
        trusted = age_s < TRUSTED_FOR_S or self._alone
        if checking is None or age_s < CHECKED_FOR_S:
            return await self._copy.current()
        if trusted and (token := await self._copy.current()) is not None:
            return token
        await asyncio.wait([checking])
        if self._fault is not None and not self._alone:
            raise unavailable("The token", self._fault)
        return await self._copy.current()

    async def keep(self, token: str) -> None:
        """Store a fresh token. During `refreshing`, it replaces only the token that was there at the beginning."""
        await self._copy.keep(token)
        # If Redis is away, the next check stores the copy.
        storing = self._store("keep", token, self._replaces)
        del token
        await asyncio.wait([storing])

    async def discard(self, token: str) -> None:
        await self._copy.discard(token)
        storing = self._store("discard", token, "")
        del token
        await asyncio.wait([storing])

    async def aclose(self) -> None:
        tasks = [*self._storing] if self._checking is None else [self._checking, *self._storing]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """
        Take the right to fetch a token, or return when another process has fetched one.

        Raises:
            NotSentError: Redis is away, and this process does not go on alone; or another process fetches for too long.
        """
        async with self._copy.refreshing():
            try:
                is_held = await self._take_lock()
            except RedisUnavailableError as error:
                if not self._alone:
                    raise unavailable("The token", str(error)) from None
                is_held = False
            # The copy may be outdated after the wait.
            self._checked_at = float("-inf")
            if not is_held:
                yield
                return
            self._replaces = self._generation
            renewing = asyncio.create_task(self._renew_lock())
            try:
                yield
            finally:
                self._replaces = ""
                renewing.cancel()
                await asyncio.wait([renewing])
                with suppress(RedisUnavailableError):  # the lock expires
                    await self._lock("release")

    async def _take_lock(self) -> bool:
        """Wait for the lock. Return False if a token came meanwhile."""
        give_up_at = asyncio.get_running_loop().time() + LONGEST_FETCH_S
        while not await self._lock("take"):
            if asyncio.get_running_loop().time() > give_up_at:
                raise NotSentError(
                    f"Another process has been fetching the token for {LONGEST_FETCH_S:g} s. Nothing was sent. "
                    f"`pico fleet status` shows which one; its lock in Redis is {self._key()}:lock."
                )
            await asyncio.sleep(POLL_S)
            value, _ = await self._scripts.run("token_use", [self._key()], microseconds(TOKEN_IDLE_S), "")
            if value:
                return False
        return True

    async def _renew_lock(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(RedisUnavailableError):
                await self._lock("renew")

    async def _lock(self, what: str) -> bool:
        keys = [f"{self._key()}:lock"]
        return bool(await self._scripts.run("token_lock", keys, what, self._member, int(LOCK_S * 1000)))

    def _store(self, what: str, token: str, replaces: str) -> asyncio.Task[None]:
        # In a task of its own, so that no frame of the caller holds the token: if the caller is cancelled meanwhile, an
        # error report that prints locals would show it.
        storing = asyncio.create_task(self._sync("token_put", what, token, replaces, microseconds(TOKEN_IDLE_S)))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return storing

    async def _check(self) -> None:
        await self._sync("token_use", microseconds(TOKEN_IDLE_S), await self._copy.current() or "")

    async def _sync(self, script: str, *arguments: object) -> None:
        """Run a script, and make the copy the token that is in Redis afterwards."""
        async with self._order:
            try:
                value, self._generation = await self._scripts.run(script, [self._key()], *arguments)
            except RedisUnavailableError as error:
                self._fault = str(error)
                return
            self._fault = None
            if value:
                await self._copy.keep(value)
            elif (old := await self._copy.current()) is not None:
                await self._copy.discard(old)
            self._checked_at = asyncio.get_running_loop().time()

    def __repr__(self) -> str:
        known = f"token {self._generation}" if self._generation else "no token known"
        fetching = ", fetching another" if self._replaces else ""
        away = "" if self._fault is None else f", Redis is away: {self._fault}"
        return f"<RedisTokenStore {known}{fetching}{away}>"
