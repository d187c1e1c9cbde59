"""Messages, and numbers, that an input holds twice, found in flat memory."""

from __future__ import annotations

import os
import sqlite3
from hashlib import blake2b
from types import TracebackType
from typing import Self

from pico_async.errors import ConfigurationError
from pico_async.messages import Message, MmsMessage, SmsMessage
from pico_async.numbers import spellings

CACHE_KIB = 2048  # four times as much made a million rows no faster


class Duplicates:
    """
    Remember messages by number and content, and numbers by themselves, and recognise what comes again.

    A set of a million digests takes 90 MB, and a Bloom filter is small but accuses the innocent. SQLite's temporary
    database keeps the digests on disk behind a cache of 2 MB, in the standard library, and deletes itself. The
    digests are keyed with a secret of this object's: what lies on the disk tells nobody's number.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        # An empty name is a private database on disk, and is written to only once the cache is full.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def first_of(self, message: Message, place: int) -> int | None:
        """
        Give the place of the first message with this number and content, or None where this is the first.

        The number may be spelled in another way.

        Raises:
            ConfigurationError: The disk for temporary files is full.
        """
        # Number, ID and address hold no line break, which therefore keeps them apart from the text.
        apart = ""
        if isinstance(message, SmsMessage):
            apart = message.template_id or ""
        elif isinstance(message, MmsMessage):
            apart = message.media_url
        number = spellings(message.to)[0]
        return self._first(f"{type(message).__name__}\n{number}\n{apart}\n{message.text or ''}", place)

    def first_to(self, number: str, place: int) -> int | None:
        """
        Give the place of the first message to this number, in any spelling, or None where this is the first.

        Raises:
            ConfigurationError: The disk for temporary files is full.
        """
        return self._first(f"number\n{spellings(number)[0]}", place)

    def first_of_key(self, key: str, place: int) -> int | None:
        """
        Give the place of the first message with this key, or None where this is the first.

        Raises:
            ConfigurationError: The disk for temporary files is full.
        """
        return self._first(f"key\n{key}", place)

    def _first(self, content: str, place: int) -> int | None:
        digest = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16, key=self._secret).digest()
        try:
            added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, place)).rowcount
            if added:
                return None
            found = self._database.execute("SELECT place FROM seen WHERE digest = ?", (digest,)).fetchone()
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"There is no room to look for duplicates ({error}): set TMPDIR to a folder with 100 MB free."
            ) from None
        first: int = found[0]
        return first
