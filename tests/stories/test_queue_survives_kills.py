"""This test kills queue workers with SIGKILL: no message is lost or sent twice; only interrupted ones are in doubt."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any, Self

import psycopg
import pytest
from attrs import define, field

from pico_async import SmsMessage
from pico_async.integrations.procrastinate import enqueue_bulk, setup
from tests.support.queue_worker import CONCURRENCY, QueueWorker, make_app
from tests.support.sandbox_process import sandbox_process
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

# Short, because the test waits this long after its last kill.
STALLED_S = 2.0


@define
class Fleet:
    """The workers of one database, and the keys of the messages that killed workers had on the wire."""

    database: str
    base_url: str
    interrupted: set[str] = field(factory=set)
    kills: int = 0
    workers: list[QueueWorker] = field(factory=list)
    _started: int = 0

    def start(self) -> None:
        """Start one more worker."""
        self._started += 1
        worker = QueueWorker(
            name=f"w{self._started}", conninfo=self.database, base_url=self.base_url, stalled_s=STALLED_S
        )
        worker.start()
        self.workers.append(worker)

    def kill(self, chance: random.Random) -> None:
        """Kill a worker at a random moment while it has work, record what it left, and start another."""
        worker = chance.choice(self.workers)
        wait_until(lambda: self.held_by(worker))
        time.sleep(chance.uniform(0, 0.6))  # the test varies this moment
        worker.kill()
        self.workers.remove(worker)
        # PostgreSQL may still carry out the worker's last statement.
        named = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{worker.name}'"
        wait_until(lambda: not self.ask(named))
        self.interrupted |= self.held_by(worker)
        self.kills += 1
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()

    def held_by(self, worker: QueueWorker) -> set[str]:
        """Return the keys of the messages that the worker intends to send and has not settled."""
        claims = f"claim BETWEEN '\\x{worker.mark.hex()}'::bytea AND '\\x{worker.mark.hex()}ffffffff'::bytea"
        return {name for (name,) in self.ask(f"SELECT name FROM pico_ledger WHERE {claims} AND state <> 'accepted'")}

    def names(self, state: str) -> set[str]:
        """Return the keys that the ledger has in this state."""
        return {name for (name,) in self.ask(f"SELECT name FROM pico_ledger WHERE state = '{state}'")}

    def jobs(self) -> Counter[str]:
        """Count the jobs by their status."""
        return Counter(status for (status,) in self.ask("SELECT status::text FROM procrastinate_jobs"))

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]


async def fill(database: str, messages: list[SmsMessage]) -> None:
    """Put messages into the queue of a new database."""
    app = make_app(database, "test")
    async with app.open_async():
        await setup(app)
        await enqueue_bulk(app, messages)


@pytest.mark.parametrize(
    ("count", "kills"), [(36, 3), pytest.param(300, 20, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
async def test_what_was_interrupted_is_in_doubt_and_nothing_else(
    database: str, count: int, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly the messages that killed workers left unsettled are in doubt; all others are accepted and arrive once."""
    chance = random.Random(count)
    numbers = {f"8613{number:09}": f"order-{number}" for number in range(count)}
    with (
        sandbox_process("--rate-rule", "none", "--latency-ms", "700") as sandbox,
    ):
        await fill(database, [SmsMessage(to, "Your code is 4711", key=key) for to, key in numbers.items()])
        with Fleet(database, sandbox.base_url) as fleet:
            fleet.start()
            fleet.start()
            for _ in range(kills):
                fleet.kill(chance)
            wait_until(lambda: not fleet.jobs()["todo"] and not fleet.jobs()["doing"])
            assert [worker.end() for worker in fleet.workers] == [0, 0]

        arrived = Counter(numbers[message.to] for message in sandbox.ledger().accepted)
        accepted, in_doubt = fleet.names("accepted"), fleet.names("in_doubt")
        assert [key for key, times in arrived.items() if times > 1] == []
        assert accepted | in_doubt == set(numbers.values())
        assert accepted <= set(arrived)
        assert in_doubt == fleet.interrupted
        assert 0 < len(in_doubt) <= kills * CONCURRENCY
        assert fleet.jobs().total() == count
        assert fleet.jobs()["failed"] >= len(in_doubt)

    with capsys.disabled():
        print(
            f"\n{count} jobs, {fleet.kills} kills: {len(arrived)} arrived, 0 twice; {len(accepted)} accepted, "
            f"{len(in_doubt)} in doubt, all of them interrupted, {len(in_doubt & set(arrived))} of them arrived"
        )
