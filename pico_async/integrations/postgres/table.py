"""The ledger's table: its schema, and its rows locked for a decision about their messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from pico_async.bulk.journal.digests import key_digest
from pico_async.bulk.journal.protocols import JournalState
from pico_async.errors import JournalError, NotInDoubtError
from pico_async.integrations.postgres.connection import Cursor
from pico_async.numbers import mask_numbers

# An ID's prefix must be so long that no key of the caller's, as an order number, looks like one.
_ID = re.compile(r"[0-9a-fA-F]{12,32}")
_WHOLE_ID = 32

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pico_ledger_account (
    salt bytea PRIMARY KEY       -- digest of an account, and the salt of its digests
);
CREATE TABLE IF NOT EXISTS pico_ledger (
    id bytea PRIMARY KEY,        -- digest of account and key
    name text NOT NULL,          -- the key for people to read, with its numbers masked
    content bytea,               -- digest of the message's content; NULL: the next delivery may have any content
    state text NOT NULL,
    request_id text,
    claim bytea NOT NULL,        -- random ID of the last delivery that claimed the row
    changed_at timestamptz NOT NULL,
    doubted boolean NOT NULL DEFAULT false    -- `resend` was called while an earlier delivery was in doubt
);
ALTER TABLE pico_ledger ADD COLUMN IF NOT EXISTS doubted boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS pico_ledger_unfinished ON pico_ledger (changed_at) WHERE state IN ('sending', 'in_doubt');
CREATE INDEX IF NOT EXISTS pico_ledger_doubted ON pico_ledger (changed_at) WHERE doubted AND state <> 'accepted';
"""
TABLES: Final = {
    "pico_ledger_account": ("salt",),
    "pico_ledger": ("id", "name", "content", "state", "request_id", "claim", "changed_at", "doubted"),
}
# The state of a message over all its deliveries: the last one was not sent, but an earlier one is in doubt.
STATE: Final = "CASE WHEN doubted AND state IN ('not_sent', 'rejected') THEN 'in_doubt' ELSE state END"


@frozen
class LockedRow:
    """A row that is locked until the transaction's end, with the name by which the caller asked for it."""

    id: bytes
    name: str
    state: JournalState
    doubted: bool
    age_s: float

    @property
    def may_have_been_sent(self) -> bool:
        """Return whether the message is in doubt, or being sent."""
        return self.doubted or self.state in (JournalState.IN_DOUBT, JournalState.SENDING)


async def lock_rows(cursor: Cursor, names: Sequence[str], *, whole: bool = False) -> list[LockedRow]:
    """
    Find rows by their keys, or by their IDs or prefixes of these, and lock them until the transaction's end.

    Raise unless each name has exactly one message. With *whole*, no prefix of an ID is accepted: a key of another
    ledger could look like one.
    """
    salts = await _salts(cursor)
    ids = {await _id_of(cursor, name, salts, whole=whole): name for name in names}
    # In a fixed order, so that two transactions cannot deadlock.
    await cursor.execute(
        "SELECT id, state, doubted, extract(epoch FROM clock_timestamp() - changed_at)::float8"
        " FROM pico_ledger WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
        (list(ids),),
    )
    found = {
        bytes(row): LockedRow(bytes(row), ids[bytes(row)], JournalState(state), doubted, age_s)
        for row, state, doubted, age_s in await cursor.fetchall()
    }
    for row, name in ids.items():
        if row not in found:
            raise _missing(name)
    return [found[row] for row in ids]


async def keys_of(cursor: Cursor, keys: Iterable[str]) -> dict[bytes, str]:
    """Return the IDs of the rows with these keys, and the key of each: one row for each account that has the key."""
    ids = {key_digest(salt, key): key for salt in await _salts(cursor) for key in set(keys)}
    await cursor.execute("SELECT id FROM pico_ledger WHERE id = ANY(%s)", (list(ids),))
    return {bytes(name): ids[bytes(name)] for (name,) in await cursor.fetchall()}


async def change_state(cursor: Cursor, row: bytes, state: JournalState, request_id: str | None = None) -> None:
    """Change a row's state, and its request ID if there is one."""
    await cursor.execute(
        "UPDATE pico_ledger SET state = %s, request_id = coalesce(%s, request_id), changed_at = clock_timestamp()"
        " WHERE id = %s",
        (state.value, request_id, row),
    )


async def _salts(cursor: Cursor) -> list[bytes]:
    await cursor.execute("SELECT salt FROM pico_ledger_account")
    return [salt for (salt,) in await cursor.fetchall()]


async def _id_of(cursor: Cursor, name: str, salts: Sequence[bytes], *, whole: bool) -> bytes:
    await cursor.execute(
        "SELECT id FROM pico_ledger WHERE id = ANY(%s) LIMIT 2", ([key_digest(salt, name) for salt in salts],)
    )
    found = await cursor.fetchall()
    if not found and _ID.fullmatch(name) and (not whole or len(name) == _WHOLE_ID):
        first, last = (bytes.fromhex(name.ljust(32, digit)) for digit in "0f")
        await cursor.execute("SELECT id FROM pico_ledger WHERE id BETWEEN %s AND %s LIMIT 2", (first, last))
        found = await cursor.fetchall()
    if not found:
        raise _missing(name)
    if len(found) > 1:
        raise JournalError(
            f"The ledger has more than one message of the name {mask_numbers(name)!r}. Nothing was changed. Use an ID "
            "that `in_doubt` returns."
        )
    return bytes(found[0][0])


def _missing(name: str) -> NotInDoubtError:
    return NotInDoubtError(
        f"The ledger has no message of the key or ID {mask_numbers(name)!r}. Nothing was changed. "
        "The first delivery of a message writes it into the ledger."
    )
