"""The ledger's table: its schema, and its rows locked for a decision about their messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from pico_async._masking import mask_numbers
from pico_async.bulk.journal.digests import key_digest
from pico_async.bulk.journal.protocols import JournalState
from pico_async.errors import JournalError, NotInDoubtError
from pico_async.integrations.postgres.connection import Cursor

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
    ids = await _ids_of(cursor, names, whole=whole)
    # In a fixed order, so that two transactions cannot deadlock.
    await cursor.execute(
        "SELECT id, state, doubted, extract(epoch FROM clock_timestamp() - changed_at)::float8"
        " FROM pico_ledger WHERE id = ANY(%b) ORDER BY id FOR UPDATE",
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
    await cursor.execute("SELECT id FROM pico_ledger WHERE id = ANY(%b)", (list(ids),))
    return {bytes(name): ids[bytes(name)] for (name,) in await cursor.fetchall()}


async def change_state(
    cursor: Cursor, rows: Sequence[bytes], state: JournalState, request_id: str | None = None
) -> None:
    """Change the state of rows, and their request ID if there is one."""
    await cursor.execute(
        "UPDATE pico_ledger SET state = %s, request_id = coalesce(%s, request_id), changed_at = clock_timestamp()"
        " WHERE id = ANY(%b)",
        (state.value, request_id, list(rows)),
    )


async def _salts(cursor: Cursor) -> list[bytes]:
    await cursor.execute("SELECT salt FROM pico_ledger_account")
    return [salt for (salt,) in await cursor.fetchall()]


async def _ids_of(cursor: Cursor, names: Sequence[str], *, whole: bool) -> dict[bytes, str]:
    """Return the ID of each name's row, in a fixed number of statements, however many names there are."""
    found: dict[str, list[bytes]] = {}
    for row, key in (await keys_of(cursor, names)).items():
        found.setdefault(key, []).append(row)
    asked = [
        name
        for name in dict.fromkeys(names)
        if name not in found and _ID.fullmatch(name) and (not whole or len(name) == _WHOLE_ID)
    ]
    first, last = ([bytes.fromhex(name.ljust(_WHOLE_ID, digit)) for name in asked] for digit in "0f")
    # Two rows of each beginning show that it is ambiguous. Binary (%b), because psycopg escapes each digest of a text.
    await cursor.execute(
        "SELECT name, row.id FROM unnest(%s::text[], %b::bytea[], %b::bytea[]) AS asked (name, first, last),"
        " LATERAL (SELECT id FROM pico_ledger WHERE id BETWEEN first AND last LIMIT 2) AS row",
        (asked, first, last),
    )
    for name, row in await cursor.fetchall():
        found.setdefault(name, []).append(bytes(row))
    return {_only(found.get(name, ()), name): name for name in names}


def _only(rows: Sequence[bytes], name: str) -> bytes:
    if not rows:
        raise _missing(name)
    if len(rows) > 1:
        raise JournalError(
            f"The ledger has more than one message of the name {mask_numbers(name)!r}. Nothing was changed. Use an ID "
            "that `in_doubt` returns."
        )
    return rows[0]


def _missing(name: str) -> NotInDoubtError:
    return NotInDoubtError(
        f"The ledger has no message of the key or ID {mask_numbers(name)!r}. Nothing was changed. "
        "The first delivery of a message writes it into the ledger."
    )
