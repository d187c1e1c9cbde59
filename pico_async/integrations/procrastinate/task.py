"""The one task: deliver a message of the outbox, and say by the job's end what became of it."""

from __future__ import annotations

import asyncio
import functools
import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from procrastinate import BaseRetryStrategy, Blueprint, JobContext, RetryDecision
from procrastinate.jobs import Job

from pico_async.bulk.journal.protocols import Journal
from pico_async.coordination.protocols import Priority
from pico_async.errors import (
    ConfigurationError,
    InvalidMessageError,
    JournalError,
    MessageExpiredError,
    SuppressedError,
)
from pico_async.integrations.postgres.connection import Database
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate.outbox import Outbox, pool_of
from pico_async.integrations.send_once import may_retry, send_once
from pico_async.session import PicoSession

QUEUE: Final = "pico"
NAMESPACE: Final = "pico"
TASK: Final = "pico:send"

# procrastinate's, where the higher one goes first. Whoever changes a job's by hand stays on its side of nought.
LEVELS: Final = {Priority.INTERACTIVE: 10, Priority.BULK: 0}

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
MAX_TRIES = 50

# Due at once by any clock. PostgreSQL compares a job's time with its own clock, which a worker's may differ from.
AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Retry(BaseRetryStrategy):
    """
    Deliver again what provably did not go out, after 1 to 300 seconds, doubled from try to try.

    Args:
        max_tries: So often at most: with 50, an outage of three hours is waited for.

    Attributes:
        due: When to deliver jobs again that failed just now, by PostgreSQL's clock. One that is not here is due at
            once: PostgreSQL could not be asked.
    """

    def __init__(self, max_tries: int) -> None:
        self._max_tries = max_tries
        self.due: dict[int, datetime] = {}

    def wait_s(self, error: BaseException, job: Job) -> float | None:
        """Return the seconds until the next delivery, or None where it would be in vain, or might double."""
        if not may_retry(error) or is_last(job, self._max_tries):
            return None
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(job.attempts, 20), LONGEST_WAIT_S)
        return max(random.uniform(wait_s / 2, wait_s), getattr(error, "retry_after", None) or 0.0)  # noqa: S311

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when procrastinate delivers the job again, or None where it has failed."""
        due = self.due.pop(job.id or 0, AT_ONCE)
        # Cancelled: its worker ends. The ledger has what became of the message, and the next delivery asks it.
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_at=AT_ONCE)
        return None if self.wait_s(exception, job) is None else RetryDecision(retry_at=due)


def is_last(job: Job, max_tries: int) -> bool:
    """Say whether this is the last time that the message is delivered by itself."""
    return job.attempts + 1 >= max_tries


def tasks(pico: PicoSession, *, ledger: Journal | None = None, max_tries: int = MAX_TRIES) -> Blueprint:
    """
    Make the task that sends, for a worker that you run by yourself; `run_worker` does all this.

        app.add_tasks_from(tasks(pico), namespace="pico")

    How its jobs end: "succeeded" where Pico has the message, from this delivery or from an earlier one, and where the
    session's `suppression` knew the number: its message is dropped, and the log says "suppressed". What was not
    sent, and what Pico refused for the rate or for the worker's credentials, is delivered again, later and later.
    "failed" is what expired, what was refused, what is in doubt, and what *max_tries* did not bring to Pico; the log
    tells which, without text and number.

    Args:
        pico: One session for all jobs of the worker. It is yours to close, after the worker.
        ledger: Where another than `PostgresLedger` in the app's own database is to be asked.
        max_tries: So often a message is delivered at most.
    """
    return tracked_tasks(set(), pico, ledger=ledger, max_tries=max_tries)


def tracked_tasks(in_hand: set[int], pico: PicoSession, *, ledger: Journal | None, max_tries: int) -> Blueprint:
    """
    Make the task, and have it note the IDs of the jobs that it has in hand.

    Raises:
        ConfigurationError: An argument is wrong.
    """
    if not isinstance(pico, PicoSession):
        raise ConfigurationError(f"`pico` must be a PicoSession, not {type(pico).__name__}.")
    if isinstance(max_tries, bool) or not isinstance(max_tries, int) or max_tries < 1:
        raise ConfigurationError("`max_tries` must be a whole number from 1.")
    if ledger is not None and not isinstance(ledger, Journal):
        raise ConfigurationError(f"`ledger` must be a Journal, as PostgresLedger, not {type(ledger).__name__}.")
    blueprint = Blueprint()
    # One for all deliveries over a pool, for it remembers that the account is noted.
    own = functools.cache(PostgresLedger)
    retry = Retry(max_tries)

    @blueprint.task(name="send", queue=QUEUE, pass_context=True, retry=retry)
    async def send(context: JobContext, outbox_id: str) -> str:
        pool = pool_of(context.app)
        outbox = Outbox(Database(pool))
        job = context.job.id or 0
        in_hand.add(job)
        try:
            return await _deliver(
                pico,
                outbox,
                UUID(outbox_id),
                ledger=own(pool) if ledger is None else ledger,
                is_last=is_last(context.job, max_tries),
                priority=Priority.INTERACTIVE if context.job.priority > LEVELS[Priority.BULK] else Priority.BULK,
            )
        except Exception as error:
            wait_s = retry.wait_s(error, context.job)
            if wait_s is not None:
                with suppress(JournalError):
                    retry.due[job] = await outbox.time_after(wait_s)
            raise
        finally:
            in_hand.discard(job)

    return blueprint


async def _deliver(
    pico: PicoSession, outbox: Outbox, name: UUID, *, ledger: Journal, is_last: bool, priority: Priority
) -> str:
    """
    Deliver one message, and give a word for procrastinate's log.

    Args:
        is_last: Nobody delivers it again by itself, whatever becomes of it.

    Raises:
        PicoError: It is not known to be with Pico.
    """
    try:
        message = await outbox.take(name)
    except InvalidMessageError:
        await outbox.keep(name)
        raise
    if message is None:
        return "settled by an earlier delivery"
    result = await send_once(pico, message, ledger=ledger, priority=priority)
    if result.error is None:
        await outbox.drop(name)
        return result.outcome.value
    if isinstance(result.error, SuppressedError):
        await outbox.drop(name)
        return "suppressed"
    if isinstance(result.error, MessageExpiredError):
        await outbox.drop(name)
    elif is_last or not may_retry(result.error):
        await outbox.keep(name)
    raise result.error
