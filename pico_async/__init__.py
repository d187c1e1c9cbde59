"""
Asyncio client for the Pico Cloud REST API v0.4 that knows, for every message, whether it went out.

    async with PicoSession(username="user333", api_key="…", sender="8612345678888") as pico:
        accepted = await pico.sms.send(to="8612345678901", text="Your code is 1234")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pico_async._version import __version__ as __version__

if TYPE_CHECKING:
    from pico_async._engine.http.aiohttp_transport import AiohttpTransport as AiohttpTransport
    from pico_async._engine.progress import Listener as Listener
    from pico_async._settings import DEFAULT_BASE_URL as DEFAULT_BASE_URL, WHITELIST_BASE_URL as WHITELIST_BASE_URL
    from pico_async.bulk.journal.protocols import (
        Journal as Journal,
        JournalRecord as JournalRecord,
        JournalState as JournalState,
    )
    from pico_async.bulk.journal.sqlite import SqliteJournal as SqliteJournal
    from pico_async.bulk.preflight import Price as Price, preflight as preflight
    from pico_async.bulk.preflight_report import Preflight as Preflight
    from pico_async.bulk.report import BulkReport as BulkReport, SendResult as SendResult
    from pico_async.bulk.sender import BulkStream as BulkStream, OnResult as OnResult
    from pico_async.bulk.source import Input as Input
    from pico_async.bulk.suppression import Suppression as Suppression
    from pico_async.coordination.local.coordinator import LocalCoordinator as LocalCoordinator
    from pico_async.coordination.protocols import (
        Coordinator as Coordinator,
        Identity as Identity,
        Priority as Priority,
        TokenStore as TokenStore,
    )
    from pico_async.coordination.rates import Rates as Rates
    from pico_async.coordination.redis.coordinator import RedisCoordinator as RedisCoordinator
    from pico_async.errors import (
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        BulkError as BulkError,
        ConfigurationError as ConfigurationError,
        ExpectationFailedError as ExpectationFailedError,
        InDoubtError as InDoubtError,
        InvalidMessageError as InvalidMessageError,
        JournalError as JournalError,
        MessageExpiredError as MessageExpiredError,
        NoResponseError as NoResponseError,
        NotInDoubtError as NotInDoubtError,
        NotSentError as NotSentError,
        Outcome as Outcome,
        PicoError as PicoError,
        RateLimitError as RateLimitError,
        Reason as Reason,
        RejectedError as RejectedError,
        ServerError as ServerError,
        SuppressedError as SuppressedError,
        UnexpectedResponseError as UnexpectedResponseError,
    )
    from pico_async.events import (
        AttemptEnded as AttemptEnded,
        AttemptStarted as AttemptStarted,
        BlastEnded as BlastEnded,
        BlastStarted as BlastStarted,
        CallEnded as CallEnded,
        CallStarted as CallStarted,
        Event as Event,
        RateRefused as RateRefused,
        Retrying as Retrying,
        SlotGranted as SlotGranted,
        TokenRefreshed as TokenRefreshed,
    )
    from pico_async.messages import (
        Message as Message,
        MmsMessage as MmsMessage,
        SmsMessage as SmsMessage,
        VoiceMessage as VoiceMessage,
    )
    from pico_async.models import (
        Accepted as Accepted,
        Acknowledged as Acknowledged,
        Balance as Balance,
        Campaign as Campaign,
        CreatedCampaign as CreatedCampaign,
        Listing as Listing,
        Template as Template,
        UserToken as UserToken,
    )
    from pico_async.numbers import NumberRule as NumberRule, PhoneNumber as PhoneNumber, destination as destination
    from pico_async.receipts.callbacks import CallbackSigner as CallbackSigner
    from pico_async.receipts.deduplication import SeenReceipts as SeenReceipts
    from pico_async.receipts.handler import OnReceipt as OnReceipt, ReceiptHandler as ReceiptHandler
    from pico_async.receipts.receipt import DeliveryReceipt as DeliveryReceipt
    from pico_async.receipts.redis_deduplication import RedisSeenReceipts as RedisSeenReceipts
    from pico_async.receipts.status import DeliveryStatus as DeliveryStatus
    from pico_async.segmentation import Encoding as Encoding, Segments as Segments, segments as segments
    from pico_async.session import PicoSession as PicoSession

# Each name is imported by its first use: the pytest plugin imports this package in every test run of its users, and
# what needs an extra must not be imported without it.
_EXPORTS = {
    "pico_async._engine.http.aiohttp_transport": ["AiohttpTransport"],
    "pico_async._engine.progress": ["Listener"],
    "pico_async._settings": ["DEFAULT_BASE_URL", "WHITELIST_BASE_URL"],
    "pico_async.bulk.journal.protocols": ["Journal", "JournalRecord", "JournalState"],
    "pico_async.bulk.journal.sqlite": ["SqliteJournal"],
    "pico_async.bulk.preflight": ["Price", "preflight"],
    "pico_async.bulk.preflight_report": ["Preflight"],
    "pico_async.bulk.report": ["BulkReport", "SendResult"],
    "pico_async.bulk.sender": ["BulkStream", "OnResult"],
    "pico_async.bulk.source": ["Input"],
    "pico_async.bulk.suppression": ["Suppression"],
    "pico_async.coordination.local.coordinator": ["LocalCoordinator"],
    "pico_async.coordination.protocols": ["Coordinator", "Identity", "Priority", "TokenStore"],
    "pico_async.coordination.rates": ["Rates"],
    "pico_async.coordination.redis.coordinator": ["RedisCoordinator"],
    "pico_async.errors": [
        "AuthenticationError",
        "BadRequestError",
        "BulkError",
        "ConfigurationError",
        "ExpectationFailedError",
        "InDoubtError",
        "InvalidMessageError",
        "JournalError",
        "MessageExpiredError",
        "NoResponseError",
        "NotInDoubtError",
        "NotSentError",
        "Outcome",
        "PicoError",
        "RateLimitError",
        "Reason",
        "RejectedError",
        "ServerError",
        "SuppressedError",
        "UnexpectedResponseError",
    ],
    "pico_async.events": [
        "AttemptEnded",
        "AttemptStarted",
        "BlastEnded",
        "BlastStarted",
        "CallEnded",
        "CallStarted",
        "Event",
        "RateRefused",
        "Retrying",
        "TokenRefreshed",
        "SlotGranted",
    ],
    "pico_async.messages": ["Message", "MmsMessage", "SmsMessage", "VoiceMessage"],
    "pico_async.models": [
        "Accepted",
        "Acknowledged",
        "Balance",
        "Campaign",
        "CreatedCampaign",
        "Listing",
        "Template",
        "UserToken",
    ],
    "pico_async.numbers": ["NumberRule", "PhoneNumber", "destination"],
    "pico_async.receipts.callbacks": ["CallbackSigner"],
    "pico_async.receipts.deduplication": ["SeenReceipts"],
    "pico_async.receipts.handler": ["OnReceipt", "ReceiptHandler"],
    "pico_async.receipts.receipt": ["DeliveryReceipt"],
    "pico_async.receipts.redis_deduplication": ["RedisSeenReceipts"],
    "pico_async.receipts.status": ["DeliveryStatus"],
    "pico_async.segmentation": ["Encoding", "Segments", "segments"],
    "pico_async.session": ["PicoSession"],
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
_NEEDS_AN_EXTRA = {"AiohttpTransport", "RedisCoordinator", "RedisSeenReceipts"}

__all__ = ["__version__", *sorted(_MODULE_OF.keys() - _NEEDS_AN_EXTRA)]  # pyright: ignore[reportUnsupportedDunderAll]


# A type checker that sees `__getattr__` would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if any(module.split(".")[1] == name for module in _EXPORTS):
            return import_module(f"pico_async.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    # Without the names that need an extra: `help` imports what is listed.
    return sorted({*globals(), *__all__})
