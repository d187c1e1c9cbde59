"""Every code block of the README runs unchanged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from tests.support.fleet_worker import wait_for_accepted
from tests.support.readme import BLOCKS, FILES, PYTHON, RECIPES, ROOT, SHELL, environment, write_recipe
from tests.support.sandbox_process import SandboxProcess, sandbox_process
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.processes

RECIPIENTS = "id,phone,code\nrow-1,8612345678901,1234\nrow-2,+86 123-4567-8902,5678\n"


@pytest.fixture(scope="module")
def redis_url(shared_redis: str) -> str:
    """One fleet for the module: the first request of a new one waits for what others may have begun."""
    with redis.Redis.from_url(shared_redis) as client:
        client.flushdb()
    return shared_redis


def run(command: list[str], directory: Path, base_url: str, redis_url: str, **variables: str) -> str:
    (directory / "recipients.csv").write_text(RECIPIENTS)
    ran = subprocess.run(
        command,
        cwd=directory,
        env=environment(base_url, PICO_REDIS_URL=redis_url, **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def redis_for(code: str, request: pytest.FixtureRequest) -> str:
    """Return the address of Redis for a block that names it. Without Redis, no first request of a fleet waits."""
    return str(request.getfixturevalue("redis_url")) if "PICO_REDIS_URL" in code else ""


def test_there_are_blocks_of_two_languages_and_no_other() -> None:
    """
    The README has only Python and shell blocks, because a block in a language that no test runs would become outdated.
    """
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert len(PYTHON) >= 4


def test_every_file_belongs_to_a_recipe() -> None:
    """Each file in the README belongs to a recipe. A test runs each recipe, so a file in no recipe would not run."""
    assert sorted(FILES) == sorted(name for names in RECIPES.values() for name in names)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_a_python_block_runs(code: str, tmp_path: Path, quick: SandboxProcess, request: pytest.FixtureRequest) -> None:
    """
    Each Python block runs as a script against a sandbox on a socket. It prints output, unless it shows an `except`.
    """
    shown = run([sys.executable, "-W", "error", "-c", code], tmp_path, quick.base_url, redis_for(code, request))

    assert shown or "except" in code


def test_the_commands_run(tmp_path: Path, quick: SandboxProcess, request: pytest.FixtureRequest) -> None:
    """
    The `pico` commands run one after the other, and the bulk send sends the code of the second row to its recipient.
    """
    for code in SHELL[2:]:
        run(["bash", "-euo", "pipefail", "-c", code], tmp_path, quick.base_url, redis_for(code, request))

    texts = {message.text for message in quick.ledger().sent_to("8612345678902")}
    assert texts == {"Your code is 5678", "Your parcel is here"}


def test_the_tests_pass(tmp_path: Path) -> None:
    """The README's tests pass in a separate project, and none of them uses the account in the environment."""
    write_recipe("tests", tmp_path)

    output = run(
        [sys.executable, "-m", "pytest", "-Werror", "-pno:asyncio", "test_codes.py"], tmp_path, "http://127.0.0.1:1", ""
    )

    assert "3 passed" in output


def test_the_test_of_the_app_passes(tmp_path: Path) -> None:
    """The README's test of its FastAPI app passes, and the app sends nothing to the host in the environment."""
    write_recipe("fastapi", tmp_path)

    output = run(
        [sys.executable, "-m", "pytest", "-Werror", "-pno:asyncio", "-pno:django", "test_app.py"],
        tmp_path,
        "http://127.0.0.1:1",
        "",
        PICO_CALLBACK_SECRETS="a-secret-for-tests",
    )

    assert "1 passed" in output


def test_the_shop_and_its_workers_run(tmp_path: Path, redis_url: str, database: str) -> None:
    """Two web workers and a queue worker send each message once over one token, and both programs exit cleanly."""
    write_recipe("shop", tmp_path)
    with ExitStack() as held:
        sandbox = held.enter_context(sandbox_process("--rate-rule=sliding-log"))
        with psycopg.connect(database) as connection:
            connection.execute("CREATE TABLE orders (number int)")
        variables = environment(sandbox.base_url, PICO_REDIS_URL=redis_url, DATABASE_URL=database)

        def start(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, env=variables)
            held.callback(process.communicate)
            held.callback(process.kill)
            return process

        # Not in tmp_path: the path of a Unix socket must be short.
        address = str(Path(held.enter_context(tempfile.TemporaryDirectory(prefix="shop"))) / "socket")
        shop = start("uvicorn", "shop:api", "--workers", "2", "--uds", address, "--log-level", "warning")
        worker = start("worker")
        wait_until(lambda: listens(address), "the shop is open")
        way = httpx.HTTPTransport(uds=address)
        with httpx.Client(transport=way, base_url="http://shop", timeout=PATIENCE_S) as client:
            for number in range(5):
                assert client.post("/codes", json={"phone": f"861234567890{number}"}).json()["request_id"]
                assert client.post(f"/orders/{number}", json={"phone": f"861234567891{number}"}).json()
        wait_for_accepted(sandbox, 10)
        for process in (worker, shop):
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        ledger = sandbox.ledger()
        with psycopg.connect(database) as connection:
            left = connection.execute("SELECT count(*) FROM pico_outbox").fetchone()

    assert len(ledger.accepted) == 10
    assert not ledger.duplicates()
    assert ledger.token_requests == 1
    assert left == (0,)


def listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as knocking:
        return knocking.connect_ex(address) == 0


@pytest.mark.full
def test_the_first_block_makes_an_environment_and_runs_the_demo(
    tmp_path: Path, shell_authorities: dict[str, str]
) -> None:
    """The first shell block is one line, which runs the demo in a fresh copy of the project with nothing installed."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist"))

    # pip trusts them, too.
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"} | shell_authorities

    (line,) = SHELL[0].splitlines()
    shown = subprocess.run(
        ["bash", "-c", line], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )

    assert shown.returncode == 0, shown.stderr
    assert "accepted" in shown.stdout + shown.stderr


def test_the_gate_runs_the_second_block() -> None:
    """The second shell block is one line that runs the tests, and .ci/run extracts this line from the README."""
    (line,) = SHELL[1].splitlines()

    assert line.endswith("pytest -n 4")
    gate = (ROOT / ".ci" / "run").read_text()
    extract = re.search(r"test_command=\$\((awk .*)\)$", gate, re.MULTILINE)
    assert extract is not None
    taken = subprocess.run(["bash", "-c", extract[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert taken.stdout.strip() == line
