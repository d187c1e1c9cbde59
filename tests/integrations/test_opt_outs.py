"""An opt-out that comes while a message waits in a queue holds, whichever worker delivers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import procrastinate
import psycopg
import pytest

from pico_async import MmsMessage, PicoSession, SmsMessage, VoiceMessage
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate import enqueue_bulk, run_worker, setup
from pico_async.sandbox import Sandbox

OUT, OTHER = "8612345678902", "8612345678901"


@pytest.fixture
async def app(database: str) -> AsyncIterator[procrastinate.App]:
    connector = procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=8)
    async with procrastinate.App(connector=connector).open_async() as app:
        await setup(app)
        yield app


async def work(app: procrastinate.App, sandbox: Sandbox, suppression: Any) -> None:
    """Run the jobs that are due, in a session that knows of opt-outs."""
    session = PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        suppression=suppression,
    )
    async with session as pico:
        ledger = PostgresLedger(app.connector.pool)  # type: ignore[attr-defined]
        await run_worker(app, pico, wait=False, install_signal_handlers=False, ledger=ledger)


def rows(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


async def test_an_opt_out_that_comes_while_a_job_waits_holds(
    app: procrastinate.App, sandbox: Sandbox, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The worker asks when it is about to send. What is suppressed leaves the outbox and is no failed job; what somebody
    asked for is sent, and no log has the number.
    """
    opted_out: set[str] = set()
    messages = [
        SmsMessage(OUT, "news", key="1"),
        MmsMessage(OUT, "https://example.com/cat.png", key="2"),
        VoiceMessage(OUT, "news", key="3"),
        SmsMessage(OUT, "Your code is 4711", key="4", promotional=False),
        SmsMessage(OTHER, "news", key="5"),
    ]

    with caplog.at_level("DEBUG"):
        await enqueue_bulk(app, messages)
        opted_out.add(OUT)
        await work(app, sandbox, opted_out)

    assert [(message.to, message.text) for message in sandbox.ledger.sent_to(OUT)] == [(OUT, "Your code is 4711")]
    assert len(sandbox.ledger.sent_to(OTHER)) == 1
    assert rows(database, "SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1") == [("succeeded", 5)]
    assert rows(database, "SELECT * FROM pico_outbox") == []
    assert "suppressed" in caplog.text
    assert OUT not in caplog.text


async def test_a_job_waits_for_who_knows_the_opt_outs(app: procrastinate.App, sandbox: Sandbox, database: str) -> None:
    """Where the question fails, as while a database is away, nothing is sent and the job is tried again later."""

    def away(number: str) -> bool:
        raise ConnectionError(number)

    await enqueue_bulk(app, [SmsMessage(OTHER, "news", key="1")])
    await work(app, sandbox, away)

    assert sandbox.ledger.accepted == []
    assert rows(database, "SELECT status::text, attempts FROM procrastinate_jobs") == [("todo", 1)]

    with psycopg.connect(database) as connection:
        connection.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
    await work(app, sandbox, {OUT})

    assert len(sandbox.ledger.sent_to(OTHER)) == 1
