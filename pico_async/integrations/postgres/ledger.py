"""The ledger in PostgreSQL that many workers share: one row for each key, written before its message is sent."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import anyio
from attrs import frozen

from pico_async._boundary import boundary
from pico_async._masking import mask_numbers
from pico_async._values import Value
from pico_async.bulk.journal.digests import account_digest
from pico_async.bulk.journal.protocols import JournalState
from pico_async.errors import ConfigurationError, JournalError, NotInDoubtError
from pico_async.integrations.postgres.connection import Cursor, Database, Pool, make_tables
from pico_async.integrations.postgres.run import PostgresRun, storable
from pico_async.integrations.postgres.table import SCHEMA, STATE, TABLES, change_state, keys_of, lock_rows

import psycopg  # isort: skip  after the connection, which says how to install it
from psycopg_pool import AsyncConnectionPool  # isort: skip

# Seconds that a decision may take for each message. A busy server takes some 50 µs.
_DECISION_S = 0.001


@boundary
@frozen(kw_only=True)
class LedgerRecord(Value):
    """
    One message of the ledger.

    Attributes:
        id: The ledger's ID of the message, in hex: a digest that reveals neither key nor number.
        name: The message's key, with everything masked that may be a number.
        changed_at: Unix time of the last change of the state.
    """

    id: str
    name: str
    state: JournalState
    request_id: str | None
    changed_at: int


@boundary
class PostgresLedger:
    """
    The outcome of each message in one PostgreSQL database, for any number of workers and processes.

    This is a `Journal`: `send_once` takes it as `ledger`, and `send_bulk` as `journal`. Each message has one row under
    its `key`, which is required. The row is committed as "sending" before the message is sent, and only one delivery
    can do that. A delivery that finds the row "sending" does not send: the other delivery is still running, or was
    interrupted. After some seconds the message is in doubt, until the other delivery or the caller settles it. The
    table contains digests, outcomes, and keys with their numbers masked, but no text.

        async with PostgresLedger("postgresql://…") as ledger:
            await ledger.setup()
            for record in await ledger.in_doubt(): ...
            await ledger.mark_sent("order-17")      # by its key, or by record.id

    A failover to a replica without the last commits loses them, and their messages may then be sent twice. Use
    synchronous replication, or decide by hand.

    Args:
        database: A conninfo or URL for psycopg: `async with` then opens and closes a pool. Or an open pool of the
            caller's, which stays open.
        timeout_s: Seconds to wait for the server before a message is sent. After them it is not sent. `mark_sent` and
            `resend` of many wait longer, by 1 ms for each message.
        settle_s: Seconds to wait for the server, such as in a restart, to store the outcome. Then the message is in
            doubt.
        under_way_s: Seconds that a delivery waits while its message is "sending", before the message is in doubt. It
            may be 0.
        stale_s: Seconds after which a row that is still "sending" counts as interrupted, even if no other delivery
            came. It must be longer than a call takes.

    Raises:
        ConfigurationError: An argument is wrong. The error does not contain a conninfo, which may have a password.
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
        Create the tables if they are missing, and migrate those of an older version.

        Any number of workers may call this at once. If nothing is missing, no privilege to create tables is needed.

        Raises:
            JournalError: The server is away, this user may not create tables, or a table has other columns.
        """
        async with self._database.transaction(self._settle_s) as cursor:
            await make_tables(cursor, TABLES, SCHEMA)

    def __repr__(self) -> str:
        return f"<PostgresLedger on {self._database!r}>"

    def uses(self, pool: Pool) -> bool:
        """Return whether the ledger uses the connections of this pool, and so the same database."""
        return self._database.pool is pool

    async def __aenter__(self) -> Self:
        if self._owned:
            await self._database.pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owned:
            with anyio.CancelScope(shield=True):
                await self._database.pool.close()

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[PostgresRun]:
        """
        Begin a run of messages, as `send_once` and `send_bulk` do. Many may run at once.

        Raises:
            JournalError: On entering: the server is away, or the tables are missing.
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
            database=self._database,
            salt=salt,
            timeout_s=self._timeout_s,
            settle_s=self._settle_s,
            under_way_s=self._under_way_s,
        )

    async def counts(self) -> Mapping[JournalState, int]:
        """
        Return the number of messages in each state. Messages without a delivery are not counted.

        Raises:
            JournalError: The ledger cannot be read.
        """
        rows = await self._database.fetch(
            f"SELECT {STATE}, count(*) FROM pico_ledger GROUP BY 1",  # noqa: S608  a constant
            timeout_s=self._timeout_s,
        )
        found = dict(cast("list[tuple[str, int]]", rows))
        return {state: found.get(state, 0) for state in JournalState}

    async def in_doubt(self) -> list[LedgerRecord]:
        """
        Return the messages that may have been sent, the oldest first.

        A message that is "sending" is returned after `stale_s`. A message that was resent is returned again if its new
        delivery was not accepted, or did not come within `stale_s`.

        Raises:
            JournalError: The ledger cannot be read.
        """
        rows = await self._database.fetch(
            f"SELECT encode(id, 'hex'), name, {STATE}, request_id, extract(epoch FROM changed_at)::bigint"  # noqa: S608
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
        Mark messages in doubt as sent, so that no later delivery sends them.

        Args:
            names: For each message its `key`, its ID from `in_doubt`, or the first 12 or more characters of the ID.

        Raises:
            JournalError: A message is missing, or was provably not sent. Then none is changed.
        """
        async with self._database.transaction(self._decision_s(names)) as cursor:
            rows = await lock_rows(cursor, names)
            for found in rows:
                if found.state is not JournalState.ACCEPTED and not found.may_have_been_sent:
                    raise JournalError(
                        f"{mask_numbers(found.name)!r} was provably not sent ({found.state}). Deliver it again."
                    )
            await change_state(cursor, [found.id for found in rows], JournalState.ACCEPTED)

    async def resend(self, *names: str) -> list[str]:
        """
        Allow the next delivery to send messages that are in doubt or were refused. One that was sent is sent twice.

        If that delivery is not sent either, a message that was in doubt is in doubt again. The next delivery may have
        another content. It must come from the queue, because this puts nothing there.

        Args:
            names: For each message its `key`, its ID from `in_doubt`, or the first 12 or more characters of the ID.

        Returns:
            The ledger's IDs of the messages, in hex.

        Raises:
            JournalError: A message is missing, was accepted, or may be on the wire. Then none is changed.
        """
        async with self._database.transaction(self._decision_s(names)) as cursor:
            ids = await self.resendable(cursor, names)
            await self.put_back(cursor, ids)
        return [name.hex() for name in ids]

    async def resendable(self, cursor: Cursor, names: Sequence[str]) -> list[bytes]:
        """Lock messages that may be resent until the transaction ends, and return their IDs; raise as `resend` does."""
        found = await lock_rows(cursor, names)
        for row in found:
            if row.state is JournalState.ACCEPTED:
                raise JournalError(
                    f"{mask_numbers(row.name)!r} was accepted. To send another message, give it another key."
                )
            if row.state is JournalState.SENDING and row.age_s < self._stale_s:
                raise JournalError(
                    f"{mask_numbers(row.name)!r} may be on the wire: it has been sending for {row.age_s:.0f} s. Wait "
                    f"until it is in doubt, after {self._stale_s:.0f} s at the latest."
                )
        return [row.id for row in found]

    async def put_back(self, cursor: Cursor, ids: Sequence[bytes]) -> None:
        """Allow the next delivery to send these messages, and keep the doubt about an earlier one."""
        await cursor.execute(
            "UPDATE pico_ledger SET doubted = doubted OR state IN ('sending', 'in_doubt'), state = 'pending',"
            " content = NULL, changed_at = clock_timestamp() WHERE id = ANY(%b)",
            (list(ids),),
        )

    async def confirm(self, name: str, request_id: str | None = None) -> bool:
        """
        Record a proof that a message was sent, such as its delivery receipt.

        Args:
            name: The message's `key` or ID.
            request_id: Pico's ID of the message, if the proof has one.

        Returns:
            Whether the message was in doubt, or on the wire, until now.

        Raises:
            NotInDoubtError: The message is missing, or was provably not sent.
            JournalError: The ledger cannot be used.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            (found,) = await lock_rows(cursor, [name], whole=True)
            if found.state is JournalState.ACCEPTED:
                return False
            if not found.may_have_been_sent:
                raise NotInDoubtError(
                    f"{mask_numbers(name)!r} was provably not sent ({found.state}), so this is no proof."
                )
            await change_state(cursor, [found.id], JournalState.ACCEPTED, storable(request_id))
            return True

    async def forget(self, *, older_than_s: float) -> int:
        """
        Delete the rows of messages whose outcome has been certain for so long, and return their number.

        A message that is delivered again after that is sent again. Keep rows longer than the queue keeps a job.

        Raises:
            JournalError: The ledger cannot be written.
        """
        rows = await self._database.fetch(
            f"WITH gone AS (DELETE FROM pico_ledger WHERE {STATE} IN ('accepted', 'rejected', 'not_sent')"  # noqa: S608
            " AND changed_at < clock_timestamp() - make_interval(secs => %s) RETURNING 1) SELECT count(*) FROM gone",
            (older_than_s,),
            timeout_s=self._timeout_s,
        )
        return int(rows[0][0])

    async def may_have_sent(self, keys: Iterable[str]) -> set[str]:
        """
        Return the keys whose messages were sent, may have been sent, or are on the wire.

        Raises:
            JournalError: The ledger cannot be read.
        """
        async with self._database.transaction(self._timeout_s) as cursor:
            ids = await keys_of(cursor, keys)
            await cursor.execute(
                "SELECT id FROM pico_ledger WHERE id = ANY(%b)"
                " AND (doubted OR state NOT IN ('pending', 'not_sent', 'rejected'))",
                (list(ids),),
            )
            return {ids[bytes(name)] for (name,) in await cursor.fetchall()}

    def _decision_s(self, names: Sequence[str]) -> float:
        """Return the seconds for a decision about so many messages: all change in one transaction, or none."""
        return self._timeout_s + _DECISION_S * len(names)


def _pool(database: Any) -> Pool:
    if isinstance(database, AsyncConnectionPool):
        return database
    if not isinstance(database, str):
        raise ConfigurationError(
            f"`database` must be a conninfo or an AsyncConnectionPool of psycopg_pool, not {type(database).__name__}."
        )
    try:
        psycopg.conninfo.conninfo_to_dict(database)
    except psycopg.Error:
        raise ConfigurationError(
            "`database` is not a conninfo. Pass one such as 'postgresql://user@host/database' or 'host=… dbname=…'."
        ) from None
    return AsyncConnectionPool(database, min_size=1, max_size=8, open=False, kwargs={"autocommit": True})
