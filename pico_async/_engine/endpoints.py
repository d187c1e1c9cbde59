"""The API reference v0.4 as one table: the path, the method and the rate group of each operation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from attrs import field, frozen

from pico_async.coordination.rates import RateGroup
from pico_async.errors import InvalidMessageError, Reason

Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]

_SEGMENT = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._~@+-]{1,128}")


class Endpoint(NamedTuple):
    """
    One documented operation.

    Attributes:
        section: Title of its section in the reference.
        operation: Method of the session, such as "sms.send".
        path: Template of the path. `path_with` fills the names in braces.
        rate_group: MANAGEMENT is the group of all calls without a documented rate.
        sends: It sends a message. So a repeat may send it twice, and a success contains a `request_id`.
    """

    section: str
    operation: str
    method: Method
    path: str
    rate_group: RateGroup = RateGroup.MANAGEMENT
    sends: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether repeating does no harm: it reads, or sets the same values again."""
        return self.method != "POST"

    def path_with(self, **parts: str) -> str:
        """
        Return the path with its parts filled in.

        Raises:
            InvalidMessageError: A part contains a character that could change the path, such as '..', '/' or '?'.
        """
        return self.path.format(**{name: _segment(name, part) for name, part in parts.items()})


def _segment(name: str, part: str) -> str:
    # Quoting is not enough: httpx normalises '/balance/../token/x' to '/token/x'.
    if not isinstance(part, str) or not _SEGMENT.fullmatch(part):
        raise InvalidMessageError(
            f"`{name}` cannot stand in a path: pass 1 to 128 of A-Z, a-z, 0-9, '-', '_', '.', '~', '@' and '+'.",
            argument=name,
            reason=Reason.FORMAT,
        )
    return quote(part, safe="")


@frozen(eq=False, repr=False)
class Request:
    """One request to an endpoint."""

    endpoint: Endpoint
    path: str
    query: Mapping[str, str] = field(factory=dict)
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.endpoint.method} {self.endpoint.path}"


GET_TOKEN = Endpoint("Retrieve JWT Token", "token.get", "GET", "/token/{username}", RateGroup.TOKEN)

CREATE_CAMPAIGN = Endpoint("Create Campaign", "campaigns.create", "POST", "/campaign")
LIST_CAMPAIGNS = Endpoint("List Campaigns", "campaigns.list", "GET", "/campaigns")
UPDATE_CAMPAIGN = Endpoint("Update Campaign", "campaigns.update", "PUT", "/campaign/{campaign_id}")
DELETE_CAMPAIGN = Endpoint("Delete Campaign", "campaigns.delete", "DELETE", "/campaign/{campaign_id}")

CREATE_SMS_TEMPLATE = Endpoint("Create SMS Template", "templates.create_sms", "POST", "/template/sms")
CREATE_MMS_TEMPLATE = Endpoint("Create MMS Template", "templates.create_mms", "POST", "/template/mms")
LIST_TEMPLATES = Endpoint("List Templates", "templates.list", "GET", "/templates")
DELETE_TEMPLATE = Endpoint("Delete Template", "templates.delete", "DELETE", "/template/{template_id}")

SEND_SMS = Endpoint("Send an SMS", "sms.send", "POST", "/sms", RateGroup.SMS, sends=True)
SEND_MMS = Endpoint("Send an MMS", "mms.send", "POST", "/mms", RateGroup.MMS, sends=True)
SEND_VOICE = Endpoint("Send Voice TTS", "voice.send", "POST", "/voice", RateGroup.VOICE, sends=True)

GET_BALANCE = Endpoint("Get Account Balance", "balance.get", "GET", "/balance/{username}", RateGroup.BALANCE)
