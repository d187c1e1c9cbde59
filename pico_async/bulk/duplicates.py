"""Finds messages, numbers and keys that an input contains twice, with constant memory."""

from __future__ import annotations

import os
import sqlite3
from hashlib import blake2b
from typing import Self

from pico_async.errors import ConfigurationError
from pico_async.messages import Message, MmsMessage, SmsMessage
from pico_async.numbers import spellings

CACHE_KIB = 2048  # a cache four times as large was no faster for a million rows


class Duplicates:
    """
    Remembers digests of messages, numbers and keys, and returns the index of the first occurrence of each.

    A set of a million digests takes 90 MB, and a Bloom filter reports false duplicates. SQLite's temporary database
    keeps the digests on disk behind a cache of 2 MB, and deletes itself. The digests are keyed with a random secret of
    this object, so no number can be derived from the disk.
    """

    def __init__(self) -> None:
        # A copy of it takes half of the time of a new one.
        self._hash = blake2b(digest_size=16, key=os.urandom(32))
        # An empty name means a private database on disk, which is written only when the cache is full.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def first_with_content(self, message: Message, index: int) -> int | None:
        """Remember content and number, in any spelling, and return the index of the first such message, or None."""
        # Number, template ID and URL contain no line break, so it separates them from the text.
        content_id = ""
        if isinstance(message, SmsMessage):
            content_id = message.template_id or ""
        elif isinstance(message, MmsMessage):
            content_id = message.media_url
        number = spellings(message.to)[0]
        return self._first(f"{type(message).__name__}\n{number}\n{content_id}\n{message.text or ''}", index)

    def first_with_number(self, number: str, index: int) -> int | None:
        """Remember the number, in any spelling, and return the index of the first message to it, or None."""
        return self._first(f"number\n{spellings(number)[0]}", index)

    def first_with_key(self, key: str, index: int) -> int | None:
        """Remember the key, and return the index of the first message with it, or None."""
        return self._first(f"key\n{key}", index)

    def _first(self, content: str, index: int) -> int | None:
        hashed = self._hash.copy()
        hashed.update(content.encode("utf-8", "surrogatepass"))
        digest = hashed.digest()
        try:
            added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, index)).rowcount
            if added:
                return None
            found = self._database.execute("SELECT position FROM seen WHERE digest = ?", (digest,)).fetchone()
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"There is no room to look for duplicates ({error}): set TMPDIR to a folder with 100 MB free."
            ) from None
        first: int = found[0]
        return first
