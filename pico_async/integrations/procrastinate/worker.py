"""A worker that sends the queue's messages, rescues the jobs of dead workers, and survives a restart of PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import psycopg
from anyio.abc import TaskGroup
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import Worker

from pico_async._logger import Logger
from pico_async.bulk.journal.protocols import Journal
from pico_async.errors import ConfigurationError, JournalError
from pico_async.integrations.postgres.connection import (
    POOLER_HINT,
    Database,
    ServerAwayError,
    is_pooler_error,
    is_transient,
)
from pico_async.integrations.procrastinate.outbox import pool_of, setup
from pico_async.integrations.procrastinate.rescue import Rescue
from pico_async.integrations.procrastinate.task import MAX_TRIES, NAMESPACE, QUEUE, TASK, tracked_tasks
from pico_async.session import PicoSession

logger: Logger = Logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 15.0


async def run_worker(
    app: App,
    pico: PicoSession,
    *,
    ledger: Journal | None = None,
    queues: Iterable[str] | None = (QUEUE,),
    concurrency: int = 8,
    grace_s: float = 30.0,
    stalled_s: float = 30.0,
    max_tries: int = MAX_TRIES,
    wait: bool = True,
    install_signal_handlers: bool = True,
    **options: Any,
) -> None:
    """
    Send the messages of the queue, until it is cancelled or gets SIGTERM or SIGINT.

    Each message is sent at most once.

    - To stop, the worker takes no new jobs and settles the running ones. After *grace_s* it cancels the rest: their
      messages are delivered again, or in doubt.
    - The jobs of a dead worker are put back after *stalled_s*. The ledger then knows which of their messages may have
      been sent.
    - A message whose job was cancelled, aborted or deleted is kept for `resend` and `discard`.
    - Expired messages are dropped in batches.
    - If PostgreSQL is away, the worker waits for it, and then settles its running jobs.

    Args:
        app: An open app. Its pool needs two connections. It should have *concurrency* and three more, or jobs wait for
            them. Behind a transaction pooler, as PgBouncer, the connections must not prepare statements
            (`kwargs={"prepare_threshold": None}`), and the worker polls for new jobs every 5 s.
        pico: One session for all jobs. The worker does not close it.
        ledger: A ledger to use instead of a `PostgresLedger` in the app's own database.
        queues: The queues whose jobs it takes; None for all.
        concurrency: The number of messages in flight, and so of messages that a kill may leave in doubt. At 30 a
            second, 8 are enough if Pico answers within 250 ms.
        grace_s: Seconds for the running jobs when the worker stops. If PostgreSQL is away then, it waits longer, for
            the ledger's `settle_s` (a minute).
        stalled_s: Seconds without a heartbeat after which a worker counts as dead. A worker sends three in that time.
        max_tries: The highest number of deliveries of one message.
        wait: If False, return when no job is due.
        install_signal_handlers: Stop at SIGTERM and SIGINT. Pass False if your web server handles them.
        options: Other options of procrastinate's worker, such as `name`, `delete_jobs`, `listen_notify` or
            `fetch_job_polling_interval`.

    Raises:
        ConfigurationError: An argument is wrong.
        JournalError: The tables cannot be created, although the server is not away.
        procrastinate.exceptions.AppNotOpen: The app is not open. Enter `async with app.open_async()` first.
    """
    database = Database(pool_of(app))
    in_hand: set[int] = set()
    found_expired = asyncio.Event()
    own = tracked_tasks(in_hand, pico, ledger=ledger, max_tries=max_tries, found_expired=found_expired)
    for name, seconds in {"grace_s": grace_s, "stalled_s": stalled_s}.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"`{name}` must be a positive number of seconds.")
    if database.pool.max_size == 1:
        raise ConfigurationError(
            "The app's pool has one connection, and a worker needs two at least. Raise its `max_size`."
        )
    if TASK in app.tasks:
        raise ConfigurationError(
            f"The app has the task {TASK!r} already, from another `run_worker` with its own session. Run one worker "
            "in a process, or make an app for each."
        )
    app.add_tasks_from(own, namespace=NAMESPACE)
    settings = {
        **app.worker_defaults,
        # A list, because procrastinate converts no tuple to an array.
        "queues": None if queues is None else list(queues),
        "concurrency": concurrency,
        "wait": wait,
        "shutdown_graceful_timeout": grace_s,
        "update_heartbeat_interval": stalled_s / 3,
        "stalled_worker_timeout": stalled_s,
        **options,
        "install_signal_handlers": False,
    }
    deletes_failed = DeleteJobCondition(settings.get("delete_jobs") or "never") is DeleteJobCondition.ALWAYS
    rescue = Rescue(
        app, database, in_hand, stalled_s, ledger=ledger, delete_jobs=deletes_failed, found_expired=found_expired
    )
    can_handle_signals = os.name != "nt" and threading.current_thread() is threading.main_thread()
    try:
        async with _background_tasks() as group:
            if install_signal_handlers and can_handle_signals:
                group.start_soon(_stop_at_signal, group.cancel_scope)
            await _run_until_done(rescue, settings, wait=wait)
    finally:
        del app.tasks[TASK]


async def _run_until_done(rescue: Rescue, settings: dict[str, Any], *, wait: bool) -> None:
    """Run one worker after the other, because procrastinate's worker ends if PostgreSQL goes away."""
    pause_s = FIRST_PAUSE_S
    ready = False
    while True:
        began_at = anyio.current_time()
        try:
            if not ready:
                await setup(rescue.app)
                ready = True
            await _run_one(rescue, settings)
            if not wait:
                return
            reason = "it ended"
        except (ConnectorException, JournalError) as error:
            if not _is_transient(error):
                raise
            reason = type(error.__cause__ or error).__name__
            if is_pooler_error(error.__cause__):
                reason += f"; {POOLER_HINT}"
        if anyio.current_time() - began_at > LONGEST_PAUSE_S:
            pause_s = FIRST_PAUSE_S
        logger.warning("The worker lost PostgreSQL (%s). It continues in %.1f s.", reason, pause_s)
        await anyio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311  jitter is no secret
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _run_one(rescue: Rescue, settings: dict[str, Any]) -> None:
    """Run one worker to its end."""
    worker = Worker(rescue.app, **settings)
    # Before the worker fetches jobs, so that a worker that does not wait for any also gets these.
    await rescue.check()
    async with _background_tasks() as group:
        group.start_soon(_stop_when_cancelled, worker)
        group.start_soon(rescue.run, worker)
        group.start_soon(rescue.drop_found)
        # `_stop_when_cancelled` stops it in order. A cancellation would interrupt each of its steps.
        with anyio.CancelScope(shield=True):
            await worker.run()  # type: ignore[no-untyped-call]
    await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def _background_tasks() -> AsyncIterator[TaskGroup]:
    """Run tasks beside the body, and cancel them at its end. The body's error is raised as it is, not in a group."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except Exception as error:  # noqa: BLE001  raised below
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_when_cancelled(worker: Worker) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        worker.stop()  # type: ignore[no-untyped-call]


async def _stop_at_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            logger.info("%s: the worker stops.", number.name)
            scope.cancel()


def _is_transient(error: ConnectorException | JournalError) -> bool:
    if isinstance(error, JournalError):
        return isinstance(error, ServerAwayError)
    # A wrong statement, or a missing privilege, fails the next time, too. An IntegrityError means that the worker's own
    # row was deleted, because it sent no heartbeat for too long.
    cause = error.__cause__
    return (cause is not None and is_transient(cause)) or isinstance(cause, psycopg.IntegrityError)
