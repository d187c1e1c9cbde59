"""The task that delivers one message of the outbox. The end of its job shows the message's outcome."""

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

# Priorities of procrastinate's jobs: the higher one comes first. A job with a positive priority is sent as INTERACTIVE.
LEVELS: Final = {Priority.INTERACTIVE: 10, Priority.BULK: 0}

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
MAX_TRIES = 50

# A time that is past on any clock. PostgreSQL compares a job's time with its own clock, and a worker's may differ.
AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Retry(BaseRetryStrategy):
    """
    Deliver a message again that was provably not sent, after 1 to 300 seconds. The wait doubles with each try.

    Args:
        max_tries: The number of deliveries. 50 are enough for an outage of three hours.

    Attributes:
        due: The time of the next delivery for jobs that have just failed, by PostgreSQL's clock. A job without one is
            due at once, because PostgreSQL could not be asked.
    """

    def __init__(self, max_tries: int) -> None:
        self._max_tries = max_tries
        self.due: dict[int, datetime] = {}

    def wait_s(self, error: BaseException, job: Job) -> float | None:
        """Return the seconds until the next delivery, or None if it could not succeed, or could double the message."""
        if not may_retry(error) or is_last(job, self._max_tries):
            return None
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(job.attempts, 20), LONGEST_WAIT_S)
        return max(random.uniform(wait_s / 2, wait_s), getattr(error, "retry_after", None) or 0.0)  # noqa: S311

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when procrastinate runs the job again, or None if the job has failed."""
        due = self.due.pop(job.id or 0, AT_ONCE)
        # The worker ends. The next delivery asks the ledger for the message's outcome.
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_at=AT_ONCE)
        return None if self.wait_s(exception, job) is None else RetryDecision(retry_at=due)


def is_last(job: Job, max_tries: int) -> bool:
    """Return whether no delivery follows this one without `resend`."""
    return job.attempts + 1 >= max_tries


def tasks(pico: PicoSession, *, ledger: Journal | None = None, max_tries: int = MAX_TRIES) -> Blueprint:
    """
    Return the task that sends, for a worker of your own. `run_worker` already includes it.

        app.add_tasks_from(tasks(pico), namespace="pico")

    A job ends in one of these ways:

    - "succeeded": Pico has the message, from this delivery or an earlier one. Or the number had opted out, and the
      message was dropped; the log then says "suppressed".
    - The job runs again, after growing waits: the message was not sent, or Pico refused it because of the rate or the
      worker's credentials.
    - "failed": the message expired, was refused, is in doubt, or was not sent in *max_tries* deliveries. The log says
      which, without text and number.

    Args:
        pico: One session for all jobs of the worker. The caller closes it after the worker.
        ledger: A ledger to use instead of a `PostgresLedger` in the app's own database.
        max_tries: The highest number of deliveries of one message.
    """
    return tracked_tasks(set(), pico, ledger=ledger, max_tries=max_tries)


def tracked_tasks(
    in_hand: set[int],
    pico: PicoSession,
    *,
    ledger: Journal | None,
    max_tries: int,
    found_expired: asyncio.Event | None = None,
) -> Blueprint:
    """
    Return the task, which keeps the IDs of its running jobs in *in_hand*, and sets *found_expired* when one expired.

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
    # One ledger for all deliveries over a pool, because it remembers that the account is stored.
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
            if found_expired is not None and isinstance(error, MessageExpiredError):
                found_expired.set()
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
    """Deliver one message, and return a word for procrastinate's log; raise if it was not accepted, or is in doubt."""
    try:
        message = await outbox.take(name)
    except InvalidMessageError:
        await outbox.keep(name)
        raise
    if message is None:
        return "settled by an earlier delivery"
    dropping = outbox.dropping(ledger, name)
    result = await send_once(pico, message, ledger=dropping or ledger, priority=priority)
    if result.error is None:
        if dropping is None or not dropping.has_dropped:
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
