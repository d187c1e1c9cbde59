"""One token for a whole fleet: in Redis, with its last use, and fetched by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from pico_async.coordination.redis.client import Link, RedisUnavailableError, microseconds, not_sent
from pico_async.coordination.token_cache import TOKEN_IDLE_S, LocalTokenStore
from pico_async.errors import NotSentError

# How old a process's copy may be before it looks again; and how old before nobody gets it until it has looked. In
# between it looks in the background: a look may take its time, and those who have their turn already would leave in a
# bunch.
CHECKED_FOR_S = 1.0
TRUSTED_FOR_S = 60.0
# A holder that dies delays the others by so much; one that lives says so in time.
LOCK_S = 5.0
RENEW_S = 1.5
POLL_S = 0.1
# Nobody fetches for longer than this, with all tries and pauses.
LONGEST_FETCH_S = 300.0


class RedisTokenStore:
    """
    The token of one account, shared over Redis.

    Args:
        key: Says where it lies in Redis; asked when it is used.
        member: This process's name in the fleet.
        alone: While Redis is away, go on with this process's own copy, and fetch for it.
    """

    def __init__(self, link: Link, key: Callable[[], str], *, member: str, alone: bool) -> None:
        self._link = link
        self._key = key
        self._member = member
        self._alone = alone
        self._copy = LocalTokenStore()
        self._generation = self._replaces = ""
        self._fault: str | None = None
        self._checked_at = float("-inf")
        # Asked one after the other: an answer must not undo a later one.
        self._order = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._putting: set[asyncio.Task[None]] = set()

    async def current(self) -> str | None:
        """
        Give the token and note its use, or None where there is none to trust.

        Raises:
            NotSentError: Redis is away, and this process does not go on alone.
        """
        age_s = asyncio.get_running_loop().time() - self._checked_at
        if age_s >= CHECKED_FOR_S and (self._looking is None or self._looking.done()):
            # Owned by this store: `aclose` ends it. One look serves all who ask meanwhile.
            self._looking = asyncio.create_task(self._look())
        looking = self._looking
        # A process that goes on alone keeps to its copy: while Redis is silent, each look lasts as long as a call may.
        good = age_s < TRUSTED_FOR_S or self._alone
        if looking is None or age_s < CHECKED_FOR_S or (good and await self._copy.current() is not None):
            return await self._copy.current()
        await asyncio.wait([looking])
        if self._fault is not None and not self._alone:
            raise not_sent("The token", self._fault)
        return await self._copy.current()

    async def keep(self, token: str) -> None:
        """Put a fresh token in the place of whatever is there; while refreshing, of what was there at its beginning."""
        await self._copy.keep(token)
        # Nothing is lost where Redis is away: the next look tells.
        putting = self._put("keep", token, self._replaces)
        del token
        await asyncio.wait([putting])

    async def discard(self, token: str) -> None:
        """Drop the token, unless another has taken its place."""
        await self._copy.discard(token)
        putting = self._put("discard", token, "")
        del token
        await asyncio.wait([putting])

    async def aclose(self) -> None:
        """End what is under way."""
        tasks = [*self._putting] if self._looking is None else [self._looking, *self._putting]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Hold the right to fetch, or find that another process has fetched."""
        async with self._copy.refreshing():
            try:
                held = await self._take_lock()
            except RedisUnavailableError as error:
                if not self._alone:
                    raise not_sent("The token", str(error)) from None
                held = False
            # What was known before the wait says nothing now.
            self._checked_at = float("-inf")
            if not held:
                yield
                return
            self._replaces = self._generation
            renewing = asyncio.create_task(self._renew())
            try:
                yield
            finally:
                self._replaces = ""
                renewing.cancel()
                await asyncio.wait([renewing])
                with suppress(RedisUnavailableError):  # it expires
                    await self._lock("release")

    async def _take_lock(self) -> bool:
        """Wait for the lock; False where a token has come meanwhile."""
        give_up_at = asyncio.get_running_loop().time() + LONGEST_FETCH_S
        while not await self._lock("take"):
            if asyncio.get_running_loop().time() > give_up_at:
                raise NotSentError(
                    f"Another process has been fetching the token for {LONGEST_FETCH_S:g} s. Nothing was sent. "
                    f"`pico fleet status` shows which one; its lock in Redis is {self._key()}:lock."
                )
            await asyncio.sleep(POLL_S)
            value, _ = await self._link.run("token_use", [self._key()], microseconds(TOKEN_IDLE_S), "")
            if value:
                return False
        return True

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(RedisUnavailableError):
                await self._lock("renew")

    async def _lock(self, what: str) -> bool:
        return bool(await self._link.run("token_lock", [f"{self._key()}:lock"], what, self._member, int(LOCK_S * 1000)))

    def _put(self, what: str, token: str, replaces: str) -> asyncio.Task[None]:
        # In a task of its own, and no frame of the caller's keeps it: where the caller is cancelled meanwhile, an error
        # report that prints locals would show the token. Owned by this store: `aclose` ends it.
        putting = asyncio.create_task(self._ask("token_put", what, token, replaces, microseconds(TOKEN_IDLE_S)))
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)
        return putting

    async def _look(self) -> None:
        await self._ask("token_use", microseconds(TOKEN_IDLE_S), await self._copy.current() or "")

    async def _ask(self, script: str, *arguments: object) -> None:
        """Have Redis look after the token, and take over what is there then."""
        async with self._order:
            try:
                value, self._generation = await self._link.run(script, [self._key()], *arguments)
            except RedisUnavailableError as error:
                self._fault = str(error)
                return
            self._fault = None
            if value:
                await self._copy.keep(value)
            elif (old := await self._copy.current()) is not None:
                await self._copy.discard(old)
            self._checked_at = asyncio.get_running_loop().time()
