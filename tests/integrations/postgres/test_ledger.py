"""
The ledger that workers share decides which delivery may send, keeps messages in doubt, and shows no private value in
errors.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from pico_async import (
    ConfigurationError,
    InDoubtError,
    InvalidMessageError,
    Journal,
    JournalError,
    JournalState,
    NotInDoubtError,
    Outcome,
    Rates,
    SmsMessage,
)
from pico_async.bulk.journal.protocols import JournalRow
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.postgres.run import PostgresRun
from pico_async.sandbox import Sandbox
from tests.integrations.conftest import session_with
from tests.support.postgres_server import PostgresServer, fresh_database, postgres_server
from tests.support.statements import counted_statements
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.lower_bounds

ACCOUNT = "user333 at somewhere"


def sms(number: int = 1, key: str | None = "order-1", text: str = "Your code is 4711", **more: Any) -> SmsMessage:
    return SmsMessage(f"8613{number:09}", text, key=key, **more)


def rows(database: str, statement: str = "SELECT * FROM pico_ledger") -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()


async def delivered(ledger: PostgresLedger, message: SmsMessage) -> tuple[PostgresRun, JournalRow]:
    """Start a delivery: claim the message's row and record the intent to send the message."""
    async with ledger.run(ACCOUNT) as run:
        line = await run.claim(message, 0)
        await run.intend(line)
        return run, line


async def found(ledger: PostgresLedger, message: SmsMessage) -> JournalRow:
    """Return the line that the ledger has when the message is delivered again."""
    async with ledger.run(ACCOUNT) as run:
        return await run.claim(message, 0)


async def test_it_is_a_journal(ledger: PostgresLedger) -> None:
    """The ledger is a `Journal`, so it is accepted wherever a journal is accepted."""
    assert isinstance(ledger, Journal)


@pytest.mark.own_database
async def test_many_set_it_up_at_once_and_again(database: str) -> None:
    """Several workers can set up the ledger at the same time, and set it up again later."""
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(PostgresLedger(database, under_way_s=0)) for _ in range(6)]

        await asyncio.gather(*(ledger.setup() for ledger in ledgers))
        await ledgers[0].setup()

        assert sum((await ledgers[0].counts()).values()) == 0


async def test_only_one_of_many_deliveries_may_send(ledger: PostgresLedger) -> None:
    """When many deliveries find a message pending, the statement that takes its row succeeds for only one delivery."""
    async with AsyncExitStack() as stack:
        runs = [await stack.enter_async_context(ledger.run(ACCOUNT)) for _ in range(12)]
        lines = [await run.claim(sms(), 0) for run in runs]
        assert {line.state for line in lines} == {JournalState.PENDING}

        intended = await asyncio.gather(
            *(run.intend(line) for run, line in zip(runs, lines, strict=True)), return_exceptions=True
        )

        assert intended.count(None) == 1
        assert sum(isinstance(error, InDoubtError) for error in intended) == 11


async def test_a_delivery_that_finds_it_sending_is_in_doubt(ledger: PostgresLedger, database: str) -> None:
    """A message that another delivery is sending becomes in doubt, because that worker may be slow or dead."""
    await delivered(ledger, sms())

    line = await found(ledger, sms())

    assert line.state is JournalState.SENDING
    assert rows(database, "SELECT state FROM pico_ledger") == [("in_doubt",)]
    assert [record.state for record in await ledger.in_doubt()] == [JournalState.IN_DOUBT]
    assert (await found(ledger, sms())).state is JournalState.IN_DOUBT


@pytest.mark.parametrize("settles", [True, False])
async def test_one_that_is_under_way_is_waited_for(database: str, settles: bool) -> None:
    """
    A delivery waits for another one that is sending the message. It is in doubt only if the other does not end in time.
    """
    async with PostgresLedger(database, under_way_s=30 if settles else 0.2) as ledger:
        await ledger.setup()
        run, line = await delivered(ledger, sms())
        async with asyncio.TaskGroup() as tasks:
            second = tasks.create_task(found(ledger, sms()))
            if settles:
                await run.settle(line, Outcome.ACCEPTED, "r-1")

        assert second.result().state is (JournalState.ACCEPTED if settles else JournalState.SENDING)
        assert len(await ledger.in_doubt()) == (0 if settles else 1)


async def test_a_clock_that_was_set_back_delays_no_delivery(database: str) -> None:
    """
    When PostgreSQL moved to a host whose clock is an hour behind, a delivery does not wait for the row's future time.
    """
    async with PostgresLedger(database, under_way_s=30) as ledger:
        await ledger.setup()
        await delivered(ledger, sms())
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE pico_ledger SET changed_at = changed_at + interval '1 hour'")

        with anyio.fail_after(20):
            assert (await found(ledger, sms())).state is JournalState.SENDING


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.REJECTED])
async def test_the_one_that_was_only_slow_still_settles_it(ledger: PostgresLedger, outcome: Outcome) -> None:
    """A slow delivery still settles its message after the message became in doubt, because the row is still its own."""
    run, line = await delivered(ledger, sms())
    await found(ledger, sms())

    await run.settle(line, outcome, "r-1")

    again = await found(ledger, sms())
    assert (again.state, again.request_id) == (outcome.value, "r-1")


async def test_it_settles_no_row_that_another_delivery_has_taken(ledger: PostgresLedger) -> None:
    """
    A delivery does not settle a row that another delivery took after a resend: its "not sent" would let a third one
    send.
    """
    first, first_line = await delivered(ledger, sms())
    await found(ledger, sms())
    await ledger.resend("order-1")
    second, line = await delivered(ledger, sms())

    await first.settle(first_line, Outcome.NOT_SENT, None)

    assert (await found(ledger, sms())).state is JournalState.SENDING
    await second.settle(line, Outcome.ACCEPTED, None)
    assert (await found(ledger, sms())).state is JournalState.ACCEPTED


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.REJECTED])
async def test_what_did_not_go_out_is_sent_by_the_next_delivery(ledger: PostgresLedger, outcome: Outcome) -> None:
    """A message that was not sent, or was rejected, is sent by the next delivery."""
    run, line = await delivered(ledger, sms())
    await run.settle(line, outcome, None)

    again, again_line = await delivered(ledger, sms())
    await again.settle(again_line, Outcome.ACCEPTED, "r-2")

    assert (await found(ledger, sms())).state is JournalState.ACCEPTED


async def test_what_was_accepted_stays_so(ledger: PostgresLedger) -> None:
    """A message that a receipt confirmed as accepted stays accepted when the reply is then lost."""
    run, line = await delivered(ledger, sms())
    assert await ledger.confirm("order-1", "r-1")

    await run.settle(line, Outcome.IN_DOUBT, None)

    again = await found(ledger, sms())
    assert (again.state, again.request_id) == (JournalState.ACCEPTED, "r-1")
    assert not await ledger.confirm("order-1")


async def test_a_proof_is_of_the_message_that_it_names(ledger: PostgresLedger) -> None:
    """
    `confirm` accepts a whole ID, and not its beginning, because a key of another ledger may look like that beginning.
    """
    run, line = await delivered(ledger, sms())
    await run.settle(line, Outcome.IN_DOUBT, None)
    (record,) = await ledger.in_doubt()

    for stranger in (record.id[:12], "order-99"):
        with pytest.raises(NotInDoubtError):
            await ledger.confirm(stranger)
    assert await ledger.confirm(record.id)
    assert not await ledger.in_doubt()


async def test_a_key_names_one_content(ledger: PostgresLedger) -> None:
    """
    A key names one content, and one message of a run; `expires_in` is not part of the content. A missing key is
    refused.
    """
    run, line = await delivered(ledger, sms(expires_in=60))
    await run.settle(line, Outcome.ACCEPTED, "r-1")
    assert (await found(ledger, sms(expires_in=30))).state is JournalState.ACCEPTED

    with pytest.raises(InvalidMessageError, match=r"'order-1' belongs to a message of other content .* accepted"):
        await found(ledger, sms(text="Another"))
    with pytest.raises(InvalidMessageError, match="came before in this run"):
        await run.claim(sms(expires_in=60), 1)
    with pytest.raises(InvalidMessageError, match="`key` is missing: a queue may deliver a message twice"):
        await found(ledger, sms(key=None))


async def test_a_key_that_got_another_content_meanwhile_is_not_taken(ledger: PostgresLedger) -> None:
    """A delivery may not send a message whose key another delivery has used meanwhile for another content."""
    async with ledger.run(ACCOUNT) as slow:
        line = await slow.claim(sms(text="Another"), 0)
        run, first = await delivered(ledger, sms())
        await run.settle(first, Outcome.NOT_SENT, None)

        with pytest.raises(InDoubtError):
            await slow.intend(line)

    assert (await found(ledger, sms())).state is JournalState.NOT_SENT


@pytest.mark.parametrize("before", [None, Outcome.REJECTED])
async def test_an_intent_that_comes_late_is_not_taken_for_a_doubt(
    ledger: PostgresLedger, before: Outcome | None
) -> None:
    """
    When PostgreSQL freezes, an intent may arrive after its delivery was settled as not sent. The intent is refused, and
    the message does not become in doubt.
    """
    if before is not None:
        run, line = await delivered(ledger, sms())
        await run.settle(line, before, None)
    async with ledger.run(ACCOUNT) as run:
        line = await run.claim(sms(), 0)
        held = run._claims[line.id]
        await run.settle(line, Outcome.NOT_SENT, None)

        run._claims[line.id] = held
        with pytest.raises(InDoubtError):
            await run.intend(line)

    assert (await found(ledger, sms())).state == (before or Outcome.NOT_SENT)
    again, line = await delivered(ledger, sms())
    await again.settle(line, Outcome.ACCEPTED, None)
    assert (await found(ledger, sms())).state is JournalState.ACCEPTED


async def test_what_came_in_doubt_meanwhile_is_not_taken(ledger: PostgresLedger) -> None:
    """A slow delivery may not send a message that another delivery has sent meanwhile and left in doubt."""
    async with ledger.run(ACCOUNT) as slow:
        line = await slow.claim(sms(), 0)
        await delivered(ledger, sms())
        await found(ledger, sms())

        with pytest.raises(InDoubtError):
            await slow.intend(line)

    assert len(await ledger.in_doubt()) == 1


async def test_what_is_settled_just_now_does_not_come_in_doubt(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message does not become in doubt if it is settled after the last look at its row and before the update."""
    run, line = await delivered(ledger, sms())
    look = PostgresRun._settled

    async def settled_after_it(self: PostgresRun, name: bytes) -> list[Any]:
        rows = await look(self, name)
        await run.settle(line, Outcome.ACCEPTED, "r-1")
        return rows

    monkeypatch.setattr(PostgresRun, "_settled", settled_after_it)
    await found(ledger, sms())

    assert (await ledger.counts())[JournalState.ACCEPTED] == 1


async def test_another_accounts_key_is_another_message(ledger: PostgresLedger) -> None:
    """The same key of another account names another message; a decision on a key that both have is refused."""
    await delivered(ledger, sms())
    async with ledger.run("another at elsewhere") as run:
        line = await run.claim(sms(text="Another"), 0)
        assert line.state is JournalState.PENDING
        await run.intend(line)

    with pytest.raises(JournalError, match="more than one message"):
        await ledger.mark_sent("order-1")


async def test_a_message_without_another_delivery_is_in_doubt_after_a_while(database: str) -> None:
    """A message that is not delivered again counts as in doubt after `stale_s`, and its owner can then resend it."""
    async with (
        PostgresLedger(database, under_way_s=0) as ledger,
        PostgresLedger(database, under_way_s=0, stale_s=0) as impatient,
    ):
        await ledger.setup()
        await delivered(ledger, sms())

        assert await ledger.in_doubt() == []
        (record,) = await impatient.in_doubt()
        assert (record.state, record.name) == (JournalState.SENDING, "order-1")

        with pytest.raises(JournalError, match="may be on the wire"):
            await ledger.resend(record.id)
        assert await impatient.resend(record.id) == [record.id]
        assert (await found(ledger, sms(text="Another"))).state is JournalState.PENDING


async def test_people_decide_by_key_by_id_or_by_its_beginning(ledger: PostgresLedger) -> None:
    """A decision names messages by key, by ID or by an ID's beginning, and applies to all of them or to none."""
    for number in range(4):
        await delivered(ledger, sms(number, f"order-{number}"))
        await found(ledger, sms(number, f"order-{number}"))
    ids = {record.name: record.id for record in await ledger.in_doubt()}

    await ledger.mark_sent("order-0", ids["order-1"], ids["order-2"][:13])
    with pytest.raises(JournalError, match="no message of the key or ID '86…23'"):
        await ledger.mark_sent("order-3", "8613900000123")

    assert [record.name for record in await ledger.in_doubt()] == ["order-3"]
    with pytest.raises(JournalError, match="'order-0' was accepted"):
        await ledger.resend("order-3", "order-0")
    assert [record.name for record in await ledger.in_doubt()] == ["order-3"]
    assert (await ledger.counts())[JournalState.ACCEPTED] == 3


@pytest.mark.parametrize("decide", ["mark_sent", "resend"])
async def test_a_decision_about_many_takes_as_many_statements_as_about_one(ledger: PostgresLedger, decide: str) -> None:
    """A decision sends a fixed number of statements, however many messages it names, and by whatever names."""
    for number in range(30):
        await delivered(ledger, sms(number, f"order-{number}"))
        await found(ledger, sms(number, f"order-{number}"))
    ids = [record.id for record in await ledger.in_doubt()]

    with counted_statements() as for_one:
        await getattr(ledger, decide)(ids[0])
    with counted_statements() as for_many:
        await getattr(ledger, decide)(*ids[1:10], *(name[:12] for name in ids[10:]), ids[10][:12], ids[10], "order-29")

    assert len(for_many) == len(for_one)
    assert await ledger.in_doubt() == []


@pytest.mark.parametrize("decide", ["mark_sent", "confirm", "resend"])
async def test_a_key_that_is_not_there_means_no_other_message(ledger: PostgresLedger, decide: str) -> None:
    """
    A short beginning of an ID names no message. Among a million messages, one in seventeen order numbers of six digits
    begins another message's ID.
    """
    await delivered(ledger, sms())
    await found(ledger, sms())
    (record,) = await ledger.in_doubt()

    with pytest.raises(JournalError, match="no message of the key or ID"):
        await getattr(ledger, decide)(record.id[:11])

    assert await ledger.in_doubt() == [record]


@pytest.mark.parametrize("decide", ["mark_sent", "confirm"])
async def test_what_was_provably_not_sent_cannot_be_called_sent(ledger: PostgresLedger, decide: str) -> None:
    """A message that was provably not sent cannot be marked or confirmed as sent, because it would be lost."""
    run, line = await delivered(ledger, sms())
    await run.settle(line, Outcome.NOT_SENT, None)

    with pytest.raises(JournalError, match="provably not sent"):
        await getattr(ledger, decide)("order-1")


async def test_a_decision_waits_for_another_one(ledger: PostgresLedger, database: str) -> None:
    """A decision waits for a concurrent decision: a message that is just being marked as sent is not sent again."""
    await delivered(ledger, sms())
    await found(ledger, sms())
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database) as other:
        other.execute("UPDATE pico_ledger SET state = 'accepted'")
        resending = asyncio.ensure_future(ledger.resend("order-1"))
        while not await asyncio.to_thread(rows, database, waits):
            await asyncio.sleep(0)
        other.commit()

    with pytest.raises(JournalError, match="was accepted"):
        await resending


@pytest.mark.parametrize("how", ["connection", "cancelled"])
async def test_a_resend_that_ends_in_the_middle_loses_no_doubt(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A `resend` whose connection is lost, or that is cancelled, before its commit leaves all messages in doubt."""
    for number in range(2):
        await delivered(ledger, sms(number, f"order-{number}"))
        await found(ledger, sms(number, f"order-{number}"))
    put_back = ledger.put_back

    async def ends(cursor: Any, ids: Any) -> None:
        await put_back(cursor, ids)
        if how == "cancelled":
            raise asyncio.CancelledError
        await cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(ledger, "put_back", ends)
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else JournalError):
        await ledger.resend("order-0", "order-1")

    assert sorted(record.name for record in await ledger.in_doubt()) == ["order-0", "order-1"]


async def test_the_repr_shows_the_live_state(ledger: PostgresLedger) -> None:
    """The repr of a ledger shows the connections of its pool, and nothing of its conninfo."""
    shown = re.fullmatch(r"<PostgresLedger on <Database, connections: (\d+), idle: (\d+), waiting: 0>>", repr(ledger))

    assert shown is not None
    assert int(shown[1]) >= int(shown[2]) >= 1


async def test_it_forgets_what_is_settled_and_old(ledger: PostgresLedger) -> None:
    """`forget` deletes old rows that are settled, and never a row in doubt or a row that is being sent."""
    for number, outcome in enumerate([Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.IN_DOUBT]):
        run, line = await delivered(ledger, sms(number, f"order-{number}"))
        await run.settle(line, outcome, None)

    await delivered(ledger, sms(3, "order-3"))

    assert await ledger.forget(older_than_s=3600) == 0
    assert await ledger.forget(older_than_s=0) == 2
    assert [record.name for record in await ledger.in_doubt()] == ["order-2"]
    assert (await ledger.counts())[JournalState.SENDING] == 1


async def test_it_holds_neither_number_nor_text(ledger: PostgresLedger, database: str) -> None:
    """
    The ledger holds neither the number nor the text, even if the key is a number. Characters that PostgreSQL cannot
    store cause no error.
    """
    run, line = await delivered(ledger, sms(key="for 8613000000001\0"))
    await run.settle(line, Outcome.ACCEPTED, "r\0-\udcff")

    (row,) = rows(database)

    assert "for 86…01" in row[1]
    assert "Your code" not in str(row)
    assert "8613000000001" not in str(row)
    assert row[4].startswith("r")


async def test_a_blast_takes_it_for_its_journal(ledger: PostgresLedger, sandbox: Sandbox) -> None:
    """Two bulk sends of the same messages at once, with the ledger as their journal, send each message once."""
    messages = [sms(number, f"order-{number}") for number in range(40)]

    async with session_with(sandbox, rates=Rates(sms=None)) as pico:
        await asyncio.gather(*(pico.send_bulk(messages, journal=ledger, concurrency=4) for _ in range(2)))

        assert sandbox.ledger.duplicates() == {}
        report = await pico.send_bulk(messages, journal=ledger)
    assert (report.total, report.skipped) == (40, len(sandbox.ledger.accepted))
    assert report.skipped + report.in_doubt == 40


async def test_a_given_pool_stays_open_whatever_its_rows_are(ledger: PostgresLedger, database: str) -> None:
    """A pool that the application passes stays open, and its own row factory does not disturb the ledger."""
    options = {"row_factory": psycopg.rows.dict_row}
    async with AsyncConnectionPool(database, open=False, min_size=1, kwargs=options) as pool:
        async with PostgresLedger(pool, under_way_s=0) as theirs:
            await delivered(theirs, sms())
            assert (await found(theirs, sms())).state is JournalState.SENDING
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")

    assert len(await ledger.in_doubt()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"database": 5}, "`database` must be a conninfo"),
        ({"database": "host=h password=hunter2 nonsense"}, "`database` is not a conninfo"),
        ({"database": "dbname=x", "stale_s": -1}, "`stale_s` must be a number"),
        ({"database": "dbname=x", "timeout_s": "5"}, "`timeout_s` must be a number"),
    ],
)
def test_a_wrong_argument_is_named_and_not_repeated(arguments: dict[str, Any], complaint: str) -> None:
    """The error for a wrong argument names it and does not repeat it, because a conninfo contains a password."""
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        PostgresLedger(**arguments)

    assert "hunter2" not in str(raised.value)


async def test_it_closes_its_own_pool(database: str) -> None:
    """A ledger closes the pool that it made, and a later call raises an error that names the closed pool."""
    async with PostgresLedger(database) as ledger:
        await ledger.setup()

    with pytest.raises(JournalError, match="the pool is closed"):
        await ledger.counts()


async def test_a_given_pool_prepares_no_statement_of_the_ledger(database: str) -> None:
    """
    The ledger prepares no statement on any connection, because a pooler may change the session after a transaction.

    The pool's own setting stays as its owner made it.
    """
    async with AsyncConnectionPool(
        database, min_size=1, max_size=1, open=False, kwargs={"prepare_threshold": 0}
    ) as pool:
        ledger = PostgresLedger(pool)
        await ledger.setup()
        for _ in range(3):
            await ledger.counts()
        async with pool.connection() as connection:
            prepared = await (await connection.execute("SELECT statement FROM pg_prepared_statements")).fetchall()

    assert connection.prepare_threshold == 0
    assert not [statement for (statement,) in prepared if "pico_" in statement]


@pytest.mark.own_database
async def test_an_error_for_missing_tables_names_setup(database: str) -> None:
    """When the tables are missing, the error names `setup` as the call that makes them."""
    async with PostgresLedger(database, under_way_s=0) as ledger:
        with pytest.raises(JournalError, match=r"they are missing.*call `setup`"):
            await ledger.counts()


@pytest.mark.own_database
async def test_an_error_holds_no_value(ledger: PostgresLedger, database: str) -> None:
    """
    The ledger's error names the class and the SQLSTATE only, because PostgreSQL's own error shows the refused row.
    """
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE pico_ledger ADD CHECK (name <> 'order-1')")

    with pytest.raises(JournalError, match="CheckViolation, SQLSTATE 23514") as raised:
        await delivered(ledger, sms())

    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert "order-1" not in str(raised.value)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def test_what_was_committed_outlives_a_crash_whatever_the_database_is_set_up_for(
    own_server: PostgresServer,
) -> None:
    """
    A committed state survives a crash although the database sets synchronous_commit to off. With that setting,
    PostgreSQL answers before the log is written.
    """
    with fresh_database(own_server) as database:
        async with PostgresLedger(database, under_way_s=0) as ledger:
            await ledger.setup()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off")
        async with PostgresLedger(database, under_way_s=0) as ledger:
            run, line = await delivered(ledger, sms())
            own_server.restart(signal.SIGQUIT)
            assert rows(database, "SELECT state FROM pico_ledger") == [("sending",)]

            await run.settle(line, Outcome.ACCEPTED, None)
            own_server.restart(signal.SIGQUIT)
            assert rows(database, "SELECT state FROM pico_ledger") == [("accepted",)]


async def test_it_waits_through_a_restart_and_gives_up_without_a_server(own_server: PostgresServer) -> None:
    """`settle` waits through a restart of PostgreSQL, while a new delivery fails as long as there is no server."""
    with fresh_database(own_server) as database:
        async with (
            PostgresLedger(database, settle_s=PATIENCE_S, under_way_s=0) as ledger,
            PostgresLedger(database, timeout_s=0.3, under_way_s=0) as impatient,
        ):
            await ledger.setup()
            run, line = await delivered(ledger, sms())
            own_server.stop()
            with pytest.raises(JournalError, match="PostgreSQL cannot be used now"):
                await found(impatient, sms())
            async with asyncio.TaskGroup() as tasks:
                settling = tasks.create_task(run.settle(line, Outcome.ACCEPTED, "r-1"))
                await asyncio.to_thread(own_server.start)
                await settling

        async with PostgresLedger(database, under_way_s=0) as ledger:
            assert (await found(ledger, sms())).state is JournalState.ACCEPTED


async def test_an_intent_whose_answer_was_lost_is_still_this_deliverys(ledger: PostgresLedger) -> None:
    """An intent whose answer was lost can be repeated, because the row already belongs to the same delivery."""
    run, line = await delivered(ledger, sms())

    await run.intend(line)

    await run.settle(line, Outcome.ACCEPTED, json.dumps({}))
    assert (await found(ledger, sms())).state is JournalState.ACCEPTED
