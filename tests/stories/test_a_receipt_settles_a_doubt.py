"""This test checks that delivery receipts settle the messages that a bulk send left in doubt."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pico_async import SqliteJournal
from tests.support.ports import free_port, listens
from tests.support.readme import environment
from tests.support.sandbox_process import sandbox_process
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

# The app of a user whose bulk send has a journal: it receives the receipts elsewhere, in two processes of uvicorn.
APP = """
from fastapi import FastAPI
from pico_async import SqliteJournal
from pico_async.integrations.fastapi import receipts_router

app = FastAPI()
app.include_router(receipts_router(journal=SqliteJournal("blast.db"), on_receipt=lambda receipt: print(receipt.key)))
"""
SECRET = "a-secret-of-32-characters-or-so-"
ROWS = 40


@contextmanager
def receiving(folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    (folder / "receiving.py").write_text(APP)
    command = [sys.executable, "-m", "uvicorn", "receiving:app", "--port", str(port), "--workers", "2"]
    process = subprocess.Popen([*command, "--log-level", "warning"], cwd=folder, env=env)
    try:
        wait_until(lambda: listens(port), "the app listens")
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(
    "form", ["json", pytest.param("form", marks=pytest.mark.full), pytest.param("query", marks=pytest.mark.full)]
)
def test_a_receipt_turns_a_doubt_into_accepted(form: str, tmp_path: Path) -> None:
    """
    Delivery receipts settle all messages that `pico blast` left in doubt; `--resume` then sends none of them again.

    The receipts arrive late, and some of them arrive twice or in the wrong order.
    """
    port = free_port()
    with sandbox_process("--rate-rule=none", "--receipts", f"--receipt-form={form}") as sandbox:
        env = environment(
            sandbox.base_url, PICO_CALLBACK=f"http://127.0.0.1:{port}/receipts", PICO_CALLBACK_SECRETS=SECRET
        )

        def pico(*arguments: str) -> dict[str, object]:
            command = [sys.executable, "-m", "pico_async", *arguments, "--json"]
            ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
            told: dict[str, object] = json.loads(ran.stdout or "{}")
            return told

        lines = [f"+8612345{number:06},key-{number}" for number in range(ROWS)]
        (tmp_path / "people.csv").write_text("\n".join(["phone,key", *lines]) + "\n")
        late = {"sent_after_s": 0.2, "delivered_after_s": 0.4, "backoff_s": 0.2, "tries": 20}
        settings = {"receipts": {**late, "duplicates": 0.5, "reordered": 0.5, "undelivered": 0.2}}
        sandbox.control("POST", "settings", settings)
        rules = [{"fault": "accept-then-drop", "times": 10, "after": 5}]
        sandbox.control("POST", "faults", rules)
        blast = (
            "blast",
            "people.csv",
            "--text",
            "Hello",
            "--key-column",
            "key",
            "--journal",
            "blast.db",
            "--rate",
            "500",
        )

        first = pico(*blast)
        journal = SqliteJournal(tmp_path / "blast.db")
        in_doubt = len(asyncio.run(journal.in_doubt()))
        with receiving(tmp_path, env, port):
            wait_until(lambda: not asyncio.run(journal.in_doubt()), "nothing is in doubt")
        sandbox.control("DELETE", "faults")
        second = pico(*blast, "--resume")
        ledger = sandbox.ledger()

    assert in_doubt == first["in_doubt"] == 10
    assert second["skipped"] == ROWS
    assert len(ledger.accepted) == ROWS
    assert not ledger.duplicates()
