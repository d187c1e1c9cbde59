"""These tests check that the PostgreSQL of the tests stops, starts again, and keeps what was committed."""

from __future__ import annotations

import signal

import psycopg
import pytest

from tests.support.postgres_server import fresh_database, postgres_server
from tests.support.servers import unavailable


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restart_keeps_what_was_committed(how: signal.Signals) -> None:
    """
    A server that was stopped, in order or as in a crash, refuses connections until it starts, and keeps its commits.
    """
    with postgres_server() as server, fresh_database(server) as conninfo:
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

        server.stop(how)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo)
        server.start()

        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_a_missing_server_skips_and_a_gate_does_not_let_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing server skips the test, or fails it with PICO_TEST_REQUIRE_SERVERS=1; both state the reason."""
    monkeypatch.delenv("PICO_TEST_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such thing"):
        unavailable("no such thing")

    monkeypatch.setenv("PICO_TEST_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no such thing"):
        unavailable("no such thing")
