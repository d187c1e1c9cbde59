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
    from pico_async.callbacks import CallbackSigner
    from pico_async.coordination.fleet import FleetCoordinator, Identity
    from pico_async.coordination.redis import RedisCoordinator as RedisCoordinator
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
    from pico_async.holdings import Acknowledged, Balance, Campaign, CreatedCampaign, Listing, Template
    from pico_async.receipts import DeliveryReceipt, DeliveryStatus
    from pico_async.segmentation import Encoding, Segments, segments

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


# Imported by their first use: what needs an extra, which is not in `__all__`, and what only a blast, a look before one,
# a fleet, the management of an account or a listener needs.
_LATER = {
    "Acknowledged": "pico_async.holdings",
    "AiohttpTransport": "pico_async._engine.aiohttp_carrier",
    "AttemptEnded": "pico_async.events",
    "AttemptStarted": "pico_async.events",
    "Balance": "pico_async.holdings",
    "BlastEnded": "pico_async.events",
    "BlastStarted": "pico_async.events",
    "BulkReport": "pico_async.bulk.report",
    "BulkStream": "pico_async.bulk.sender",
    "CallEnded": "pico_async.events",
    "CallStarted": "pico_async.events",
    "CallbackSigner": "pico_async.callbacks",
    "Campaign": "pico_async.holdings",
    "CreatedCampaign": "pico_async.holdings",
    "DeliveryReceipt": "pico_async.receipts",
    "DeliveryStatus": "pico_async.receipts",
    "Encoding": "pico_async.segmentation",
    "Event": "pico_async.events",
    "FleetCoordinator": "pico_async.coordination.fleet",
    "Identity": "pico_async.coordination.fleet",
    "Journal": "pico_async.bulk.journal",
    "JournalRecord": "pico_async.bulk.journal",
    "JournalState": "pico_async.bulk.journal",
    "Listing": "pico_async.holdings",
    "Preflight": "pico_async.bulk.preflight",
    "RateRefused": "pico_async.events",
    "RedisCoordinator": "pico_async.coordination.redis",
    "Retrying": "pico_async.events",
    "Segments": "pico_async.segmentation",
    "SendResult": "pico_async.bulk.report",
    "SqliteJournal": "pico_async.bulk.sqlite_journal",
    "Template": "pico_async.holdings",
    "TokenRefreshed": "pico_async.events",
    "TurnTaken": "pico_async.events",
    "preflight": "pico_async.bulk.preflight",
    "segments": "pico_async.segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
