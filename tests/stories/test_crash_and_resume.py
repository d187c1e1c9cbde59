"""These tests kill a journalled bulk send with SIGKILL and run it again: no message is lost, and none is sent twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.crashing_bulk_send import CrashingBulkSend, recipients
from tests.support.sandbox_process import SandboxProcess, sandbox_process

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    # Each run of a bulk send fetches a token of its own, and the rate of token requests is per key.
    with sandbox_process("--rate-rule", "none", "--latency-ms", "5") as process:
        yield process


def received_by(sandbox: SandboxProcess, bulk_send: CrashingBulkSend) -> Counter[int]:
    """Count how often each message arrived, by its index in the input."""
    indices = {message.to: index for index, message in enumerate(bulk_send.messages)}
    return Counter(indices[message.to] for message in sandbox.ledger().accepted if message.to in indices)


def assert_nothing_is_lost_or_doubled(bulk_send: CrashingBulkSend, received: Counter[int], runs: int) -> set[int]:
    """Compare the results of all runs, and of the last run, with what arrived; return the indexes that are in doubt."""
    reported = bulk_send.reported_in(*range(runs))
    last = bulk_send.reported_in(runs - 1)
    accepted = {index for index, outcomes in reported.items() if {"accepted", "skipped"} & set(outcomes)}
    in_doubt = {index for index, outcomes in last.items() if outcomes == ["in_doubt"]}
    assert [index for index, count in received.items() if count > 1] == []
    assert sorted(last) == list(range(len(bulk_send.messages)))
    assert all(outcomes in (["accepted"], ["skipped"], ["in_doubt"]) for outcomes in last.values())
    assert set(received) <= accepted | in_doubt
    assert accepted <= set(received)
    # An acceptance was committed before it was reported, so the last run skips the message.
    before = bulk_send.reported_in(*range(runs - 1))
    assert all(last[index] == ["skipped"] for index, outcomes in before.items() if "accepted" in outcomes)
    return in_doubt


@pytest.mark.parametrize(
    ("count", "concurrency"), [(3, 2), pytest.param(12, 4, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
def test_killed_at_every_point_there_is(
    sandbox: SandboxProcess, tmp_path: Path, count: int, concurrency: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A bulk send that is killed at any failpoint loses no message and sends none twice when it is run again.

    The failpoints lie before and after each commit, before each request, at its write, after its reply, and around each
    call of `on_result`. A message that a killed run left sending is in doubt in all later runs.
    """
    doubts = crashes = 0
    for point in range(1, 1000):
        bulk_send = CrashingBulkSend(
            base_url=sandbox.base_url,
            journal=tmp_path / f"{point}.db",
            reported=tmp_path / f"{point}.txt",
            messages=recipients(count * 1_000_000 + point * 1000, count),
            concurrency=concurrency,
        )
        life = bulk_send.start(0, crash_at=point)
        life.join(60)
        if life.exitcode == 0:
            break
        assert life.exitcode == -signal.SIGKILL
        crashes += 1
        bulk_send.run_to_its_end(1)

        in_doubt = assert_nothing_is_lost_or_doubled(bulk_send, received_by(sandbox, bulk_send), runs=2)
        if in_doubt:
            bulk_send.run_to_its_end(2)
            assert in_doubt == assert_nothing_is_lost_or_doubled(bulk_send, received_by(sandbox, bulk_send), runs=3)
        assert len(in_doubt) <= concurrency
        doubts += len(in_doubt)

    with capsys.disabled():
        print(f"\n{crashes} points, {doubts} in doubt")
    # Schema, claim, intent and outcome have two failpoints each. Each message adds at least five: three at its request
    # and two at its result.
    assert crashes >= 8 + 5 * count
    assert doubts > 0


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
def test_killed_at_any_moment(
    sandbox: SandboxProcess, tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A bulk send that is killed at random moments, again and again, loses no message and sends none twice.

    Each bulk send runs at 500 messages per second with a concurrency of 16, and is repeated until it ends.
    """
    moments = random.Random(kills)
    concurrency = 16
    killed = bulk_sends = received = doubted = 0
    while killed < kills:
        bulk_send = CrashingBulkSend(
            base_url=sandbox.base_url,
            journal=tmp_path / f"{bulk_sends}.db",
            reported=tmp_path / f"{bulk_sends}.txt",
            messages=recipients(9_000_000_000 + kills * 10_000_000 + bulk_sends * 10_000, 500),
            concurrency=concurrency,
            rate=500,
        )
        bulk_sends += 1
        lives = 0
        while killed < kills:
            life = bulk_send.start(lives)
            time.sleep(moments.uniform(0.01, 0.6))
            life.kill()
            life.join(10)
            lives += 1
            if life.exitcode == 0:
                break
            assert life.exitcode == -signal.SIGKILL
            killed += 1
        bulk_send.run_to_its_end(lives)

        arrived = received_by(sandbox, bulk_send)
        in_doubt = assert_nothing_is_lost_or_doubled(bulk_send, arrived, runs=lives + 1)
        assert len(in_doubt) <= lives * concurrency
        received += len(arrived)
        doubted += len(in_doubt)

    with capsys.disabled():
        print(f"\n{killed} kills, {bulk_sends} bulk_sends, {received} received, 0 doubled, 0 lost, {doubted} in doubt")
    assert killed == kills
    assert received > kills
    assert doubted <= killed * concurrency
