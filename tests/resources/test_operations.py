"""These tests check that the thirteen operations send the requests of the reference and return typed values."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from pico_async import (
    Acknowledged,
    Balance,
    CreatedCampaign,
    InvalidMessageError,
    PicoSession,
    Rates,
    UnexpectedResponseError,
    UserToken,
)
from pico_async.sandbox import Sandbox
from tests.support.endpoints import ENDPOINTS

Operation = Callable[[PicoSession], Awaitable[Any]]

# Each operation with the request that the reference shows for it.
OPERATIONS: list[tuple[str, Operation, str, dict[str, str], dict[str, str] | None]] = [
    ("token.get", lambda pico: pico.token.get(), "GET /token/user333", {}, None),
    (
        "campaigns.create",
        lambda pico: pico.campaigns.create("Campaign", remark="Campaign"),
        "POST /campaign",
        {},
        {"username": "user333", "name": "Campaign", "remark": "Campaign"},
    ),
    ("campaigns.list", lambda pico: pico.campaigns.list(), "GET /campaigns", {}, None),
    (
        "campaigns.update",
        lambda pico: pico.campaigns.update("campaign-123", name="Updated Campaign"),
        "PUT /campaign/campaign-123",
        {},
        {"name": "Updated Campaign"},
    ),
    ("campaigns.delete", lambda pico: pico.campaigns.delete("campaign-123"), "DELETE /campaign/campaign-123", {}, None),
    (
        "templates.create_sms",
        lambda pico: pico.templates.create_sms("campaign-123", "Verification Code", "Your code is {{code}}"),
        "POST /template/sms",
        {},
        {
            "username": "user333",
            "campaignId": "campaign-123",
            "name": "Verification Code",
            "content": "Your code is {{code}}",
        },
    ),
    (
        "templates.create_mms",
        lambda pico: pico.templates.create_mms(
            "campaign-123", "Promo Image", "Check out our new product!", media_url="https://example.com/image.jpg"
        ),
        "POST /template/mms",
        {},
        {
            "username": "user333",
            "campaignId": "campaign-123",
            "name": "Promo Image",
            "content": "Check out our new product!",
            "mediaUrl": "https://example.com/image.jpg",
        },
    ),
    (
        "templates.list",
        lambda pico: pico.templates.list(campaign_id="campaign-123", status="approved"),
        "GET /templates",
        {"campaignId": "campaign-123", "status": "approved"},
        None,
    ),
    ("templates.delete", lambda pico: pico.templates.delete("template-123"), "DELETE /template/template-123", {}, None),
    (
        "sms.send",
        lambda pico: pico.sms.send(
            to="+86 123 4567-8901",
            text="Your verification code is 1234",
            callback="https://abcdefg.m.pipedream.net/",
        ),
        "POST /sms",
        {},
        {
            "username": "user333",
            "from": "8612345678888",
            "to": "8612345678901",
            "text": "Your verification code is 1234",
            "callback": "https://abcdefg.m.pipedream.net/",
        },
    ),
    (
        "sms.send by template",
        lambda pico: pico.sms.send("8612345678901", template_id="9ca38439-732f-4c88-87c7-0b3eda19dfca", sender="PICO"),
        "POST /sms",
        {},
        {
            "username": "user333",
            "from": "PICO",
            "to": "8612345678901",
            "templateId": "9ca38439-732f-4c88-87c7-0b3eda19dfca",
        },
    ),
    (
        "mms.send",
        lambda pico: pico.mms.send("8612345678901", "https://example.com/image.jpg", text="Check out this image!"),
        "POST /mms",
        {},
        {
            "username": "user333",
            "from": "8612345678888",
            "to": "8612345678901",
            "text": "Check out this image!",
            "mediaUrl": "https://example.com/image.jpg",
        },
    ),
    (
        "voice.send",
        lambda pico: pico.voice.send("8612345678901", "Your verification code is 1234"),
        "POST /voice",
        {},
        {
            "username": "user333",
            "to": "8612345678901",
            "text": "Your verification code is 1234",
            "lang": "en-US",
        },
    ),
    ("balance.get", lambda pico: pico.balance.get(), "GET /balance/user333", {}, None),
]

REPLY = {
    "request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca",
    "token": "eyJhbGciOiJIUzUxMiJ9.e.s",
    "campaigns": [],
    "templates": [],
    "balance": "1234.56",
}


def session(transport: httpx.AsyncBaseTransport) -> PicoSession:
    return PicoSession(
        username="user333",
        api_key="sandbox-api-key",
        sender="8612345678888",
        transport=transport,
        rates=Rates(sms=None, token=None, balance=None),
    )


@pytest.mark.parametrize(
    ("operation", "line", "query", "body"), [case[1:] for case in OPERATIONS], ids=[case[0] for case in OPERATIONS]
)
async def test_the_request_is_the_reference_s(
    operation: Operation, line: str, query: dict[str, str], body: dict[str, str] | None
) -> None:
    """Each operation sends exactly the method, path, query, headers and body of the reference's example."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=REPLY)

    async with session(httpx.MockTransport(answer)) as pico:
        await operation(pico)

    request = requests[-1]
    assert f"{request.method} {request.url.path}" == line
    assert dict(request.url.params) == query
    assert request.headers["x-api-key"] == "sandbox-api-key"
    assert ("authorization" in request.headers) == (not line.startswith("GET /token/"))
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers.get("content-type") == (None if body is None else "application/json; charset=utf-8")


def test_every_operation_of_the_table_has_a_method_that_uses_it() -> None:
    """Each of the thirteen endpoints is used by an operation in the list above."""
    used = {
        line.replace("user333", "{username}").replace("campaign-123", "{campaign_id}") for *_, line, _, _ in OPERATIONS
    }

    table = {f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS}

    assert len(table) == 13
    assert table == {line.replace("template-123", "{template_id}") for line in used}


async def test_a_campaign_s_life_against_an_independent_reading_of_the_reference() -> None:
    """
    A campaign and its templates can be created, changed, listed, used and deleted on the sandbox.

    The sandbox is an independent implementation of the reference.
    """
    sandbox = Sandbox()

    async with session(sandbox.transport()) as pico:
        created = await pico.campaigns.create("Spring", remark="")
        await pico.campaigns.update(created.campaign_id, name="Summer")
        (campaign,) = await pico.campaigns.list()
        await pico.templates.create_sms(campaign.id, "code", "Your code is {{code}}")
        await pico.templates.create_mms(campaign.id, "image", "Look", media_url="https://example.com/a.jpg")
        templates = await pico.templates.list(campaign_id=campaign.id)
        sent = await pico.sms.send("8612345678901", template_id=templates[0].id)
        for template in templates:
            assert template.id is not None
            await pico.templates.delete(template.id)
        left = await pico.templates.list()
        await pico.campaigns.delete(campaign.id)
        empty = await pico.campaigns.list()

    assert isinstance(created, CreatedCampaign)
    assert (campaign.id, campaign.name, campaign.remark) == (created.campaign_id, "Summer", "")
    assert campaign.created_at is not None
    assert campaign.created_at.tzinfo is not None
    assert [template.name for template in templates] == ["code", "image"]
    assert templates[0].campaign_id == campaign.id
    assert templates[1].media_url == "https://example.com/a.jpg"
    assert sandbox.ledger.sent_to("8612345678901")[0].request_id == sent.request_id
    assert len(left) == len(empty) == 0


async def test_balance_and_token_are_values() -> None:
    """The balance is an exact Decimal, and the repr of a token does not show the token."""
    sandbox = Sandbox(balance=Decimal("1234.56"))

    async with session(sandbox.transport()) as pico:
        balance = await pico.balance.get()
        token = await pico.token.get()

    assert isinstance(balance, Balance)
    assert (balance.balance, balance.username) == (Decimal("1234.56"), "user333")
    assert isinstance(token, UserToken)
    assert token.token not in repr(token)


async def test_a_token_is_ensured_once() -> None:
    """Calling `token.ensure()` twice fetches one token."""
    sandbox = Sandbox()

    async with session(sandbox.transport()) as pico:
        await pico.token.ensure()
        await pico.token.ensure()
        await pico.balance.get()

    assert sandbox.ledger.token_requests == 1


async def test_created_at_is_a_moment_and_unknown_fields_are_kept() -> None:
    """`created_at` is a datetime with time zone, and unknown fields are kept in `extra`."""
    campaign = {"id": "campaign-123", "name": "My Campaign", "created_at": "2024-01-15T10:30:00Z", "new": 1}

    async with session(
        httpx.MockTransport(lambda _: httpx.Response(200, json=REPLY | {"campaigns": [campaign], "page": 1}))
    ) as pico:
        listing = await pico.campaigns.list()

    assert listing[0].created_at == datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    assert listing[0].extra == {"new": 1}
    assert listing.extra["page"] == 1
    assert listing.request_id == REPLY["request_id"]


@pytest.mark.parametrize("spelling", [{"campaignId": "c", "mediaUrl": "u"}, {"campaign_id": "c", "media_url": "u"}])
async def test_a_template_is_read_in_either_spelling(spelling: dict[str, str]) -> None:
    """
    A template in a list is decoded from camelCase and from snake_case names.

    The reference does not document this list and uses both spellings elsewhere.
    """
    reply = REPLY | {"templates": [{"id": "t"} | spelling]}

    async with session(httpx.MockTransport(lambda _: httpx.Response(200, json=reply))) as pico:
        (template,) = await pico.templates.list()

    assert (template.campaign_id, template.media_url, template.extra) == ("c", "u", {})


async def test_an_update_may_answer_nothing() -> None:
    """
    An update or a deletion may have an empty reply, because the reference v0.4 does not document its body.

    A creation may not.
    """

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=REPLY) if "token" in request.url.path else httpx.Response(204)

    async with session(httpx.MockTransport(answer)) as pico:
        assert await pico.campaigns.update("c", name="n") == Acknowledged()
        assert await pico.templates.delete("t") == Acknowledged()
        with pytest.raises(UnexpectedResponseError):
            await pico.campaigns.create("n")


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda pico: pico.campaigns.create(""), "`name`"),
        (lambda pico: pico.campaigns.create("n" * 51), "`name`"),
        (lambda pico: pico.campaigns.create("n", remark="r" * 256), "`remark`"),
        (lambda pico: pico.campaigns.create(None), "`name`"),
        (lambda pico: pico.campaigns.update("c"), "`name`"),
        (lambda pico: pico.campaigns.update("c", name=""), "`name`"),
        (lambda pico: pico.campaigns.update("../sms", name="n"), "`campaign_id`"),
        (lambda pico: pico.campaigns.delete(".."), "`campaign_id`"),
        (lambda pico: pico.campaigns.delete("a/b"), "`campaign_id`"),
        (lambda pico: pico.campaigns.delete(""), "`campaign_id`"),
        (lambda pico: pico.templates.delete("a?b"), "`template_id`"),
        (lambda pico: pico.templates.create_sms("", "n", "c"), "`campaign_id`"),
        (lambda pico: pico.templates.create_sms("c", "n", ""), "`content`"),
        (lambda pico: pico.templates.create_mms("c", "n", "c", media_url="x"), "`media_url`"),
        (lambda pico: pico.templates.list(status=""), "`status`"),
        (lambda pico: pico.sms.send("8612345678901"), "`text`"),
        (lambda pico: pico.sms.send("8612345678901", "a", template_id="b"), "`template_id`"),
        (lambda pico: pico.sms.send("0", "a"), "`to`"),
        (lambda pico: pico.mms.send("8612345678901", "ftp://a"), "`media_url`"),
        (lambda pico: pico.voice.send("8612345678901", ""), "`text`"),
    ],
)
async def test_a_bad_argument_is_refused_before_anything_is_sent(operation: Operation, named: str) -> None:
    """A bad argument is refused by name before any request is sent, the token request included."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    async with session(httpx.MockTransport(answer)) as pico:
        with pytest.raises(InvalidMessageError, match=named):
            await operation(pico)


@pytest.mark.parametrize("length", [1, 50])
async def test_the_longest_and_the_shortest_name_are_taken(length: int) -> None:
    """The client and the sandbox accept names of 1 and 50 characters and remarks of 0 and 255 characters."""
    async with session(Sandbox().transport()) as pico:
        await pico.campaigns.create("字" * length, remark="r" * (255 if length > 1 else 0))
