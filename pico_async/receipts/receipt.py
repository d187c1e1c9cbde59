"""Delivery receipts: what Pico says became of a message after it was accepted. v0.4 documents nothing of them."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email import message_from_bytes
from enum import StrEnum
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl
from xml.etree import ElementTree  # a DTD is refused

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async._charsets import charset_of, texts
from pico_async.numbers import masked_repr
from pico_async.receipts.callbacks import PARAMETER

LONGEST_BODY = 65_536
_MOST_FIELDS = 200
_LONGEST_WORD = 200
_DEEPEST = 8

# In order: where several stand in one receipt, the first counts, and the others are in `extra`.
_STATUS = ("status", "state", "dlrstatus", "deliverystatus", "messagestatus", "stat")
_AT = ("donedate", "deliveredat", "timestamp", "time", "date", "at")
_ERROR = ("error", "errorcode", "errcode", "err", "reason")
_ID = ("requestid", "messageid", "msgid", "id")
_TO = ("to", "destination", "dest", "recipient", "receiver", "msisdn", "mobile", "phone", "number")
# What is in one of these is the receipt, also where the fields around it have a status of their own.
_WRAPPERS = (
    *("data", "result", "results", "receipt", "receipts", "report", "reports", "dlr", "dlrs", "message", "messages"),
    *("payload", "body", "content", "event", "events", "item", "items", "list", "record", "records"),
)

# Seconds, or milliseconds, from 2001 on. SMPP writes a date as YYMMDDhhmm (3.4, appendix B), with as many digits as
# seconds have: what that may be, from the year 26 on, is no Unix time before 2052.
_UNIX_TIME = r"[1-9][0-9]{9}(\.[0-9]{1,9}|[0-9]{3})?"
_FIRST_YYMMDD = 2_600_000_000

# A name that holds where its value belongs, as "data[status]", "results[0][id]" or "data.status".
_PATH = r"[^\[\].]+([.][^\[\].]+|\[[^\[\].]*\])+"

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


@boundary
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
    def parse(cls, *, key: str | None = None, query: str = "", body: bytes = b"", content_type: str = "") -> Self:
        """
        Read a receipt from the query of its URL, and from its body. It never raises.

        The body may be JSON, one object or several one after the other; a form, `multipart/form-data` too; XML without
        a DTD; or the text of SMPP 3.4 (appendix B), as "id:… sub:… stat:DELIVRD err:000 text:…". It may be in UTF-8,
        UTF-16, GBK, Big5 and their like, and packed by gzip or zlib. The fields may be within others, as `data` or
        `results`, in a list, or named `data[status]` or `data.status`. Of several receipts of one message, the one
        that is furthest along counts; where they are of several messages, none does, nor does a field that is there
        twice with two values.

        Args:
            key: The message's `key`, as the signed URL tells it.
            query: The URL's query, without the "?".
            body: The request's body. Where it says something else than the query, it counts. What is none of these, or
                more than one receipt, is in `extra`, as "body": as bytes where it is no text in UTF-8. So is what is
                longer than 64 KiB when unpacked.
            content_type: The request's header of that name. The charset that it names is tried first.
        """
        told, asked = _read(unpacked(body[:LONGEST_BODY]), charset_of(content_type)), _pairs(_bytes_of(query))
        names = {name for fields in told for name in fields}
        asked = {name: value for name, value in asked.items() if name not in names}
        places = (*told, *(_places(asked) or (asked,)))
        for fields in places:
            fields.pop(PARAMETER, None)
        at = _status_in(places)
        word = None if at is None else _text(at[0].pop(at[1]))
        return cls(
            key=key,
            status=_status(word),
            status_text=word,
            error=_text(_taken(places, _ERROR)),
            at=_moment(places),
            request_id=_text(_taken(places, _ID)),
            extra={name: value for fields in reversed(places) for name, value in fields.items()},
        )


def boundary_of(body: bytes) -> bytes | None:
    """Give what stands between the parts of a body in `multipart/form-data`, and is new each time; None for others."""
    found = re.match(rb"\s*--([0-9A-Za-z'()+_,./:=? -]{1,70}?)[ \t]*\r?\n", body)
    return found[1] if found else None


def unpacked(body: bytes) -> bytes:
    """
    Undo gzip or zlib; give what is not packed so, or is too long then, as it is.

    It goes by the bytes, for a server may have undone what the header Content-Encoding names.
    """
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        content = unpacking.decompress(body, LONGEST_BODY + 1)
    except zlib.error:
        return body
    # Only at the end is the checksum compared, and a receipt that is cut off may have lost its status.
    return content if unpacking.eof and not unpacking.unused_data and len(content) <= LONGEST_BODY else body


def _read(body: bytes, charset: str | None) -> _Places:
    if not body.strip():
        return ()
    if parts := _parts(body, charset):
        return _places(parts) or (parts,)
    for text in texts(body, charset):
        try:
            payload = _payload(text)
        except (ValueError, RecursionError):
            continue
        return _places(payload) or ({"body": payload},)
    first = next(texts(body, charset)).strip()
    # Only UTF-16 and UTF-32 hide ASCII, and with it what parts the fields. What begins as JSON, XML or gzip is no form.
    is_form = "=" in first and first[0] not in '{["<\x1f'
    fields = _pairs(first.encode() if b"\0" in body else body.strip(), charset) if is_form else {}
    return (_places(fields) or (fields,)) if fields else ({"body": _kept(body)},)


def _payload(text: str) -> object:
    """
    Read JSON (also several objects, one after the other), XML, or the text of SMPP.

    Raises:
        ValueError: It is none of them.
        RecursionError: It is nested too deep.
    """
    text = text.strip()
    if text.startswith("<"):
        return _of_xml(text)
    if text[:3].lower() == "id:":
        return _of_smpp(text)
    if not text.startswith("{"):
        return _JSON.decode(text)
    each, end = [], 0
    while end < len(text):
        value, end = _JSON.raw_decode(text, end)
        each.append(value)
        end = re.compile(r"\s*").match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
    return each[0] if len(each) == 1 else each


def _of_xml(text: str) -> dict[str, Any]:
    try:
        # Without a DTD there are no entities that could grow.
        root = None if "<!DOCTYPE" in text else ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        root = None
    fields = {} if root is None else {_local(root): _of_element(root)}
    if _status_in(_places(fields)) is None:  # a page of a proxy, perhaps
        raise ValueError("no receipt in XML")
    return fields


def _of_element(element: ElementTree.Element) -> object:
    text = " ".join(filter(None, ((part or "").strip() for part in (element.text, *(child.tail for child in element)))))
    within = [*element.items(), *((_local(child), _of_element(child)) for child in element)]
    return _fields([*within, *([("text", text)] if text else [])]) if within else text


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _of_smpp(text: str) -> dict[str, Any]:
    # What follows "text:" is the message's, whatever it looks like.
    head, *said = re.split(r"\stext:", text, maxsplit=1, flags=re.IGNORECASE)
    fields = _fields([*re.findall(r"(?<!\S)(\w+(?: date)?):(\S*)", head), *(("text", one) for one in said)])
    if _status_in((fields,)) is None:
        raise ValueError("no receipt of SMPP")
    return fields


def _fields(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """
    Put each value where its name says: "data[status]" is "status" within "data".

    Of values that differ and have one name, none is the one: they become a list.
    """
    said: dict[tuple[str, ...], list[Any]] = {}
    spelled: dict[tuple[str, ...], str] = {}
    for name, value in pairs:
        path = _path(name)
        said.setdefault(path, []).append(value)
        spelled.setdefault(path, name)
    fields: dict[str, Any] = {}
    for path in sorted(said, key=len):
        values = said[path]
        value = values if any(other != values[0] for other in values) else values[0]
        at: Any = fields
        for name in path[:-1]:
            at = at.setdefault(name, {}) if isinstance(at, dict) else None
        if isinstance(at, dict) and path[-1] not in at:
            at[path[-1]] = value
        else:  # what is around it has a value of its own
            fields[spelled[path]] = value
    return fields


def _path(name: str) -> tuple[str, ...]:
    if not re.fullmatch(_PATH, name):
        return (name,)
    path = tuple(re.split(r"[\[.]", name.replace("]", "")))
    path = path if path[-1] else path[:-1]  # "status[]"
    return path if len(path) <= _DEEPEST else (name,)


# Not strict: whoever puts a receipt together by hand leaves line breaks in its texts.
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=_fields)


def _kept(body: bytes) -> str | bytes:
    try:
        return body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return body


def _parts(body: bytes, charset: str | None) -> dict[str, Any]:
    """Read `multipart/form-data`; nothing where it is none."""
    boundary = boundary_of(body)
    if boundary is None:
        return {}
    head = b'Content-Type: multipart/form-data; boundary="%s"\r\n\r\n' % boundary
    pairs: list[tuple[str, str]] = []
    # What the package for e-mail raises of nonsense is not documented.
    with suppress(Exception):
        message: Any = message_from_bytes(head + body.lstrip())
        for part in message.get_payload()[:_MOST_FIELDS] if message.is_multipart() else ():
            name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if isinstance(name, str) and isinstance(content, bytes):
                charset_of_part = charset_of(str(part.get("content-type"))) or charset
                pairs.append((name, next(texts(content, charset_of_part))))
    return _fields(pairs)


def _bytes_of(query: str) -> bytes:
    try:
        return query.encode("latin-1")  # as the servers decode it
    except UnicodeEncodeError:
        return query.encode("utf-8", "surrogatepass")


def _pairs(form: bytes, charset: str | None = None) -> dict[str, Any]:
    # In Latin-1 each byte is a character, so that it does not matter here which charset the values are in.
    try:
        pairs = parse_qsl(
            form.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, encoding="latin-1"
        )
    except ValueError:  # more fields than that
        return {}
    return _fields(
        (next(texts(name.encode("latin-1"), charset)), next(texts(value.encode("latin-1"), charset)))
        for name, value in pairs
    )


def _places(payload: object, deepest: int = _DEEPEST) -> _Places:
    """Give the fields of one receipt, and then those around them; none where there is no one receipt."""
    if deepest and isinstance(payload, str) and re.match(r'\s*([{["<]|id:)', payload, re.IGNORECASE):
        try:
            return _places(_payload(payload), deepest - 1)
        except (ValueError, RecursionError):
            return ()
    if deepest and isinstance(payload, list):
        return _places_in_list(payload, deepest)
    if not isinstance(payload, dict):
        return ()
    if deepest and payload and all(name.isdecimal() and isinstance(payload[name], dict) for name in payload):
        return _places_in_list([*payload.values()], deepest)
    has_status = _status_of((payload,)) is not DeliveryStatus.UNKNOWN
    for name, value in payload.items() if deepest else ():
        wraps = _plain(name) in _WRAPPERS
        # A text may be that of the message, whatever it looks like.
        if has_status and (not wraps or isinstance(value, str)):
            continue
        within = _places(value, deepest - 1)
        if _first(within, (*_STATUS, *_ID, *_AT) if wraps else _STATUS) is not None:
            return (*within, {other: value for other, value in payload.items() if other != name})
    return (dict(payload),)


def _places_in_list(receipts: list[Any], deepest: int) -> _Places:
    each = [within for receipt in receipts if (within := _places(receipt, deepest - 1))]
    if len(receipts) == 1 or not each:
        return each[0] if each else ()
    if len({(_first(within, _ID), _first(within, _TO)) for within in each}) > 1:
        return ()
    furthest = max(reversed(each), key=lambda within: _status_of(within).progress)
    return (*furthest, {"body": receipts})


def _first(places: _Places, names: tuple[str, ...]) -> str | None:
    return next((_text(fields[name]) for fields, name in _found(places, names)), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _status(word: str | None) -> DeliveryStatus:
    return _WORDS.get(_plain(word or ""), DeliveryStatus.UNKNOWN)


def _status_of(places: _Places) -> DeliveryStatus:
    at = _status_in(places)
    return DeliveryStatus.UNKNOWN if at is None else _status(_text(at[0][at[1]]))


def _status_in(places: _Places) -> tuple[dict[str, Any], str] | None:
    """Give where the first status stands that is a common word, else the first one."""
    found = list(_found(places, _STATUS))
    common = ((fields, name) for fields, name in found if _status(_text(fields[name])) is not DeliveryStatus.UNKNOWN)
    return next(common, found[0] if found else None)


def _found(places: _Places, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give where there is something under one of these names, however it is spelled: what counts most first."""
    for fields in places:
        spelled = {_plain(name): name for name in reversed(fields)}
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
