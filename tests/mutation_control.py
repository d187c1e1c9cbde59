"""
This program breaks, one at a time, the parts that prevent lost and duplicate messages, and checks that tests fail.

    python tests/mutation_control.py            # all, some minutes
    python tests/mutation_control.py fsync      # those with "fsync" in the name

The checkout is copied, and the copy is changed and tested. First, the tests must pass on the unchanged copy. Then each
mutation must make its tests fail by failed assertions, not by an error that keeps them from running. A mutation whose
old text is no longer in the code is an error, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent
GREEN, RED = 0, 1  # pytest's own exit codes


@frozen
class Change:
    """One replacement in one file, in which the old text must occur exactly once."""

    file: str
    old: str
    new: str


@frozen
class Mutation:
    """
    One way to break the code.

    Attributes:
        tests: The tests of which at least one must fail.
    """

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


CRASHES = "tests/stories/test_crash_and_resume.py::test_killed_at_every_point_there_is"
POWER = "tests/stories/test_power_loss.py"
WIRE = "tests/stories/test_faults_on_the_wire.py"
ENGINE = "tests/engine/test_call.py"
JOURNAL = "pico_async/bulk/journal/entry.py"
LUA = "pico_async/coordination/redis/lua"
VIRTUAL = "tests/coordination/redis/test_fleet_in_virtual_time.py"
REDIS = "tests/coordination/redis/test_coordinator.py"
LEDGER = "tests/integrations/postgres/test_ledger.py"

MUTATIONS = (
    Mutation(
        "the intent's commit comes after the POST",
        (
            Change(
                JOURNAL,
                "        with _raising_journal_errors():\n            await self._run.intend(self._row)\n",
                "",
            ),
            Change(
                JOURNAL,
                "            await self._run.settle(self._row",
                "            await self._run.intend(self._row)\n            await self._run.settle(self._row",
            ),
        ),
        (CRASHES,),
    ),
    Mutation(
        "the fsync is dropped",
        (Change("pico_async/bulk/journal/sqlite_file.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF"),),
        (POWER,),
    ),
    Mutation(
        "the fsync comes only with a checkpoint",
        (Change("pico_async/bulk/journal/sqlite_file.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"),),
        (POWER,),
    ),
    Mutation(
        "a connection that was closed instead of a reply is taken for not sent",
        (
            Change(
                "pico_async/_engine/http/httpx_transport.py",
                "proved = not written if self.reports_writes else before_writing",
                "proved = not written or isinstance(error, library.RemoteProtocolError)",
            ),
        ),
        (WIRE, ENGINE),
    ),
    Mutation(
        "whatever was written and timed out is taken for not sent",
        (Change("pico_async/_engine/http/exchange.py", "sent_nothing=not departure.written,", "sent_nothing=True,"),),
        (WIRE,),
    ),
    Mutation(
        "a token is evicted without comparing",
        (
            Change(
                "pico_async/coordination/token_cache.py",
                "if self._token == token:",
                "if self._token is not None:",
            ),
        ),
        ("tests/coordination/test_token_cache.py", "tests/coordination/local/test_coordinator.py", ENGINE),
    ),
    Mutation(
        "what was sending is sent again",
        (
            Change(
                "pico_async/bulk/journal/sqlite_file.py", "SET state = 'in_doubt' WHERE", "SET state = 'pending' WHERE"
            ),
        ),
        (CRASHES,),
    ),
    Mutation(
        "what is in doubt is sent again",
        (Change(JOURNAL, "(JournalState.IN_DOUBT, JournalState.SENDING)", "(JournalState.SENDING,)"),),
        (CRASHES,),
    ),
    Mutation(
        "an acceptance is reported before it is committed",
        (
            Change(
                "pico_async/bulk/dispatcher.py",
                "            await self._settle(delivery.progress, result)\n",
                "            asyncio.ensure_future(self._settle(delivery.progress, result))\n",
            ),
        ),
        (CRASHES, POWER),
    ),
    Mutation(
        "an outcome is never committed",
        (Change(JOURNAL, "            await self._run.settle(self._row, ", "            (self._row, "),),
        (CRASHES,),
    ),
    Mutation(
        "the main file does not say that it lacks its log",
        (Change("pico_async/bulk/journal/sqlite_file.py", "        self._mark(LACKS_LOG)\n", ""),),
        ("tests/bulk/journal/test_sqlite_file.py",),
    ),
    Mutation(
        "a journal that was taken away is not missed",
        (Change("pico_async/bulk/journal/sqlite_file.py", "            self._files.require_in_place()\n", ""),),
        ("tests/bulk/journal/test_sqlite_file.py",),
    ),
    Mutation(
        "the same content twice is one message",
        (
            Change(
                "pico_async/bulk/journal/sqlite_rows.py",
                "        name = occurrence_digest(self._file.salt, content, occurrence)\n",
                "",
            ),
        ),
        ("tests/stories/test_journal_model.py",),
    ),
    Mutation(
        "fleet: a schedule does not move on",
        (Change(f"{LUA}/reserve.lua", "  tat = start + slots * spacing\n", "  tat = start\n"),),
        (VIRTUAL,),
    ),
    Mutation(
        "fleet: what Redis forgot is taken for unused",
        (Change(f"{LUA}/reserve.lua", "tat = now + math.max(known_ahead, reach, others_alone)", "tat = now"),),
        (VIRTUAL,),
    ),
    Mutation(
        "fleet: a step back of the clock ends a pause",
        (Change(f"{LUA}/reserve.lua", "last and math.max(0, last - now) or 0", "0"),),
        ("tests/coordination/redis/test_scripts.py",),
    ),
    Mutation(
        "fleet: a stored number is not bounded",
        (Change(f"{LUA}/prelude.lua", "number and number >= least and number <= most", "number"),),
        ("tests/coordination/redis/test_garbage_in_redis.py",),
    ),
    Mutation(
        "fleet: each process keeps to its own rate",
        (Change(f"{LUA}/reserve.lua", "spacing = math.max(spacing, tonumber(other))", ""),),
        ("tests/coordination/redis/test_rates_that_differ.py",),
    ),
    Mutation(
        "fleet: a slot is given back behind which another was reserved",
        (Change(f"{LUA}/give_back.lua", " or state[2] ~= ARGV[2]", ""),),
        (REDIS,),
    ),
    Mutation(
        "fleet: a token is evicted without comparing",
        (Change(f"{LUA}/token_put.lua", "if value == ARGV[2] then", "if true then"),),
        (REDIS,),
    ),
    Mutation(
        "queue: what another delivery is sending is sent, too",
        (
            Change(
                "pico_async/integrations/postgres/run.py",
                "known.state IN ('pending', 'not_sent', 'rejected')",
                "known.state IN ('pending', 'not_sent', 'rejected', 'sending')",
            ),
        ),
        (LEDGER, "tests/integrations/test_send_once.py"),
    ),
    Mutation(
        "queue: a delivery settles a row that is another's",
        (
            Change(
                "pico_async/integrations/postgres/run.py",
                "WHEN known.claim <> excluded.claim OR known.state = 'accepted'",
                "WHEN known.state = 'accepted'",
            ),
            Change(
                "pico_async/integrations/postgres/run.py",
                '" WHERE known.claim = excluded.claim"',
                '" WHERE true"',
            ),
        ),
        (LEDGER,),
    ),
)


def run(tests: tuple[str, ...], checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run these tests on a checkout."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def apply(mutation: Mutation, checkout: Path) -> None:
    """Apply a mutation to the copy."""
    for change in mutation.changes:
        path = checkout / change.file
        source = path.read_text()
        if source.count(change.old) != 1:
            raise SystemExit(f"{mutation.name}: {change.file} has {source.count(change.old)} times {change.old!r}")
        path.write_text(source.replace(change.old, change.new))


def main(names: list[str]) -> int:
    """Try the mutations, and return the number of those that no test detected."""
    chosen = [mutation for mutation in MUTATIONS if not names or any(name in mutation.name for name in names)]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        for mutation in (None, *chosen):
            checkout = Path(folder, "checkout")
            shutil.rmtree(checkout, ignore_errors=True)
            left_out = shutil.ignore_patterns(".*", "__pycache__", "dist")
            shutil.copytree(ROOT, checkout, ignore=left_out)
            if mutation is None:
                tests = tuple(dict.fromkeys(test for each in chosen for test in each.tests))
                ran = run(tests, checkout)
                print(f"{'green' if ran.returncode == GREEN else 'NOT GREEN':<10} without a mutation")
                if ran.returncode != GREEN:
                    print(ran.stdout[-3000:], ran.stderr[-3000:])
                    return 1
                continue
            apply(mutation, checkout)
            ran = run(mutation.tests, checkout)
            failed = next((line for line in ran.stdout.splitlines() if line.startswith("FAILED")), "")
            print(f"{'red' if ran.returncode == RED else 'NOT RED':<10} {mutation.name}: {failed[:160]}", flush=True)
            if ran.returncode != RED:
                unnoticed += 1
                print(ran.stdout[-2000:], ran.stderr[-2000:])
    return unnoticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
