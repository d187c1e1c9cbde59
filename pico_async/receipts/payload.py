"""The payload of a receipt: fields in any common format, and the search for the receipt among them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from xml.etree import ElementTree  # a DTD is refused

from pico_async._charsets import texts
from pico_async.receipts.form import DEEPEST, nested, parse_form, parse_multipart
from pico_async.receipts.status import DeliveryStatus, letters_of, parse_status

Scopes: TypeAlias = tuple[dict[str, Any], ...]
"""The fields of one receipt, followed by the fields around it: the innermost first."""

# In order of preference: the first name that occurs counts, and the others stay in `extra`.
STATUS = ("status", "state", "dlrstatus", "deliverystatus", "messagestatus", "stat")
AT = ("donedate", "deliveredat", "timestamp", "time", "date", "at")
ERROR = ("error", "errorcode", "errcode", "err", "reason")
ID = ("requestid", "messageid", "msgid", "id")
_TO = ("to", "destination", "dest", "recipient", "receiver", "msisdn", "mobile", "phone", "number")
# The receipt is within one of these, even if the fields around it have a status of their own.
_WRAPPERS = (
    *("data", "result", "results", "receipt", "receipts", "report", "reports", "dlr", "dlrs", "message", "messages"),
    *("payload", "body", "content", "event", "events", "item", "items", "list", "record", "records"),
)
_LONGEST_TEXT = 200
_SPACES = re.compile(r"\s*")
_STRUCTURED = re.compile(r'\s*([{["<]|id:)', re.IGNORECASE)
# Not strict: receipts that were put together by hand have line breaks in their texts.
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=nested)


def parse_body(body: bytes, charset: str | None) -> Scopes:
    """Return the receipt in a body. Without one, return the whole body as a field "body"."""
    if not body.strip():
        return ()
    if parts := parse_multipart(body, charset):
        return find_receipt(parts) or (parts,)
    for text in texts(body, charset):
        try:
            payload = _parse_text(text)
        except (ValueError, RecursionError):
            continue
        return find_receipt(payload) or ({"body": payload},)
    first = next(texts(body, charset)).strip()
    # Only UTF-16 and UTF-32 hide the ASCII separators of a form. A form does not begin like JSON, XML or gzip.
    is_form = "=" in first and first[0] not in '{["<\x1f'
    fields = parse_form(first.encode() if b"\0" in body else body.strip(), charset) if is_form else {}
    return (find_receipt(fields) or (fields,)) if fields else ({"body": _text_or_bytes(body)},)


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return body


def _parse_text(text: str) -> object:
    """Parse JSON (one or more objects), XML, or the text of SMPP; raise for another text, or one nested too deeply."""
    text = text.strip()
    if text.startswith("<"):
        return _parse_xml(text)
    if text[:3].lower() == "id:":
        return _parse_smpp(text)
    if not text.startswith("{"):
        return _JSON.decode(text)
    objects, end = [], 0
    while end < len(text):
        value, end = _JSON.raw_decode(text, end)
        objects.append(value)
        end = _SPACES.match(text, end).end()  # type: ignore[union-attr]  # it also matches nothing
    return objects[0] if len(objects) == 1 else objects


def _parse_xml(text: str) -> dict[str, Any]:
    try:
        # Without a DTD, no entity can expand.
        root = None if "<!DOCTYPE" in text else ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        root = None
    fields = {} if root is None else {_local_name(root): _value_of(root)}
    if find_status(find_receipt(fields)) is None:  # for example the error page of a proxy
        raise ValueError("no receipt in XML")
    return fields


def _value_of(element: ElementTree.Element) -> object:
    text = " ".join(filter(None, ((part or "").strip() for part in (element.text, *(child.tail for child in element)))))
    within = [*element.items(), *((_local_name(child), _value_of(child)) for child in element)]
    return nested([*within, *([("text", text)] if text else [])]) if within else text


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _parse_smpp(text: str) -> dict[str, Any]:
    # What follows "text:" is the message's own text, even if it looks like a field.
    head, *message = re.split(r"\stext:", text, maxsplit=1, flags=re.IGNORECASE)
    fields = nested([*re.findall(r"(?<!\S)(\w+(?: date)?):(\S*)", head), *(("text", part) for part in message)])
    if find_status((fields,)) is None:
        raise ValueError("no receipt of SMPP")
    return fields


def find_receipt(payload: object, deepest: int = DEEPEST) -> Scopes:
    """Return the fields of the one receipt in a payload, and of what is around it. Without exactly one, return ()."""
    if deepest and isinstance(payload, str) and _STRUCTURED.match(payload):
        try:
            return find_receipt(_parse_text(payload), deepest - 1)
        except (ValueError, RecursionError):
            return ()
    if deepest and isinstance(payload, list):
        return _find_in_list(payload, deepest)
    if not isinstance(payload, dict):
        return ()
    if deepest and payload and all(name.isdecimal() and isinstance(payload[name], dict) for name in payload):
        return _find_in_list([*payload.values()], deepest)
    has_status = _status_of((payload,)) is not DeliveryStatus.UNKNOWN
    for name, value in payload.items() if deepest else ():
        wraps = letters_of(name) in _WRAPPERS
        # A string may be the message's own text, even if it looks like a receipt.
        if has_status and (not wraps or isinstance(value, str)):
            continue
        within = find_receipt(value, deepest - 1)
        if _first(within, (*STATUS, *ID, *AT) if wraps else STATUS) is not None:
            return (*within, {other: value for other, value in payload.items() if other != name})
    return (dict(payload),)


def _find_in_list(items: list[Any], deepest: int) -> Scopes:
    receipts = [scopes for item in items if (scopes := find_receipt(item, deepest - 1))]
    if len(items) == 1 or not receipts:
        return receipts[0] if receipts else ()
    if len({(_first(scopes, ID), _first(scopes, _TO)) for scopes in receipts}) > 1:
        return ()
    furthest = max(reversed(receipts), key=lambda scopes: _status_of(scopes).progress)
    return (*furthest, {"body": items})


def find(scopes: Scopes, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each field with a value under one of the names, in any spelling: the most important one first."""
    for fields in scopes:
        spelled = {letters_of(name): name for name in reversed(fields)}
        for name in names:
            if name in spelled and isinstance(fields[spelled[name]], str | int | float):
                yield fields, spelled[name]


def _first(scopes: Scopes, names: tuple[str, ...]) -> str | None:
    return next((text_of(fields[name]) for fields, name in find(scopes, names)), None)


def _status_of(scopes: Scopes) -> DeliveryStatus:
    found = find_status(scopes)
    return DeliveryStatus.UNKNOWN if found is None else parse_status(text_of(found[0][found[1]]))


def find_status(scopes: Scopes) -> tuple[dict[str, Any], str] | None:
    """Return the first status field with a common word. Without one, return the first status field, or None."""
    found = list(find(scopes, STATUS))
    common = (at for at in found if parse_status(text_of(at[0][at[1]])) is not DeliveryStatus.UNKNOWN)
    return next(common, found[0] if found else None)


def text_of(value: Any) -> str | None:
    """Return a value as a text of at most 200 characters, or None if it is empty."""
    if value is None:
        return None
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits
        return None
    return text[:_LONGEST_TEXT] if text else None
