"""What an account holds, as the wire tells it: lists with and without their envelope, and replies that say little."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pico_async._engine.holdings import decode_acknowledged, decode_campaigns, decode_templates
from pico_async._engine.wire import DecodeError, parse
from pico_async.holdings import Acknowledged, Campaign, Listing, Template
from tests.support.reference import replies


def test_the_documented_list_of_campaigns_is_read_whole() -> None:
    """One campaign, its time with its zone, and the `request_id` of the reply."""
    listing = decode_campaigns(parse(replies.CAMPAIGNS))

    assert listing == Listing(
        (
            Campaign(
                "campaign-123",
                "My Campaign",
                "Campaign description",
                datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
            ),
        ),
        replies.REQUEST_ID,
    )
    assert listing[0].created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("payload", [{}, [], None, "OK", 7])
def test_an_acknowledgement_may_say_nothing(payload: object) -> None:
    """The bodies of these replies are not documented, so none is too little."""
    assert decode_acknowledged(payload) == Acknowledged()


def test_an_acknowledgement_keeps_what_it_says() -> None:
    """The definitions suggest a `request_id`; whatever else comes is in `extra`."""
    assert decode_acknowledged({"request_id": "r-1", "id": "t-1"}) == Acknowledged("r-1", extra={"id": "t-1"})


LISTS = [(decode_campaigns, "campaigns", Campaign), (decode_templates, "templates", Template)]
of_both_lists = pytest.mark.parametrize(("read", "name", "model"), LISTS, ids=["campaigns", "templates"])


@of_both_lists
def test_a_list_is_read_in_its_envelope(read: Any, name: str, model: type) -> None:
    """As the reference shows it for campaigns; the other fields of the envelope are kept."""
    listing = read({name: [{"id": "1"}, {"id": "2", "new": 3}], "request_id": "r-1", "total": 2})

    assert listing == Listing((model(id="1"), model(id="2", extra={"new": 3})), "r-1", extra={"total": 2})


@of_both_lists
def test_a_bare_array_is_a_list_too(read: Any, name: str, model: type) -> None:
    """The body of one of the lists is not documented, and an array is what other services send."""
    assert read([{"id": "1"}]) == Listing((model(id="1"),))
    assert read([]) == Listing()


@of_both_lists
@pytest.mark.parametrize("value", [None, {}, "secret", 7, {"0": {"id": "1"}}])
def test_what_holds_no_list_is_a_decode_error(read: Any, name: str, model: type, value: object) -> None:
    """Missing, null or something else: it is not mistaken for an empty list."""
    for payload in (value, {name: value}, {"items": [{"id": "1"}]}):
        with pytest.raises(DecodeError, match=f"^`{name}` is missing or no list$"):
            read(payload)


@of_both_lists
@pytest.mark.parametrize("item", [None, "secret", 7, ["secret"]])
def test_a_list_of_something_else_is_a_decode_error(read: Any, name: str, model: type, item: object) -> None:
    """An item that is no object can be no campaign and no template."""
    with pytest.raises(DecodeError) as caught:
        read({name: [{"id": "1"}, item]})

    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None


@of_both_lists
@pytest.mark.parametrize("value", [1.5, {"a": 1}, ["x"]])
def test_a_lists_request_id_that_cannot_be_read_is_kept_as_it_came(
    read: Any, name: str, model: type, value: object
) -> None:
    """As in every other value, nothing that Pico says is dropped."""
    listing = read({name: [], "request_id": value})

    assert listing.request_id is None
    assert listing.extra == {"request_id": value}
