"""What a journal knows messages by: keyed digests, so that it holds neither numbers nor texts."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import attrs

from pico_async.messages import Message

SALT_BYTES = 16

# What the recipient gets, and from whom. When it is dropped, where its receipt goes, and whether an opt-out counts, may
# differ from run to run.
_NOT_CONTENT = frozenset({"key", "expires_in", "made_at", "callback", "promotional"})
_as_json = json.JSONEncoder(sort_keys=True).encode


def content_digest(salt: bytes, message: Message) -> bytes:
    """
    Digest what the recipient would get.

    A digest is no secret-keeper: whoever has the file, and with it the salt, can try numbers and texts against it.
    """
    # Without what is None: a field that a later version adds leaves the digests of before as they are.
    kind: Any = type(message)
    content = {name: value for name in _content_of(kind) if (value := getattr(message, name)) is not None}
    return _digest(salt, kind.__name__, _as_json(content))


@functools.cache
def _content_of(kind: Any) -> tuple[str, ...]:
    return tuple(attribute.name for attribute in attrs.fields(kind) if attribute.name not in _NOT_CONTENT)


def account_digest(salt: bytes, account: str) -> bytes:
    """Digest whose messages a journal holds."""
    return _digest(salt, "account", account)


def origin_digest(salt: bytes, what: str, value: str) -> bytes:
    """Digest what the messages of a journal were made from, such as the text with its places."""
    return _digest(salt, "origin", f"{what}\n{value}")


def key_digest(salt: bytes, key: str) -> bytes:
    """Digest the caller's name for a message."""
    return _digest(salt, "key", key)


def occurrence_digest(salt: bytes, content: bytes, occurrence: int) -> bytes:
    """Name a message that has no key: by its content, and how often that came before in the input."""
    return _digest(salt, "occurrence", f"{content.hex()} {occurrence}")


def _digest(salt: bytes, what: str, of: str) -> bytes:
    # "surrogatepass": a key may hold what UTF-8 does not.
    return hashlib.blake2b(
        of.encode("utf-8", "surrogatepass"), digest_size=16, key=salt, person=what.encode()[:16]
    ).digest()
