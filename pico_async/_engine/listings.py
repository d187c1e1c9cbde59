"""What an account holds, as the wire tells it: lists, and the replies that say little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pico_async._engine.wire import DecodeError, Model, decode, request_id
from pico_async.models import Acknowledged, Campaign, Listing, Template


def decode_acknowledged(payload: object) -> Acknowledged:
    """Make a value of a reply whose body is not documented in v0.4; there may be none to speak of."""
    return decode(payload if isinstance(payload, Mapping) else {}, Acknowledged)


def decode_campaigns(payload: object) -> Listing[Campaign]:
    """Make a listing of the reply to "List Campaigns"."""
    return _listing(payload, "campaigns", Campaign)


def decode_templates(payload: object) -> Listing[Template]:
    """
    Make a listing of the reply to "List Templates".

    The body is not documented in v0.4: `templates` is looked for, as `campaigns` is named in the other list.
    """
    return _listing(payload, "templates", Template)


def _listing(payload: object, name: str, model: type[Model]) -> Listing[Model]:
    fields: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {name: payload}
    items = fields.get(name)
    if not isinstance(items, list):
        raise DecodeError(f"`{name}` is missing or no list")
    known = {name} if fields.get("request_id") is not None and request_id(fields) is None else {name, "request_id"}
    return Listing(
        tuple(decode(item, model) for item in items),
        request_id(fields),
        extra={key: value for key, value in fields.items() if key not in known},
    )
