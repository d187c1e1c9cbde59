"""
Messages through procrastinate, a task queue in PostgreSQL.

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="postgresql://…"))

    async with app.open_async():
        await setup(app)                                            # once: the tables
        await enqueue_bulk(app, messages)                           # anywhere: a web app, a script
        await enqueue_bulk(app, messages, connection=connection)    # in the transaction of your own change

    async with app.open_async(), PicoSession() as pico:             # as many workers as you like
        await run_worker(app, pico)

A message is sent at most once, whatever happens to its worker: see `send_once`. Procrastinate writes a job's arguments
to its logs, so the job has only a reference, and the number and text are in a table of their own, `pico_outbox`.
`PostgresLedger.in_doubt` lists the messages that may have been sent. Only `resend` sends them again.

Needs the extra: `pip install 'pico-async[procrastinate]'`.
"""

try:
    import procrastinate as _procrastinate  # noqa: F401
    import psycopg as _psycopg  # noqa: F401
    import psycopg_pool as _psycopg_pool  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "pico_async.integrations.procrastinate needs procrastinate and psycopg: pip install 'pico-async[procrastinate]'"
    ) from _error

from pico_async.integrations.postgres.ledger import LedgerRecord, PostgresLedger
from pico_async.integrations.procrastinate.enqueue import EnqueueReport, enqueue_bulk, resend
from pico_async.integrations.procrastinate.outbox import discard, setup
from pico_async.integrations.procrastinate.task import QUEUE, tasks
from pico_async.integrations.procrastinate.worker import run_worker

__all__ = [
    "QUEUE",
    "EnqueueReport",
    "LedgerRecord",
    "PostgresLedger",
    "discard",
    "enqueue_bulk",
    "resend",
    "run_worker",
    "setup",
    "tasks",
]
