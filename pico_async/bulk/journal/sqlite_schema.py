"""The tables of a journal's SQLite file, and how a file of an earlier version is brought to them."""

from __future__ import annotations

import os
import sqlite3

from pico_async.bulk.journal.digests import SALT_BYTES

# "Pico" in ASCII. It distinguishes a journal from the SQLite files of other programs.
APPLICATION_ID = 0x5069636F
VERSION = 3
# The first version with the column `held`; see sqlite_file.py.
MARKED = 2

_SCHEMA = """
CREATE TABLE journal (
    epoch INTEGER NOT NULL,     -- incremented by each run; an earlier run may no longer write
    salt BLOB NOT NULL,         -- of the digests
    account BLOB,               -- digest of the account; NULL until the first run
    held INTEGER NOT NULL DEFAULT 0,  -- CLOSED, LACKS_LOG or HAS_LOG
    inode TEXT,                 -- of the main file in the last run
    base INTEGER NOT NULL DEFAULT 0 -- epoch of the last complete checkpoint
);
CREATE TABLE message (
    row INTEGER PRIMARY KEY,    -- in the order of the input, so that one commit touches few pages
    name BLOB NOT NULL UNIQUE,  -- digest of its key, or of its content and occurrence
    content BLOB,               -- digest of what the recipient gets; NULL: any content may come next
    state TEXT NOT NULL,
    request_id TEXT,
    epoch INTEGER NOT NULL,     -- of the run that added it
    position INTEGER NOT NULL,  -- its index in the input of the last run that read it, from 0
    changed_at INTEGER NOT NULL,-- Unix time of the last change of its state
    line INTEGER,               -- of the file that it was read from, if any
    doubted INTEGER NOT NULL DEFAULT 0  -- released by `resend`: an earlier run may have sent it
);
CREATE TABLE origin (
    what TEXT PRIMARY KEY,      -- what the messages were made from, such as the text with its placeholders
    digest BLOB NOT NULL
);
"""
_FROM_VERSION_1 = """
ALTER TABLE journal ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE journal ADD COLUMN inode TEXT;
ALTER TABLE journal ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN line INTEGER;
CREATE TABLE origin (what TEXT PRIMARY KEY, digest BLOB NOT NULL);
"""
_FROM_VERSION_2 = """
ALTER TABLE message ADD COLUMN doubted INTEGER NOT NULL DEFAULT 0;
"""
_MIGRATIONS = {1: _FROM_VERSION_1 + _FROM_VERSION_2, 2: _FROM_VERSION_2}
KNOWN_VERSIONS = (*_MIGRATIONS, VERSION)


def create(connection: sqlite3.Connection) -> None:
    _execute(connection, _SCHEMA, salt=os.urandom(SALT_BYTES))


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of an earlier version to the present one."""
    _execute(connection, _MIGRATIONS[version])


def _execute(connection: sqlite3.Connection, statements: str, salt: bytes | None = None) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements.split(";\n"):
        connection.execute(statement)
    if salt is not None:
        connection.execute("INSERT INTO journal (epoch, salt) VALUES (0, ?)", (salt,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
