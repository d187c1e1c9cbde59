"""The rescue: jobs that nobody has in hand are put back, and messages that no job delivers are kept or dropped."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import anyio
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.worker import Worker

from pico_async._logger import Logger
from pico_async.bulk.journal.protocols import Journal
from pico_async.errors import InvalidMessageError, JournalError
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate.outbox import (
    FIRST_ID,
    TIMEOUT_S,
    drop_expired,
    expired,
    fail_without_job,
    from_json,
)
from pico_async.integrations.procrastinate.task import AT_ONCE, TASK

logger = Logger(__name__)

RESCUE_LOCK: Final = 0x5069636F_02


class Rescue:
    """
    Put jobs back that are taken and that nobody has in hand; keep or drop messages that no job delivers.

    Args:
        in_hand: IDs of the jobs that this process is at.
        stalled_s: After so long without a sign of life a worker counts as dead.
        ledger: As of `run_worker`.
        delete_jobs: Whether a job that has failed is deleted.
    """

    def __init__(
        self,
        app: App,
        database: Database,
        in_hand: set[int],
        stalled_s: float,
        *,
        ledger: Journal | None = None,
        delete_jobs: bool = False,
    ) -> None:
        self.app = app
        self._database = database
        self._in_hand = in_hand
        self._stalled_s = stalled_s
        self._ledger = PostgresLedger(database.pool) if ledger is None else ledger
        self._delete_jobs = delete_jobs
        self._suspects: set[int] = set()
        self._looked_at = FIRST_ID

    async def run(self, worker: Worker) -> None:
        """Look, for as long as the worker runs."""
        while True:
            await anyio.sleep(self._stalled_s / 3)
            # Where PostgreSQL is away, the worker hears of it, too.
            with suppress(ConnectorException, JournalError):
                await self.look()
                await self.put_back_idle(worker)

    async def look(self) -> None:
        """Look after the jobs of dead workers, and after messages that no job delivers or that have expired."""
        async with self._database.transaction(TIMEOUT_S) as cursor:
            # One worker at a time: what one has put back, and a third has begun, is not put back by a second.
            await cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (RESCUE_LOCK,))
            if await cursor.fetchone() != (True,):
                return
            stalled = await self.app.job_manager.get_stalled_jobs(
                task_name=TASK, seconds_since_heartbeat=self._stalled_s
            )
            # Where PostgreSQL was away for long, this worker seems dead itself.
            await self._put_back(job for job in stalled if job.id not in self._in_hand)
            kept, self._looked_at = await fail_without_job(cursor, self._looked_at)
        if kept:
            logger.warning(
                "Messages whose job was cancelled, aborted or deleted were kept: %d. `resend` or `discard` them.", kept
            )
        await self._drop_expired()

    async def _drop_expired(self) -> None:
        """
        Drop what has expired, many at once: each by itself would hold up the messages behind it.

        What may have gone out in an earlier delivery is left to its job, which asks the ledger.
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
            logger.warning("`expires_in` ran out in the queue for messages, which were dropped: %d.", dropped)

    async def _unsent(self, messages: list[str]) -> set[str]:
        """Return the packed messages that provably did not go out in any delivery."""
        if not isinstance(self._ledger, PostgresLedger):
            return set()
        keys: dict[str, str] = {}
        for packed in messages:
            with suppress(InvalidMessageError):
                keys[packed] = from_json(packed).key or ""
        sent = await self._ledger.may_have_sent(keys.values())
        return {packed for packed, key in keys.items() if key not in sent}

    async def put_back_idle(self, worker: Worker) -> None:
        """
        Put back what the worker itself is done with, where it could not tell PostgreSQL.

        It lives on then, and nobody else would. Only what is so twice in a row, for it may be about to begin or to end.
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
            # Refused where it came to its end just now, after all.
            with suppress(ConnectorException):
                await self.app.job_manager.retry_job(job, retry_at=AT_ONCE)
                back += 1
        if back:
            logger.warning("Jobs that were taken, and were in nobody's hand, were put back: %d.", back)
