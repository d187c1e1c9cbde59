"""All these tests share one PostgreSQL server, and each test has an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pico_async import PicoSession
from pico_async.integrations.postgres.ledger import PostgresLedger
from pico_async.sandbox import Sandbox


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


def session_with(sandbox: Sandbox) -> PicoSession:
    """Make a session with the sandbox inside this process."""
    return PicoSession(
        username=sandbox.username, api_key=sandbox.api_key, sender="8612345678888", transport=sandbox.transport()
    )
