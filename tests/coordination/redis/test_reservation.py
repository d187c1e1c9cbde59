"""The reservation policy decides when to request slots, and how many, from what was used and who waits."""

from __future__ import annotations

import pytest

from pico_async.coordination.protocols import Priority
from pico_async.coordination.redis.reservation import REFILL_S, Request, ReservationPolicy

NOW = 1000.0
# Slots in hand, a tenth of a second apart.
FEW = [NOW + 0.1 * number for number in range(1, 5)]


@pytest.mark.parametrize(
    ("slots", "single", "waiting", "wanted"),
    [
        pytest.param([], 2, 2, 2, id="no slot in hand"),
        pytest.param(FEW[:2], 3, 9, 1, id="one slot is missing for single sends"),
    ],
)
def test_single_sends_get_a_slot_each_at_once(slots: list[float], single: int, waiting: int, wanted: int) -> None:
    """For single sends, one slot each is requested at once, whatever else waits."""
    request = ReservationPolicy().next_request(NOW, slots, single=single, waiting=waiting)

    assert request is not None
    assert request.due_at <= NOW
    assert request[:2] == (wanted, Priority.INTERACTIVE)


def test_a_bulk_send_asks_shortly_before_its_last_slot() -> None:
    """A bulk send asks `REFILL_S` before its last slot, and not while it has more than half of the slots it wants."""
    policy = ReservationPolicy()

    request = policy.next_request(NOW, FEW, single=0, waiting=9)

    assert request == Request(5, Priority.BULK, invited=False, due_at=FEW[-1] - REFILL_S)
    assert policy.next_request(NOW, FEW, single=0, waiting=7) is None


def test_a_process_asks_for_more_than_it_used_until_a_slot_expires() -> None:
    """A process asks for a quarter more slots than it used, and for no more than it used after one expired."""
    wanted = []
    for expires in (False, True):
        policy = ReservationPolicy()
        policy.begin(Request(1, Priority.BULK, invited=False, due_at=NOW), NOW)
        for _ in range(100):
            policy.slot_used()
        if expires:
            policy.slot_expired()
        request = policy.next_request(NOW + 1.0, [], single=0, waiting=1)
        assert request is not None
        wanted.append(request.wanted)

    assert wanted == [25, 20]


def test_a_request_waits_for_the_time_for_which_it_was_invited() -> None:
    """An invited request is made at the time that Redis replied, and is invited once."""
    policy = ReservationPolicy()
    policy.invite(Priority.BULK, NOW + 5)

    request = policy.next_request(NOW, [], single=0, waiting=1)
    assert request == Request(1, Priority.BULK, invited=True, due_at=NOW + 5)
    assert repr(policy) == "<ReservationPolicy 0 slots used since the last request, invited: BULK>"
    policy.begin(request, NOW + 5)

    assert policy.next_request(NOW + 6, [], single=0, waiting=1) == request._replace(invited=False)


def test_while_redis_is_away_no_request_is_made() -> None:
    """After a failed call, requests of every priority wait for the end of the pause."""
    policy = ReservationPolicy()

    policy.pause(NOW + 0.5)

    for single in (0, 1):
        request = policy.next_request(NOW, [], single=single, waiting=1)
        assert request is not None
        assert request.due_at == NOW + 0.5
