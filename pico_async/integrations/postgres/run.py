"""One run of messages against a ledger that many runs share."""

from __future__ import annotations

import secrets
from typing import Final, LiteralString, NamedTuple

import anyio
from attrs import define, field
from psycopg.rows import TupleRow

from pico_async._masking import mask_numbers
from pico_async.bulk.journal.digests import content_digest, key_digest
from pico_async.bulk.journal.protocols import JournalRow, JournalState
from pico_async.errors import InvalidMessageError, Outcome, Reason
from pico_async.integrations.postgres.connection import DURABLE_COMMIT, Database
from pico_async.integrations.send_once import TakenError, required_key
from pico_async.messages import Message

MAX_NAME = 200
CLAIM_BYTES = 16

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

_SELECT: Final = (
    "SELECT state, request_id, content, extract(epoch FROM clock_timestamp() - changed_at)::float8"
    " FROM pico_ledger WHERE id = %s"
)

_MARK_IN_DOUBT: Final = (
    "UPDATE pico_ledger SET state = 'in_doubt', changed_at = clock_timestamp() WHERE id = %s AND state = 'sending'"
)

# The last clause matches this statement's own row if its answer was lost and it runs again. If it arrives late and its
# message is already settled, the row has the same claim, and the first clause does not match.
_INTEND: LiteralString = (
    "INSERT INTO pico_ledger AS known (id, name, content, state, claim, changed_at)"  # noqa: S608  a constant
    " SELECT %(id)s, %(name)s, %(content)s, 'sending', %(claim)s, clock_timestamp() FROM "
    + DURABLE_COMMIT
    + " AS durably"
    " ON CONFLICT (id) DO UPDATE SET state = 'sending', content = excluded.content, claim = excluded.claim,"
    " changed_at = excluded.changed_at"
    " WHERE (known.state IN ('pending', 'not_sent', 'rejected') AND known.claim <> excluded.claim"
    " AND (known.content IS NULL OR known.content = excluded.content))"
    " OR (known.state = 'sending' AND known.claim = excluded.claim)"
    " RETURNING known.state"
)

# ACCEPTED stays, because a receipt may be faster than the reply. If the intent had no answer, its message was not sent,
# and this statement may arrive before the intent. It then stores the claim, so that the late intent does not match.
_SETTLE: LiteralString = (
    "INSERT INTO pico_ledger AS known (id, name, content, state, request_id, claim, changed_at)"  # noqa: S608  a constant
    " SELECT %(id)s, %(name)s, %(content)s, %(state)s, %(request_id)s, %(claim)s, clock_timestamp()"
    " FROM " + DURABLE_COMMIT + " AS durably"
    " ON CONFLICT (id) DO UPDATE SET state = CASE"
    " WHEN known.claim <> excluded.claim OR known.state = 'accepted' THEN known.state ELSE excluded.state END,"
    " request_id = coalesce(excluded.request_id, known.request_id), claim = excluded.claim,"
    " changed_at = excluded.changed_at"
    " WHERE known.claim = excluded.claim"
    " OR (excluded.state = 'not_sent' AND known.state NOT IN ('sending', 'in_doubt', 'accepted'))"
)


class _Claim(NamedTuple):
    id: bytes
    name: str
    content: bytes
    claim: bytes


@define(kw_only=True, eq=False, repr=False)
class PostgresRun:
    """
    One run of messages against the ledger. Any number of runs may be active, in any number of processes.

    Args:
        salt: The salt of the account's digests.
        timeout_s: Seconds to wait for the server before a message is sent.
        settle_s: Seconds to wait for the server to store the outcome.
        under_way_s: Seconds to wait for another delivery before its message is in doubt.

    Attributes:
        when_accepted: A statement that is run, with its values, in the same transaction as the outcome "accepted".
        has_accepted: Whether such an outcome was committed.
    """

    _database: Database
    _salt: bytes
    _timeout_s: float
    _settle_s: float
    _under_way_s: float
    when_accepted: tuple[LiteralString, dict[str, object]] | None = field(default=None, init=False)
    has_accepted: bool = field(default=False, init=False)
    _seen: set[bytes] = field(factory=set, init=False)
    _claims: dict[int, _Claim] = field(factory=dict, init=False)

    async def claim(self, message: Message, index: int) -> JournalRow:
        """
        Find the message's row, and mark it in doubt if another delivery does not settle it in time.

        A row that is "sending" belongs to another delivery, which is running or was interrupted. A running one still
        settles the row after it was marked in doubt.
        """
        del index
        key = required_key(message)
        name = key_digest(self._salt, key)
        if name in self._seen:
            raise InvalidMessageError(
                f"`key` {mask_numbers(key)!r} came before in this run. A key names one message, so give each its own.",
                argument="key",
                reason=Reason.CONFLICT,
            )
        claim = _Claim(name, masked_name(key), content_digest(self._salt, message), secrets.token_bytes(CLAIM_BYTES))
        row = int.from_bytes(name, "big")
        rows = await self._settled(name)
        if rows and rows[0][2] not in (None, claim.content):
            raise InvalidMessageError(
                f"`key` {mask_numbers(key)!r} belongs to a message of other content in the ledger; that one "
                f"is {rows[0][0].replace('_', ' ')}. Give a new message a new key.",
                argument="key",
                reason=Reason.CONFLICT,
            )
        self._seen.add(name)
        if not rows:
            self._claims[row] = claim
            return JournalRow(row, JournalState.PENDING)
        found = JournalRow(row, JournalState(rows[0][0]), rows[0][1])
        if found.state is JournalState.SENDING:
            await self._fetch(_MARK_IN_DOUBT, name)
        elif found.state not in (JournalState.ACCEPTED, JournalState.IN_DOUBT):
            self._claims[row] = claim
        return found

    async def intend(self, row: JournalRow) -> None:
        """Commit that the message may be on the wire from now on; raise if another delivery took it since `claim`."""
        claim = self._claims[row.id]
        values: dict[str, object] = claim._asdict()
        if not await self._database.fetch(_INTEND, values, timeout_s=self._timeout_s):
            raise TakenError(
                f"Another delivery of the message {claim.name!r} is running, or sent it just now. This delivery did "
                "not send it. The ledger has its outcome.",
                attempts=0,
            )

    async def settle(self, row: JournalRow, outcome: Outcome, request_id: str | None) -> None:
        """Commit the outcome, if the row still has this delivery's claim."""
        claim = self._claims.pop(row.id)
        values: dict[str, object] = {
            **claim._asdict(),
            "state": JournalState(outcome.value).value,
            "request_id": storable(request_id),
        }
        statement = _SETTLE
        if self.when_accepted is not None and outcome is Outcome.ACCEPTED:
            also, more = self.when_accepted
            statement, values = f"WITH settled AS ({_SETTLE}) {also}", values | more
        await self._database.fetch(statement, values, timeout_s=self._settle_s)
        self.has_accepted = self.has_accepted or outcome is Outcome.ACCEPTED

    async def _settled(self, name: bytes) -> list[TupleRow]:
        """Wait while another delivery is sending the message, and return its row."""
        pause_s = FIRST_PAUSE_S
        while True:
            rows = await self._fetch(_SELECT, name)
            # abs: if the server's clock was set back, the age is negative and must not prolong the wait.
            left_s = self._under_way_s - abs(rows[0][3]) if rows and rows[0][0] == JournalState.SENDING else 0.0
            if left_s <= 0:
                return rows
            await anyio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _fetch(self, statement: LiteralString, name: bytes) -> list[TupleRow]:
        return await self._database.fetch(statement, (name,), timeout_s=self._timeout_s)


def masked_name(key: str) -> str:
    """Return a key for people to read: no number in it is whole."""
    return mask_numbers(key)[:MAX_NAME].replace("\0", "�")


def storable(request_id: str | None) -> str | None:
    """Return the part of Pico's request ID that PostgreSQL can store. Pico may return any text."""
    if request_id is None:
        return None
    return request_id.encode("utf-8", "replace").decode()[:MAX_NAME].replace("\0", "�")
