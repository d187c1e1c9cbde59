"""These tests check how replies that list or acknowledge campaigns and templates are decoded."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pico_async._engine.listings import decode_acknowledged, decode_campaigns, decode_templates
from pico_async._engine.wire import DecodeError, parse
from pico_async.models import Acknowledged, Campaign, Listing, Template
from tests.support.reference import replies


def test_the_documented_list_of_campaigns_is_read_whole() -> None:
    """The documented list of campaigns is decoded completely, with the time zone and the `request_id`."""
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
    """An empty or unexpected body is a valid acknowledgement, because the reference does not document these bodies."""
    assert decode_acknowledged(payload) == Acknowledged()


def test_an_acknowledgement_keeps_what_it_says() -> None:
    """An acknowledgement keeps the `request_id`, and it keeps every other field of the reply in `extra`."""
    assert decode_acknowledged({"request_id": "r-1", "id": "t-1"}) == Acknowledged("r-1", extra={"id": "t-1"})


LISTS = [(decode_campaigns, "campaigns", Campaign), (decode_templates, "templates", Template)]
of_both_lists = pytest.mark.parametrize(("read", "name", "model"), LISTS, ids=["campaigns", "templates"])


@of_both_lists
def test_a_list_is_read_in_its_envelope(read: Any, name: str, model: type) -> None:
    """A list is read from an envelope like the one documented for campaigns; `extra` keeps its other fields."""
    listing = read({name: [{"id": "1"}, {"id": "2", "new": 3}], "request_id": "r-1", "total": 2})

    assert listing == Listing((model(id="1"), model(id="2", extra={"new": 3})), "r-1", extra={"total": 2})


@of_both_lists
def test_a_bare_array_is_a_list_too(read: Any, name: str, model: type) -> None:
    """A bare array is also read as a list, because the reference does not document the body of one of the lists."""
    assert read([{"id": "1"}]) == Listing((model(id="1"),))
    assert read([]) == Listing()


@of_both_lists
@pytest.mark.parametrize("value", [None, {}, "secret", 7, {"0": {"id": "1"}}])
def test_what_holds_no_list_is_a_decode_error(read: Any, name: str, model: type, value: object) -> None:
    """A reply whose list is missing, null or of another type raises DecodeError; it is not read as an empty list."""
    for payload in (value, {name: value}, {"items": [{"id": "1"}]}):
        with pytest.raises(DecodeError, match=f"^`{name}` is missing or no list$"):
            read(payload)


@of_both_lists
@pytest.mark.parametrize("item", [None, "secret", 7, ["secret"]])
def test_a_list_of_something_else_is_a_decode_error(read: Any, name: str, model: type, item: object) -> None:
    """A list item that is no JSON object raises DecodeError, and the error does not contain the item."""
    with pytest.raises(DecodeError) as caught:
        read({name: [{"id": "1"}, item]})

    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None


@of_both_lists
@pytest.mark.parametrize("value", [1.5, {"a": 1}, ["x"]])
def test_a_lists_request_id_that_cannot_be_read_is_kept_as_it_came(
    read: Any, name: str, model: type, value: object
) -> None:
    """A `request_id` of a wrong type is kept in `extra`, so no field of the reply is lost."""
    listing = read({name: [], "request_id": value})

    assert listing.request_id is None
    assert listing.extra == {"request_id": value}
