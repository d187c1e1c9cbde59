"""`pico sandbox` serves a sandbox until it is stopped, and `pico demo` sends messages to one."""

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from pico_async.sandbox import BANNER, RateRule
from tests.support.pico_command import PICO, TEXT, Ran, environment, people

Pico = Callable[..., Ran]


def test_the_demo_does_the_main_job_without_an_account(pico: Pico) -> None:
    """
    The demo sends each message once, at no more than 30 per second and with one token, and prints the sandbox's counts.
    """
    ran = pico("demo", "--count", 45)

    assert ran.code == 0
    seen = ran.out.split("Received by the sandbox:\n")[1].splitlines()
    counts = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in seen[:5]}
    assert counts.pop("in the densest second") <= 30
    assert counts == {"accepted": 45, "refused as too fast": 0, "sent twice": 0, "token request": 1}
    assert "Next" in ran.out


@contextmanager
def sandbox(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, bool]]:
    """Run `pico sandbox`; return the process, what it prints, and whether it sends receipts."""
    with subprocess.Popen(
        [PICO, "sandbox", "--port", "0", *options], env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while "listening on" not in said:
            said += process.stdout.readline()
        settings = httpx.get(f"{said.split()[-1]}/_sandbox/settings", trust_env=False).json()
        try:
            yield process, said, settings["receipts"]["on"]
        finally:
            process.terminate()


def test_the_sandbox_prints_the_variables_to_use_it(pico_here: Pico, write_csv: Callable[..., object]) -> None:
    """
    The sandbox prints the address of its page and `export` lines with which a bulk send works. It sends receipts, and
    Ctrl-C ends it with exit code 0.
    """
    with sandbox("--rate-rule", "none") as (process, said, receipts):
        exported = dict(
            line.removeprefix("export ").split("=", 1) for line in said.splitlines() if line.startswith("export ")
        )

        ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, env=exported)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)

    assert BANNER in said
    assert f"The received messages are shown at {said.split()[-1]}/" in said
    assert receipts
    assert ran.code == 0
    assert process.returncode == 0


def test_a_key_of_your_own_is_not_repeated_and_receipts_can_be_left_out() -> None:
    """
    The sandbox does not print an API key that the user passed, because it may be a real one. With `--no-receipts` it
    sends no receipts.
    """
    with sandbox("--api-key", "my-own-key", "--no-receipts") as (process, said, receipts):
        pass

    assert "my-own-key" not in said
    assert not receipts
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "--allow-remote"),
        (("--rate-rule", "strict"), "sliding-log"),
        (("--dialect", "english"), "'documented', 'ruoyi'"),
        (("--receipt-form", "pigeon"), "'json', 'form', 'query'"),
    ],
)
def test_a_wrong_option_is_refused(pico_here: Pico, options: tuple[str, ...], said: str) -> None:
    """
    A wrong option is an error that names the way out. A host that others can reach needs `--allow-remote`, because the
    sandbox has no protection.
    """
    ran = pico_here("sandbox", "--port", 0, *options)

    assert ran.code == 2
    assert said in ran.err


def test_a_port_in_use_is_reported_with_the_option_to_change_it(pico_here: Pico) -> None:
    """A port in use, as a rule by another sandbox, is an error that names the port and the option `--port`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ran = pico_here("sandbox", "--port", port)

    assert ran.code == 2
    assert f"port {port}" in ran.err
    assert "--port" in ran.err


def test_the_help_names_every_rule(pico_here: Pico) -> None:
    """
    The help lists each rate rule of the sandbox. The help has its own copy of them, because it must work without the
    sandbox's packages.
    """
    ran = pico_here("sandbox", "--help")

    assert all(rule.value in ran.out for rule in RateRule)
