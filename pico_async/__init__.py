"""
Asyncio client for the Pico Cloud REST API v0.4 that knows, for every message, whether it went out.

    async with PicoSession(username="user333", api_key="…", sender="8612345678888") as pico:
        accepted = await pico.sms.send(to="8612345678901", text="Your code is 1234")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pico_async._version import __version__
from pico_async.coordination import Coordinator, Priority, TokenStore
from pico_async.coordination.local import LocalCoordinator
from pico_async.coordination.rates import Rates
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
    SuppressedError,
    UnexpectedResponseError,
)
from pico_async.grants import Accepted, UserToken
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage
from pico_async.numbers import destination
from pico_async.session import PicoSession
from pico_async.settings import DEFAULT_BASE_URL, WHITELIST_BASE_URL

if TYPE_CHECKING:
    from pico_async._engine.aiohttp_carrier import AiohttpTransport as AiohttpTransport
    from pico_async.bulk.journal import Journal, JournalRecord, JournalState
    from pico_async.bulk.preflight import Preflight, preflight
    from pico_async.bulk.report import BulkReport, SendResult
    from pico_async.bulk.sender import BulkStream
    from pico_async.bulk.sqlite_journal import SqliteJournal
    from pico_async.coordination.fleet import FleetCoordinator, Identity
    from pico_async.coordination.redis import RedisCoordinator as RedisCoordinator
    from pico_async.holdings import Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template
    from pico_async.segmentation import Encoding, Segments, segments

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
    "Encoding",
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
    "Preflight",
    "Priority",
    "RateLimitError",
    "Rates",
    "RejectedError",
    "Segments",
    "SendResult",
    "ServerError",
    "SmsMessage",
    "SqliteJournal",
    "SuppressedError",
    "Template",
    "TokenStore",
    "UnexpectedResponseError",
    "UserToken",
    "VoiceMessage",
    "__version__",
    "destination",
    "preflight",
    "segments",
]


# Imported by their first use: what needs an extra, which is not in `__all__`, and what only a blast, a look before one,
# a fleet or the management of an account needs.
_LATER = {
    "Acknowledged": "pico_async.holdings",
    "AiohttpTransport": "pico_async._engine.aiohttp_carrier",
    "Balance": "pico_async.holdings",
    "BulkReport": "pico_async.bulk.report",
    "BulkStream": "pico_async.bulk.sender",
    "Campaign": "pico_async.holdings",
    "CreatedCampaign": "pico_async.holdings",
    "Encoding": "pico_async.segmentation",
    "FleetCoordinator": "pico_async.coordination.fleet",
    "Identity": "pico_async.coordination.fleet",
    "Journal": "pico_async.bulk.journal",
    "JournalRecord": "pico_async.bulk.journal",
    "JournalState": "pico_async.bulk.journal",
    "Listing": "pico_async.holdings",
    "Preflight": "pico_async.bulk.preflight",
    "RedisCoordinator": "pico_async.coordination.redis",
    "Segments": "pico_async.segmentation",
    "SendResult": "pico_async.bulk.report",
    "SqliteJournal": "pico_async.bulk.sqlite_journal",
    "Template": "pico_async.holdings",
    "preflight": "pico_async.bulk.preflight",
    "segments": "pico_async.segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
