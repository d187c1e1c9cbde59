"""
Asyncio client for the Pico Cloud REST API v0.4 that knows, for every message, whether it went out.

    async with PicoSession(username="user333", api_key="…", sender="8612345678888") as pico:
        accepted = await pico.sms.send(to="8612345678901", text="Your code is 1234")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pico_async._version import __version__

if TYPE_CHECKING:
    from pico_async._engine.aiohttp_carrier import AiohttpTransport as AiohttpTransport
    from pico_async.bulk.journal import Journal, JournalRecord, JournalState
    from pico_async.bulk.preflight import Preflight, preflight
    from pico_async.bulk.report import BulkReport, SendResult
    from pico_async.bulk.sender import BulkStream
    from pico_async.bulk.sqlite_journal import SqliteJournal
    from pico_async.callbacks import CallbackSigner
    from pico_async.coordination import Coordinator, Priority, TokenStore
    from pico_async.coordination.fleet import FleetCoordinator, Identity
    from pico_async.coordination.local import LocalCoordinator
    from pico_async.coordination.rates import Rates
    from pico_async.coordination.redis import RedisCoordinator as RedisCoordinator
    from pico_async.errors import (
        AuthenticationError,
        BadRequestError,
        BulkError,
        ConfigurationError,
        ExpectationFailedError,
        InDoubtError,
        InvalidMessageError,
        JournalError,
        MessageExpiredError,
        NoResponseError,
        NotInDoubtError,
        NotSentError,
        Outcome,
        PicoError,
        RateLimitError,
        RejectedError,
        ServerError,
        SuppressedError,
        UnexpectedResponseError,
    )
    from pico_async.events import (
        AttemptEnded,
        AttemptStarted,
        BlastEnded,
        BlastStarted,
        CallEnded,
        CallStarted,
        Event,
        RateRefused,
        Retrying,
        TokenRefreshed,
        TurnTaken,
    )
    from pico_async.grants import Accepted, UserToken
    from pico_async.holdings import Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template
    from pico_async.integrations.receipt_desk import ReceiptDesk
    from pico_async.integrations.receipt_memory import ReceiptMemory
    from pico_async.integrations.redis_receipts import RedisReceiptMemory as RedisReceiptMemory
    from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
    from pico_async.numbers import destination
    from pico_async.receipts import DeliveryReceipt, DeliveryStatus
    from pico_async.segmentation import Encoding, Segments, segments
    from pico_async.session import PicoSession
    from pico_async.settings import DEFAULT_BASE_URL, WHITELIST_BASE_URL

__all__ = [
    "DEFAULT_BASE_URL",
    "WHITELIST_BASE_URL",
    "Accepted",
    "Acknowledged",
    "AttemptEnded",
    "AttemptStarted",
    "AuthenticationError",
    "BadRequestError",
    "Balance",
    "BlastEnded",
    "BlastStarted",
    "BulkError",
    "BulkReport",
    "BulkStream",
    "CallEnded",
    "CallStarted",
    "CallbackSigner",
    "Campaign",
    "ConfigurationError",
    "Coordinator",
    "CreatedCampaign",
    "DeliveryReceipt",
    "DeliveryStatus",
    "Encoding",
    "Event",
    "ExpectationFailedError",
    "FleetCoordinator",
    "Identity",
    "InDoubtError",
    "InvalidMessageError",
    "Journal",
    "JournalError",
    "JournalRecord",
    "JournalState",
    "Listing",
    "LocalCoordinator",
    "Message",
    "MessageExpiredError",
    "MmsMessage",
    "NoResponseError",
    "NotInDoubtError",
    "NotSentError",
    "Outcome",
    "PicoError",
    "PicoSession",
    "Preflight",
    "Priority",
    "RateLimitError",
    "RateRefused",
    "Rates",
    "ReceiptDesk",
    "ReceiptMemory",
    "RejectedError",
    "Retrying",
    "Segments",
    "SendResult",
    "ServerError",
    "SmsMessage",
    "SqliteJournal",
    "SuppressedError",
    "Template",
    "TokenRefreshed",
    "TokenStore",
    "TurnTaken",
    "UnexpectedResponseError",
    "UserToken",
    "VoiceMessage",
    "__version__",
    "destination",
    "preflight",
    "segments",
]


# All are imported by their first use. Who blasts nothing loads no blast, and what needs an extra is not in `__all__`.
# pytest imports the package in each run of whoever has it installed, because of the plugin: that must cost nothing.
_LATER = {
    "DEFAULT_BASE_URL": "pico_async.settings",
    "WHITELIST_BASE_URL": "pico_async.settings",
    "Accepted": "pico_async.grants",
    "Acknowledged": "pico_async.holdings",
    "AiohttpTransport": "pico_async._engine.aiohttp_carrier",
    "AttemptEnded": "pico_async.events",
    "AttemptStarted": "pico_async.events",
    "AuthenticationError": "pico_async.errors",
    "BadRequestError": "pico_async.errors",
    "Balance": "pico_async.holdings",
    "BlastEnded": "pico_async.events",
    "BlastStarted": "pico_async.events",
    "BulkError": "pico_async.errors",
    "BulkReport": "pico_async.bulk.report",
    "BulkStream": "pico_async.bulk.sender",
    "CallEnded": "pico_async.events",
    "CallStarted": "pico_async.events",
    "CallbackSigner": "pico_async.callbacks",
    "Campaign": "pico_async.holdings",
    "ConfigurationError": "pico_async.errors",
    "Coordinator": "pico_async.coordination",
    "CreatedCampaign": "pico_async.holdings",
    "DeliveryReceipt": "pico_async.receipts",
    "DeliveryStatus": "pico_async.receipts",
    "Encoding": "pico_async.segmentation",
    "Event": "pico_async.events",
    "ExpectationFailedError": "pico_async.errors",
    "FleetCoordinator": "pico_async.coordination.fleet",
    "Identity": "pico_async.coordination.fleet",
    "InDoubtError": "pico_async.errors",
    "InvalidMessageError": "pico_async.errors",
    "Journal": "pico_async.bulk.journal",
    "JournalError": "pico_async.errors",
    "JournalRecord": "pico_async.bulk.journal",
    "JournalState": "pico_async.bulk.journal",
    "Listing": "pico_async.holdings",
    "LocalCoordinator": "pico_async.coordination.local",
    "Message": "pico_async.messages",
    "MessageExpiredError": "pico_async.errors",
    "MmsMessage": "pico_async.messages",
    "NoResponseError": "pico_async.errors",
    "NotInDoubtError": "pico_async.errors",
    "NotSentError": "pico_async.errors",
    "Outcome": "pico_async.errors",
    "PicoError": "pico_async.errors",
    "PicoSession": "pico_async.session",
    "Preflight": "pico_async.bulk.preflight",
    "Priority": "pico_async.coordination",
    "RateLimitError": "pico_async.errors",
    "RateRefused": "pico_async.events",
    "Rates": "pico_async.coordination.rates",
    "ReceiptDesk": "pico_async.integrations.receipt_desk",
    "ReceiptMemory": "pico_async.integrations.receipt_memory",
    "RedisCoordinator": "pico_async.coordination.redis",
    "RedisReceiptMemory": "pico_async.integrations.redis_receipts",
    "RejectedError": "pico_async.errors",
    "Retrying": "pico_async.events",
    "Segments": "pico_async.segmentation",
    "SendResult": "pico_async.bulk.report",
    "ServerError": "pico_async.errors",
    "SmsMessage": "pico_async.messages",
    "SqliteJournal": "pico_async.bulk.sqlite_journal",
    "SuppressedError": "pico_async.errors",
    "Template": "pico_async.holdings",
    "TokenRefreshed": "pico_async.events",
    "TokenStore": "pico_async.coordination",
    "TurnTaken": "pico_async.events",
    "UnexpectedResponseError": "pico_async.errors",
    "UserToken": "pico_async.grants",
    "VoiceMessage": "pico_async.messages",
    "destination": "pico_async.numbers",
    "preflight": "pico_async.bulk.preflight",
    "segments": "pico_async.segmentation",
}


# A type checker that saw it would take any name for one that is there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if any(module.split(".")[1] == name for module in _LATER.values()):
            # `pico_async.errors`, which was there when the names were not imported later.
            return import_module(f"pico_async.{name}")
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
