"""A sandbox in a process of its own: the client's loop and the server's do not disturb each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from attrs import frozen

from pico_async.sandbox import Ledger


@frozen
class SandboxProcess:
    """Where it listens, and what it saw."""

    base_url: str

    def ledger(self) -> Ledger:
        """Fetch what it saw so far."""
        seen = httpx.get(f"{self.base_url}/_sandbox/ledger", timeout=30).raise_for_status().json()
        return Ledger.from_rows(seen["arrivals"], seen["accepted"])


@contextmanager
def sandbox_process(*options: str) -> Iterator[SandboxProcess]:
    """Start a sandbox on a free port of loopback, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pico_async.sandbox", "--port", "0", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("listening on "):
                yield SandboxProcess(line.removeprefix("listening on ").strip())
                return
        raise AssertionError("the sandbox did not start")
    finally:
        process.terminate()
        process.communicate(timeout=10)
