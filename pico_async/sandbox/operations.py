"""
The reference as a table: thirteen operations, and the fields that each requires.

The table is written from the reference alone and shares nothing with the client's. So a misreading is noticed, unless
it is made twice.

Source: API reference v0.4; the name of each operation's section is in `source`.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from attrs import field, frozen

# "The destination number in E.164 format. Example: 8612345678901": every example has digits alone. Whether Pico accepts
# a leading "+" is not documented; the sandbox refuses it.
_E164 = re.compile("[1-9][0-9]{6,14}")
_URL = re.compile(r"https?://[^/\s]+\S*", re.ASCII | re.IGNORECASE)


class Form(Enum):
    """Form of a string."""

    TEXT = auto()
    ACCOUNT = auto()
    NUMBER = auto()
    URL = auto()


@frozen
class Field:
    """One body parameter of the reference. An empty string counts as missing where *required*."""

    name: str
    required: bool = False
    max_length: int | None = None
    min_length: int = 0
    form: Form = Form.TEXT


@frozen
class Operation:
    """
    One documented operation.

    Attributes:
        rate: Name of the rate that limits it.
        source: Section of the reference.
        fields: Body parameters; None for an operation without a body.
        needs_token: False only for "Retrieve JWT Token".
    """

    name: str
    method: str
    path: str
    rate: str
    source: str
    fields: tuple[Field, ...] | None = field(default=None, kw_only=True)
    exactly_one_of: tuple[str, ...] = field(default=(), kw_only=True)
    needs_token: bool = field(default=True, kw_only=True)


_USERNAME = Field("username", required=True, form=Form.ACCOUNT)
_TO = Field("to", required=True, form=Form.NUMBER)
# The bounds are documented for "Create Campaign" alone; the sandbox applies them to updates, too.
_CAMPAIGN_NAME = Field("name", required=True, min_length=1, max_length=50)
_CAMPAIGN_REMARK = Field("remark", max_length=255)
_TEMPLATE = (
    _USERNAME,
    Field("campaignId", required=True),
    Field("name", required=True),
    Field("content", required=True),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "sms.send",
        "POST",
        "/sms",
        "sms",
        "Send an SMS",
        fields=(
            _USERNAME,
            Field("from", required=True),
            _TO,
            Field("text"),
            Field("templateId"),
            Field("callback", form=Form.URL),
        ),
        exactly_one_of=("text", "templateId"),
    ),
    Operation(
        "mms.send",
        "POST",
        "/mms",
        "mms",
        "Send an MMS",
        fields=(
            _USERNAME,
            Field("from", required=True),
            _TO,
            Field("text"),
            Field("mediaUrl", required=True, form=Form.URL),
        ),
    ),
    Operation(
        "voice.send",
        "POST",
        "/voice",
        "voice",
        "Send Voice TTS",
        fields=(_USERNAME, _TO, Field("text", required=True), Field("lang")),
    ),
    Operation("token.get", "GET", "/token/{username}", "token", "Retrieve JWT Token", needs_token=False),
    Operation("balance.get", "GET", "/balance/{username}", "balance", "Get Account Balance"),
    Operation(
        "campaigns.create",
        "POST",
        "/campaign",
        "management",
        "Create Campaign",
        fields=(_USERNAME, _CAMPAIGN_NAME, _CAMPAIGN_REMARK),
    ),
    Operation("campaigns.list", "GET", "/campaigns", "management", "List Campaigns"),
    Operation(
        "campaigns.update",
        "PUT",
        "/campaign/{campaign_id}",
        "management",
        "Update Campaign",
        fields=(Field("name", min_length=1, max_length=50), _CAMPAIGN_REMARK),
    ),
    Operation("campaigns.delete", "DELETE", "/campaign/{campaign_id}", "management", "Delete Campaign"),
    Operation("templates.create_sms", "POST", "/template/sms", "management", "Create SMS Template", fields=_TEMPLATE),
    Operation(
        "templates.create_mms",
        "POST",
        "/template/mms",
        "management",
        "Create MMS Template",
        fields=(*_TEMPLATE, Field("mediaUrl", form=Form.URL)),
    ),
    Operation("templates.list", "GET", "/templates", "management", "List Templates"),
    Operation("templates.delete", "DELETE", "/template/{template_id}", "management", "Delete Template"),
)

SENDS: frozenset[str] = frozenset({"sms.send", "mms.send", "voice.send"})
NAMES: frozenset[str] = frozenset(operation.name for operation in OPERATIONS)
RATES: frozenset[str] = frozenset(operation.rate for operation in OPERATIONS)


def field_errors(operation: Operation, body: Mapping[str, Any], *, account: str) -> list[str]:
    """
    Return one sentence for each wrong field of *body*; an empty list if the body is as documented.

    Fields that the reference does not list are no errors. A field that is null counts as absent. *account* is the
    username of the API key.
    """
    errors = []
    for spec in operation.fields or ():
        error = _field_error(spec, body.get(spec.name), account)
        if error is not None:
            errors.append(f"{spec.name}: {error}")
    if operation.exactly_one_of:
        given = sum(bool(body.get(name)) for name in operation.exactly_one_of)
        if given != 1:
            errors.append(f"exactly one of {' and '.join(operation.exactly_one_of)} is required, got {given}.")
    return errors


def _field_error(spec: Field, value: object, account: str) -> str | None:
    if value is None or (value == "" and spec.required):
        return "required." if spec.required else None
    if not isinstance(value, str):
        return "must be a string."
    if not spec.min_length <= len(value) <= (spec.max_length or len(value)):
        return f"must have {spec.min_length} to {spec.max_length} characters."
    if spec.form is Form.ACCOUNT and value != account:
        return "does not belong to this API key."
    if spec.form is Form.NUMBER and not _E164.fullmatch(value):
        return "must be an E.164 number, digits only, as 8612345678901."
    if spec.form is Form.URL and value and not _URL.fullmatch(value):
        return "must be an http or https URL."
    return None


def unlisted_fields(operation: Operation, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the body that the reference does not list for *operation*."""
    listed = {spec.name for spec in operation.fields or ()}
    return {name: value for name, value in body.items() if name not in listed}
