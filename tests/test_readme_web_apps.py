"""The README's web apps run unchanged: each sends a code and accepts its receipt on the signed URL."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port, listens
from tests.support.readme import FILES, environment, write_recipe
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.processes

SECRET = "a-secret-of-32-characters-or-so-"


@contextmanager
def running(recipe: str, directory: Path, pico_url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the app with the command in its first line, on a free port of this machine."""
    write_recipe(recipe, directory)
    port = free_port()
    if recipe == "aiohttp":
        (directory / "web_app.py").write_text(FILES["web_app.py"].replace("port=8080", f"port={port}"))
        command = [sys.executable, "-W", "error", "web_app.py"]
    else:
        first_line = FILES["app.py"].splitlines()[0]
        command = [sys.executable, "-m", *first_line.removeprefix("# app.py: ").split(), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    variables = environment(
        pico_url, PICO_CALLBACK=f"{url}/receipts", PICO_CALLBACK_SECRETS=SECRET, PYTHONUNBUFFERED="1"
    )
    process = subprocess.Popen(
        command, cwd=directory, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        wait_until(lambda: listens(port), "the app is open")
        yield url, process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("recipe", ["fastapi", "aiohttp"])
def test_a_code_goes_out_and_its_receipt_comes_back(recipe: str, tmp_path: Path, quick: SandboxProcess) -> None:
    """
    The app sends a code and accepts its receipt once, on the callback URL that Pico got. A receipt without a signature
    is refused, no secret is printed, and the app exits cleanly.
    """
    with running(recipe, tmp_path, quick.base_url) as (url, process):
        with httpx.Client(timeout=PATIENCE_S) as client:
            sent = client.post(f"{url}/codes", json={"phone": "+86 123 4567 8901"})
            wrong = client.post(f"{url}/codes", json={"phone": "12"})
            (message,) = quick.ledger().sent_to("8612345678901")
            assert message.callback is not None
            receipts = [client.post(message.callback, data={"status": "DELIVRD"}) for _ in range(2)]
            stranger = client.post(f"{url}/receipts", data={"status": "DELIVRD"})
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)

    assert sent.status_code == 200
    assert message.text is not None
    assert message.text.startswith("Your code is ")
    assert (wrong.status_code, wrong.json()["outcome"]) == (422, "not_sent")
    assert [receipt.json()["receipt"] for receipt in receipts] == ["handled", "duplicate"]
    assert stranger.status_code == 403
    assert output.count(f"{sent.json()['key']} is delivered") == 1
    for secret in ("8612345678901", "pico=", SECRET):
        assert secret not in output
    assert process.returncode in (0, -signal.SIGINT)
