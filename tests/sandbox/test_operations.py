"""The thirteen operations return what the reference documents, and apply each documented check."""

import json
from decimal import Decimal
from uuid import UUID

import pytest

from pico_async.sandbox import Sandbox
from pico_async.sandbox.operations import OPERATIONS
from tests.sandbox.documented import create_template, is_documented_error


def test_there_are_thirteen_operations() -> None:
    """The table has thirteen operations, as the reference does, each with its own method and path."""
    assert len(OPERATIONS) == 13
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == 13


async def test_sms_as_in_the_reference(connect, unlimited, sms) -> None:
    """The reference's own SMS example is accepted, recorded word for word, and answered with a new request_id alone."""
    pico = await connect(unlimited)
    body = sms(callback="https://abcdefg.m.pipedream.net/")

    replies = [await pico.post("/sms", json=body) for _ in range(2)]

    first, second = (reply.json() for reply in replies)
    assert replies[0].status_code == 200
    assert set(first) == {"request_id"}
    assert UUID(first["request_id"]).version == 4
    assert first["request_id"] != second["request_id"]
    message = unlimited.ledger.accepted[0]
    assert message.request_id == first["request_id"]
    assert (message.kind, message.to, message.sender, message.text, message.callback, message.template_id) == (
        "sms",
        "8612345678901",
        "8612345678888",
        "Your verification code is 1234",
        "https://abcdefg.m.pipedream.net/",
        None,
    )
    assert message.extra == {}


async def test_mms_as_in_the_reference(connect, unlimited, sms) -> None:
    """The reference's own MMS example is accepted and recorded."""
    pico = await connect(unlimited)

    reply = await pico.post("/mms", json=sms(mediaUrl="https://example.com/image.jpg"))

    message = unlimited.ledger.accepted[0]
    assert reply.json() == {"request_id": message.request_id}
    assert (message.kind, message.media_url) == ("mms", "https://example.com/image.jpg")


async def test_mms_needs_no_text(connect, unlimited, sms) -> None:
    """An MMS without `text` is accepted, because the reference does not mark the field as required."""
    pico = await connect(unlimited)

    reply = await pico.post("/mms", json=sms(text=None, mediaUrl="https://example.com/image.jpg"))

    assert reply.status_code == 200


@pytest.mark.parametrize(("lang", "recorded"), [(None, "en-US"), ("zh-CN", "zh-CN")])
async def test_voice_as_in_the_reference(connect, unlimited, lang, recorded) -> None:
    """A voice message needs no `from`, and its `lang` is en-US unless the request sets one."""
    pico = await connect(unlimited)
    body = {"username": "user333", "to": "8612345678901", "text": "Your verification code is 1234"}

    reply = await pico.post("/voice", json={**body, **({"lang": lang} if lang else {})})

    message = unlimited.ledger.accepted[0]
    assert reply.json() == {"request_id": message.request_id}
    assert (message.kind, message.sender, message.lang) == ("voice", None, recorded)


@pytest.mark.parametrize("field", ["username", "from", "to", "text"])
@pytest.mark.parametrize("absent", ["missing", "null", "empty"])
async def test_sms_required_fields(connect, unlimited, sms, field, absent) -> None:
    """An SMS whose required field is missing, null or empty is rejected, and the error names the field."""
    pico = await connect(unlimited)
    body = sms()
    if absent == "missing":
        del body[field]
    else:
        body[field] = None if absent == "null" else ""

    reply = await pico.post("/sms", json=body)

    assert is_documented_error(reply)
    assert field in reply.json()["errors"][0]
    assert unlimited.ledger.accepted == []
    assert unlimited.ledger.arrivals[-1].verdict == "rejected"


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/mms", "username"),
        ("/mms", "from"),
        ("/mms", "to"),
        ("/mms", "mediaUrl"),
        ("/voice", "username"),
        ("/voice", "to"),
        ("/voice", "text"),
        ("/campaign", "username"),
        ("/campaign", "name"),
        ("/template/sms", "username"),
        ("/template/sms", "campaignId"),
        ("/template/sms", "name"),
        ("/template/sms", "content"),
        ("/template/mms", "username"),
        ("/template/mms", "campaignId"),
        ("/template/mms", "name"),
        ("/template/mms", "content"),
    ],
)
async def test_other_required_fields(connect, unlimited, campaign_id, path, missing) -> None:
    """Every other send and creation is rejected without one of its required fields, and passes with all of them."""
    pico = await connect(unlimited)
    body = {
        "username": "user333",
        "from": "8612345678888",
        "to": "8612345678901",
        "text": "1234",
        "mediaUrl": "https://example.com/image.jpg",
        "campaignId": campaign_id,
        "name": "Name",
        "content": "Your code is {{code}}",
    }
    assert (await pico.post(path, json=body)).status_code == 200

    reply = await pico.post(path, json={name: value for name, value in body.items() if name != missing})

    assert is_documented_error(reply)
    assert reply.json()["errors"] == [f"{missing}: required."]


@pytest.mark.parametrize(
    "to",
    [
        "+8612345678901",
        "08612345678",
        "861234",
        "8612345678901234",
        "86 12345678901",
        "86-1234567",
        "abc",
        "86\uff112345678",
    ],
)
@pytest.mark.parametrize("path", ["/sms", "/mms", "/voice"])
async def test_a_destination_is_e164_digits(connect, unlimited, sms, path, to) -> None:
    """A destination is 7 to 15 ASCII digits, the first not 0, without "+", as in all examples of the reference."""
    pico = await connect(unlimited)

    reply = await pico.post(path, json=sms(to=to, mediaUrl="https://example.com/a.jpg"))

    assert is_documented_error(reply)
    assert reply.json()["errors"][0].startswith("to:")


@pytest.mark.parametrize("to", ["8612345", "861234567890123"])
async def test_shortest_and_longest_destination(connect, unlimited, sms, to) -> None:
    """Destinations of 7 and of 15 digits are both accepted."""
    pico = await connect(unlimited)

    assert (await pico.post("/sms", json=sms(to=to))).status_code == 200


async def test_text_and_template_exclude_each_other(connect, unlimited, sms, campaign_id) -> None:
    """An SMS with both `text` and `templateId` is rejected; `templateId` alone is accepted."""
    pico = await connect(unlimited)
    template_id = await create_template(pico, campaign_id)

    assert is_documented_error(await pico.post("/sms", json=sms(templateId=template_id)))
    assert (await pico.post("/sms", json=sms(text=None, templateId=template_id))).status_code == 200
    assert unlimited.ledger.accepted[-1].template_id == template_id
    assert unlimited.ledger.accepted[-1].text is None


async def test_an_unknown_template_is_refused(connect, unlimited, sms) -> None:
    """An unknown `templateId` is answered with 400."""
    pico = await connect(unlimited)

    reply = await pico.post("/sms", json=sms(text=None, templateId="9ca38439-732f-4c88-87c7-0b3eda19dfca"))

    assert is_documented_error(reply)


@pytest.mark.parametrize("status", ["pending", "rejected"])
async def test_a_template_that_is_not_approved_is_refused(connect, sms, status) -> None:
    """A template that is pending or rejected cannot be sent, because the reference requires a "pre-approved" one."""
    sandbox = Sandbox(rate_rule=None, template_status="pending")
    pico = await connect(sandbox)
    campaign = await pico.post("/campaign", json={"username": "user333", "name": "Campaign"})
    template_id = await create_template(pico, campaign.json()["request_id"])
    sandbox.review_template(template_id, status)

    assert is_documented_error(await pico.post("/sms", json=sms(text=None, templateId=template_id)))
    sandbox.review_template(template_id, "approved")
    assert (await pico.post("/sms", json=sms(text=None, templateId=template_id))).status_code == 200


@pytest.mark.parametrize("field", ["username", "from", "to", "text", "callback"])
@pytest.mark.parametrize("value", [8612345678901, True, ["a"], {"a": 1}])
async def test_fields_are_strings(connect, unlimited, sms, field, value) -> None:
    """A body field that is not a string is rejected, because the reference documents strings alone."""
    pico = await connect(unlimited)

    assert is_documented_error(await pico.post("/sms", json=sms(**{field: value})))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_is_a_json_object(connect, unlimited, body) -> None:
    """A body that is no JSON object is answered with 400, never with a crash."""
    pico = await connect(unlimited)

    reply = await pico.post("/sms", content=body, headers={"Content-Type": "application/json"})

    assert is_documented_error(reply)


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "text/json"}])
async def test_a_body_is_declared_as_json(connect, unlimited, sms, headers) -> None:
    """
    A complete JSON body without `Content-Type: application/json` is rejected, because the reference sends this header
    with every body.
    """
    pico = await connect(unlimited)

    reply = await pico.post("/sms", content=json.dumps(sms()), headers=headers)

    assert is_documented_error(reply)
    assert unlimited.ledger.accepted == []


@pytest.mark.parametrize("path", ["/sms", "/mms", "/voice", "/campaign", "/template/sms"])
async def test_another_accounts_username_is_refused(connect, unlimited, sms, path) -> None:
    """A body that names another account is refused."""
    pico = await connect(unlimited)
    body = sms(username="user334", mediaUrl="https://example.com/a.jpg", name="n", campaignId="c", content="c")

    reply = await pico.post(path, json=body)

    assert is_documented_error(reply)
    assert reply.json()["errors"][0].startswith("username:")


@pytest.mark.parametrize("url", ["not a url", "ftp://example.com/a", "https://"])
async def test_urls_are_urls(connect, unlimited, sms, url) -> None:
    """A `callback` or `mediaUrl` that is no HTTP URL is rejected."""
    pico = await connect(unlimited)

    assert is_documented_error(await pico.post("/sms", json=sms(callback=url)))
    assert is_documented_error(await pico.post("/mms", json=sms(mediaUrl=url)))


async def test_unlisted_fields_are_ignored_and_kept(connect, unlimited, sms) -> None:
    """A field that the reference does not list changes nothing, and the ledger shows it."""
    pico = await connect(unlimited)

    assert (await pico.post("/sms", json=sms(priority="high"))).status_code == 200
    assert unlimited.ledger.accepted[0].extra == {"priority": "high"}


async def test_balance_as_in_the_reference(connect, unlimited, sms) -> None:
    """The balance is a decimal string with request_id and username; a message lowers it, a rejected one does not."""
    pico = await connect(unlimited)
    await pico.post("/sms", json=sms())
    await pico.post("/sms", json=sms(to="bad"))

    body = (await pico.get("/balance/user333")).json()

    assert set(body) == {"balance", "request_id", "username"}
    assert body["username"] == "user333"
    assert isinstance(body["balance"], str)
    assert Decimal(body["balance"]) == Decimal("999.999") == unlimited.balance


async def test_balance_of_another_account(connect, unlimited) -> None:
    """The API key cannot read the balance of another account."""
    pico = await connect(unlimited)

    assert is_documented_error(await pico.get("/balance/user334"))


async def test_an_empty_balance_sends_nothing(connect, sms) -> None:
    """A send that the balance cannot pay is answered with 400, which the reference does not document."""
    sandbox = Sandbox(balance=Decimal("0.15"), price=Decimal("0.10"))
    pico = await connect(sandbox)

    replies = [await pico.post("/sms", json=sms()) for _ in range(2)]

    assert replies[0].status_code == 200
    assert is_documented_error(replies[1])
    assert sandbox.balance == Decimal("0.05")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/sms", 405), ("POST", "/sms/", 404), ("POST", "/campaigns", 405)],
)
async def test_a_path_or_method_outside_the_reference_is_refused(connect, unlimited, method, path, status) -> None:
    """A wrong path or method gets the documented error body and no redirect, and is recorded as an arrival."""
    pico = await connect(unlimited)

    reply = await pico.request(method, path)

    assert reply.status_code == status
    assert set(reply.json()) == {"request_id", "errors"}
    assert unlimited.ledger.arrivals[-1].operation == "unknown"


async def test_repeated_submission_is_off_by_default(connect, unlimited, sms) -> None:
    """By default the same body twice makes two messages, because the documented dialect suppresses no duplicates."""
    pico = await connect(unlimited)

    for _ in range(2):
        assert "request_id" in (await pico.post("/sms", json=sms())).json()


async def test_repeated_submission_within_the_window(connect, clock, sms) -> None:
    """The same body within 5 s is suppressed; another body, or the same one 5 s later, is not."""
    sandbox = Sandbox(clock=clock, duplicate_window_s=5.0)
    pico = await connect(sandbox)
    await pico.post("/sms", json=sms())

    clock.advance(4.9)
    repeated = await pico.post("/sms", json=sms())
    other = await pico.post("/sms", json=sms(text="another"))
    clock.advance(0.1)
    later = await pico.post("/sms", json=sms())

    assert repeated.status_code == 200
    assert repeated.json()["code"] == 500
    assert "重复提交" in repeated.json()["msg"]
    assert other.json().keys() == later.json().keys() == {"request_id"}
    assert [arrival.verdict for arrival in sandbox.ledger.arrivals[2:]] == ["duplicate", "accepted", "accepted"]
