"""The ledger that queue workers share, in PostgreSQL: one row a key, written before the message may leave."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast

import anyio
from attrs import frozen

from pico_async._boundary import boundary
from pico_async.bulk.journal.digests import account_digest, key_digest
from pico_async.bulk.journal.protocols import JournalState
from pico_async.errors import ConfigurationError, JournalError, NotInDoubtError
from pico_async.integrations.postgres.connection import Cursor, Database, Pool, make_tables
from pico_async.integrations.postgres.run import PostgresRun, storable
from pico_async.numbers import mask_numbers

import psycopg  # isort: skip  after the link, which says how to install it
from psycopg_pool import AsyncConnectionPool  # isort: skip

# So many characters that no key of the caller's, as an order's number, is the beginning of another message's ID.
_ID = re.compile(r"[0-9a-fA-F]{12,32}")
_WHOLE_ID = 32

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pico_ledger_account (
    salt bytea PRIMARY KEY       -- digest of an account, and the salt of its digests
);
CREATE TABLE IF NOT EXISTS pico_ledger (
    id bytea PRIMARY KEY,        -- digest of account and key
    name text NOT NULL,          -- the key, its numbers masked, for people
    content bytea,               -- digest of what the recipient gets; NULL: whatever comes next under this key
    state text NOT NULL,
    request_id text,
    claim bytea NOT NULL,        -- which delivery took it last
    changed_at timestamptz NOT NULL,
    doubted boolean NOT NULL DEFAULT false    -- `resend` decided it: an earlier delivery may have gone out
);
ALTER TABLE pico_ledger ADD COLUMN IF NOT EXISTS doubted boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS pico_ledger_unfinished ON pico_ledger (changed_at) WHERE state IN ('sending', 'in_doubt');
CREATE INDEX IF NOT EXISTS pico_ledger_doubted ON pico_ledger (changed_at) WHERE doubted AND state <> 'accepted';
"""
_TABLES: Final = {
    "pico_ledger_account": ("salt",),
    "pico_ledger": ("id", "name", "content", "state", "request_id", "claim", "changed_at", "doubted"),
}

# What a row says of all its message's deliveries: the last one did not go out, but an earlier one may have.
_STATE: Final = "CASE WHEN doubted AND state IN ('not_sent', 'rejected') THEN 'in_doubt' ELSE state END"


@boundary
@frozen(kw_only=True)
class LedgerRecord:
    """
    One message, as a look at the ledger finds it.

    Attributes:
        id: The ledger's own name for it, in hex; there is neither key nor number.
        name: Its key, with whatever may be a number masked.
        changed_at: Unix time of the last change of its state.
    """

    id: str
    name: str
    state: JournalState
    request_id: str | None
    changed_at: int


@boundary
class PostgresLedger:
    """
    What became of each message, for any number of workers and processes, in one PostgreSQL database.

    It is a `Journal`: `send_once` takes it as its ledger, and `send_bulk` as its journal. Each message has one row,
    under its `key`, which is required. It is committed as "sending" before the message may leave, and only one
    delivery can do that. A delivery that finds it "sending" does not send: the other one is under way, or was
    interrupted. After some seconds the message is in doubt, until that other one settles it after all, or you do. It
    holds digests and outcomes, and keys with their numbers masked: no text.

        async with PostgresLedger("postgresql://…") as ledger:
            await ledger.setup()
            for record in await ledger.in_doubt(): ...
            await ledger.mark_sent("order-17")      # by its key, or by record.id

    What it does not promise: a failover to a replica that had not yet got the last commits forgets them, and what was
    on the wire may then be sent twice. Use synchronous replication, or decide by hand.

    Args:
        database: Where it is, as psycopg takes it, and then `async with` opens and closes a pool of its own; or an
            open pool of yours, which stays open.
        timeout_s: Seconds to wait for the server before a message may go out; then it is not sent.
        settle_s: Seconds to wait for it once the message's fate is known, as in a restart; then it is in doubt.
        under_way_s: Seconds for which another delivery of a message that is "sending" waits for its fate, before it
            calls it in doubt. It may be 0.
        stale_s: Seconds after which a row that is still "sending" is taken for an interrupted one, also where no
            other delivery came. Longer than a call may take.

    Raises:
        ConfigurationError: An argument is wrong; a conninfo, which may hold a password, is not repeated.
    """

    def __init__(
        self,
        database: str | Pool,
        *,
        timeout_s: float = 10.0,
        settle_s: float = 60.0,
        under_way_s: float = 10.0,
        stale_s: float = 900.0,
    ) -> None:
        given = {"timeout_s": timeout_s, "settle_s": settle_s, "under_way_s": under_way_s, "stale_s": stale_s}
        for name, seconds in given.items():
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                raise ConfigurationError(f"`{name}` must be a number of seconds, from 0.")
        self._owned = isinstance(database, str)
        self._database = Database(_pool(database))
        self._timeout_s = timeout_s
        self._settle_s = settle_s
        self._under_way_s = under_way_s
        self._stale_s = stale_s
        self._accounts: set[bytes] = set()

    async def setup(self) -> None:
        """
        Make the tables where they are missing, and migrate those of an older version.

        Any number of workers may do so at once; where nothing is to be done, it needs no right to make tables.

        Raises:
            JournalError: The server is not there, this user may not, or a table of that name is another's.
        """
        async with self._database.transaction(self._settle_s) as cursor:
            await make_tables(cursor, _TABLES, _SCHEMA)

    async def __aenter__(self) -> Self:
        if self._owned:
            await self._database.pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            with anyio.CancelScope(shield=True):
                await self._database.pool.close()

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[PostgresRun]:
        """
        Begin a run of messages; `send_once` and `send_bulk` do that by themselves. Many may run at once.

        Raises:
            JournalError: On entering: the server is not there, or the tables are missing.
        """
        salt = account_digest(b"", account)
        if salt not in self._accounts:
            await self._database.fetch(
                "INSERT INTO pico_ledger_account (salt) VALUES (%s) ON CONFLICT DO NOTHING",
                (salt,),
                timeout_s=self._timeout_s,
            )
            self._accounts.add(salt)
        yield PostgresRun(
            self._database,
            salt,
            timeout_s=self._timeout_s,
            settle_s=self._settle_s,
            under_way_s=self._under_way_s,
        )

    async def counts(self) -> Mapping[JournalState, int]:
        """
        Count the messages by state. Those that nobody has tried yet are not here.

        Raises:
            JournalError: It cannot be read.
        """
        rows = await self._database.fetch(
            f"SELECT {_STATE}, count(*) FROM pico_ledger GROUP BY 1",  # noqa: S608  a constant
            timeout_s=self._timeout_s,
        )
        found = dict(cast("list[tuple[str, int]]", rows))
        return {state: found.get(state, 0) for state in JournalState}

    async def in_doubt(self) -> list[LedgerRecord]:
        """
        Give the messages that may have been sent, the oldest first.

        What is on the wire is not yet among them; what has been "sending" for longer than `stale_s` is. A message that
        was resent comes back here where its new delivery was not accepted, or did not come within `stale_s`.

        Raises:
            JournalError: It cannot be read.
        """
        rows = await self._database.fetch(
            f"SELECT encode(id, 'hex'), name, {_STATE}, request_id, extract(epoch FROM changed_at)::bigint"  # noqa: S608
            " FROM pico_ledger WHERE state = 'in_doubt' OR (doubted AND state IN ('not_sent', 'rejected'))"
            " OR ((state = 'sending' OR (doubted AND state = 'pending'))"
            " AND changed_at <= clock_timestamp() - make_interval(secs => %s)) ORDER BY changed_at, id",
            (self._stale_s,),
            timeout_s=self._timeout_s,
        )
        return [
            LedgerRecord(id=name, name=shown, state=JournalState(state), request_id=request_id, changed_at=changed_at)
            for name, shown, state, request_id, changed_at in rows
        ]

    async def mark_sent(self, *names: str) -> None:
        """
        Decide that messages in doubt were sent: no later delivery sends them.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 12 characters of it.

        Raises:
            JournalError: One of them is not there, or provably not sent; then none is changed.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            for found in await self._held(cursor, names):
                if found.state is not JournalState.ACCEPTED and not found.may_have_gone_out:
                    raise JournalError(
                        f"{mask_numbers(found.name)!r} was provably not sent ({found.state}): deliver it again."
                    )
                await _change(cursor, found.id, JournalState.ACCEPTED)

    async def resend(self, *names: str) -> list[str]:
        """
        Decide that messages in doubt, or refused, are sent by their next delivery. One that went out is sent twice.

        Where that delivery does not go out, either, a message that was in doubt is in doubt again.
        Their next delivery may have another content. It must come from the queue: this deposits nothing there.

        Args:
            names: Of each, its `key`, or the ID that `in_doubt` gives, or at least 12 characters of it.

        Returns:
            The ledger's IDs for them, in hex.

        Raises:
            JournalError: One of them is not there, was accepted, or may be on the wire; then none is changed.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            ids = await self.resendable(cursor, names)
            await self.put_back(cursor, ids)
        return [name.hex() for name in ids]

    async def resendable(self, cursor: Cursor, names: Sequence[str]) -> list[bytes]:
        """
        Return the rows of messages that may be resent, and hold them until the transaction's end.

        Raises:
            JournalError: As of `resend`.
        """
        found = await self._held(cursor, names)
        for row in found:
            if row.state is JournalState.ACCEPTED:
                raise JournalError(
                    f"{mask_numbers(row.name)!r} was accepted. To send another one, give it another key."
                )
            if row.state is JournalState.SENDING and row.age_s < self._stale_s:
                raise JournalError(
                    f"{mask_numbers(row.name)!r} may be on the wire: it has been sending for {row.age_s:.0f} s. Wait "
                    f"until it is in doubt, after {self._stale_s:.0f} s at the latest."
                )
        return [row.id for row in found]

    async def put_back(self, cursor: Cursor, ids: Sequence[bytes]) -> None:
        """Let the next delivery of these messages send them. That an earlier one may have gone out stays known."""
        await cursor.execute(
            "UPDATE pico_ledger SET doubted = doubted OR state IN ('sending', 'in_doubt'), state = 'pending',"
            " content = NULL, changed_at = clock_timestamp() WHERE id = ANY(%s)",
            (list(ids),),
        )

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """
        Take note of a proof that a message went out, such as its delivery receipt.

        Args:
            name: Its `key`, or its ID.
            request_id: Pico's name for it, where the proof gives one.

        Returns:
            Whether it was in doubt, or on the wire, until now.

        Raises:
            NotInDoubtError: There is no such message, or it was provably not sent.
            JournalError: The ledger cannot be used.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            (found,) = await self._held(cursor, [name], whole=True)
            if found.state is JournalState.ACCEPTED:
                return False
            if not found.may_have_gone_out:
                raise NotInDoubtError(
                    f"{mask_numbers(name)!r} was provably not sent ({found.state}), so this is no proof."
                )
            await _change(cursor, found.id, JournalState.ACCEPTED, storable(request_id))
            return True

    async def forget(self, *, older_than_s: float) -> int:
        """
        Delete the rows of messages whose fate has been known for so long, and give their number.

        A message that is delivered again after that is sent again: keep them longer than your queue keeps a job.

        Raises:
            JournalError: It cannot be written.
        """
        rows = await self._database.fetch(
            f"WITH gone AS (DELETE FROM pico_ledger WHERE {_STATE} IN ('accepted', 'rejected', 'not_sent')"  # noqa: S608
            " AND changed_at < clock_timestamp() - make_interval(secs => %s) RETURNING 1) SELECT count(*) FROM gone",
            (older_than_s,),
            timeout_s=self._timeout_s,
        )
        return int(rows[0][0])

    async def keys_of(self, cursor: Cursor, keys: Iterable[str]) -> dict[bytes, str]:
        """Return the rows of messages with these keys, and the key of each; one for each account that has it."""
        await cursor.execute("SELECT salt FROM pico_ledger_account")
        ids = {key_digest(salt, key): key for (salt,) in await cursor.fetchall() for key in set(keys)}
        await cursor.execute("SELECT id FROM pico_ledger WHERE id = ANY(%s)", (list(ids),))
        return {bytes(name): ids[bytes(name)] for (name,) in await cursor.fetchall()}

    async def may_have_sent(self, keys: Iterable[str]) -> set[str]:
        """
        Return the keys whose messages were sent, may have been sent, or are on the wire.

        Raises:
            JournalError: It cannot be read.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            ids = await self.keys_of(cursor, keys)
            await cursor.execute(
                "SELECT id FROM pico_ledger WHERE id = ANY(%s)"
                " AND (doubted OR state NOT IN ('pending', 'not_sent', 'rejected'))",
                (list(ids),),
            )
            return {ids[bytes(name)] for (name,) in await cursor.fetchall()}

    async def _held(self, cursor: Cursor, names: Sequence[str], *, whole: bool = False) -> list[_Found]:
        """
        Find rows by their keys, or by their IDs or the beginnings of them, and hold them until the transaction's end.

        Args:
            whole: The beginning of an ID does not do: a key of another ledger may look like one.
        """
        await cursor.execute("SELECT salt FROM pico_ledger_account")
        salts = [salt for (salt,) in await cursor.fetchall()]
        ids = {await self._id_of(cursor, name, salts, whole=whole): name for name in names}
        # In one order: two decisions at once would otherwise wait for each other.
        await cursor.execute(
            "SELECT id, state, doubted, extract(epoch FROM clock_timestamp() - changed_at)::float8"
            " FROM pico_ledger WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
            (list(ids),),
        )
        found = {
            bytes(row): _Found(bytes(row), ids[bytes(row)], JournalState(state), doubted, age_s)
            for row, state, doubted, age_s in await cursor.fetchall()
        }
        for row, name in ids.items():
            if row not in found:
                raise _none(name)
        return [found[row] for row in ids]

    async def _id_of(self, cursor: Cursor, name: str, salts: Sequence[bytes], *, whole: bool) -> bytes:
        await cursor.execute(
            "SELECT id FROM pico_ledger WHERE id = ANY(%s) LIMIT 2", ([key_digest(salt, name) for salt in salts],)
        )
        found = await cursor.fetchall()
        if not found and _ID.fullmatch(name) and (not whole or len(name) == _WHOLE_ID):
            first, last = (bytes.fromhex(name.ljust(32, digit)) for digit in "0f")
            await cursor.execute("SELECT id FROM pico_ledger WHERE id BETWEEN %s AND %s LIMIT 2", (first, last))
            found = await cursor.fetchall()
        if not found:
            raise _none(name)
        if len(found) > 1:
            raise JournalError(
                f"In the ledger more than one message is meant by {mask_numbers(name)!r}. Nothing was changed."
            )
        return bytes(found[0][0])


class _Found(NamedTuple):
    """A row of the ledger, and the name by which it was asked for."""

    id: bytes
    name: str
    state: JournalState
    doubted: bool
    age_s: float

    @property
    def may_have_gone_out(self) -> bool:
        return self.doubted or self.state in (JournalState.IN_DOUBT, JournalState.SENDING)


def _none(name: str) -> NotInDoubtError:
    return NotInDoubtError(
        f"In the ledger there is no message of the key or ID {mask_numbers(name)!r}. Nothing was changed. "
        "A message comes into the ledger with its first delivery."
    )


async def _change(cursor: Cursor, row: bytes, state: JournalState, request_id: str | None = None) -> None:
    await cursor.execute(
        "UPDATE pico_ledger SET state = %s, request_id = coalesce(%s, request_id), changed_at = clock_timestamp()"
        " WHERE id = %s",
        (state.value, request_id, row),
    )


def _pool(database: Any) -> Pool:
    if isinstance(database, AsyncConnectionPool):
        return database
    if not isinstance(database, str):
        raise ConfigurationError(
            f"`database` must be a conninfo or an AsyncConnectionPool of psycopg's, not {type(database).__name__}."
        )
    try:
        psycopg.conninfo.conninfo_to_dict(database)
    except psycopg.Error:
        raise ConfigurationError(
            "`database` is no conninfo: pass one as 'postgresql://user@host/database' or 'host=… dbname=…'."
        ) from None
    return AsyncConnectionPool(database, min_size=1, max_size=8, open=False, kwargs={"autocommit": True})
