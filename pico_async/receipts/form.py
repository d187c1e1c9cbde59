"""Forms: flat names and values, and the nested fields that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qsl

from pico_async._charsets import charset_of, texts

DEEPEST = 8

_MOST_FIELDS = 200
# A name that contains its value's path, such as "data[status]", "results[0][id]" or "data.status".
_PATH = re.compile(r"[^\[\].]+([.][^\[\].]+|\[[^\[\].]*\])+")
_BOUNDARY = re.compile(rb"\s*--([0-9A-Za-z'()+_,./:=? -]{1,70}?)[ \t]*\r?\n")


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """
    Return fields nested by their names: "data[status]" becomes "status" within "data".

    Different values of one name become a list, because none of them is certain.
    """
    values_at: dict[tuple[str, ...], list[Any]] = {}
    name_of: dict[tuple[str, ...], str] = {}
    for name, value in pairs:
        path = _path_of(name)
        values_at.setdefault(path, []).append(value)
        name_of.setdefault(path, name)
    fields: dict[str, Any] = {}
    for path in sorted(values_at, key=len):
        values = values_at[path]
        value = values if any(other != values[0] for other in values) else values[0]
        parent: Any = fields
        for name in path[:-1]:
            parent = parent.setdefault(name, {}) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and path[-1] not in parent:
            parent[path[-1]] = value
        else:  # a field on the path has a value of its own
            fields[name_of[path]] = value
    return fields


def _path_of(name: str) -> tuple[str, ...]:
    if not _PATH.fullmatch(name):
        return (name,)
    path = tuple(re.split(r"[\[.]", name.replace("]", "")))
    path = path if path[-1] else path[:-1]  # "status[]"
    return path if len(path) <= DEEPEST else (name,)


def parse_form(form: bytes, charset: str | None = None) -> dict[str, Any]:
    """Return the fields of a query or of a form. A form of more than 200 fields has none."""
    # In Latin-1 each byte is a character, so the charset of the values does not matter yet.
    try:
        pairs = parse_qsl(
            form.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, encoding="latin-1"
        )
    except ValueError:
        return {}
    return nested(
        (next(texts(name.encode("latin-1"), charset)), next(texts(value.encode("latin-1"), charset)))
        for name, value in pairs
    )


def parse_multipart(body: bytes, charset: str | None) -> dict[str, Any]:
    """Return the fields of a body in `multipart/form-data`. Another body has none."""
    boundary = boundary_of(body)
    if boundary is None:
        return {}
    head = b'Content-Type: multipart/form-data; boundary="%s"\r\n\r\n' % boundary
    pairs: list[tuple[str, str]] = []
    # The errors of the `email` package for malformed input are not documented.
    with suppress(Exception):
        message: Any = message_from_bytes(head + body.lstrip())
        for part in message.get_payload()[:_MOST_FIELDS] if message.is_multipart() else ():
            name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if isinstance(name, str) and isinstance(content, bytes):
                charset_of_part = charset_of(str(part.get("content-type"))) or charset
                pairs.append((name, next(texts(content, charset_of_part))))
    return nested(pairs)


def boundary_of(body: bytes) -> bytes | None:
    """Return the boundary between the parts of a body in `multipart/form-data`, or None."""
    found = _BOUNDARY.match(body)
    return found[1] if found else None
