"""Delivery receipts: what Pico says became of a message after it was accepted. v0.4 documents nothing of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl

from attrs import field, frozen

from pico_async.callbacks import PARAMETER
from pico_async.numbers import masked_repr

LONGEST_BODY = 65_536
_MOST_FIELDS = 200
_LONGEST_WORD = 200

# In order: where several stand in one receipt, the first counts, and the others are in `extra`.
_STATUS = ("status", "state", "dlrstatus", "deliverystatus", "messagestatus", "stat")
_AT = ("donedate", "deliveredat", "timestamp", "time", "date", "at")
_ERROR = ("error", "errorcode", "errcode", "err", "reason")
_ID = ("requestid", "messageid", "msgid", "id")

# Seconds, or milliseconds, from 2001 on. SMPP writes a date as YYMMDDhhmm (3.4, appendix B), with as many digits as
# seconds have: what that may be, from the year 26 on, is no Unix time before 2052.
_UNIX_TIME = r"[1-9][0-9]{9}(\.[0-9]{1,9}|[0-9]{3})?"
_FIRST_YYMMDD = 2_600_000_000

_Places: TypeAlias = tuple[dict[str, Any], ...]


class DeliveryStatus(StrEnum):
    """How far a message has come, in so far as the receipt's word for it is a common one."""

    UNKNOWN = "unknown"
    """A word that is not a common one, or none. `status_text` has it."""
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Say whether nothing comes after it."""
        return self.progress == _FINAL

    @property
    def progress(self) -> int:
        """Say how far along this is: a receipt moves its message only forward."""
        return _PROGRESS[self]


_FINAL = 3
_PROGRESS = {
    DeliveryStatus.UNKNOWN: 0,
    DeliveryStatus.ACCEPTED: 1,
    DeliveryStatus.SENT: 2,
    DeliveryStatus.DELIVERED: _FINAL,
    DeliveryStatus.UNDELIVERED: _FINAL,
    DeliveryStatus.EXPIRED: _FINAL,
    DeliveryStatus.REJECTED: _FINAL,
}
# Which words Pico uses is not documented in v0.4. These are the message states of SMPP 3.4 (5.2.28, and appendix B for
# their short forms), with the plain English words for them.
_WORDS = {
    "accepted": DeliveryStatus.ACCEPTED,
    "acceptd": DeliveryStatus.ACCEPTED,
    "queued": DeliveryStatus.ACCEPTED,
    "pending": DeliveryStatus.ACCEPTED,
    "buffered": DeliveryStatus.ACCEPTED,
    "scheduled": DeliveryStatus.ACCEPTED,
    "sent": DeliveryStatus.SENT,
    "submitted": DeliveryStatus.SENT,
    "enroute": DeliveryStatus.SENT,
    "delivered": DeliveryStatus.DELIVERED,
    "delivrd": DeliveryStatus.DELIVERED,
    "undelivered": DeliveryStatus.UNDELIVERED,
    "undeliverable": DeliveryStatus.UNDELIVERED,
    "undeliv": DeliveryStatus.UNDELIVERED,
    "failed": DeliveryStatus.UNDELIVERED,
    "deleted": DeliveryStatus.UNDELIVERED,
    "expired": DeliveryStatus.EXPIRED,
    "rejected": DeliveryStatus.REJECTED,
    "rejectd": DeliveryStatus.REJECTED,
}


@frozen(kw_only=True)
class DeliveryReceipt:
    """
    What one receipt says of one message.

    The method, the body and the words of a receipt are not documented in v0.4: common names and words are understood,
    and all else is in `extra`. Only `key` is certain, for it stands in the signed URL.

    Attributes:
        key: The message's `key`; None where it had none.
        status: Of the common ones; UNKNOWN where the receipt's word is none of them.
        status_text: The receipt's own word.
        error: The receipt's own word for what went wrong.
        at: When, where the receipt gives a moment that is certain: Unix time, or ISO 8601 with an offset.
        request_id: Pico's name for the message, where the receipt gives one.
        extra: All other fields, as they came. A number may be among them, so no repr shows it.
    """

    key: str | None = field(default=None, repr=masked_repr)
    status: DeliveryStatus = DeliveryStatus.UNKNOWN
    status_text: str | None = field(default=None, repr=masked_repr)
    error: str | None = field(default=None, repr=masked_repr)
    at: datetime | None = None
    request_id: str | None = field(default=None, repr=masked_repr)
    extra: Mapping[str, Any] = field(factory=dict, repr=False)

    @classmethod
    def parse(cls, *, key: str | None = None, query: str = "", body: bytes = b"") -> Self:
        """
        Read a receipt from the query of its URL, and from a body that is JSON or a form. It never raises.

        Args:
            key: The message's `key`, as the signed URL tells it.
            query: The URL's query, without the "?".
            body: The request's body. Where it says something else than the query, it counts. What is neither JSON nor
                a form is in `extra`, as "body".
        """
        told, asked = _read(body[:LONGEST_BODY]), _pairs(query)
        asked = {name: value for name, value in asked.items() if name not in told}
        places = (told, asked)
        for fields in places:
            fields.pop(PARAMETER, None)
        word = _text(_taken(places, _STATUS))
        return cls(
            key=key,
            status=_WORDS.get(re.sub(r"[^a-z]", "", (word or "").lower()), DeliveryStatus.UNKNOWN),
            status_text=word,
            error=_text(_taken(places, _ERROR)),
            at=_moment(places),
            request_id=_text(_taken(places, _ID)),
            extra={**asked, **told},
        )


def _read(body: bytes) -> dict[str, Any]:
    text = body.decode("utf-8-sig", "replace").strip()
    if not text:
        return {}
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return ("=" in text and _pairs(text)) or {"body": text}
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]
    return payload if isinstance(payload, dict) else {"body": payload}


def _pairs(text: str) -> dict[str, Any]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace"))
    except ValueError:  # more fields than that
        return {}


def _found(places: _Places, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give where there is something under one of these names, however it is spelled: what counts most first."""
    for fields in places:
        spelled = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(fields)}
        for name in names:
            if name in spelled and isinstance(fields[spelled[name]], str | int | float):
                yield fields, spelled[name]


def _taken(places: _Places, names: tuple[str, ...]) -> Any:
    """Take out the first of them."""
    for fields, name in _found(places, names):
        return fields.pop(name)
    return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = str(value)
    except ValueError:  # a whole number of thousands of digits
        return None
    return text[:_LONGEST_WORD] if text else None


def _moment(places: _Places) -> datetime | None:
    """Take out the first moment that is certain; what has no offset is anybody's guess, and stays in `extra`."""
    for fields, name in _found(places, _AT):
        if (moment := _parsed(_text(fields[name]) or "")) is not None:
            del fields[name]
            return moment
    return None


def _parsed(value: str) -> datetime | None:
    try:
        if re.fullmatch(_UNIX_TIME, value):
            whole, _, fraction = value.partition(".")
            at_s = int(whole[:10]) + float(f".{whole[10:] or fraction or 0}")
            return datetime.fromtimestamp(at_s, UTC) if at_s < _FIRST_YYMMDD else None
        moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo is not None else None
