"""These tests check when the retry quota allows a retry, when it refuses one, and how it refills."""

import random

from pico_async._engine.retry_budget import CAPACITY, RETRY_COST, RetryBudget


def takes(quota: RetryBudget) -> int:
    """Empty the quota, and return how many retries it allowed."""
    taken = 0
    while quota.take():
        taken += 1
    return taken


def lost(share_failing: float, *, retries: int, calls: int) -> int:
    """Count the retries that the quota refuses when each try fails independently with the same probability."""
    quota, chance, held_back = RetryBudget(), random.Random(1), 0
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
    """A new quota allows 100 retries and refuses the next one."""
    quota = RetryBudget()

    assert takes(quota) == 100
    assert not quota.take()


def test_a_retry_that_succeeds_gives_back_what_it_took() -> None:
    """A retry that succeeds returns its cost, so the quota is still full after 1,000 of them."""
    quota = RetryBudget()

    for _ in range(1000):
        assert quota.take()
        quota.give_back(retried=True)

    assert takes(quota) == 100


def test_five_first_successes_earn_one_retry() -> None:
    """Five first tries that succeed earn one retry; four earn none."""
    quota = RetryBudget()
    takes(quota)

    for _ in range(4):
        quota.give_back(retried=False)
    assert not quota.take()
    quota.give_back(retried=False)
    assert takes(quota) == 1


def test_a_hundred_retries_are_the_most_that_can_be_saved() -> None:
    """The quota never holds more than 100 retries, however many calls succeed."""
    quota = RetryBudget()

    for retried in (False, True):
        for _ in range(2 * CAPACITY):
            quota.give_back(retried=retried)

    assert takes(quota) == CAPACITY // RETRY_COST == 100


def test_the_quota_holds_while_less_than_a_third_of_the_tries_fail() -> None:
    """The quota refuses no retry while three in ten tries fail, and many retries when four in ten fail."""
    assert lost(0.3, retries=2, calls=50_000) == 0
    assert lost(0.4, retries=2, calls=50_000) > 1000


def test_in_an_outage_hardly_anything_is_tried_again() -> None:
    """When all of 10,000 calls fail, 50 calls are tried three times and the others once."""
    assert lost(1.0, retries=2, calls=10_000) == 9_950


def test_two_quotas_are_independent() -> None:
    """Emptying one quota takes no retry from another one."""
    one, other = RetryBudget(), RetryBudget()
    takes(one)

    assert takes(other) == 100
