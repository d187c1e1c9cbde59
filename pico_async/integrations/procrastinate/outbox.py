"""What waits to be sent: the messages of the jobs, in a table beside them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import UUID, uuid4

import attrs
from attrs import frozen
from procrastinate import App, PsycopgConnector
from procrastinate.schema import SchemaManager

from pico_async.errors import ConfigurationError, InvalidMessageError
from pico_async.integrations.postgres import PostgresLedger
from pico_async.integrations.postgres_link import Cursor, Pool, PostgresLink, make_tables
from pico_async.messages import Message, MmsMessage, SmsMessage, VoiceMessage, deadline

TIMEOUT_S = 10.0
# A message without time left goes through all the same: the ledger may know more of it than that it is late.
NO_TIME_S = 1e-6

_KINDS: Final = {kind.__name__: kind for kind in (SmsMessage, MmsMessage, VoiceMessage)}
_NOT_KEPT = frozenset({"expires_in", "made_at"})

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pico_outbox (
    id uuid PRIMARY KEY,
    message text NOT NULL,       -- JSON. Not jsonb, which cannot hold all that a text may hold
    expires_at timestamptz,      -- by this server's clock, for the workers' may differ
    failed_at timestamptz        -- it is in doubt, was refused or never came through: it waits for its owner's word
);
"""


@frozen
class Parcel:
    """
    One message on its way into the outbox.

    Attributes:
        rest_s: Seconds until it is to be dropped; None for never.
    """

    id: UUID
    message: str
    rest_s: float | None

    @classmethod
    def of(cls, message: Message) -> Self:
        """Pack a message; one without a key gets one, for it must be known again at each delivery."""
        name = uuid4()
        if message.key is None:
            message = attrs.evolve(message, key=str(name))
        end = deadline(message)
        return cls(name, _packed(message), None if end is None else end - time.monotonic())


class Outbox:
    """
    The messages whose jobs are not done.

    Args:
        link: To the database of procrastinate's jobs.
    """

    def __init__(self, link: PostgresLink) -> None:
        self._link = link

    async def take(self, name: UUID) -> Message | None:
        """
        Give the message, with the time that is left for it; None where it is gone.

        Raises:
            JournalError: It cannot be read now.
            InvalidMessageError: It is not readable at all.
        """
        rows = await self._link.fetch(
            "SELECT message, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM pico_outbox WHERE id = %s",
            (name,),
            patience_s=TIMEOUT_S,
        )
        if not rows:
            return None
        packed, rest_s = rows[0]
        message = unpacked(packed)
        return message if rest_s is None else attrs.evolve(message, expires_in=max(rest_s, NO_TIME_S))

    async def drop(self, name: UUID) -> None:
        """Forget the message: its fate is sealed."""
        await self._link.fetch("DELETE FROM pico_outbox WHERE id = %s", (name,), patience_s=TIMEOUT_S)

    async def keep(self, name: UUID) -> None:
        """Keep it for its owner, who may want it sent again."""
        await self._link.fetch(
            "UPDATE pico_outbox SET failed_at = clock_timestamp() WHERE id = %s", (name,), patience_s=TIMEOUT_S
        )

    async def time_in(self, wait_s: float) -> datetime:
        """
        Return the time in so many seconds, by PostgreSQL's clock.

        Raises:
            JournalError: It cannot be asked now.
        """
        rows = await self._link.fetch(
            "SELECT extract(epoch FROM clock_timestamp() + make_interval(secs => %s))::float8",
            (wait_s,),
            patience_s=TIMEOUT_S,
        )
        return datetime.fromtimestamp(rows[0][0], UTC)


async def discard(app: App, *, older_than_s: float) -> int:
    """
    Delete messages that failed so long ago, with their numbers and texts, and give their number.

    They are those that were in doubt, refused or given up; `resend` cannot put them back then, and whoever calls
    `mark_sent` or `confirm` has no more need of them. What the ledger knows of them stays.

    Raises:
        JournalError: It cannot be written.
    """
    rows = await PostgresLink(pool_of(app)).fetch(
        "WITH gone AS (DELETE FROM pico_outbox WHERE failed_at < clock_timestamp() - make_interval(secs => %s)"
        " RETURNING 1) SELECT count(*) FROM gone",
        (older_than_s,),
        patience_s=TIMEOUT_S,
    )
    return int(rows[0][0])


async def put(cursor: Cursor, parcels: list[Parcel]) -> None:
    """Write parcels down, in the transaction that the cursor is in."""
    await cursor.execute(
        "INSERT INTO pico_outbox (id, message, expires_at)"
        " SELECT id, message, clock_timestamp() + make_interval(secs => rest_s)"
        " FROM unnest(%s::uuid[], %s::text[], %s::float8[]) AS new (id, message, rest_s)",
        (
            [parcel.id for parcel in parcels],
            [parcel.message for parcel in parcels],
            [parcel.rest_s for parcel in parcels],
        ),
    )


async def setup(app: App) -> None:
    """
    Make the tables: those of this package, and procrastinate's own where there are none.

    Any number of workers may do so at once; where all are there, it needs no right to make any. An older schema of
    procrastinate's is yours to migrate.

    Raises:
        ConfigurationError: The app's connector is not procrastinate's `PsycopgConnector`.
        JournalError: The server is not there, or this user may not.
        procrastinate.exceptions.AppNotOpen: `async with app.open_async()` first.
    """
    pool = pool_of(app)
    await PostgresLedger(pool).setup()
    async with PostgresLink(pool).transaction(TIMEOUT_S) as cursor:
        await make_tables(cursor, ["pico_outbox"], _SCHEMA)
        await make_tables(cursor, ["procrastinate_jobs"], SchemaManager.get_schema())


def pool_of(app: App) -> Pool:
    """
    Give the pool of an open app.

    Raises:
        ConfigurationError: Its connector is another one.
    """
    if not isinstance(app, App):
        raise ConfigurationError(f"`app` must be a procrastinate.App, not {type(app).__name__}.")
    if not isinstance(app.connector, PsycopgConnector):
        raise ConfigurationError(
            f"The app's connector must be procrastinate's PsycopgConnector, not {type(app.connector).__name__}."
        )
    return app.connector.pool


def unpacked(packed: str) -> Message:
    """
    Read a message.

    Raises:
        InvalidMessageError: It cannot be read.
    """
    try:
        fields = json.loads(packed)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise InvalidMessageError(
            "The outbox holds a message that this version of pico_async cannot read. It was not sent, and is kept."
        ) from None


def _packed(message: Message) -> str:
    fields: dict[str, Any] = attrs.asdict(
        message, filter=lambda attribute, value: attribute.name not in _NOT_KEPT and value is not None
    )
    return json.dumps({"kind": type(message).__name__, **fields})
