"""A FastAPI handler returns what an operation returned, and takes messages and numbers as it takes any other type."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI
from pydantic import BaseModel

from pico_async import (
    Accepted,
    Acknowledged,
    Balance,
    BulkReport,
    Campaign,
    CreatedCampaign,
    Listing,
    Message,
    NumberRule,
    PhoneNumber,
    PicoSession,
    Preflight,
    Segments,
    SendResult,
    SmsMessage,
    Template,
    UserToken,
    VoiceMessage,
    segments,
)
from pico_async.integrations.fastapi import PicoDep, handle_errors, pico_lifespan
from pico_async.sandbox import Sandbox
from tests.integrations.web_apps import NUMBER, TEXT, serving

pytestmark = pytest.mark.lower_bounds


class Order(BaseModel):
    """A model of the app's own that has values as fields."""

    accepted: Accepted
    balance: Balance


def make_app(sandbox: Sandbox) -> FastAPI:
    def make() -> PicoSession:
        return PicoSession(
            username=sandbox.username,
            api_key=sandbox.api_key,
            sender="PICO",
            base_url="https://pico-sandbox.invalid",
            transport=sandbox.transport(),
        )

    app = FastAPI(lifespan=pico_lifespan(make))
    handle_errors(app)

    @app.post("/sms")
    async def sms(pico: PicoDep) -> Accepted:
        return await pico.sms.send(NUMBER, TEXT)

    @app.post("/mms")
    async def mms(pico: PicoDep) -> Accepted:
        return await pico.mms.send(NUMBER, "https://example.com/image.jpg")

    @app.post("/voice")
    async def voice(pico: PicoDep) -> Accepted:
        return await pico.voice.send(NUMBER, TEXT)

    @app.post("/campaigns")
    async def create_campaign(pico: PicoDep) -> CreatedCampaign:
        return await pico.campaigns.create("Orders")

    @app.get("/campaigns")
    async def campaigns(pico: PicoDep) -> Listing[Campaign]:
        return await pico.campaigns.list()

    @app.put("/campaign")
    async def update_campaign(pico: PicoDep) -> Acknowledged:
        return await pico.campaigns.update((await pico.campaigns.list())[0].id, name="Bills")

    @app.delete("/campaign")
    async def delete_campaign(pico: PicoDep) -> Acknowledged:
        return await pico.campaigns.delete((await pico.campaigns.list())[0].id)

    @app.post("/templates/sms")
    async def sms_template(pico: PicoDep) -> Acknowledged:
        campaign = await pico.campaigns.create("Codes")
        return await pico.templates.create_sms(campaign.campaign_id, "Verification Code", "Your code is {{code}}")

    @app.post("/templates/mms")
    async def mms_template(pico: PicoDep) -> Acknowledged:
        campaign = await pico.campaigns.create("Images")
        return await pico.templates.create_mms(campaign.campaign_id, "Promo Image", "Check out our new product!")

    @app.get("/templates")
    async def templates(pico: PicoDep) -> Listing[Template]:
        return await pico.templates.list()

    @app.delete("/template")
    async def delete_template(pico: PicoDep) -> Acknowledged:
        return await pico.templates.delete((await pico.templates.list())[0].id or "")

    @app.get("/balance")
    async def balance(pico: PicoDep) -> Balance:
        return await pico.balance.get()

    @app.get("/token")
    async def token(pico: PicoDep) -> UserToken:
        return await pico.token.get()

    @app.post("/bulk")
    async def bulk(pico: PicoDep) -> BulkReport:
        return await pico.send_bulk([SmsMessage(NUMBER, TEXT), SmsMessage("99900000018", TEXT)])

    @app.post("/results")
    async def results(pico: PicoDep) -> list[SendResult]:
        async with pico.stream_bulk([SmsMessage(NUMBER, TEXT), VoiceMessage(NUMBER, TEXT)]) as stream:
            return [result async for result in stream]

    @app.post("/preflight")
    async def preflight(pico: PicoDep) -> Preflight:
        return await pico.preflight([SmsMessage(NUMBER, TEXT)], price=Decimal("0.04"))

    @app.get("/segments")
    async def parts() -> Segments:
        return segments(TEXT)

    @app.post("/order")
    async def order(pico: PicoDep) -> Order:
        return Order(accepted=await pico.sms.send(NUMBER, TEXT), balance=await pico.balance.get())

    return app


# Each path, in an order in which a list has what is deleted.
OPERATIONS = [
    ("post", "/sms"),
    ("post", "/mms"),
    ("post", "/voice"),
    ("post", "/campaigns"),
    ("get", "/campaigns"),
    ("put", "/campaign"),
    ("delete", "/campaign"),
    ("post", "/templates/sms"),
    ("post", "/templates/mms"),
    ("get", "/templates"),
    ("delete", "/template"),
    ("get", "/balance"),
    ("get", "/token"),
    ("post", "/bulk"),
    ("post", "/results"),
    ("post", "/preflight"),
    ("get", "/segments"),
    ("post", "/order"),
]


@pytest.fixture
async def sandbox() -> Sandbox:
    return Sandbox(rate_rule=None)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(make_app(sandbox)) as url,
        httpx.AsyncClient(base_url=url, verify=False, timeout=60) as client,
    ):
        yield client


async def test_what_each_operation_returns_can_be_returned(client: httpx.AsyncClient) -> None:
    """A handler that returns what an operation returned answers 200, with a reply that its schema describes."""
    schemas = (await client.get("/openapi.json")).json()
    for method, path in OPERATIONS:
        reply = await client.request(method, path)

        assert reply.status_code == 200, (path, reply.text)
        described = schemas["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        listed = reply.json() if isinstance(reply.json(), list) else [reply.json()]
        schema = described.get("items", described)
        fields = schemas["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        for each in listed:
            assert set(each) == set(fields), path
        assert "eyJ" not in json.dumps(reply.json())


async def test_it_can_be_returned_without_an_annotation(sandbox: Sandbox) -> None:
    """A handler without a response model answers with `to_dict()`, also for an empty listing, never with a token."""
    app = FastAPI()
    values: dict[str, Any] = {
        "accepted": Accepted("r-1", extra={"price": Decimal("0.040")}),
        "nothing": Listing(),
        "listing": Listing((Campaign("campaign-123"),)),
        "token": UserToken("a-token"),
        "segments": segments(TEXT),
        "several": [Accepted("r-1"), Balance(Decimal("1.50"))],
    }

    @app.get("/{name}")
    async def value(name: str):  # type: ignore[no-untyped-def]
        return values[name]

    async with serving(app) as url, httpx.AsyncClient(base_url=url, verify=False) as client:
        replies = {name: (await client.get(name)).json() for name in values}

    assert replies.pop("several") == [each.to_dict() for each in values.pop("several")]
    assert replies == {name: each.to_dict() for name, each in values.items()}


async def test_messages_and_numbers_are_request_bodies(sandbox: Sandbox) -> None:
    """A body becomes a message or a normalised number, and what is wrong with it is a 422 that names the field."""
    app = FastAPI()
    taken: list[object] = []

    @app.post("/messages")
    async def message(message: Annotated[Message, Body()]) -> None:
        taken.append(message)

    @app.post("/batches")
    async def batch(messages: list[SmsMessage]) -> None:
        taken.extend(messages)

    @app.post("/numbers")
    async def number(phone: Annotated[PhoneNumber, Body(embed=True)]) -> None:
        taken.append(phone)

    @app.get("/numbers")
    async def national(phone: Annotated[str, NumberRule(region="TW")]) -> None:
        taken.append(phone)

    async with serving(app) as url, httpx.AsyncClient(base_url=url, verify=False) as client:
        sms = {"to": f"+{NUMBER}", "text": TEXT}
        await client.post("/messages", json=sms)
        await client.post("/messages", json={**sms, "lang": "zh-CN"})
        await client.post("/batches", json=[sms])
        await client.post("/numbers", json={"phone": "+886 912-345-678"})
        await client.get("/numbers", params={"phone": "0912 345 678"})
        refused = await client.post("/batches", json=[sms, {"to": "123", "text": TEXT}])
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]

    assert taken == [
        SmsMessage(NUMBER, TEXT),
        VoiceMessage(NUMBER, TEXT, "zh-CN"),
        SmsMessage(NUMBER, TEXT),
        "886912345678",
        "886912345678",
    ]
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", 1, "to"]
    assert refused.json()["detail"][0]["msg"].startswith("`to` has 3 digits")
    assert schemas["SmsMessage"]["required"] == ["to"]
