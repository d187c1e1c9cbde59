"""The outbox: the messages of the jobs, in a table of their own."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeVar
from uuid import UUID, uuid4

import attrs
from attrs import define, field, frozen
from procrastinate import App, PsycopgConnector
from procrastinate.schema import SchemaManager
from psycopg.rows import TupleRow

from pico_async._boundary import boundary
from pico_async.bulk.journal.protocols import Journal, JournalRun
from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.integrations.postgres.connection import Cursor, Database, Pool, make_tables
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage, deadline

Name = TypeVar("Name")

TIMEOUT_S = 10.0
# The remaining time of an expired message. It is delivered all the same, because the ledger may know that it was sent.
MINIMAL_S = 1e-6

_KINDS: Final = {kind.__name__: kind for kind in (SmsMessage, MmsMessage, VoiceMessage)}
_NOT_KEPT = frozenset({"expires_in", "made_at"})

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pico_outbox (
    id uuid PRIMARY KEY,
    message text NOT NULL,       -- JSON. Not jsonb, which cannot store every text
    expires_at timestamptz,      -- by this server's clock, because the workers' clocks may differ
    failed_at timestamptz,       -- since when it waits for `resend` or `discard`: in doubt, refused or given up
    job bigint                   -- the job that delivers it; NULL: an older version wrote it
);
CREATE INDEX IF NOT EXISTS pico_outbox_expires ON pico_outbox (expires_at);
"""
_COLUMNS: Final = ("id", "message", "expires_at", "failed_at", "job")
_MIGRATE: Final = """
ALTER TABLE pico_outbox ADD COLUMN IF NOT EXISTS job bigint;
UPDATE pico_outbox SET job = found.job
FROM (SELECT args ->> 'outbox_id' AS name, max(id) AS job FROM procrastinate_jobs GROUP BY name) AS found
WHERE pico_outbox.job IS NULL AND found.name = pico_outbox.id::text;
UPDATE pico_outbox SET job = 0 WHERE job IS NULL;  -- none
"""

_DROP: Final = "DELETE FROM pico_outbox WHERE id = %(outbox_id)s"

FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)

# The number of expired messages that one transaction drops, and of messages that one transaction checks for their jobs.
# A queue may hold a million.
BATCH: Final = 1000
SCAN_SIZE: Final = 10_000

# A job that ended, was cancelled, aborted or deleted no longer delivers its message.
_NO_JOB: Final = (
    "(CASE WHEN job IS NULL THEN failed_at IS NOT NULL ELSE NOT EXISTS (SELECT FROM procrastinate_jobs"
    " WHERE procrastinate_jobs.id = job AND status IN ('todo', 'doing')) END)"
)


@frozen
class OutboxEntry:
    """A message to write into the outbox, and the seconds until it expires; None for never."""

    id: UUID
    message: str = field(repr=False)
    remaining_s: float | None

    @classmethod
    def of(cls, message: Message) -> Self:
        """Make the entry of a message. A message without a key gets a random one, to identify it at each delivery."""
        name = uuid4()
        if message.key is None:
            message = attrs.evolve(message, key=str(name))
        end = deadline(message)
        return cls(name, _to_json(message), None if end is None else end - time.monotonic())


class Outbox:
    """The messages whose jobs are not done, in the database of procrastinate's jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: UUID) -> Message | None:
        """Return the message with its remaining time, or None if it was dropped; raise if it cannot be read."""
        rows = await self._database.fetch(
            "SELECT message, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM pico_outbox WHERE id = %s",
            (name,),
            timeout_s=TIMEOUT_S,
        )
        if not rows:
            return None
        packed, remaining_s = rows[0]
        message = from_json(packed)
        return message if remaining_s is None else attrs.evolve(message, expires_in=max(remaining_s, MINIMAL_S))

    async def drop(self, name: UUID) -> None:
        """Delete the message, because it needs no further delivery."""
        await self._database.fetch(_DROP, {"outbox_id": name}, timeout_s=TIMEOUT_S)

    def dropping(self, ledger: Journal, name: UUID) -> DroppingLedger | None:
        """Return a ledger that drops the message together with its outcome, or None if it is in another database."""
        if isinstance(ledger, PostgresLedger) and ledger.uses(self._database.pool):
            return DroppingLedger(ledger, name)
        return None

    async def keep(self, name: UUID) -> None:
        """Keep the message for `resend` or `discard`."""
        await self._database.fetch(
            "UPDATE pico_outbox SET failed_at = clock_timestamp() WHERE id = %s", (name,), timeout_s=TIMEOUT_S
        )

    async def time_after(self, wait_s: float) -> datetime:
        """Return the time in so many seconds by PostgreSQL's clock; raise if PostgreSQL cannot be asked now."""
        rows = await self._database.fetch(
            "SELECT extract(epoch FROM clock_timestamp() + make_interval(secs => %s))::float8",
            (wait_s,),
            timeout_s=TIMEOUT_S,
        )
        return datetime.fromtimestamp(rows[0][0], UTC)


@define(eq=False)
class DroppingLedger:
    """
    The ledger in the outbox's database: one statement settles the message as accepted and drops it.

    Attributes:
        has_dropped: Whether that statement was committed.
    """

    _ledger: PostgresLedger
    _name: UUID
    has_dropped: bool = field(default=False, init=False)

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[JournalRun]:
        """Begin a run of this message, as `PostgresLedger.run` does."""
        async with self._ledger.run(account) as run:
            run.when_accepted = (_DROP, {"outbox_id": self._name})
            yield run
            self.has_dropped = run.has_accepted


@boundary
async def discard(app: App, *, older_than_s: float) -> int:
    """
    Delete messages that failed so long ago, with their numbers and texts, and return how many.

    These messages were in doubt, refused or given up, or their job was cancelled, aborted or deleted. `resend` cannot
    put them back afterwards. Their rows in the ledger stay, so `mark_sent` and `confirm` still work. Workers delete
    expired messages by themselves.

    Raises:
        JournalError: The outbox cannot be written.
    """
    async with Database(pool_of(app)).transaction(TIMEOUT_S) as cursor:
        await cursor.execute(
            "SELECT id FROM pico_outbox WHERE failed_at < clock_timestamp() - make_interval(secs => %s)"
            " FOR UPDATE SKIP LOCKED",
            (older_than_s,),
        )
        held = [name for (name,) in await cursor.fetchall()]
        # A `resend` may have committed a job for the message meanwhile. Only a new statement sees it.
        await cursor.execute(
            f"DELETE FROM pico_outbox WHERE id = ANY(%s) AND failed_at IS NOT NULL AND {_NO_JOB}",  # noqa: S608  a constant
            (held,),
        )
        return cursor.rowcount


async def without_job(cursor: Cursor) -> dict[UUID, str]:
    """Return the IDs and the keys of messages that no job delivers."""
    await cursor.execute(f"SELECT id, message FROM pico_outbox WHERE {_NO_JOB}")  # noqa: S608  a constant
    return readable_keys(await cursor.fetchall())


async def keys_in_outbox(cursor: Cursor, keys: list[str]) -> set[str]:
    """Return those of the keys whose messages are in the outbox, with or without a job."""
    await cursor.execute(
        "SELECT message FROM pico_outbox WHERE EXISTS"
        " (SELECT FROM unnest(%s::text[]) AS part WHERE strpos(message, part) > 0)",
        ([json.dumps({"key": key})[1:-1] for key in keys],),
    )
    found = readable_keys((packed, packed) for (packed,) in await cursor.fetchall())
    return set(found.values()) & set(keys)


async def hold_for_resend(cursor: Cursor, names: list[UUID]) -> list[UUID]:
    """Lock messages until the transaction's end, and return those without a job that have not expired."""
    await cursor.execute("SELECT FROM pico_outbox WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (names,))
    # Another `resend` may have locked them until now, and given them jobs. Only a new statement sees these.
    await cursor.execute(
        f"UPDATE pico_outbox SET failed_at = NULL WHERE id = ANY(%s) AND {_NO_JOB}"  # noqa: S608  a constant
        " AND coalesce(expires_at > clock_timestamp(), true) RETURNING id",
        (names,),
    )
    return [name for (name,) in await cursor.fetchall()]


async def fail_without_job(cursor: Cursor, after: UUID) -> tuple[int, UUID]:
    """
    Mark messages that no job delivers as failed, so that they wait for `resend` or `discard`.

    Of the 10,000 messages after an ID, return how many were marked, and the ID after which to continue.
    """
    await cursor.execute(
        "SELECT id FROM pico_outbox WHERE id > %s ORDER BY id OFFSET %s LIMIT 1", (after, SCAN_SIZE - 1)
    )
    last = await cursor.fetchone()
    until = last[0] if last is not None else LAST_ID
    await cursor.execute(
        f"SELECT id FROM pico_outbox WHERE id > %s AND id <= %s AND failed_at IS NULL AND {_NO_JOB}"  # noqa: S608
        " FOR UPDATE SKIP LOCKED",
        (after, until),
    )
    held = [name for (name,) in await cursor.fetchall()]
    # A `resend` may have committed a job for the message meanwhile. Only a new statement sees it.
    await cursor.execute(
        f"UPDATE pico_outbox SET failed_at = clock_timestamp() WHERE id = ANY(%s) AND {_NO_JOB}",  # noqa: S608
        (held,),
    )
    return cursor.rowcount, until if last is not None else FIRST_ID


async def expired(cursor: Cursor, after: tuple[datetime, UUID]) -> list[TupleRow]:
    """
    Return the next batch of expired messages: for each its time, ID, JSON, and the job that waits to deliver it.

    A message that a worker is delivering is not returned. *after* is the time and the ID of the last message before.
    """
    await cursor.execute(
        "SELECT expires_at, pico_outbox.id, message, jobs.id FROM pico_outbox"
        " LEFT JOIN procrastinate_jobs AS jobs ON jobs.id = job AND status IN ('todo', 'doing')"
        " WHERE expires_at <= clock_timestamp() AND (expires_at, pico_outbox.id) > (%s, %s)"
        " AND status IS DISTINCT FROM 'doing' ORDER BY expires_at, pico_outbox.id LIMIT %s",
        (*after, BATCH),
    )
    return await cursor.fetchall()


async def drop_expired(cursor: Cursor, messages: list[UUID], jobs: list[int | None], *, delete_jobs: bool) -> int:
    """Delete expired messages, end the jobs that wait to deliver them, and return the number of messages."""
    end = "DELETE FROM procrastinate_jobs" if delete_jobs else "UPDATE procrastinate_jobs SET status = 'failed'"
    # A job that a worker has just taken is skipped. So is a message that `resend` has locked, until the next check.
    statement = f"""
        WITH ended AS ({end} WHERE id IN (
            SELECT id FROM procrastinate_jobs WHERE id = ANY(%(jobs)s::bigint[]) AND status = 'todo'
            FOR UPDATE SKIP LOCKED) RETURNING id),
        held AS (SELECT id FROM pico_outbox WHERE id = ANY(%(messages)s) FOR UPDATE SKIP LOCKED)
        DELETE FROM pico_outbox USING held, unnest(%(messages)s::uuid[], %(jobs)s::bigint[]) AS late (id, job)
        WHERE pico_outbox.id = held.id AND held.id = late.id
        AND (late.job IS NULL OR late.job IN (SELECT id FROM ended))
    """  # noqa: S608  a constant
    await cursor.execute(statement, {"messages": messages, "jobs": jobs})
    return cursor.rowcount


async def record_jobs(cursor: Cursor, jobs: list[int]) -> None:
    """Record which of these jobs delivers which message."""
    await cursor.execute(
        "UPDATE pico_outbox SET job = procrastinate_jobs.id FROM procrastinate_jobs"
        " WHERE procrastinate_jobs.id = ANY(%s) AND pico_outbox.id = (procrastinate_jobs.args ->> 'outbox_id')::uuid",
        (jobs,),
    )


async def put(cursor: Cursor, entries: list[OutboxEntry]) -> None:
    """Insert entries in the cursor's transaction."""
    await cursor.execute(
        "INSERT INTO pico_outbox (id, message, expires_at)"
        " SELECT id, message, clock_timestamp() + make_interval(secs => remaining_s)"
        " FROM unnest(%s::uuid[], %s::text[], %s::float8[]) AS new (id, message, remaining_s)",
        (
            [entry.id for entry in entries],
            [entry.message for entry in entries],
            [entry.remaining_s for entry in entries],
        ),
    )


@boundary
async def setup(app: App) -> None:
    """
    Create the tables of this package, and procrastinate's own if they are missing.

    This also migrates this package's tables of an older version, but not an older schema of procrastinate. Any number
    of workers may call it at once. If nothing is missing, no privilege to create tables is needed.

    Raises:
        ConfigurationError: The app's connector is not procrastinate's `PsycopgConnector`.
        JournalError: The server is away, or this user may not create tables.
        procrastinate.exceptions.AppNotOpen: The app is not open. Enter `async with app.open_async()` first.
    """
    pool = pool_of(app)
    await PostgresLedger(pool).setup()
    async with Database(pool).transaction(TIMEOUT_S) as cursor:
        await make_tables(cursor, {"procrastinate_jobs": ("id",)}, SchemaManager.get_schema())
        await make_tables(cursor, {"pico_outbox": _COLUMNS}, _SCHEMA + _MIGRATE)


def pool_of(app: App) -> Pool:
    """Return the pool of an open app; raise if its connector is not procrastinate's `PsycopgConnector`."""
    if not isinstance(app, App):
        raise ConfigurationError(f"`app` must be a procrastinate.App, not {type(app).__name__}.")
    if not isinstance(app.connector, PsycopgConnector):
        raise ConfigurationError(
            f"The app's connector must be procrastinate's PsycopgConnector, not {type(app.connector).__name__}."
        )
    return app.connector.pool


def from_json(packed: str) -> Message:
    """Return the message of an outbox entry, or raise InvalidMessageError if it cannot be read."""
    try:
        fields = json.loads(packed)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise InvalidMessageError(
            "The outbox has a message that this version of pico_async cannot read. It was not sent, and it is kept."
        ) from None


def readable_keys(messages: Iterable[tuple[Name, str]]) -> dict[Name, str]:
    """Return the keys of the messages that can be read, by the names that the caller pairs with their JSON."""
    keys: dict[Name, str] = {}
    for name, packed in messages:
        with suppress(InvalidMessageError):
            keys[name] = from_json(packed).key or ""
    return keys


def _to_json(message: Message) -> str:
    fields: dict[str, Any] = attrs.asdict(
        message, filter=lambda attribute, value: attribute.name not in _NOT_KEPT and value is not None
    )
    return json.dumps({"kind": type(message).__name__, **fields})
