"""Decode the replies of management calls: lists, and replies whose body is not documented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pico_async._engine.wire import DecodeError, Model, decode, request_id
from pico_async.models import Acknowledged, Campaign, Listing, Template


def decode_acknowledged(payload: object) -> Acknowledged:
    """Return the value of a reply whose body is not documented in v0.4, and which may be empty."""
    return decode(payload if isinstance(payload, Mapping) else {}, Acknowledged)


def decode_campaigns(payload: object) -> Listing[Campaign]:
    return _listing(payload, "campaigns", Campaign)


def decode_templates(payload: object) -> Listing[Template]:
    """
    Return the listing in the reply to "List Templates".

    The body is not documented in v0.4. The list is expected under `templates`, as the other one is under `campaigns`.
    """
    return _listing(payload, "templates", Template)


def _listing(payload: object, name: str, model: type[Model]) -> Listing[Model]:
    fields: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {name: payload}
    items = fields.get(name)
    if not isinstance(items, list):
        raise DecodeError(f"`{name}` is missing or no list")
    known = {name, "request_id"}
    if fields.get("request_id") is not None and request_id(fields) is None:  # an invalid one is kept in `extra`
        known = {name}
    return Listing(
        tuple(decode(item, model) for item in items),
        request_id(fields),
        extra={key: value for key, value in fields.items() if key not in known},
    )
