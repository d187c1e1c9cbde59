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
    from pico_async.bulk.report import BulkReport, SendResult
    from pico_async.bulk.sender import BulkStream
    from pico_async.bulk.sqlite_journal import SqliteJournal
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
        NotSentError,
        Outcome,
        PicoError,
        RateLimitError,
        RejectedError,
        ServerError,
        UnexpectedResponseError,
    )
    from pico_async.grants import Accepted, UserToken
    from pico_async.holdings import Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template
    from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
    from pico_async.session import PicoSession
    from pico_async.settings import DEFAULT_BASE_URL, WHITELIST_BASE_URL

__all__ = [
    "DEFAULT_BASE_URL",
    "WHITELIST_BASE_URL",
    "Accepted",
    "Acknowledged",
    "AuthenticationError",
    "BadRequestError",
    "Balance",
    "BulkError",
    "BulkReport",
    "BulkStream",
    "Campaign",
    "ConfigurationError",
    "Coordinator",
    "CreatedCampaign",
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
    "NotSentError",
    "Outcome",
    "PicoError",
    "PicoSession",
    "Priority",
    "RateLimitError",
    "Rates",
    "RejectedError",
    "SendResult",
    "ServerError",
    "SmsMessage",
    "SqliteJournal",
    "Template",
    "TokenStore",
    "UnexpectedResponseError",
    "UserToken",
    "VoiceMessage",
    "__version__",
]


# All are imported by their first use. Who blasts nothing loads no blast, and what needs an extra is not in `__all__`.
# pytest imports the package in each run of whoever has it installed, because of the plugin: that must cost nothing.
_LATER = {
    "Accepted": "pico_async.grants",
    "Acknowledged": "pico_async.holdings",
    "AiohttpTransport": "pico_async._engine.aiohttp_carrier",
    "AuthenticationError": "pico_async.errors",
    "BadRequestError": "pico_async.errors",
    "Balance": "pico_async.holdings",
    "BulkError": "pico_async.errors",
    "BulkReport": "pico_async.bulk.report",
    "BulkStream": "pico_async.bulk.sender",
    "Campaign": "pico_async.holdings",
    "ConfigurationError": "pico_async.errors",
    "Coordinator": "pico_async.coordination",
    "CreatedCampaign": "pico_async.holdings",
    "DEFAULT_BASE_URL": "pico_async.settings",
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
    "NotSentError": "pico_async.errors",
    "Outcome": "pico_async.errors",
    "PicoError": "pico_async.errors",
    "PicoSession": "pico_async.session",
    "Priority": "pico_async.coordination",
    "RateLimitError": "pico_async.errors",
    "Rates": "pico_async.coordination.rates",
    "RedisCoordinator": "pico_async.coordination.redis",
    "RejectedError": "pico_async.errors",
    "SendResult": "pico_async.bulk.report",
    "ServerError": "pico_async.errors",
    "SmsMessage": "pico_async.messages",
    "SqliteJournal": "pico_async.bulk.sqlite_journal",
    "Template": "pico_async.holdings",
    "TokenStore": "pico_async.coordination",
    "UnexpectedResponseError": "pico_async.errors",
    "UserToken": "pico_async.grants",
    "VoiceMessage": "pico_async.messages",
    "WHITELIST_BASE_URL": "pico_async.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
