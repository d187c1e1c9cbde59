"""These tests check that the token cache makes one fetch for all callers."""

from __future__ import annotations

import asyncio

import pytest

from pico_async import BadRequestError, NotSentError, PicoError, UserToken
from pico_async.coordination.token_cache import LocalTokenStore, Secret, TokenCache


class Source:
    """A token source that returns t1, t2, … after `takes_s` each, or raises its `error`."""

    def __init__(self) -> None:
        self.fetches = 0
        self.takes_s = 1.0
        self.error: PicoError | None = None

    async def fetch(self) -> UserToken:
        self.fetches += 1
        token = f"t{self.fetches}"
        await asyncio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return UserToken(token)


def cache_of(source: Source, store: LocalTokenStore | None = None) -> TokenCache:
    return TokenCache(store or LocalTokenStore(), source.fetch, longest_s=60)


pytestmark = pytest.mark.virtual_time


async def test_fifty_at_once_cost_one_fetch() -> None:
    """Fifty concurrent callers get the same token from one fetch."""
    source = Source()
    cache = cache_of(source)

    tokens = await asyncio.gather(*(cache.get() for _ in range(50)))

    assert {token.value for token in tokens} == {"t1"}
    assert source.fetches == 1


async def test_cancelling_the_fetching_task_leaves_the_rest_working() -> None:
    """Cancelling the caller that started the fetch does not stop the fetch; the other callers get its token."""
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
    """Callers that time out after 0.4 s do not end the fetch, which takes 1 s. A later caller gets its token."""
    source = Source()
    cache = cache_of(source)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cache.get(), 0.4)

    assert (await asyncio.wait_for(cache.get(), 0.4)).value == "t1"
    assert source.fetches == 1


async def test_closing_ends_a_fetch_under_way() -> None:
    """Closing the cache ends a fetch that is under way. The waiting caller gets NotSentError, and no task remains."""
    source, tasks = Source(), asyncio.all_tasks()
    cache = cache_of(source)
    waiting = asyncio.create_task(cache.get())
    await asyncio.sleep(0.5)

    await cache.aclose()

    with pytest.raises(NotSentError):
        await waiting
    assert asyncio.all_tasks() == tasks


async def test_two_caches_of_one_store_fetch_once() -> None:
    """Two caches of one store make one fetch, because the second cache looks again after the first has finished."""
    source, store = Source(), LocalTokenStore()
    caches = [cache_of(source, store) for _ in range(2)]

    tokens = await asyncio.gather(*(cache.get() for cache in caches))

    assert {token.value for token in tokens} == {"t1"}
    assert source.fetches == 1


async def test_sessions_do_not_wait_for_each_other_s_failures_one_after_the_other() -> None:
    """While Pico gives no token, twenty sessions of one account fail after two fetches at most, not after twenty."""
    source, store, began_at = Source(), LocalTokenStore(), asyncio.get_running_loop().time()
    source.error, source.takes_s = BadRequestError("down for long"), 59
    caches = [cache_of(source, store) for _ in range(20)]

    got = await asyncio.gather(*(cache.get() for cache in caches), return_exceptions=True)

    assert all(isinstance(error, PicoError) for error in got)
    assert source.fetches == 2
    assert asyncio.get_running_loop().time() - began_at < 2 * 60
    source.error = None
    assert (await caches[-1].get()).value == "t3"


async def test_cancelling_a_waiter_leaves_the_fetch_alone() -> None:
    """Cancelling one waiting caller affects neither the fetch nor the other callers."""
    source = Source()
    cache = cache_of(source)
    tasks = [asyncio.create_task(cache.get()) for _ in range(3)]
    await asyncio.sleep(0.5)

    tasks[1].cancel()
    got = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(token, Secret) for token in got] == [True, False, True]
    assert source.fetches == 1


async def test_a_waiter_that_leaves_costs_nothing_for_the_others() -> None:
    """The fetch has one callback for all callers: asyncio searches a task's callbacks for each caller that leaves."""
    cache = cache_of(Source())
    tasks = [asyncio.create_task(cache.get()) for _ in range(50)]
    await asyncio.sleep(0.5)

    assert cache._refreshing is not None
    callbacks = cache._refreshing._callbacks  # type: ignore[attr-defined]
    for task in tasks[:49]:
        task.cancel()
    token = await tasks[49]

    assert len(callbacks) == 1
    assert token.value == "t1"
    assert not cache._waiting


async def test_the_callers_wake_in_the_order_in_which_they_came() -> None:
    """All callers that wait for one fetch go on in the order in which they came, so that their sends do, too."""
    cache, woken = cache_of(Source()), list[int]()

    async def get(number: int) -> None:
        await cache.get()
        woken.append(number)

    await asyncio.gather(*(get(number) for number in range(50)))

    assert woken == list(range(50))


async def test_a_failed_fetch_fails_all_who_waited_for_it() -> None:
    """One failed fetch fails all fifty waiting callers, and each caller gets its own copy of the error."""
    source = Source()
    source.error = BadRequestError("no such key", status_code=400)
    cache = cache_of(source)

    got = await asyncio.gather(*(cache.get() for _ in range(50)), return_exceptions=True)

    assert all(isinstance(error, BadRequestError) and error.status_code == 400 for error in got)
    assert len({id(error) for error in got}) == 50, "each raises its own, or their tracebacks would pile up"
    assert source.fetches == 1


async def test_whoever_comes_after_a_failure_tries_again() -> None:
    """A caller that comes after a failed fetch starts a new fetch."""
    source = Source()
    source.error = BadRequestError("down for a moment")
    cache = cache_of(source)
    with pytest.raises(BadRequestError):
        await cache.get()
    source.error = None

    token = await cache.get()

    assert token.value == "t2"


async def test_a_rejected_token_is_fetched_anew_once() -> None:
    """Fifty calls that reject the same stale token cause one new fetch."""
    source = Source()
    cache = cache_of(source)
    stale = await cache.get()

    async def again() -> Secret:
        await cache.reject(stale)
        return await cache.get()

    tokens = await asyncio.gather(*(again() for _ in range(50)))

    assert {token.value for token in tokens} == {"t2"}
    assert source.fetches == 2


@pytest.mark.parametrize("garbage", ["a\r\nb", "a\x00b", "a b", "a\tb", "", "令牌", "\ud800", "a" * 5000])
async def test_a_stored_token_that_no_header_can_hold_is_fetched_anew(garbage: str) -> None:
    """A token in the store that no header can hold is never handed out; it is discarded, and replaced by one fetch."""
    source, store = Source(), LocalTokenStore()
    cache = TokenCache(store, source.fetch, longest_s=60.0)
    await store.keep(garbage)

    assert await cache.current() is None
    tokens = await asyncio.gather(*(cache.get() for _ in range(10)))

    assert {token.value for token in tokens} == {await store.current()} == {"t1"}
    assert source.fetches == 1


async def test_a_late_rejection_of_an_old_token_leaves_the_new_one() -> None:
    """A late rejection of an old token does not discard the new token and causes no fetch."""
    source = Source()
    cache = cache_of(source)
    stale = await cache.get()
    await cache.reject(stale)
    fresh = await cache.get()

    await cache.reject(stale)

    assert (await cache.get()).value == fresh.value
    assert source.fetches == 2


async def test_an_idle_token_is_fetched_anew() -> None:
    """A token that was not used for 18 minutes is replaced by a new one."""
    source = Source()
    cache = cache_of(source)
    await cache.get()

    await asyncio.sleep(18 * 60)
    token = await cache.get()

    assert token.value == "t2"


async def test_no_repr_shows_a_token() -> None:
    """The repr of a secret does not show the token, because error reports print local variables."""
    assert "t1" not in repr(Secret("t1"))
