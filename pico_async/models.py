"""What comes out: frozen values. `extra` contains the fields that v0.4 does not document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeVar, overload

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async._values import SECRET, Value

Item = TypeVar("Item")


def undocumented() -> Any:
    """Return the attrs field for what v0.4 does not document."""
    # Its values may be numbers or texts, so the repr does not show them.
    return field(factory=dict, hash=False, repr=lambda extra: f"<{len(extra)} fields>", kw_only=True)


@boundary
@frozen
class Accepted(Value):
    """
    Pico took the message.

    Whether `request_id` also names the message in a delivery receipt is not documented in v0.4.
    """

    request_id: str
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class UserToken(Value):
    """A token for the `Authorization` header. Neither `repr` nor `to_dict()` contains it."""

    token: str = field(repr=lambda token: f"<{len(token)} characters>", metadata={SECRET: True})
    request_id: str | None = None
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class Acknowledged(Value):
    """
    Pico carried out an update, a deletion or the creation of a template.

    The bodies of these replies are not documented in v0.4; the definitions suggest `MsgInfo`, a `request_id`.
    """

    request_id: str | None = None
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class CreatedCampaign(Value):
    """The campaign was created. The reference defines this reply's `request_id` as the campaign's ID."""

    request_id: str
    extra: Mapping[str, Any] = undocumented()

    @property
    def campaign_id(self) -> str:
        """ID for `campaigns.update`, `campaigns.delete` and `templates.create_…`."""
        return self.request_id


@boundary
@frozen
class Campaign(Value):
    """
    A group of templates.

    A `created_at` that is not an ISO 8601 time is None, and stays in `extra` as it came.
    """

    id: str
    name: str | None = None
    remark: str | None = None
    created_at: datetime | None = None
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class Template(Value):
    """
    A message template.

    The body of the list is not documented in v0.4. The fields are those of the create calls, and each may be None.
    """

    id: str | None = None
    name: str | None = None
    content: str | None = field(default=None, repr=lambda text: "None" if text is None else f"<{len(text)} characters>")
    campaign_id: str | None = None
    media_url: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    extra: Mapping[str, Any] = undocumented()


@boundary
@frozen
class Listing(Value, Sequence[Item]):
    """The campaigns or templates of one reply: a sequence that also has the `request_id`."""

    items: tuple[Item, ...] = ()
    request_id: str | None = None
    extra: Mapping[str, Any] = undocumented()

    # dict() of an empty sequence is {}: FastAPI tries that, and calls vars() only if it fails.
    keys: ClassVar[None] = None

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


@boundary
@frozen
class Balance(Value):
    """The remaining credit, as an exact decimal. Its currency or unit is not documented in v0.4."""

    balance: Decimal
    username: str | None = None
    request_id: str | None = None
    extra: Mapping[str, Any] = undocumented()
