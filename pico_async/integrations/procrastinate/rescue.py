"""The rescue of jobs whose worker died, and of messages that no job delivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, LiteralString
from uuid import UUID

import anyio
from attrs import define, field
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.worker import Worker

from pico_async._logger import Logger
from pico_async.bulk.journal.protocols import Journal
from pico_async.errors import JournalError
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate.outbox import (
    FIRST_ID,
    TIMEOUT_S,
    drop_expired,
    expired,
    fail_without_job,
    readable_keys,
)
from pico_async.integrations.procrastinate.task import AT_ONCE, TASK

logger: Logger = Logger(__name__)

RESCUE_LOCK: Final = 0x5069636F_02
BETWEEN_DROPS_S: Final = 1.0

# Tables that have changed by a tenth, or were never analyzed. Autovacuum would analyze them, too, but up to minutes
# later. PostgreSQL counts changes with a delay of seconds, and lets only the owner analyze a table.
_OUTDATED: Final = (
    "SELECT relname FROM pg_class"
    " WHERE oid IN (to_regclass('procrastinate_jobs'), to_regclass('pico_outbox'), to_regclass('pico_ledger'))"
    " AND pg_has_role(relowner, 'USAGE') AND (relpages = 0 AND pg_relation_size(oid) > 100000"
    " OR pg_stat_get_mod_since_analyze(oid) > 1000 + 0.1 * pg_stat_get_live_tuples(oid))"
)
_ANALYZE: Final[dict[str, LiteralString]] = {
    "procrastinate_jobs": "ANALYZE (SKIP_LOCKED) procrastinate_jobs",
    "pico_outbox": "ANALYZE (SKIP_LOCKED) pico_outbox",
    "pico_ledger": "ANALYZE (SKIP_LOCKED) pico_ledger",
}


@define(eq=False)
class Rescue:
    """
    Put back jobs that are taken and that no worker runs. Keep or drop messages that no job delivers.

    Args:
        in_hand: The IDs of the jobs that this process runs now.
        stalled_s: Seconds without a heartbeat after which a worker counts as dead.
        ledger: The ledger of `run_worker`.
        delete_jobs: Whether the worker deletes a job that has failed.
        found_expired: Set when a job had an expired message. Others may be behind it.
    """

    app: App
    _database: Database
    _in_hand: set[int]
    _stalled_s: float
    _ledger: Journal | None = None
    _delete_jobs: bool = False
    _found_expired: asyncio.Event = field(factory=asyncio.Event)
    _suspects: set[int] = field(factory=set, init=False)
    _checked_until: UUID = field(default=FIRST_ID, init=False)

    async def run(self, worker: Worker) -> None:
        """Check at intervals while the worker runs."""
        while True:
            await anyio.sleep(self._stalled_s / 3)
            # If PostgreSQL is away, the worker itself fails, too, and is started again.
            with suppress(ConnectorException, JournalError):
                await self.check()
                await self.put_back_idle(worker)

    async def drop_found(self) -> None:
        """Drop expired messages in batches as soon as a job has found one, while the worker runs."""
        while True:
            await self._found_expired.wait()
            self._found_expired.clear()
            with suppress(JournalError):
                await self._drop_expired()
            # Messages that an earlier delivery may have sent stay, and their jobs find them, too.
            await anyio.sleep(BETWEEN_DROPS_S)

    async def check(self) -> None:
        """Put back the jobs of dead workers, keep messages that no job delivers, and drop expired ones."""
        async with self._database.transaction(TIMEOUT_S) as cursor:
            # One worker at a time: a second one must not put back a job that was put back and has begun again.
            await cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (RESCUE_LOCK,))
            if await cursor.fetchone() != (True,):
                return
            stalled = await self.app.job_manager.get_stalled_jobs(
                task_name=TASK, seconds_since_heartbeat=self._stalled_s
            )
            # If PostgreSQL was away for long, this worker itself seems dead.
            await self._put_back(job for job in stalled if job.id not in self._in_hand)
            kept, self._checked_until = await fail_without_job(cursor, self._checked_until)
        await self._analyze()
        if kept:
            logger.warning(
                "Messages whose job was cancelled, aborted or deleted were kept: %d. `resend` or `discard` them.",
                kept,
            )
        await self._drop_expired()

    async def _analyze(self) -> None:
        """
        Update the planner's statistics of tables that have changed much.

        After the first enqueue of many jobs, PostgreSQL believes that few are waiting. To fetch one, it then reads and
        sorts them all.
        """
        # Nothing depends on it, and it may be refused, for example in a replica that is being promoted.
        with suppress(JournalError):
            for (name,) in await self._database.fetch(_OUTDATED, timeout_s=TIMEOUT_S):
                await self._database.fetch(_ANALYZE[name], timeout_s=TIMEOUT_S)

    async def _drop_expired(self) -> None:
        """
        Drop expired messages in batches, because dropping each by its job would delay the messages behind it.

        A message that an earlier delivery may have sent is left to its job, which asks the ledger.
        """
        dropped, after = 0, (datetime(1, 1, 1, tzinfo=UTC), FIRST_ID)
        while True:
            async with self._database.transaction(TIMEOUT_S) as cursor:
                rows = await expired(cursor, after)
            if not rows:
                break
            after = rows[-1][0], rows[-1][1]
            unsent = await self._unsent([packed for _, _, packed, job in rows if job is not None])
            found = [(name, job) for _, name, packed, job in rows if job is None or packed in unsent]
            async with self._database.transaction(TIMEOUT_S) as cursor:
                dropped += await drop_expired(
                    cursor, [name for name, _ in found], [job for _, job in found], delete_jobs=self._delete_jobs
                )
        if dropped:
            logger.warning("`expires_in` ran out in the queue. Messages that were dropped: %d.", dropped)

    async def _unsent(self, messages: list[str]) -> set[str]:
        """Return the messages, as JSON, that provably no delivery sent."""
        ledger = self._ledger or PostgresLedger(self._database.pool)
        if not isinstance(ledger, PostgresLedger):
            return set()
        keys = readable_keys((packed, packed) for packed in messages)
        sent = await ledger.may_have_sent(keys.values())
        return {packed for packed, key in keys.items() if key not in sent}

    async def put_back_idle(self, worker: Worker) -> None:
        """
        Put back jobs that the live worker has finished without PostgreSQL's knowledge, because it was away.

        No other worker does that while this one lives. A job must be found twice in a row, because at first it may be
        about to begin or to end.
        """
        if worker.worker_id is None:
            return
        held = await self.app.job_manager.list_jobs_async(task=TASK, status="doing", worker_id=worker.worker_id)
        idle = {job.id: job for job in held if job.id is not None and job.id not in self._in_hand}
        await self._put_back(job for name, job in idle.items() if name in self._suspects)
        self._suspects = set(idle)

    async def _put_back(self, jobs: Iterable[Job]) -> None:
        back = 0
        for job in jobs:
            # Procrastinate refuses if the job has just ended.
            with suppress(ConnectorException):
                await self.app.job_manager.retry_job(job, retry_at=AT_ONCE)
                back += 1
        if back:
            logger.warning("Jobs that were taken, and that no worker ran, were put back: %d.", back)
