"""The token cache: one fetch, however many ask."""

from __future__ import annotations

import asyncio

import pytest

from pico_async import BadRequestError, NotSentError, PicoError
from pico_async._engine.token import Secret, TokenCache
from pico_async.coordination.local import LocalTokenStore


class Source:
    """Gives t1, t2, … after a second each, or raises what it is told to."""

    def __init__(self) -> None:
        self.fetches = 0
        self.error: PicoError | None = None

    async def fetch(self) -> str:
        self.fetches += 1
        token = f"t{self.fetches}"
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        return token


def cache_of(source: Source) -> TokenCache:
    return TokenCache(LocalTokenStore(), source.fetch)


pytestmark = pytest.mark.virtual_time


async def test_fifty_at_once_cost_one_fetch() -> None:
    """All get the token that the first one fetched."""
    source = Source()
    cache = cache_of(source)

    tokens = await asyncio.gather(*(cache.get() for _ in range(50)))

    assert {token.value for token in tokens} == {"t1"}
    assert source.fetches == 1


async def test_cancelling_the_fetching_task_leaves_the_rest_working() -> None:
    """The fetch belongs to no caller: it goes on for the others, and nobody but the cancelled one hears of it."""
    source = Source()
    cache = cache_of(source)
    tasks = [asyncio.create_task(cache.get()) for _ in range(50)]
    await asyncio.sleep(0.5)

    tasks[0].cancel()
    got = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(got[0], asyncio.CancelledError)
    assert [token.value for token in got[1:] if isinstance(token, Secret)] == ["t1"] * 49
    assert source.fetches == 1


async def test_callers_with_less_patience_than_a_fetch_takes_get_a_token_in_the_end() -> None:
    """Each gives up after 0.4 s and leaves the fetch to the next, who comes upon its token."""
    source = Source()
    cache = cache_of(source)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cache.get(), 0.4)

    assert (await asyncio.wait_for(cache.get(), 0.4)).value == "t1"
    assert source.fetches == 1


async def test_closing_ends_a_fetch_under_way() -> None:
    """Who waits for it learns that, and no task stays behind."""
    source, tasks = Source(), asyncio.all_tasks()
    cache = cache_of(source)
    waiting = asyncio.create_task(cache.get())
    await asyncio.sleep(0.5)

    await cache.aclose()

    with pytest.raises(NotSentError):
        await waiting
    assert asyncio.all_tasks() == tasks


async def test_two_caches_of_one_store_fetch_once() -> None:
    """Two sessions of one key: the second looks again once the first is done."""
    source, store = Source(), LocalTokenStore()
    caches = [TokenCache(store, source.fetch) for _ in range(2)]

    tokens = await asyncio.gather(*(cache.get() for cache in caches))

    assert {token.value for token in tokens} == {"t1"}
    assert source.fetches == 1


async def test_cancelling_a_waiter_leaves_the_fetch_alone() -> None:
    """One of those behind the lock goes; the fetch goes on for the others."""
    source = Source()
    cache = cache_of(source)
    tasks = [asyncio.create_task(cache.get()) for _ in range(3)]
    await asyncio.sleep(0.5)

    tasks[1].cancel()
    got = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(token, Secret) for token in got] == [True, False, True]
    assert source.fetches == 1


async def test_a_failed_fetch_fails_all_who_waited_for_it() -> None:
    """Fifty callers with a wrong key cost one request and learn it at once, not one after the other."""
    source = Source()
    source.error = BadRequestError("no such key", status_code=400)
    cache = cache_of(source)

    got = await asyncio.gather(*(cache.get() for _ in range(50)), return_exceptions=True)

    assert all(isinstance(error, BadRequestError) and error.status_code == 400 for error in got)
    assert len({id(error) for error in got}) == 50, "each raises its own, or their tracebacks would pile up"
    assert source.fetches == 1


async def test_whoever_comes_after_a_failure_tries_again() -> None:
    """A failure is not remembered for those who did not wait for it."""
    source = Source()
    source.error = BadRequestError("down for a moment")
    cache = cache_of(source)
    with pytest.raises(BadRequestError):
        await cache.get()
    source.error = None

    token = await cache.get()

    assert token.value == "t2"


async def test_a_rejected_token_is_fetched_anew_once() -> None:
    """Fifty calls that failed with one stale token evict it once and fetch once."""
    source = Source()
    cache = cache_of(source)
    stale = await cache.get()

    async def again() -> Secret:
        await cache.reject(stale)
        return await cache.get()

    tokens = await asyncio.gather(*(again() for _ in range(50)))

    assert {token.value for token in tokens} == {"t2"}
    assert source.fetches == 2


async def test_a_late_rejection_of_an_old_token_leaves_the_new_one() -> None:
    """A 401 that was long under way does not cost another fetch."""
    source = Source()
    cache = cache_of(source)
    stale = await cache.get()
    await cache.reject(stale)
    fresh = await cache.get()

    await cache.reject(stale)

    assert (await cache.get()).value == fresh.value
    assert source.fetches == 2


async def test_an_idle_token_is_fetched_anew() -> None:
    """After 18 minutes without a use it is not trusted."""
    source = Source()
    cache = cache_of(source)
    await cache.get()

    await asyncio.sleep(18 * 60)
    token = await cache.get()

    assert token.value == "t2"


async def test_no_repr_shows_a_token() -> None:
    """Error reports print what stands in frames."""
    assert "t1" not in repr(Secret("t1"))
