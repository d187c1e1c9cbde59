"""This module runs a sandbox in its own process, so that its event loop and the client's do not disturb each other."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from attrs import evolve, frozen

from pico_async.sandbox import Ledger
from pico_async.sandbox.ledger import Arrival, Message
from tests.support.late_timers import watched
from tests.support.waiting import PATIENCE_S

# A key that no output, log or file may hold.
KEY = "0123key-that-nobody-may-see"

# Requests to loopback never go through a proxy. An opener without TLS costs a tenth of an HTTP client.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@frozen
class SandboxProcess:
    """
    A sandbox that runs, and what reached it.

    Attributes:
        since: How many requests had reached it when the test began; the ledger leaves them out.
    """

    base_url: str
    api_key: str = KEY
    since: int = 0

    @property
    def env(self) -> dict[str, str]:
        """Return the environment variables that point a client at the sandbox."""
        return {
            "PICO_BASE_URL": self.base_url,
            "PICO_USERNAME": "user333",
            "PICO_API_KEY": self.api_key,
            "PICO_SENDER": "8612345678888",
        }

    def ledger(self) -> Ledger:
        """Return the ledger of what reached the sandbox since the test began."""
        rows = self.control("GET", f"ledger?since={self.since}")
        return Ledger.from_rows(rows["arrivals"], rows["accepted"])

    def arrivals(self) -> list[Arrival]:
        """Return the requests that reached the sandbox since the test began."""
        return self.ledger().arrivals

    def accepted(self) -> list[Message]:
        """Return the messages that the sandbox accepted since the test began."""
        return self.ledger().accepted

    def accepted_by_number(self) -> Counter[str]:
        """Count, by recipient, the messages that the sandbox accepted since the test began."""
        return Counter(message.to for message in self.accepted())

    def fresh(self) -> Self:
        """Return the same sandbox, whose ledger begins now."""
        return evolve(self, since=self.control("GET", f"ledger?since={10**9}")["total_arrivals"])

    def reset(self) -> Self:
        """Undo what tests change, and return the same sandbox, whose ledger begins now."""
        self.control("DELETE", "faults")
        self.change(rate_rule=None, latency_s=0, jitter_s=0, fault_rate=0, fault_kinds=[], dialect="documented")
        return self.fresh()

    def change(self, **settings: object) -> None:
        """Change the sandbox's settings, which are those of `POST /_sandbox/settings`."""
        self.control("POST", "settings", settings)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to the sandbox's controls, and return the JSON of the reply."""
        request = urllib.request.Request(
            f"{self.base_url}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with _opener.open(request, timeout=PATIENCE_S) as reply:
            content = reply.read()
        return json.loads(content) if content else None


@contextmanager
def sandbox_process(*options: str, api_key: str = KEY) -> Iterator[SandboxProcess]:
    """Start a sandbox on a free port of loopback, and end it with the context."""
    command = watched("pico_async.sandbox", "--port", 0, "--api-key", api_key, *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("listening on "):
                    yield SandboxProcess(line.removeprefix("listening on ").strip(), api_key)
                    return
            raise AssertionError("the sandbox did not start")
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
