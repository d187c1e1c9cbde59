"""The values that resources return are frozen and show no secret, and a listing is a sequence."""

import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from pico_async.models import Accepted, Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template, UserToken
from tests.support.reference.requests import TOKEN

EXTRA = {"phone": "8612345678901", "note": "Your verification code is 1234"}
EXAMPLES: list[Any] = [
    Accepted("r-1", extra=EXTRA),
    Acknowledged("r-1", extra=EXTRA),
    CreatedCampaign("campaign-123", extra=EXTRA),
    Campaign("campaign-123", "My Campaign", None, datetime(2024, 1, 15, 10, 30, tzinfo=UTC), extra=EXTRA),
    Template("template-123", "Verification Code", "Your code is {{code}}", "campaign-123", extra=EXTRA),
    Listing((Campaign("campaign-123"), Campaign("campaign-124")), "r-1", extra=EXTRA),
    Balance(Decimal("1234.56"), "user333", "r-1", extra=EXTRA),
    UserToken(TOKEN, "r-1", extra=EXTRA),
]
of_every_kind = pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)


@of_every_kind
def test_what_pico_adds_is_kept_and_not_shown(value: Any) -> None:
    """Fields that Pico adds are kept in `extra` and never shown, because they may contain a number or a text."""
    shown = repr(value) + str(value)

    assert value.extra == EXTRA
    assert "extra=<2 fields>" in shown
    assert not any(hidden in shown for hidden in (*EXTRA, *EXTRA.values()))


@of_every_kind
def test_a_value_is_frozen(value: Any) -> None:
    """A value that a resource returned cannot be changed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.request_id = "another"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.note = "slots leave no room for more"


@of_every_kind
def test_a_value_survives_a_pickle(value: Any) -> None:
    """A pickled value keeps all its fields, so it can cross process pools and task queues."""
    twin = pickle.loads(pickle.dumps(value))

    assert twin == value
    assert twin.extra == EXTRA


@of_every_kind
def test_extra_cannot_be_given_by_position(value: Any) -> None:
    """`extra` cannot be passed by position, so a later version can add a field without moving the others."""
    fields = [attribute.name for attribute in attrs.fields(type(value)) if attribute.name != "extra"]

    with pytest.raises(TypeError, match="positional"):
        type(value)(*(getattr(value, name) for name in fields), EXTRA)


def test_the_token_is_not_shown() -> None:
    """A `UserToken` shows only the length of its token, because the token is as good as the password."""
    shown = f"{UserToken(TOKEN)!r} {UserToken(TOKEN)}"

    assert TOKEN not in shown
    assert "eyJh" not in shown
    assert f"token=<{len(TOKEN)} characters>" in shown


def test_a_templates_content_is_not_shown() -> None:
    """A template shows only the length of its content, because the content is a message text."""
    shown = repr(Listing((Template("template-123", content="Your code is {{code}}"),)))

    assert "content=<21 characters>" in shown
    assert "code" not in shown
    assert "content=None" in repr(Template("template-123"))


def test_the_id_of_a_created_campaign_is_its_request_id() -> None:
    """The ID of a created campaign is its request ID, as the reference's "Definitions" have it."""
    assert CreatedCampaign("db675a0f-c0ca-46b1-bfc1-abf76663feee").campaign_id == "db675a0f-c0ca-46b1-bfc1-abf76663feee"


def test_a_listing_is_a_sequence() -> None:
    """A listing is indexed, sliced, searched, counted and unpacked like any other sequence."""
    one, two, three = (Campaign(f"campaign-{n}") for n in (1, 2, 3))
    listing = Listing((one, two, three), "r-1")

    assert isinstance(listing, Sequence)
    assert len(listing) == 3
    assert listing[0] is one
    assert listing[-1] is three
    assert listing[1:] == (two, three)
    assert list(listing) == [one, two, three]
    assert list(reversed(listing)) == [three, two, one]
    assert two in listing
    assert Campaign("campaign-4") not in listing
    assert listing.index(three) == 2
    assert listing.count(one) == 1
    assert listing.request_id == "r-1"


def test_a_listing_ends_where_its_items_end() -> None:
    """An index past the end of a listing raises an `IndexError`, and an empty listing is false."""
    with pytest.raises(IndexError):
        Listing((Campaign("campaign-1"),))[1]

    assert not Listing()
    assert Listing((Campaign("campaign-1"),))
    assert list(Listing()) == []


def test_two_values_do_not_share_their_extra() -> None:
    """Each value has its own `extra` dictionary."""
    assert Accepted("r-1").extra is not Accepted("r-1").extra
    assert Accepted("r-1") == Accepted("r-1")
    assert Accepted("r-1") != Accepted("r-1", extra={"new": 1})
