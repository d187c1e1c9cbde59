"""Keyed digests, by which a journal identifies messages without storing numbers or texts."""

from __future__ import annotations

import hashlib
import json

import attrs

from pico_async.messages import Message

SALT_BYTES = 16

# These fields may differ from run to run. The content is what the recipient gets, and the sender.
_NOT_CONTENT = frozenset({"key", "expires_in", "made_at", "callback", "promotional"})
_as_json = json.JSONEncoder(sort_keys=True).encode


def content_digest(salt: bytes, message: Message) -> bytes:
    """
    Return the digest of what the recipient would get.

    A digest keeps no secret: anyone with the file, which contains the salt, can test numbers and texts against it.
    """
    # Fields that are None are left out, so that a field added by a later version does not change earlier digests.
    content = attrs.asdict(message, filter=lambda field, value: field.name not in _NOT_CONTENT and value is not None)
    return _digest(salt, type(message).__name__, _as_json(content))


def account_digest(salt: bytes, account: str) -> bytes:
    return _digest(salt, "account", account)


def origin_digest(salt: bytes, what: str, value: str) -> bytes:
    """Return the digest of what a journal's messages were made from, such as the text with its placeholders."""
    return _digest(salt, "origin", f"{what}\n{value}")


def key_digest(salt: bytes, key: str) -> bytes:
    return _digest(salt, "key", key)


def occurrence_digest(salt: bytes, content: bytes, occurrence: int) -> bytes:
    """Return the name of a message without a key: the digest of its content and of how often that occurred before."""
    return _digest(salt, "occurrence", f"{content.hex()} {occurrence}")


def _digest(salt: bytes, what: str, of: str) -> bytes:
    # "surrogatepass": a key may contain an unpaired surrogate, which UTF-8 cannot encode.
    return hashlib.blake2b(
        of.encode("utf-8", "surrogatepass"), digest_size=16, key=salt, person=what.encode()[:16]
    ).digest()
