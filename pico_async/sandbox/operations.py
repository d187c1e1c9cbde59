"""
The reference as the sandbox reads it: thirteen operations, and what each asks of a request.

This table is written from the reference alone, and on purpose shares nothing with the client's: a misreading has to
be made twice to go unseen.

Source: API reference v0.4, one section each; the section's name stands in `source`.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from attrs import field, frozen

# "The destination number in E.164 format. Example: 8612345678901": every example is digits alone. Whether Pico takes
# a leading "+" is not documented; the sandbox does not.
_E164 = re.compile("[1-9][0-9]{6,14}")
_URL = re.compile(r"https?://[^/\s]+\S*", re.ASCII | re.IGNORECASE)


class Form(Enum):
    """What a string has to look like."""

    TEXT = auto()
    ACCOUNT = auto()
    NUMBER = auto()
    URL = auto()


@frozen
class Field:
    """One body parameter of the reference. An empty string counts as missing where *required*."""

    name: str
    required: bool = False
    longest: int | None = None
    shortest: int = 0
    form: Form = Form.TEXT


@frozen
class Operation:
    """
    One documented operation.

    Attributes:
        name: As "sms.send".
        method: HTTP method.
        path: With `{…}` for path parameters.
        rate: Which rate it is counted under.
        source: The section of the reference.
        fields: Body parameters; None for an operation without a body.
        either: Of these exactly one has to be given.
        authorised: Whether it needs a token; only "Retrieve JWT Token" does not.
    """

    name: str
    method: str
    path: str
    rate: str
    source: str
    fields: tuple[Field, ...] | None = field(default=None, kw_only=True)
    either: tuple[str, ...] = field(default=(), kw_only=True)
    authorised: bool = field(default=True, kw_only=True)


_USERNAME = Field("username", required=True, form=Form.ACCOUNT)
_TO = Field("to", required=True, form=Form.NUMBER)
# The bounds are documented for "Create Campaign"; that they hold for an update too is the sandbox's reading.
_CAMPAIGN_NAME = Field("name", required=True, shortest=1, longest=50)
_CAMPAIGN_REMARK = Field("remark", longest=255)
_TEMPLATE = (
    _USERNAME,
    Field("campaignId", required=True),
    Field("name", required=True),
    Field("content", required=True),
)

OPERATIONS = (
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
        either=("text", "templateId"),
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
    Operation("token.get", "GET", "/token/{username}", "token", "Retrieve JWT Token", authorised=False),
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
        fields=(Field("name", shortest=1, longest=50), _CAMPAIGN_REMARK),
    ),
    Operation("campaigns.delete", "DELETE", "/campaign/{campaign_id}", "management", "Delete Campaign"),
    Operation(
        "templates.create_sms",
        "POST",
        "/template/sms",
        "management",
        "Create SMS Template",
        fields=_TEMPLATE,
    ),
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

SENDS = frozenset({"sms.send", "mms.send", "voice.send"})
NAMES = frozenset(operation.name for operation in OPERATIONS)
RATES = frozenset(operation.rate for operation in OPERATIONS)


def faulty_fields(operation: Operation, body: Mapping[str, Any], *, account: str) -> list[str]:
    """
    Say what is wrong with *body*, one sentence a field; an empty list means that the reference is satisfied.

    *account* is the username that the API key belongs to. Fields that the reference does not list are no fault. A
    field that is null counts as absent.
    """
    errors = []
    for wanted in operation.fields or ():
        error = _fault(wanted, body.get(wanted.name), account)
        if error is not None:
            errors.append(f"{wanted.name}: {error}")
    if operation.either:
        given = sum(bool(body.get(name)) for name in operation.either)
        if given != 1:
            errors.append(f"exactly one of {' and '.join(operation.either)} is required, got {given}.")
    return errors


def _fault(wanted: Field, value: object, account: str) -> str | None:
    if value is None or (value == "" and wanted.required):
        return "required." if wanted.required else None
    if not isinstance(value, str):
        return "must be a string."
    if not wanted.shortest <= len(value) <= (wanted.longest or len(value)):
        return f"must have {wanted.shortest} to {wanted.longest} characters."
    if wanted.form is Form.ACCOUNT and value != account:
        return "does not belong to this API key."
    if wanted.form is Form.NUMBER and not _E164.fullmatch(value):
        return "must be an E.164 number, digits only, as 8612345678901."
    if wanted.form is Form.URL and value and not _URL.fullmatch(value):
        return "must be an http or https URL."
    return None


def unlisted(operation: Operation, body: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the body's fields that the reference does not list for *operation*."""
    listed = {wanted.name for wanted in operation.fields or ()}
    return {name: value for name, value in body.items() if name not in listed}
