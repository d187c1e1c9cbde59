"""These tests restart PostgreSQL during sends: no message is sent twice, and the sends recover by themselves."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator

import anyio
import procrastinate
import psycopg
import pytest

from pico_async import JournalState, Outcome, PicoSession, SmsMessage
from pico_async.integrations.procrastinate import PostgresLedger, enqueue_bulk, run_worker, setup
from pico_async.sandbox import Sandbox
from tests.support.postgres_server import PostgresServer, fresh_database, postgres_server
from tests.support.queue_worker import bear_lost_ends, make_app, session_with

pytestmark = pytest.mark.processes

COUNT = 120
CONCURRENCY = 4


@pytest.fixture(scope="module")
def running_server() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for the tests of this file, because it takes two seconds to make one."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def server(running_server: PostgresServer) -> Iterator[PostgresServer]:
    """Return the server, which runs; a test may stop it, and leave it stopped if it fails."""
    yield running_server
    if not running_server.runs:
        running_server.start()


def sandbox_with_latency() -> Sandbox:
    return Sandbox(rate_rule=None, latency_s=0.02)


def messages() -> list[SmsMessage]:
    return [SmsMessage(f"8613{number:09}", "Your code is 4711", key=f"order-{number}") for number in range(COUNT)]


def received(sandbox: Sandbox) -> Counter[str]:
    return Counter(f"order-{int(message.to[4:])}" for message in sandbox.ledger.accepted)


def names(database: str, state: str) -> set[str]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT name FROM pico_ledger WHERE state = %s", (state,)).fetchall()
    return {name for (name,) in rows}


def unfinished(database: str) -> int:
    with psycopg.connect(database) as connection:
        statement = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        return int(connection.execute(statement).fetchall()[0][0])


async def trouble(server: PostgresServer, sandbox: Sandbox, how: signal.Signals) -> None:
    """Restart PostgreSQL three times, each time after another quarter of the messages has arrived."""
    for quarter in (1, 2, 3):
        while len(sandbox.ledger.accepted) < quarter * COUNT // 4:
            await anyio.sleep(0.005)
        await asyncio.to_thread(server.restart, how)


HOW = [
    pytest.param(signal.SIGINT, id="in-order", marks=pytest.mark.full),
    pytest.param(signal.SIGQUIT, id="as-in-a-crash"),
]


@pytest.mark.parametrize("how", HOW)
async def test_a_worker_goes_on_by_itself(
    server: PostgresServer, how: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A worker continues by itself after restarts of PostgreSQL: every job ends, and no message is sent twice.

    Each message is accepted, or in doubt if it was on the wire during a restart.
    """
    bear_lost_ends()
    sandbox = sandbox_with_latency()
    with fresh_database(server) as database:
        app = make_app(database, "worker")
        async with app.open_async(), session_with(sandbox) as pico:
            await setup(app)
            await enqueue_bulk(app, messages())

            async with anyio.create_task_group() as group:
                group.start_soon(run, app, pico)
                await trouble(server, sandbox, how)
                while unfinished(database):
                    await anyio.sleep(0.05)
                group.cancel_scope.cancel()

        arrived, accepted, in_doubt = received(sandbox), names(database, "accepted"), names(database, "in_doubt")
        assert [key for key, times in arrived.items() if times > 1] == []
        assert accepted | in_doubt == {message.key for message in messages()}
        assert accepted <= set(arrived)
        with capsys.disabled():
            print(f"\n{how.name}: {len(arrived)} arrived, 0 twice, {len(accepted)} accepted, {len(in_doubt)} in doubt")


async def test_a_worker_comes_back_after_a_long_absence(
    server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker continues after PostgreSQL was away for so long that procrastinate's own worker has ended.

    Each message is accepted, or in doubt if it was on the wire and could not be settled.
    """
    bear_lost_ends()
    monkeypatch.setattr("pico_async.integrations.procrastinate.outbox.TIMEOUT_S", 0.5)
    sandbox = sandbox_with_latency()
    with fresh_database(server) as database:
        app = make_app(database, "worker", timeout_s=0.5)
        async with app.open_async(), session_with(sandbox) as pico:
            await setup(app)
            await enqueue_bulk(app, messages())
            hasty = PostgresLedger(app.connector.pool, timeout_s=0.5, settle_s=0.5, under_way_s=0)  # type: ignore[attr-defined]

            async with anyio.create_task_group() as group:
                group.start_soon(run, app, pico, hasty)
                while len(sandbox.ledger.accepted) < COUNT // 2:
                    await anyio.sleep(0.005)
                await asyncio.to_thread(server.stop)
                while "The worker lost PostgreSQL" not in caplog.text:
                    await anyio.sleep(0.05)
                await asyncio.to_thread(server.start)
                while unfinished(database):
                    await anyio.sleep(0.05)
                group.cancel_scope.cancel()

        accepted, in_doubt = names(database, "accepted"), names(database, "in_doubt")
        assert max(received(sandbox).values()) == 1
        assert accepted | in_doubt == {message.key for message in messages()}
        assert len(in_doubt) <= CONCURRENCY


async def run(app: procrastinate.App, pico: PicoSession, ledger: PostgresLedger | None = None) -> None:
    await run_worker(
        app,
        pico,
        concurrency=CONCURRENCY,
        stalled_s=2.0,
        fetch_job_polling_interval=0.1,
        install_signal_handlers=False,
        ledger=ledger or PostgresLedger(app.connector.pool, under_way_s=2.0),  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("how", HOW)
async def test_a_bulk_send_with_its_ledger_completes(server: PostgresServer, how: signal.Signals) -> None:
    """A bulk send with a PostgreSQL ledger waits during restarts: each message is accepted and arrives once."""
    sandbox = sandbox_with_latency()
    outcomes: Counter[Outcome] = Counter()
    with fresh_database(server) as database:
        async with PostgresLedger(database) as ledger, session_with(sandbox) as pico:
            await ledger.setup()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(trouble(server, sandbox, how))
                await pico.send_bulk(
                    messages(),
                    journal=ledger,
                    concurrency=4,
                    on_result=lambda result: outcomes.update([result.outcome]),
                )

            assert max(received(sandbox).values()) == 1
            assert outcomes == {Outcome.ACCEPTED: COUNT}
            assert (await ledger.counts())[JournalState.ACCEPTED] == COUNT


async def test_without_postgresql_nothing_is_sent_and_what_failed_says_so(server: PostgresServer) -> None:
    """
    A bulk send stops when PostgreSQL goes away, and reports no message that arrived as not sent.

    The next bulk send sends no message twice; at most the messages that were on the wire are in doubt.
    """
    sandbox = sandbox_with_latency()
    outcomes: dict[str, Outcome] = {}
    with fresh_database(server) as database:
        async with (
            PostgresLedger(database, timeout_s=0.2, settle_s=0.2, under_way_s=0) as ledger,
            session_with(sandbox) as pico,
        ):
            await ledger.setup()

            async def stop_it() -> None:
                while len(sandbox.ledger.accepted) < COUNT // 4:
                    await anyio.sleep(0.005)
                await asyncio.to_thread(server.stop)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stop_it())
                report = await pico.send_bulk(
                    messages(),
                    journal=ledger,
                    concurrency=4,
                    on_result=lambda result: outcomes.update({result.key or "": result.outcome}),
                )
            server.start()

        async with PostgresLedger(database, under_way_s=0) as ledger, session_with(sandbox) as pico:
            arrived = received(sandbox)
            assert max(arrived.values()) == 1
            assert report.stopped is not None
            assert "journal failed" in report.stopped
            assert set(arrived) <= {key for key, outcome in outcomes.items() if outcome is not Outcome.NOT_SENT}
            again = await pico.send_bulk(messages(), journal=ledger, concurrency=4)

        assert max(received(sandbox).values()) == 1
        assert again.accepted + again.skipped + again.in_doubt == COUNT
        assert again.in_doubt <= 4
