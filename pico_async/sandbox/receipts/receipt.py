"""
Delivery receipts as the sandbox invents them: which there are of a message, when, and what they look like.

The reference names `callback` ("Callback URL for delivery receipts (DLR)") and documents neither method, body nor
signature, nor how often or when. All of this is the sandbox's own invention. Nothing here waits or sends.
"""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from random import Random
from typing import Any
from urllib.parse import urlencode

import httpx
from attrs import Attribute, field, frozen

from pico_async.sandbox.ledger import Message

LONGEST_WAIT_S = 3600.0


class ReceiptForm(StrEnum):
    """How a receipt travels."""

    JSON = "json"  # POST, an object
    FORM = "form"  # POST, application/x-www-form-urlencoded
    QUERY = "query"  # GET, the fields behind the URL's own query


class Status(StrEnum):
    """What a receipt says of its message."""

    SENT = "SENT"
    DELIVERED = "DELIVERED"
    UNDELIVERED = "UNDELIVERED"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _wait(receipts: "Receipts", attribute: "Attribute[Any]", value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= LONGEST_WAIT_S:
        raise ValueError(f"{attribute.name}={value!r}: seconds, from 0 to {LONGEST_WAIT_S:g}.")


def _timeout(receipts: "Receipts", attribute: "Attribute[Any]", value: Any) -> None:
    _wait(receipts, attribute, value)
    if not value:
        raise ValueError(f"{attribute.name}={value!r}: more than 0 seconds.")


def _share(receipts: "Receipts", attribute: "Attribute[Any]", value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{attribute.name}={value!r}: a share lies between 0 and 1.")


def _tries(receipts: "Receipts", attribute: "Attribute[Any]", value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 20:
        raise ValueError(f"{attribute.name}={value!r}: a whole number, from 1 to 20.")


def _seed(receipts: "Receipts", attribute: "Attribute[Any]", value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{attribute.name}={value!r}: a whole number, or None.")


def _hosts(value: Collection[str]) -> frozenset[str]:
    if isinstance(value, str):
        raise TypeError(f"allow_hosts={value!r}: a collection of host names, as ({value!r},).")
    return frozenset(host.lower() for host in value)


@frozen(kw_only=True)
class Receipts:
    """
    How the sandbox tells of deliveries. Each accepted SMS that named a `callback` gets two receipts: "SENT", and then
    "DELIVERED" or "UNDELIVERED".

    Fields: `request_id`, `to`, `status`, `error` (a word where undelivered, else empty or null) and `timestamp`. They
    go to exactly the URL that the message named. Own invention throughout: not documented in v0.4.

    Attributes:
        form: "json" (POST), "form" (POST) or "query" (GET).
        sent_after_s: From acceptance to "SENT".
        delivered_after_s: From acceptance to the last one.
        undelivered: Share of the messages that are not delivered.
        duplicates: Share of the receipts that are sent twice.
        reordered: Share of the messages whose "SENT" comes after the last one.
        tries: How often a receipt is sent where the receiver does not answer 2xx.
        backoff_s: Wait before the second try; it doubles from try to try, up to a minute.
        timeout_s: Bound of one try.
        allow_hosts: Hosts beside loopback that receipts may go to, by name; "*" is any.
        seed: Makes the shares fall on the same messages again.
        transport: Carries the receipts in place of the network, as `httpx.ASGITransport(app)`; no address is checked
            then.
    """

    form: ReceiptForm = field(default=ReceiptForm.JSON, converter=ReceiptForm)
    sent_after_s: float = field(default=0.2, validator=_wait)
    delivered_after_s: float = field(default=1.0, validator=_wait)
    undelivered: float = field(default=0.0, validator=_share)
    duplicates: float = field(default=0.0, validator=_share)
    reordered: float = field(default=0.0, validator=_share)
    tries: int = field(default=5, validator=_tries)
    backoff_s: float = field(default=1.0, validator=_wait)
    timeout_s: float = field(default=5.0, validator=_timeout)
    allow_hosts: Collection[str] = field(default=(), converter=_hosts)
    seed: int | None = field(default=None, validator=_seed)
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)


@frozen
class Planned:
    """One receipt to send: what it says, and how long after acceptance."""

    status: Status
    after_s: float
    is_copy: bool = False


def plan(receipts: Receipts, random: Random) -> list[Planned]:
    """List the receipts of the next message; as many numbers are drawn for each, whatever the shares are."""
    undelivered, reordered, sent_twice, told_twice = (random.random() for _ in range(4))
    last = Status.UNDELIVERED if undelivered < receipts.undelivered else Status.DELIVERED
    sent_after_s = receipts.sent_after_s
    if reordered < receipts.reordered:
        sent_after_s = receipts.delivered_after_s + max(receipts.sent_after_s, 0.1)
    planned = [Planned(Status.SENT, sent_after_s), Planned(last, receipts.delivered_after_s)]
    for receipt, drawn in zip(tuple(planned), (sent_twice, told_twice), strict=True):
        if drawn < receipts.duplicates:
            planned.append(Planned(receipt.status, receipt.after_s + 0.1, is_copy=True))
    return sorted(planned, key=lambda receipt: receipt.after_s)


def retry_after_s(receipts: Receipts, tried: int) -> float | None:
    """Say how long to wait after try number *tried* failed, or None to give up."""
    return None if tried >= receipts.tries else min(60.0, receipts.backoff_s * 2 ** (tried - 1))


def split_callback(url: str) -> tuple[str, str, str]:
    """Take a URL apart into scheme, authority and target, and change nothing: it may be signed as it stands."""
    scheme, _, rest = url.partition("://")
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    target = rest[end:].partition("#")[0]
    return scheme.lower(), rest[:end], target if target.startswith("/") else "/" + target


@frozen
class Letter:
    """A receipt as a request, but for where it goes."""

    method: str
    target: str
    content: bytes = field(default=b"", repr=False)
    content_type: str | None = None


def write(form: ReceiptForm, target: str, message: Message, status: Status, at: float) -> Letter:
    """Write the receipt that *message* is *status*, at so many seconds since the epoch."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    error = "ABSENT_SUBSCRIBER" if status is Status.UNDELIVERED else None
    fields = {
        "request_id": message.request_id,
        "to": message.to,
        "status": status.value,
        "error": error,
        "timestamp": timestamp,
    }
    match form:
        case ReceiptForm.JSON:
            return Letter("POST", target, json.dumps(fields).encode(), "application/json")
        case ReceiptForm.FORM:
            encoded = urlencode({**fields, "error": error or ""})
            return Letter("POST", target, encoded.encode(), "application/x-www-form-urlencoded")
        case ReceiptForm.QUERY:
            mark = "&" if "?" in target else "?"
            return Letter("GET", f"{target}{mark}{urlencode({**fields, 'error': error or ''})}")
