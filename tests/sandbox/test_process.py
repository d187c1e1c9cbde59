"""`python -m pico_async.sandbox` runs the sandbox in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pico_async.sandbox.__main__ import main
from pico_async.sandbox.faults import Faults
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str], str]]:
    """Start the process and wait for its address; yield the process, its output until then, and the base URL."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pico_async.sandbox", "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # With this variable, Python would flush every line by itself.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    try:
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip())
            if line.startswith("listening on "):
                yield process, printed, line.split()[-1]
                break
        else:
            pytest.fail(process.stderr.read())
    finally:
        process.kill()
        process.communicate()


def client(base_url: str) -> httpx.Client:
    return httpx.Client(base_url=base_url, trust_env=False, verify=False, timeout=PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_starts_serves_and_ends_cleanly(number) -> None:
    """
    The process prints a banner and the addresses of its page and of itself, and sends no receipts by default.

    A signal ends it with status 0 and no output, even while in use.
    """
    with running() as (process, printed, base_url), client(base_url) as pico:
        reply = pico.get("/token/user333", headers={"X-API-Key": "sandbox-api-key"})
        receipts = pico.get("/_sandbox/settings").json()["receipts"]

        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_S)

    assert reply.status_code == 200
    assert "stand-in" in printed[0]
    assert any("own invention" in line for line in printed)
    assert printed[-2] == f"outbox at {base_url}/"
    assert (receipts["on"], receipts["form"]) == (False, "json")
    assert (process.returncode, output, errors) == (0, "", "")


def test_options_reach_the_sandbox() -> None:
    """
    The account, the settings, the receipts and the seed are taken from the command line.

    An API key that is given there is not printed.
    """
    options = ["--username", "someone", "--api-key", "my-secret-key", "--balance", "5.00"]
    options += ["--dialect", "ruoyi", "--rate-rule", "token-bucket", "--rate", "token=2", "--rate", "sms=none"]
    options += ["--jitter-ms", "1", "--latency-ms", "2", "--seed", "1"]
    options += ["--fault-rate", "0.5", "--fault-kinds", "unavailable"]
    options += ["--receipts", "--receipt-form", "query", "--receipt-host", "app"]
    message = {"username": "someone", "from": "8612345678888", "to": "8612345678901", "text": "Hello"}
    with running(*options) as (_, printed, base_url), client(base_url) as pico:
        pico.headers["X-API-Key"] = "my-secret-key"
        pico.headers["Authorization"] = f"Bearer {pico.get('/token/someone').json()['token']}"
        balance = pico.get("/balance/someone").json()["balance"]
        struck = [pico.post("/sms", json=message).status_code == 503 for _ in range(20)]
        settings = pico.get("/_sandbox/settings").json()

    drawn, receipts = Faults(rate=0.5, kinds=["unavailable"], seed=1), settings["receipts"]
    assert struck == [drawn.draw("sms.send") is not None for _ in range(20)]
    assert balance == "5.00"
    assert (settings["dialect"], settings["rate_rule"]) == ("ruoyi", "token-bucket")
    assert (settings["rates"]["token"], settings["rates"]["sms"], settings["rates"]["balance"]) == (2, None, 1)
    assert (settings["jitter_s"], settings["latency_s"]) == (0.001, 0.002)
    assert (settings["fault_rate"], settings["fault_kinds"]) == (0.5, ["unavailable"])
    assert (receipts["on"], receipts["form"], receipts["seed"]) == (True, "query", 1)
    assert not any("my-secret-key" in line for line in printed)


def test_a_bad_option_ends_the_process() -> None:
    """A bad option ends the process with status 2 and an error that names the value, without a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "pico_async.sandbox", "--port", "0", "--host", "0.0.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert result.returncode == 2
    assert "'0.0.0.0'" in result.stderr.partition("error:")[2]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rate-rule", "whimsical"], "'whimsical'"),
        (["--rate", "smss=3"], "smss"),
        (["--fault-rate", "7"], "fault_rate=7.0"),
        (["--fault-kinds", "no-such-fault"], "'no-such-fault'"),
        (["--balance", "much"], "'much'"),
    ],
)
def test_each_bad_option_is_named(arguments, named, capsys) -> None:
    """A bad option ends the command with status 2 and an error that names the value."""
    with pytest.raises(SystemExit) as ended:
        main(["--port", "0", *arguments])

    assert ended.value.code == 2
    assert named in capsys.readouterr().err.partition("error:")[2]
