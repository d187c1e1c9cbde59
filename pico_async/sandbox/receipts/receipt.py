"""
Delivery receipts: their settings, which receipts a message gets and when, and how each is written.

The reference names `callback` ("Callback URL for delivery receipts (DLR)"). It does not document the method, the body,
the signature, the number or the times of receipts: all of this is the sandbox's own invention.

Nothing here waits or sends.
"""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from urllib.parse import urlencode

import httpx
from attrs import field, frozen

from pico_async.sandbox.checks import SHARE, WAIT, Check, Choice
from pico_async.sandbox.ledger import Message

_TIMEOUT = Check("more than 0 seconds", bool)
_TRIES = Check(
    "a whole number from 1 to 20",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 20,
)
_SEED = Check(
    "a whole number or None",
    lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
)


class ReceiptForm(Choice):
    """Format of the request that carries a receipt."""

    JSON = "json"  # POST with a JSON object
    FORM = "form"  # POST with application/x-www-form-urlencoded
    QUERY = "query"  # GET, with the fields after the URL's own query


class Status(StrEnum):
    """Status of a message, as its receipt reports it."""

    SENT = "SENT"
    DELIVERED = "DELIVERED"
    UNDELIVERED = "UNDELIVERED"


def _lower_case_hosts(value: Collection[str]) -> frozenset[str]:
    if isinstance(value, str):
        raise TypeError(f"allow_hosts={value!r}: pass a collection of host names, as ({value!r},).")
    return frozenset(host.lower() for host in value)


@frozen(kw_only=True)
class Receipts:
    """
    How the sandbox reports deliveries.

    Each accepted SMS with a `callback` gets two receipts: "SENT", and then "DELIVERED" or "UNDELIVERED". They are sent
    to exactly the URL that the message named. Their fields are `request_id`, `to`, `status`, `error` and `timestamp`;
    `error` is a word if the message was not delivered, else null or empty.

    Own invention throughout: not documented in v0.4.

    Attributes:
        form: "json" (POST), "form" (POST) or "query" (GET).
        sent_after_s: Seconds from acceptance to "SENT".
        delivered_after_s: Seconds from acceptance to "DELIVERED" or "UNDELIVERED".
        undelivered: Share of the messages that are not delivered.
        duplicates: Share of the receipts that are sent twice.
        reordered: Share of the messages whose "SENT" comes last.
        tries: Tries per receipt, until its target replies with 2xx.
        backoff_s: Wait before the second try; it doubles with each try, up to a minute.
        timeout_s: Timeout of one try.
        allow_hosts: Names of hosts beside loopback that may get receipts; "*" is any.
        seed: Seed of the shares: the same seed draws the same messages.
        transport: Sends the receipts in place of the network, as `httpx.ASGITransport(app)`. No address is checked.
    """

    form: ReceiptForm = field(default=ReceiptForm.JSON, converter=ReceiptForm)
    sent_after_s: float = field(default=0.2, validator=WAIT)
    delivered_after_s: float = field(default=1.0, validator=WAIT)
    undelivered: float = field(default=0.0, validator=SHARE)
    duplicates: float = field(default=0.0, validator=SHARE)
    reordered: float = field(default=0.0, validator=SHARE)
    tries: int = field(default=5, validator=_TRIES)
    backoff_s: float = field(default=1.0, validator=WAIT)
    timeout_s: float = field(default=5.0, validator=[WAIT, _TIMEOUT])
    allow_hosts: Collection[str] = field(default=(), converter=_lower_case_hosts)
    seed: int | None = field(default=None, validator=_SEED)
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)


@frozen
class PlannedReceipt:
    """A receipt to send, and how long after the acceptance of its message."""

    status: Status
    after_s: float
    is_copy: bool = False


def plan(receipts: Receipts, random: Random) -> list[PlannedReceipt]:
    """Return the receipts of the next message. Each call draws four numbers, so that no share changes another draw."""
    undelivered, reordered, sent_twice, last_twice = (random.random() for _ in range(4))
    last = Status.UNDELIVERED if undelivered < receipts.undelivered else Status.DELIVERED
    sent_after_s = receipts.sent_after_s
    if reordered < receipts.reordered:
        sent_after_s = receipts.delivered_after_s + max(receipts.sent_after_s, 0.1)
    planned = [PlannedReceipt(Status.SENT, sent_after_s), PlannedReceipt(last, receipts.delivered_after_s)]
    for receipt, drawn in zip(tuple(planned), (sent_twice, last_twice), strict=True):
        if drawn < receipts.duplicates:
            planned.append(PlannedReceipt(receipt.status, receipt.after_s + 0.1, is_copy=True))
    return sorted(planned, key=lambda receipt: receipt.after_s)


def retry_after_s(receipts: Receipts, tried: int) -> float | None:
    """Return how long to wait after try number *tried* failed; None gives up."""
    return None if tried >= receipts.tries else min(60.0, receipts.backoff_s * 2 ** (tried - 1))


def split_callback(url: str) -> tuple[str, str, str]:
    """Split a URL into scheme, authority and request target. The target stays unchanged: a signature may cover it."""
    scheme, _, rest = url.partition("://")
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    target = rest[end:].partition("#")[0]
    return scheme.lower(), rest[:end], target if target.startswith("/") else "/" + target


@frozen
class ReceiptRequest:
    """A receipt as an HTTP request, without its host."""

    method: str
    target: str
    content: bytes = field(default=b"", repr=False)
    content_type: str | None = None


def write(form: ReceiptForm, target: str, message: Message, status: Status, at: float) -> ReceiptRequest:
    """Write a receipt with *status* of *message* in one of the three forms; *at* is in seconds since the epoch."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    error = "ABSENT_SUBSCRIBER" if status is Status.UNDELIVERED else None
    fields = {
        "request_id": message.request_id,
        "to": message.to,
        "status": status.value,
        "error": error,
        "timestamp": timestamp,
    }
    if form is ReceiptForm.JSON:
        return ReceiptRequest("POST", target, json.dumps(fields).encode(), "application/json")
    encoded = urlencode({**fields, "error": error or ""})
    if form is ReceiptForm.FORM:
        return ReceiptRequest("POST", target, encoded.encode(), "application/x-www-form-urlencoded")
    return ReceiptRequest("GET", f"{target}{'&' if '?' in target else '?'}{encoded}")
