"""
This module transcribes the thirteen operations of the API reference v0.4 and its cURL examples once, in its order.
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

API_KEY = "1O1IQxPv53888888899999000538888888"
TOKEN = "eyJhbGciOiJIUzUxMiJ9..."


@frozen
class Example:
    """
    One cURL example.

    Attributes:
        section: The title of the section that contains it.
        path: Its URL after the base URL.
        filled: The values of the path's parameters in it.
    """

    section: str
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    filled: Mapping[str, str] = field(factory=dict, kw_only=True)


EXAMPLES = (
    Example("Retrieve JWT Token", "GET", "/token/user333", filled={"username": "user333"}),
    Example(
        "Create Campaign",
        "POST",
        "/campaign",
        {
            "username": "user333",
            "name": "Campaign",
            "remark": "Campaign",
        },
    ),
    Example("List Campaigns", "GET", "/campaigns"),
    Example(
        "Update Campaign",
        "PUT",
        "/campaign/campaign-123",
        {"name": "Updated Campaign"},
        filled={"campaign_id": "campaign-123"},
    ),
    Example("Delete Campaign", "DELETE", "/campaign/campaign-123", filled={"campaign_id": "campaign-123"}),
    Example(
        "Create SMS Template",
        "POST",
        "/template/sms",
        {
            "username": "user333",
            "campaignId": "campaign-123",
            "name": "Verification Code",
            "content": "Your code is {{code}}",
        },
    ),
    Example(
        "Create MMS Template",
        "POST",
        "/template/mms",
        {
            "username": "user333",
            "campaignId": "campaign-123",
            "name": "Promo Image",
            "content": "Check out our new product!",
            "mediaUrl": "https://example.com/image.jpg",
        },
    ),
    Example("List Templates", "GET", "/templates"),
    Example("Delete Template", "DELETE", "/template/template-123", filled={"template_id": "template-123"}),
    Example(
        "Send an SMS",
        "POST",
        "/sms",
        {
            "username": "user333",
            "from": "8612345678888",
            "to": "8612345678901",
            "text": "Your verification code is 1234",
            "callback": "https://abcdefg.m.pipedream.net/",
        },
    ),
    Example(
        "Send an MMS",
        "POST",
        "/mms",
        {
            "username": "user333",
            "from": "8612345678888",
            "to": "8612345678901",
            "text": "Check out this image!",
            "mediaUrl": "https://example.com/image.jpg",
        },
    ),
    Example(
        "Send Voice TTS",
        "POST",
        "/voice",
        {
            "username": "user333",
            "to": "8612345678901",
            "text": "Your verification code is 1234",
            "lang": "en-US",
        },
    ),
    Example("Get Account Balance", "GET", "/balance/user333", filled={"username": "user333"}),
)

EXAMPLE = {example.section: example for example in EXAMPLES}
