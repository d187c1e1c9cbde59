"""Delivery receipts: what Pico reports about a message after it accepted it. v0.4 does not document them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from attrs import field, frozen

from pico_async._boundary import boundary
from pico_async._charsets import charset_of
from pico_async._masking import masked_repr
from pico_async._values import Value
from pico_async.receipts.callbacks import PARAMETER
from pico_async.receipts.form import parse_form
from pico_async.receipts.payload import AT, ERROR, ID, Scopes, find, find_receipt, find_status, parse_body, text_of
from pico_async.receipts.status import DeliveryStatus, parse_status

LONGEST_BODY = 65_536

# Seconds, or milliseconds, from 2001 on. SMPP writes a date as YYMMDDhhmm (3.4, appendix B), with as many digits as
# Unix seconds. A number that could be such a date from 2026 on is not taken for a Unix time, which it would be from
# 2052 on.
_UNIX_TIME = re.compile(r"[1-9][0-9]{9}(\.[0-9]{1,9}|[0-9]{3})?")
_FIRST_YYMMDD = 2_600_000_000


@boundary
@frozen(kw_only=True)
class DeliveryReceipt(Value):
    """
    What one receipt reports about one message.

    v0.4 documents neither the method, the body nor the words of a receipt. Common names and words are understood, and
    `extra` contains everything else. Only `key` is certain, because it is part of the signed URL.

    Attributes:
        key: The message's `key`; None if it had none.
        status: One of the common ones, or UNKNOWN.
        status_text: The receipt's own word for the status.
        error: The receipt's own word for the error.
        at: When the status changed, if the receipt has an unambiguous time: Unix time, or ISO 8601 with an offset.
        request_id: Pico's ID of the message, if the receipt has one.
        extra: All other fields, unchanged. They may contain a number, so no repr shows them.
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
        Parse a receipt from the query of its URL and from its body. This never raises.

        The body may be:

        - JSON: one object, or several one after the other;
        - a form, also as `multipart/form-data`;
        - XML without a DTD;
        - the text of SMPP 3.4 (appendix B), such as "id:… sub:… stat:DELIVRD err:000 text:…".

        It may be in UTF-8, UTF-16, GBK, Big5 and similar charsets, and compressed by gzip or zlib. The fields may be
        nested, as in `data` or `results`, in a list, or named `data[status]` or `data.status`. If the body contains
        several receipts of one message, the one with the highest `progress` counts. If they are of several messages,
        none counts. A field that occurs twice with different values does not count either.

        Args:
            key: The message's `key`, from the signed URL.
            query: The URL's query, without the "?".
            body: The request's body. Where it contradicts the query, the body counts. An unreadable body, or one with
                receipts of several messages, is in `extra` as "body": as bytes if it is not UTF-8. So is a body that
                is longer than 64 KiB when decompressed.
            content_type: The request's Content-Type header. Its charset is tried first.
        """
        in_body = parse_body(decompressed(body[:LONGEST_BODY]), charset_of(content_type))
        names = {name for fields in in_body for name in fields}
        in_query = {name: value for name, value in parse_form(_bytes_of(query)).items() if name not in names}
        scopes = (*in_body, *(find_receipt(in_query) or (in_query,)))
        for fields in scopes:
            fields.pop(PARAMETER, None)
        found = find_status(scopes)
        word = None if found is None else text_of(found[0].pop(found[1]))
        return cls(
            key=key,
            status=parse_status(word),
            status_text=word,
            error=_take(scopes, ERROR),
            at=_take_time(scopes),
            request_id=_take(scopes, ID),
            extra={name: value for fields in reversed(scopes) for name, value in fields.items()},
        )


def decompressed(body: bytes) -> bytes:
    """
    Return the body without its gzip or zlib compression. Return it unchanged if it has none, or if it is too long then.

    The bytes decide, because a server may already have removed the compression that Content-Encoding names.
    """
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        content = decompressor.decompress(body, LONGEST_BODY + 1)
    except zlib.error:
        return body
    # zlib compares the checksum only at the end, and a truncated receipt may have lost its status.
    is_whole = decompressor.eof and not decompressor.unused_data
    return content if is_whole and len(content) <= LONGEST_BODY else body


def _bytes_of(query: str) -> bytes:
    try:
        return query.encode("latin-1")  # as the servers decode it
    except UnicodeEncodeError:
        return query.encode("utf-8", "surrogatepass")


def _take(scopes: Scopes, names: tuple[str, ...]) -> str | None:
    """Remove the first field with one of the names, and return its text."""
    for fields, name in find(scopes, names):
        return text_of(fields.pop(name))
    return None


def _take_time(scopes: Scopes) -> datetime | None:
    """Remove the first unambiguous time, and return it. A time without an offset stays in `extra`."""
    for fields, name in find(scopes, AT):
        if (time := _parse_time(text_of(fields[name]) or "")) is not None:
            del fields[name]
            return time
    return None


def _parse_time(value: str) -> datetime | None:
    try:
        if _UNIX_TIME.fullmatch(value):
            whole, _, fraction = value.partition(".")
            at_s = int(whole[:10]) + float(f".{whole[10:] or fraction or 0}")
            return datetime.fromtimestamp(at_s, UTC) if at_s < _FIRST_YYMMDD else None
        time = datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    return time if time.tzinfo is not None else None
