"""With `pico blast --redis`, several bulk sends at once share one rate limit and one token."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from pico_async.coordination.rates import RateGroup, spacing_s
from tests.support.fleet_schedule import begin_schedules
from tests.support.late_timers import rate_claims, repeat_if_starved
from tests.support.pico_command import TEXT, Ran, people, running
from tests.support.sandbox_process import KEY, SandboxProcess

WriteCsv = Callable[..., Path]
Pico = Callable[..., Ran]
PASSWORD = "hidden-word"


def begin(redis_url: str, sandbox: SandboxProcess, prefix: str = "pico") -> None:
    """Give the fleet of a sandbox its schedules."""
    with redis.Redis.from_url(redis_url) as client:
        lanes = (RateGroup.SMS, RateGroup.TOKEN, RateGroup.BALANCE)
        begin_schedules(client, sandbox.api_key, sandbox.base_url, lanes=lanes, prefix=prefix)


@repeat_if_starved
def test_two_blasts_at_once_hold_one_limit_with_one_token(
    start_sandbox: Callable[..., SandboxProcess], write_csv: WriteCsv, redis_url: str
) -> None:
    """
    Two bulk sends that share a Redis never exceed the strictest rate rule of the sandbox, and use one token.

    One bulk send gets the address as an option, the other from the environment. At a rate of 25, the sandbox's limit of
    30 leaves room for a busy machine. Two bulk sends that do not share their rate still exceed that limit.
    """
    sandbox = start_sandbox("--rate-rule=sliding-log")
    begin(redis_url, sandbox)
    recipients = people(48)
    halves = [write_csv(recipients[:24], name="a.csv"), write_csv(recipients[24:], name="b.csv")]
    options = ("--text", TEXT, "--json", "--rate", 25)

    with ExitStack() as held:
        blasts = [
            held.enter_context(running("blast", halves[0], *options, "--redis", redis_url, env=sandbox.env)),
            held.enter_context(running("blast", halves[1], *options, env=sandbox.env | {"PICO_REDIS_URL": redis_url})),
        ]
        said = [blast.communicate(timeout=60) for blast in blasts]

    ledger = sandbox.ledger()
    assert [blast.returncode for blast in blasts] == [0, 0]
    assert all(f"{1 / spacing_s(25):.1f} per second, shared by the fleet" in err for _, err in said)
    assert sandbox.accepted_by_number() == dict.fromkeys((to for to, _ in recipients), 1)
    with rate_claims():
        assert ledger.densest() <= 30
        assert ledger.refusals == 0
    assert ledger.token_requests == 1


def test_a_single_send_uses_the_fleets_token(pico_here: Pico, quick: SandboxProcess, redis_url: str) -> None:
    """A single send and a balance request with the same Redis use one token, so the fleet needs no second one."""
    begin(redis_url, quick)
    first = pico_here("sms", "send", "8613000000001", "hi", "--redis", redis_url, env=quick.env)
    second = pico_here("balance", "--redis", redis_url, env=quick.env)

    assert (first.code, second.code) == (0, 0)
    assert quick.ledger().token_requests == 1


@pytest.mark.usefixtures("short_look")
def test_a_fleet_of_another_prefix_is_another_fleet(pico_here: Pico, quick: SandboxProcess, redis_url: str) -> None:
    """
    Two prefixes in one Redis are two fleets, each with its own token. `fleet status` finds only the fleet with exactly
    the requested prefix.
    """
    env = quick.env | {"PICO_REDIS_URL": redis_url}
    for prefix in ("one", "two"):
        begin(redis_url, quick, prefix)

    sent = pico_here("balance", "--redis-prefix", "one", env=env)
    also = pico_here("balance", env=env | {"PICO_REDIS_PREFIX": "two"})
    found = [pico_here("fleet", "status", "--json", "--prefix", name, env=env).json["fleets"] for name in ("one", "tw")]

    assert (sent.code, also.code) == (0, 0), (sent.err, also.err)
    assert quick.ledger().token_requests == 2
    assert [len(fleets) for fleets in found] == [1, 0]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            f"redis://me:{PASSWORD}@127.0.0.1:1",
            "The bulk send did not begin, and nothing was sent. The token is shared over",
        ),
        (f"http://me:{PASSWORD}@127.0.0.1", "This is no address of a Redis"),
        (f"redis://me:{PASSWORD}@127.0.0.1:port", "This is no address of a Redis"),
        (f"redis://me:{PASSWORD}@127.0.0.1/?socket_timeout=long", "This is no address of a Redis"),
        ("", "This is no address of a Redis"),
    ],
)
def test_a_blast_without_its_redis_does_not_begin(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, url: str, said: str
) -> None:
    """
    A Redis that is not reachable, or an address that is wrong or empty, ends the bulk send before a request. The last
    line gives the cause, and the output has no password.
    """
    ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, "--no-progress", "--redis", url, env=quick.env)

    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(f"error: {said}")
    assert "Traceback" not in ran.err
    assert PASSWORD not in ran.out + ran.err
    assert KEY not in ran.out + ran.err
    assert quick.arrivals() == []


def test_without_redis_py_one_line_says_what_to_install(
    pico_here: Pico, quick: SandboxProcess, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without redis-py, `--redis` ends with one error line that names the package, and nothing is sent at an unshared
    rate.
    """
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)

    ran = pico_here("blast", write_csv(people(3)), "--text", TEXT, "--redis", "redis://localhost", env=quick.env)

    assert ran == Ran(2, "", "error: --redis needs redis-py: pip install 'pico-async[cli,redis]'\n")
    assert quick.arrivals() == []


def test_a_sandbox_in_the_same_process_has_no_fleet(pico_here: Pico, write_csv: WriteCsv) -> None:
    """
    `--sandbox` with `--redis` is an error. A Redis address in the environment is ignored there, like the account's
    name.
    """
    command = ("blast", write_csv(people(1)), "--text", TEXT, "--sandbox", "--no-progress")

    refused = pico_here(*command, "--redis", "redis://127.0.0.1:1")
    sent = pico_here(*command, env={"PICO_REDIS_URL": "redis://127.0.0.1:1"})

    assert refused.code == 2
    assert "no rate limit to share: leave --redis out" in refused.err
    assert sent.code == 0


def test_no_help_shows_the_address(pico_here: Pico) -> None:
    """The help names the variable PICO_REDIS_URL and never prints the password in its value."""
    for command in (("blast",), ("fleet", "status")):
        ran = pico_here(*command, "--help", env={"PICO_REDIS_URL": f"redis://me:{PASSWORD}@localhost"})

        assert ran.code == 0
        assert "PICO_REDIS_URL" in ran.out
        assert PASSWORD not in ran.out
