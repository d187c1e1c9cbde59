"""
This test compares a journal with a model, after any history of bulk sends, crashes, resumes and the owner's decisions.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pico_async import JournalError, JournalState, SmsMessage, SqliteJournal
from tests.stories.crashing_bulk_send import CrashingBulkSend
from tests.support.sandbox_process import SandboxProcess

# What happens to the first try of a message.
FATES = ("honest", "honest", "honest", "bad-request", "accept-then-drop", "drop-before-accept")


class History(RuleBasedStateMachine):
    """
    One journal, and everything that may happen to it.

    Messages without a key may differ only in their index in the input; each of them must be sent.
    """

    sandbox: SandboxProcess
    bulk_sends = 0

    @initialize()
    def begin(self) -> None:
        History.bulk_sends += 1
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "blast.db")
        # Two equal messages without a key are in each history: few examples would draw none.
        self.messages = [SmsMessage(f"8612{History.bulk_sends:09}", "hello")] * 2
        self.resent: Counter[str] = Counter()
        self.marked: set[int] = set()
        self.runs = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(fate=st.sampled_from(FATES), keyed=st.booleans(), copies=st.integers(1, 3))
    def grow(self, fate: str, keyed: bool, copies: int) -> None:
        """Append to the input one message with a key, or up to three equal messages without one."""
        to = f"8613{History.bulk_sends:05}{len(self.messages):04}"
        if fate != "honest":
            rule = {"fault": fate, "to": to, "times": 1}
            self.sandbox.control("POST", "faults", rule)
        self.messages += [SmsMessage(to, "hello", key=to) if keyed else SmsMessage(to, "hello")] * (
            1 if keyed else copies
        )

    @rule()
    def send(self) -> None:
        """Run the bulk send to its end, and check that it reports each message once, as the journal has it."""
        run = self._bulk_send()
        before = self._received()

        run.run_to_its_end(self.runs)

        reported = run.reported_in(self.runs)
        self.runs += 1
        assert sorted(reported) == list(range(len(self.messages)))
        assert all(len(outcomes) == 1 for outcomes in reported.values())
        now = self._received()
        for to, indices in self._indices().items():
            outcomes = Counter(reported[index][0] for index in indices)
            came = now[to] - before[to]
            assert outcomes["accepted"] <= came <= outcomes["accepted"] + outcomes["in_doubt"]
            assert outcomes["not_sent"] == 0
        assert {index for index in self.marked if reported[index] != ["skipped"]} == set()
        counts = asyncio.run(SqliteJournal(self.path).counts())
        assert counts[JournalState.IN_DOUBT] == sum(outcomes == ["in_doubt"] for outcomes in reported.values())
        assert sum(counts.values()) == len(self.messages)

    @rule(point=st.integers(1, 40))
    def crash(self, point: int) -> None:
        """Run the bulk send, and kill it at a failpoint unless it ends before."""
        process = self._bulk_send().start(self.runs, crash_at=point)
        process.join(60)

        self.runs += 1
        assert process.exitcode in (0, -signal.SIGKILL)

    @precondition(lambda self: self._in_doubt())
    @rule(data=st.data())
    def mark_sent(self, data: Any) -> None:
        """Mark a message in doubt as sent; no later run sends it."""
        record = data.draw(st.sampled_from(self._in_doubt()))

        asyncio.run(SqliteJournal(self.path).mark_sent(record.id[:12]))

        self.marked.add(record.index)
        assert record.id not in {left.id for left in self._in_doubt()}

    @precondition(lambda self: self._in_doubt())
    @rule(data=st.data())
    def resend(self, data: Any) -> None:
        """Release a message in doubt, so that the next run sends it again."""
        record = data.draw(st.sampled_from(self._in_doubt()))
        message = self.messages[record.index]

        asyncio.run(SqliteJournal(self.path).resend(message.key or record.id))

        self.resent[message.to] += 1
        assert record.id not in {left.id for left in self._in_doubt()}

    @invariant()
    def nothing_goes_out_twice(self) -> None:
        """Check that no message arrived twice, unless the owner called `resend` for it."""
        if not hasattr(self, "folder"):
            return
        received = self._received()
        for to, indices in self._indices().items():
            assert received[to] <= len(indices) + self.resent[to]

    def _bulk_send(self) -> CrashingBulkSend:
        return CrashingBulkSend(
            base_url=self.sandbox.base_url,
            journal=self.path,
            reported=Path(self.folder.name, "reported.txt"),
            messages=tuple(self.messages),
            concurrency=3,
        )

    def _indices(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for index, message in enumerate(self.messages):
            indices.setdefault(message.to, []).append(index)
        return indices

    def _received(self) -> Counter[str]:
        return Counter(message.to for message in self.sandbox.ledger().accepted)

    def _in_doubt(self) -> list[Any]:
        if not self.path.exists():
            return []
        try:
            return asyncio.run(SqliteJournal(self.path).in_doubt())
        except JournalError as error:
            # A crash right after the start leaves a file without a journal.
            if "as one whose first bulk send never began" in str(error):
                return []
            raise


@pytest.mark.parametrize("examples", [5, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(3600)])])
def test_any_history(quick: SandboxProcess, examples: int) -> None:
    """No history that Hypothesis finds sends a message twice, loses one, or reports a wrong outcome."""
    History.sandbox = quick
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        ),
    )
