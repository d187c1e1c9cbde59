"""The quota of retries: what it lets through, what it holds back, and how it recovers."""

import random

from pico_async._engine.quota import CAPACITY, RETRY_COST, RetryQuota


def takes(quota: RetryQuota) -> int:
    """Empty it, and say how many retries that were."""
    taken = 0
    while quota.take():
        taken += 1
    return taken


def lost(share_failing: float, *, retries: int, calls: int) -> int:
    """Say how many retries are held back where each try fails by itself."""
    quota, chance, held_back = RetryQuota(), random.Random(1), 0
    for _ in range(calls):
        tries = 0
        while True:
            if chance.random() >= share_failing:
                quota.give_back(retried=tries > 0)
                break
            tries += 1
            if tries > retries:
                break
            if not quota.take():
                held_back += 1
                break
    return held_back


def test_a_hundred_retries_may_be_under_way() -> None:
    """The hundred and first is held back, and so is each that comes after it."""
    quota = RetryQuota()

    assert takes(quota) == 100
    assert not quota.take()


def test_a_retry_that_succeeds_gives_back_what_it_took() -> None:
    """Whatever is refused once and then taken costs nothing in the end."""
    quota = RetryQuota()

    for _ in range(1000):
        assert quota.take()
        quota.give_back(retried=True)

    assert takes(quota) == 100


def test_five_first_successes_earn_one_retry() -> None:
    """Four do not."""
    quota = RetryQuota()
    takes(quota)

    for _ in range(4):
        quota.give_back(retried=False)
    assert not quota.take()
    quota.give_back(retried=False)
    assert takes(quota) == 1


def test_a_hundred_retries_are_the_most_that_can_be_saved() -> None:
    """A million good calls must not pay for an outage to come."""
    quota = RetryQuota()

    for retried in (False, True):
        for _ in range(2 * CAPACITY):
            quota.give_back(retried=retried)

    assert takes(quota) == CAPACITY // RETRY_COST == 100


def test_the_quota_holds_while_less_than_a_third_of_the_tries_fail() -> None:
    """As its numbers say: three in ten hold back nothing, four in ten soon do."""
    assert lost(0.3, retries=2, calls=50_000) == 0
    assert lost(0.4, retries=2, calls=50_000) > 1000


def test_in_an_outage_hardly_anything_is_tried_again() -> None:
    """Of ten thousand calls that all fail, fifty are tried three times, and the others once."""
    assert lost(1.0, retries=2, calls=10_000) == 9_950


def test_each_session_has_its_own() -> None:
    """Two quotas are two, also when they hold the same."""
    one, other = RetryQuota(), RetryQuota()
    takes(one)

    assert other.take()
    assert RetryQuota() != RetryQuota()
