"""
The public API as users write it. Nothing here is run: mypy and basedpyright check it, both in strict mode.

A line with `type: ignore` is a mistake that both must find: they report an ignore that is not needed.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, assert_type

from pydantic import BaseModel
from redis.asyncio import Redis

from pico_async import (
    Accepted,
    Acknowledged,
    AiohttpTransport,
    AttemptEnded,
    Balance,
    BulkReport,
    BulkStream,
    CallbackSigner,
    Campaign,
    CreatedCampaign,
    DeliveryReceipt,
    DeliveryStatus,
    Encoding,
    Event,
    InDoubtError,
    Input,
    InvalidMessageError,
    JournalRecord,
    Listener,
    Listing,
    LocalCoordinator,
    Message,
    MmsMessage,
    NotSentError,
    NumberRule,
    OnResult,
    Outcome,
    PhoneNumber,
    PicoError,
    PicoSession,
    Preflight,
    Price,
    Priority,
    Rates,
    Reason,
    RedisCoordinator,
    Segments,
    SendResult,
    SmsMessage,
    SqliteJournal,
    SuppressedError,
    Suppression,
    Template,
    UserToken,
    VoiceMessage,
    destination,
    segments,
)
from pico_async.blocking import BulkStream as BlockingStream, Pico
from pico_async.resources.sms import SmsResource
from pico_async.sandbox import Message as Delivered
from pico_async.testing import PicoSandbox

TO = "8612345678901"


class Order(BaseModel):
    """A model of an app, with values of the package as fields."""

    accepted: Accepted
    phone: PhoneNumber
    national: Annotated[str, NumberRule(region="TW")]


async def values(pico: PicoSession, order: Order) -> Listing[Campaign]:
    assert_type(order.accepted, Accepted)
    assert_type(order.phone, str)
    await pico.sms.send(order.national, "Your code is 1234")
    assert_type(order.accepted.to_dict(), dict[str, Any])
    assert_type(NotSentError("No connection.").to_dict(), dict[str, Any])
    return await pico.campaigns.list()


async def one_message() -> None:
    async with PicoSession(username="user333", api_key="key", sender="8612345678888") as pico:
        assert_type(pico, PicoSession)
        assert_type(pico.sms, SmsResource)
        assert_type(await pico.sms.send(to=TO, text="Your code is 1234"), Accepted)
        assert_type(await pico.sms.send(TO, template_id="7", expires_in=30), Accepted)
        assert_type(await pico.mms.send(to=TO, media_url="https://example.com/a.jpg", text="News"), Accepted)
        assert_type(await pico.send(SmsMessage(TO, "Hello"), priority=Priority.BULK), Accepted)
        accepted = await pico.voice.send(to=TO, text="Your code is 1234")
        assert_type(accepted.request_id, str)


async def mistakes(pico: PicoSession) -> None:
    await pico.sms.send()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await pico.sms.send(TO)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await pico.sms.send(TO, "x", template_id="7")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await pico.sms.sent(to=TO, text="x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await pico.sms.send(to=8612345678901, text="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    PicoSession(rate=30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pico:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


WORDS = {Reason.EMPTY: "Please enter a number.", Reason.TOO_SHORT: "That number is too short."}


async def errors(pico: PicoSession) -> None:
    try:
        await pico.sms.send(to=TO, text="Your code is 1234")
    except InvalidMessageError as error:
        assert_type(error.reason, Reason)
        assert_type(error.argument, str | None)
        print(WORDS.get(error.reason, "That cannot be sent."))
    except (NotSentError, SuppressedError):
        pass
    except InDoubtError as error:
        assert_type(error.outcome, Outcome)
    except PicoError as error:
        assert_type(error.outcome, Outcome)


async def account(pico: PicoSession) -> None:
    balance = await pico.balance.get()
    assert_type(balance, Balance)
    assert_type(balance.balance, Decimal)
    token = await pico.token.get()
    assert_type(token, UserToken)
    await pico.token.ensure()


async def campaigns_and_templates(pico: PicoSession) -> None:
    created = await pico.campaigns.create("spring")
    assert_type(created, CreatedCampaign)
    assert_type(await pico.campaigns.update(created.campaign_id, name="summer"), Acknowledged)
    assert_type(await pico.campaigns.delete(created.campaign_id), Acknowledged)
    campaigns = await pico.campaigns.list()
    assert_type(campaigns, Listing[Campaign])
    for campaign in campaigns:
        assert_type(campaign, Campaign)
        assert_type(campaign.created_at, datetime | None)
    assert_type(campaigns[0], Campaign)
    assert_type(await pico.templates.create_sms(created.campaign_id, "code", "Your code is {{code}}"), Acknowledged)
    templates = await pico.templates.list(campaign_id=created.campaign_id)
    assert_type(templates, Listing[Template])
    assert_type(templates[0:2], tuple[Template, ...])
    assert_type(templates[0].extra.get("reason"), Any | None)


def lines() -> Iterator[Message]:
    yield SmsMessage(TO, "Hello", key="order-1")
    yield MmsMessage(TO, "https://example.com/a.jpg", text="News")
    yield VoiceMessage(TO, "Your code is 1234")


async def rows() -> AsyncIterator[SmsMessage]:
    yield SmsMessage(to=TO, text="Hello")


async def save(result: SendResult) -> None:
    print(result.index, result.key, result.outcome)


async def blast(
    pico: PicoSession, messages: Input, on_result: OnResult, suppression: Suppression, price: Price
) -> BulkReport:
    await pico.preflight(messages, price=price)
    return await pico.send_bulk(messages, on_result=on_result, suppression=suppression)


def session_of(listener: Listener) -> PicoSession:
    return PicoSession(on_event=listener)


async def bulk(pico: PicoSession) -> None:
    report = await pico.send_bulk(lines(), on_result=save, journal="spring.journal", suppression={TO})
    assert_type(report, BulkReport)
    assert_type(report.accepted, int)
    assert_type(report.stopped, str | None)
    await pico.send_bulk(rows(), on_result=print, journal=SqliteJournal("spring.journal"))
    await pico.send_bulk([SmsMessage(TO, "a"), VoiceMessage(TO, "b")], suppression=lambda number: number == TO)

    async with pico.stream_bulk(rows()) as results:
        assert_type(results, BulkStream)
        async for result in results:
            assert_type(result, SendResult)
            assert_type(result.ok, bool)
            assert_type(result.outcome, Outcome)
            assert_type(result.error, PicoError | None)

    checked = await pico.preflight(lines(), price="0.04")
    assert_type(checked, Preflight)


async def journal() -> None:
    for record in await SqliteJournal("spring.journal").in_doubt():
        assert_type(record, JournalRecord)
        assert_type(record.request_id, str | None)


def count() -> None:
    counted = segments("Your code is 1234")
    assert_type(counted, Segments)
    assert_type(counted.encoding, Encoding)
    assert_type(counted.parts, int)
    assert_type(destination("0912-345-678", region="TW"), str)


async def many_processes() -> None:
    redis = Redis.from_url("redis://localhost:6379")  # pyright: ignore[reportUnknownMemberType]
    async with (
        PicoSession(coordinator=RedisCoordinator(redis), rates=Rates(sms=30)),
        PicoSession(coordinator=LocalCoordinator()),
    ):
        pass


def listener(event: Event) -> None:
    if isinstance(event, AttemptEnded):
        assert_type(event.attempt, int)


async def other_transport() -> None:
    async with PicoSession(transport=AiohttpTransport(), on_event=[listener, print]):
        pass


async def receipts(signer: CallbackSigner, receipt: DeliveryReceipt) -> None:
    async with PicoSession(callback_signer=signer):
        assert_type(receipt.status, DeliveryStatus)


async def test_of_an_app(pico_sandbox: PicoSandbox) -> None:
    pico_sandbox.install()
    async with pico_sandbox.session() as pico:
        await pico.sms.send(to=TO, text="Your code is 1234")
    assert_type(pico_sandbox.otp_for(TO), str)
    assert_type(pico_sandbox.sent_to(TO), list[Delivered])


def from_synchronous_code(messages: list[Message]) -> BulkReport:
    with Pico(username="user333", api_key="key", sender="8612345678888") as pico:
        assert_type(pico, Pico)
        assert_type(pico.sms.send(TO, "Your code is 1234", expires_in=120), Accepted)
        assert_type(pico.sms.send(TO, template_id="id"), Accepted)
        assert_type(pico.balance.get(), Balance)
        assert_type(pico.campaigns.list(), Listing[Campaign])
        pico.sms.send(TO)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        with pico.stream_bulk(iter(messages)) as results:
            assert_type(results, BlockingStream)
            for result in results:
                assert_type(result, SendResult)
        return pico.send_bulk(messages, on_result=print, suppression=lambda number: number == TO)
