"""
This module generates hostile replies: the same number always generates the same reply, so a failure can be repeated.
"""

from __future__ import annotations

import functools
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

from attrs import frozen

SECRETS = ("sandbox-api-key-XYZ", "token-of-the-test-XYZ", "the text that nobody may see", "8612345678901")

# Values of a wrong type, length or range for most fields.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, "", " ", "\x00", "x" * 5000, [], {}, [[]], {"a": None}, ["a"], "\u202e",
    "1e999", "401", 401, "500", 500, 200, "200", "null", "NaN", -0.0, 2**63,
)  # fmt: skip
FIELDS = ("request_id", "token", "balance", "errors", "code", "msg", "campaigns", "templates", "id", "extra")


@frozen
class HostileReply:
    """
    One reply, as bytes.

    Attributes:
        status: The status code in the status line; None where `_no_http` made the reply.
        payload: The JSON value of the body, if the body is complete JSON and the head is valid; else None.
    """

    raw: bytes
    status: int | None
    payload: Any = None


def hostile_reply(number: int) -> HostileReply:
    """Make the reply that belongs to this number."""
    chance = random.Random(number)
    body, payload = chance.choice(BODIES)(chance)
    return chance.choice(HEADS)(chance, body, payload)


def _value(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(6 if depth else 4)
    if kind == 4:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {chance.choice(FIELDS): _value(chance, depth - 1) for _ in range(chance.randrange(4))}
    return chance.choice(ODD) if kind else " ".join(chance.sample(SECRETS, chance.randrange(5)))


def _document(chance: random.Random) -> dict[str, Any]:
    return {field: _value(chance) for field in chance.sample(FIELDS, chance.randrange(1, 6))}


def _json(chance: random.Random) -> tuple[bytes, Any]:
    document = _document(chance)
    if chance.random() < 0.5:
        document["request_id"] = chance.choice([f"r-{chance.randrange(10**6)}", *ODD])
    return json.dumps(document).encode(), document


def _answer(chance: random.Random) -> tuple[bytes, Any]:
    # The body is valid, so only the head, or one odd field, can cause an error.
    document = {"request_id": f"r-{chance.randrange(10**6)}", "token": SECRETS[1], "balance": "12.50", "campaigns": []}
    if chance.random() < 0.3:
        document[chance.choice(FIELDS)] = chance.choice(ODD)
    return json.dumps(document).encode(), document


def _broken_json(chance: random.Random) -> tuple[bytes, Any]:
    text = json.dumps(_document(chance)).encode()
    return text[: chance.randrange(len(text))] + chance.choice([b"", b"}", b"]", b"\x00", b"}}", b",", b"//"]), None


def _huge_number(chance: random.Random) -> tuple[bytes, Any]:
    number = chance.choice([b"9" * 10_000, b"1e400", b"-1e400", b"NaN", b"Infinity", b"0." + b"1" * 9000, b"1" * 4301])
    return b'{"request_id": %s, "balance": %s, "code": %s}' % (number, number, number), None


def _deep(chance: random.Random) -> tuple[bytes, Any]:
    depth = chance.choice([50, 999, 1001, 100_000])
    return b'{"request_id": ' + b"[" * depth + b"]" * chance.choice([depth, 0]) + b"}", None


def _wrong_encoding(chance: random.Random) -> tuple[bytes, Any]:
    text = json.dumps({"request_id": "r-1", "msg": "請求訪問 é"}, ensure_ascii=False)
    return text.encode(chance.choice(["utf-16", "utf-32", "big5hkscs", "utf-8-sig", "utf-7"]), "replace"), None


def _surrogates(chance: random.Random) -> tuple[bytes, Any]:
    return b'{"request_id": "\\ud800", "token": "\\udfff", "errors": ["\\ud800"], "msg": "\\ud834"}', None


def _bytes(chance: random.Random) -> tuple[bytes, Any]:
    return chance.randbytes(chance.choice([0, 1, 10, 3000])), None


def _page(chance: random.Random) -> tuple[bytes, Any]:
    return f"<html><h1>{chance.choice(SECRETS)}</h1></html>".encode() * chance.choice([1, 100]), None


def _no_object(chance: random.Random) -> tuple[bytes, Any]:
    value = chance.choice([0, "r-1", None, True, ["r-1"], [{"request_id": "r-1"}], [], "", 1.5])
    return json.dumps(value).encode(), value


def _long(chance: random.Random) -> tuple[bytes, Any]:
    return b'{"request_id": "r", "x": "%s"}' % (b"x" * chance.choice([10_000, 2**20, 2**21])), None


BODIES: tuple[Callable[[random.Random], tuple[bytes, Any]], ...] = (
    *[_json] * 3, *[_answer] * 4, _broken_json, _broken_json, _huge_number, _deep, _wrong_encoding, _surrogates,
    _bytes, _page, _no_object, _long,
)  # fmt: skip

STATUSES = (200,) * 8 + (
    201, 202, 204, 299, 301, 302, 304, 400, 401, 403, 404, 409, 417, 429, 500, 502, 503, 504, 599, 600, 999,
)  # fmt: skip


def _sound(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    status = chance.choice(STATUSES)
    if status in (204, 304):
        body, payload = b"", None
    return HostileReply(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body), status, payload)


def _odd_header(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    line = chance.choice(
        [
            b"retry-after: -1", b"retry-after: 1e30", b"retry-after: NaN", b"retry-after: " + b"9" * 5000,
            b"retry-after: Wed, 99 Foo 0000 99:99:99 GMT", b"retry-after: \xff\xfe", b"location: http://127.0.0.1:1/steal",
            b"set-cookie: a=b; domain=*", b"content-encoding: rot13", b"content-type: text/html; charset=nonsense",
            b"x: " + b"y" * 60_000, b"\r\n".join(b"x-%d: y" % number for number in range(90)), b"connection: close",
            b"x-folded: a\r\n b", b"content-type: application/json; charset=utf-16",
        ]
    )  # fmt: skip
    status = chance.choice((200, 429, 503))
    return HostileReply(
        b"HTTP/1.1 %d X\r\n%s\r\ncontent-length: %d\r\n\r\n%s" % (status, line, len(body), body), status
    )


def _lying_length(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    length = chance.choice([b"-1", b"9" * 30, b"0x10", b"", b"1, 2", b"5\r\ncontent-length: 6", b"+5", b"1e3"])
    return HostileReply(b"HTTP/1.1 200 OK\r\ncontent-length: %s\r\n\r\n%s" % (length, body), 200)


def _leftovers(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    # The client must not take the bytes after the reply for the reply to its next request.
    more = b'HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{"request_id": "poison"}'
    return HostileReply(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}" + more, 500)


def _bad_chunks(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    chunk = chance.choice(
        [b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5;" + b"x" * 9000 + b"\r\n", b"2\r\n{}\r\n"]
    )
    return HostileReply(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk, 200)


@functools.cache
def _packed_blanks() -> bytes:
    """Return 100 MB of blanks, compressed to 100 kB; to compress them takes half a second."""
    return zlib.compress(b" " * 100_000_000, 9)


def _bomb(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    packed = _packed_blanks() if chance.random() < 0.02 else chance.randbytes(300)
    encoding = chance.choice([b"gzip", b"deflate", b"br"])
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (encoding, len(packed))
    return HostileReply(head + packed, 200)


def _no_http(chance: random.Random, body: bytes, payload: Any) -> HostileReply:
    first = chance.choice(
        [
            b"", b"\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
            b"HTTP/1.1 101 Switch\r\n\r\n", b"HTTP/1.1 200 OK\r\n\x00: \x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"x" * 200_000,
        ]
    )  # fmt: skip
    return HostileReply(first, None)


HEADS: tuple[Callable[[random.Random, bytes, Any], HostileReply], ...] = (
    *[_sound] * 8, _odd_header, _odd_header, _lying_length, _leftovers, _bad_chunks, _bomb, _no_http,
)  # fmt: skip
