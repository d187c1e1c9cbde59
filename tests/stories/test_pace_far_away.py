"""
This test checks that a distant server receives at most 30 requests in any second, also while connections are opened.
"""

from __future__ import annotations

import pytest

from tests.support.far_away import far_away
from tests.support.fleet_worker import FleetWorker
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.sandbox_process import sandbox_process

pytestmark = pytest.mark.processes

full = pytest.mark.full


@pytest.mark.parametrize(
    ("rtt_s", "tls", "concurrency", "count"),
    [
        pytest.param(0.2, True, 64, 120, id="200 ms, 120 messages"),
        pytest.param(0.2, True, 64, 900, id="200 ms, 900 messages", marks=full),
        pytest.param(0.05, True, 64, 900, id="50 ms, 900 messages", marks=full),
        # 60 requests are in flight, and twice as many while the connections have to be opened first.
        pytest.param(2.0, False, 192, 900, id="2 s without TLS, 900 messages", marks=full),
    ],
)
@repeat_if_starved
def test_a_bulk_send_to_a_distant_server_never_exceeds_the_documented_rate(
    rtt_s: float, tls: bool, concurrency: int, count: int
) -> None:
    """
    A sliding-log server refuses nothing, no second holds more than 30 arrivals, and each message arrives once.

    A request on a new connection reaches the server two round trips later than one on a connection that is open, or
    one without TLS. Both kinds mix from the moment in which the first replies are back.
    """
    with (
        sandbox_process("--rate-rule=sliding-log") as sandbox,
        far_away(sandbox.base_url, rtt_s=rtt_s, tls=tls) as far,
    ):
        bulk_send = FleetWorker(
            name="bulk_send",
            redis_url=None,
            base_url=far.base_url,
            count=count,
            concurrency=concurrency,
            ca_file=far.ca_file,
            # With TLS, the client's handshake includes the wait for TCP. Without TLS, it would see no such wait.
            connect_s=0.0 if tls else rtt_s,
        )
        with bulk_send.start() as running:
            told = running.finish()

        ledger = sandbox.ledger()
    # One assertion for both, so that a failure shows both.
    with rate_claims():
        assert (max(ledger.densest(), 30), ledger.refusals) == (30, 0)
    assert list(told.outcomes.values()) == [["accepted"]] * count
    assert not ledger.duplicates()
    assert ledger.token_requests == 1
