"""All these tests share one PostgreSQL server, and each test begins with empty tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import procrastinate
import pytest

from pico_async import PicoSession
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.integrations.procrastinate import setup
from pico_async.sandbox import Sandbox
from tests.support.postgres_server import Postgres, empty, fresh_database


@pytest.fixture(scope="session")
def shared_database(postgres: Postgres) -> Iterator[str]:
    """Make one database with all tables, because that takes longer than most of these tests; yield its conninfo."""

    async def make_tables(conninfo: str) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=conninfo)
        async with procrastinate.App(connector=connector).open_async() as app:
            await setup(app)

    with fresh_database(postgres) as conninfo:
        asyncio.run(make_tables(conninfo))
        yield conninfo


@pytest.fixture
def database(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """Return the address of a database with empty tables, or of an empty database of the test's own."""
    if request.node.get_closest_marker("own_database") is not None:
        with fresh_database(postgres) as conninfo:
            yield conninfo
        return
    conninfo = request.getfixturevalue("shared_database")
    empty(conninfo)
    yield conninfo


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[PostgresLedger]:
    # A message that these tests leave in state "sending" has a dead worker, so no delivery needs to wait for it.
    async with PostgresLedger(database, under_way_s=0) as ledger:
        await ledger.setup()
        yield ledger


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(rate_rule=None)


@pytest.fixture
async def pico(sandbox: Sandbox) -> AsyncIterator[PicoSession]:
    async with session_with(sandbox) as session:
        yield session


def session_with(sandbox: Sandbox, **settings: Any) -> PicoSession:
    """Make a session with the sandbox inside this process."""
    return PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="8612345678888",
        transport=sandbox.transport(),
        **settings,
    )
